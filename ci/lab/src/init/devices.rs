//! The devices of the machine, and the kernel, that kvm-memtype may give to VMs, as arguments of `kvm-memtype run`.

use super::Fallible;
use crate::image;
use std::fs;
use std::path::Path;

const PCI: &str = "/sys/bus/pci/devices";
/// What the class of a display controller begins with.
const DISPLAY: &str = "0x03";

/// Arguments for the devices that are there and that `given` does not name already. What is not there is added to
/// `without`.
///
/// # Errors
/// The device that is to be switched on cannot be.
pub fn arguments(given: &[String], without: &mut Vec<String>) -> Fallible<Vec<String>> {
    let mut arguments = Vec::new();
    let mut offer = |option: &str, value: String| {
        if !given.iter().any(|argument| argument.starts_with(option)) {
            arguments.extend([option.to_owned(), value]);
        }
    };
    let modules = fs::read_to_string("/proc/modules")?;
    if modules.lines().any(|line| line.split(' ').next() == Some(image::STUB)) {
        offer("--dma", "stub".to_owned());
    }
    if Path::new(image::LINUX).exists() {
        offer("--linux", image::LINUX.to_owned());
    }
    if let Some(address) = display()? {
        // Nothing else switches on the memory of a device without a driver.
        fs::write(Path::new(PCI).join(&address).join("enable"), "1")
            .map_err(|error| format!("cannot switch on the PCI device {address}: {error}"))?;
        offer("--host-mmio", address);
    } else {
        without.push("no MMIO of the host: the machine has no display controller".to_owned());
    }
    Ok(arguments)
}

/// The address of the display controller, which is harmless: it shows memory that nobody looks at.
fn display() -> Fallible<Option<String>> {
    let Ok(devices) = fs::read_dir(PCI) else { return Ok(None) };
    for device in devices {
        let device = device?;
        if fs::read_to_string(device.path().join("class"))?.starts_with(DISPLAY) {
            return Ok(Some(device.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
