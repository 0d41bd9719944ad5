//! `stub`: the lab's module vfio_stub, which calls every file a VFIO group without enforced coherency.

use super::{Opened, open as open_file};
use crate::host::device::DeviceError;
use std::fs;
use std::path::Path;

const MODULE: &str = "vfio_stub";

/// Whether the module is loaded.
pub fn is_loaded(root: &Path) -> bool {
    let modules = fs::read_to_string(root.join("proc/modules")).unwrap_or_default();
    modules.lines().any(|line| line.split(' ').next() == Some(MODULE))
}

/// Opens a file that is as good as any.
pub fn open(root: &Path) -> Result<Opened, DeviceError> {
    if !is_loaded(root) {
        return Err(DeviceError::new(format!(
            "the module {MODULE} is not loaded. It is only in the lab, which makes it after each kernel's own kvm.ko and \
             loads it (lab run); on a host, name a VFIO device, as `kvm-memtype doctor` lists them"
        )));
    }
    open_file(root, Path::new("/dev/null")).map(Opened::file)
}
