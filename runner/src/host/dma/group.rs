//! `vfio-group`: an IOMMU group whose devices are bound to VFIO drivers.

use super::{Opened, ioctl, open as open_file};
use crate::host::device::DeviceError;
use crate::host::pci::Device;
use std::path::Path;

/// The file that gives containers.
const CONTAINER: &str = "/dev/vfio/vfio";

/// Opens the group at `path`, /dev/vfio/N.
pub fn open(root: &Path, path: &Path) -> Result<Opened, DeviceError> {
    let number = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let place = root.join(path.strip_prefix("/").unwrap_or(path));
    if !place.exists() {
        return Err(DeviceError::new(missing(root, path, number)));
    }
    attach(root, path).map_err(|error| DeviceError {
        what: match members(root, number).as_str() {
            "" => error.what,
            members => format!("{} (devices of the group: {members})", error.what),
        },
        ..error
    })
}

/// Opens a group's file and attaches it to a container of its own, which gets no IOMMU.
///
/// Linux 6.1 calls the DMA of a group coherent while it has no container, and that of a container without IOMMU
/// non-coherent (`vfio_main.c`, `vfio_file_enforced_coherent`). Since 6.2 each device is asked, and the container does
/// not matter. So this order makes as many hosts non-coherent as can be; no device does DMA, for none is opened.
pub(super) fn attach(root: &Path, path: &Path) -> Result<Opened, DeviceError> {
    let shown = path.display();
    let file = open_file(root, path)?;
    let status = |error| DeviceError::io(format!("cannot ask {shown} for its state (VFIO_GROUP_GET_STATUS)"), error);
    if !ioctl::is_viable(&file).map_err(status)? {
        return Err(DeviceError::new(format!(
            "the group {shown} is not viable: each of its devices must be bound to a VFIO driver or to none"
        )));
    }
    // A kernel whose VFIO knows no containers has no such file.
    if !root.join(CONTAINER.trim_start_matches('/')).exists() {
        return Ok(Opened::file(file));
    }
    let container = open_file(root, Path::new(CONTAINER))?;
    let attached = ioctl::set_container(&file, &container);
    attached.map_err(|error| {
        DeviceError::io(format!("cannot attach {shown} to a container (VFIO_GROUP_SET_CONTAINER)"), error)
    })?;
    Ok(Opened { _container: Some(container), ..Opened::file(file) })
}

/// Why there is no file for a group.
fn missing(root: &Path, path: &Path, number: &str) -> String {
    let devices = Device::all(root);
    let there = |device: &Device| device.group.is_some_and(|group| group.to_string() == number);
    match devices.iter().find(|device| there(device)) {
        Some(device) => format!(
            "there is no {}: no device of IOMMU group {number} is bound to a VFIO driver: {}. Bind one, as root: \
             modprobe vfio-pci; echo vfio-pci > {dir}/driver_override; echo {address} > {dir}/driver/unbind; \
             echo {address} > /sys/bus/pci/drivers_probe",
            path.display(),
            members(root, number),
            dir = device.address.dir(Path::new("/")).display(),
            address = device.address,
        ),
        None if devices.iter().all(|device| device.group.is_none()) => format!(
            "there is no IOMMU group {number}: this host has none at all, because it has no IOMMU or the kernel does \
             not use it (kernel parameter intel_iommu=on). noiommu and mdev need none"
        ),
        None => format!("there is no IOMMU group {number} (see /sys/kernel/iommu_groups)"),
    }
}

/// The PCI devices of a group with their drivers.
fn members(root: &Path, number: &str) -> String {
    let devices = Device::all(root);
    let members = devices.iter().filter(|device| device.group.is_some_and(|group| group.to_string() == number));
    members.map(|device| format!("{} ({})", device.address, device.driver_or_none())).collect::<Vec<_>>().join(", ")
}
