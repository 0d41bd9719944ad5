//! `vfio-device`: a device's own file, from Linux 6.6 on.

use super::{Opened, open as open_file};
use crate::host::device::DeviceError;
use std::path::Path;

/// Opens the device at `path`, /dev/vfio/devices/vfioN. KVM asks VFIO about the device without its being bound to an
/// iommufd (`vfio_main.c`, `vfio_file_enforced_coherent`).
pub fn open(root: &Path, path: &Path) -> Result<Opened, DeviceError> {
    if !root.join(path.strip_prefix("/").unwrap_or(path)).exists() {
        return Err(DeviceError::new(format!(
            "there is no {}: kernels from 6.6 on with CONFIG_VFIO_DEVICE_CDEV make it for a device that is bound to a \
             VFIO driver (ls /dev/vfio/devices)",
            path.display()
        )));
    }
    open_file(root, path).map(Opened::file)
}
