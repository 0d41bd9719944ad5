//! `noiommu`: the group of a device that has no IOMMU, whose DMA nothing can enforce to be coherent.

use super::{Opened, group};
use crate::host::device::DeviceError;
use crate::host::sysfs::text;
use std::path::Path;

/// The parameter of vfio.ko that allows it.
pub const PARAMETER: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// Opens the group at `path`, /dev/vfio/noiommu-N. Taints the kernel (`vfio_main.c`, TAINT_USER).
pub fn open(root: &Path, path: &Path) -> Result<Opened, DeviceError> {
    if root.join(path.strip_prefix("/").unwrap_or(path)).exists() {
        return group::attach(root, path);
    }
    let why = match text(&root.join(PARAMETER)).as_deref() {
        None => "vfio.ko is not loaded, or was built without CONFIG_VFIO_NOIOMMU, as Debian's is. Try modprobe vfio"
            .to_owned(),
        Some("N") => {
            format!("it is switched off. Switch it on before a device is bound, as root: echo Y > /{PARAMETER}")
        }
        Some(_) => "Bind a device to vfio-pci that no IOMMU serves (ls /dev/vfio)".to_owned(),
    };
    Err(DeviceError::new(format!("there is no {}: {why}", path.display())))
}
