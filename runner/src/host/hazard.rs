//! What destructive cells touch: pages of this host of which nobody promises that it survives a cacheable access.

use super::device::DeviceError;
use super::mmio::{self, HostMmio};
use super::pci::Address;
use super::sysfs::{link, names};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use wire::needs::Needs;
use wire::step::Hazard;

/// Physical address of the legacy VGA hole.
const VGA_HOLE: u64 = 0xa_0000;
/// Physical address of the local APIC's page.
const APIC_PAGE: u64 = 0xfee0_0000;
/// What the class of a VGA-compatible controller begins with.
const VGA: &str = "0x0300";
const PCI: &str = "sys/bus/pci/devices";

/// What `--destructive` names: the address of a PCI device, `vga-hole` or `apic-page`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The first page of a memory BAR.
    HostBar(mmio::Target),
    /// The page at 0xa0000.
    VgaHole,
    /// The page of the local APIC.
    ApicPage,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "vga-hole" => Ok(Target::VgaHole),
            "apic-page" => Ok(Target::ApicPage),
            _ => s.parse().map(Target::HostBar).map_err(|error| format!("{error}, nor vga-hole or apic-page")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::HostBar(target) => target.fmt(f),
            Target::VgaHole => f.write_str("vga-hole"),
            Target::ApicPage => f.write_str("apic-page"),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Target> for String {
    fn from(it: Target) -> String {
        it.to_string()
    }
}

impl Target {
    /// As a guest asks for it.
    pub fn hazard(&self) -> Hazard {
        match self {
            Target::HostBar(_) => Hazard::HostBar,
            Target::VgaHole => Hazard::VgaHole,
            Target::ApicPage => Hazard::ApicPage,
        }
    }

    /// Opens the page and maps it once, without touching it.
    ///
    /// # Errors
    /// It is not there, a driver uses it, or the system refuses; and what to do about it.
    pub fn open(&self, root: &Path) -> Result<HostMmio, DeviceError> {
        match self {
            // No word allows a device in use here: its driver would go on with a device that a guest broke.
            Target::HostBar(target) => HostMmio::open(root, target, false),
            Target::VgaHole => {
                let (address, driver) = vga(root).ok_or_else(|| {
                    DeviceError::new(
                        "cannot use vga-hole: no PCI device of class 0x0300 is here, so nothing answers at 0xa0000",
                    )
                })?;
                if let Some(driver) = driver {
                    return Err(DeviceError::new(format!(
                        "cannot use vga-hole: the driver {driver} is bound to {address}, whose memory that is. Unbind it \
                         (echo {address} > {}/driver/unbind)",
                        address.dir(root).display()
                    )));
                }
                HostMmio::memory(root, VGA_HOLE, "vga-hole")
            }
            Target::ApicPage => HostMmio::memory(root, APIC_PAGE, "apic-page"),
        }
    }
}

/// What a test with these needs touches, if it is destructive.
pub fn of(needs: Needs) -> Option<Hazard> {
    let flags = [Needs::HAZARD_BAR, Needs::HAZARD_VGA, Needs::HAZARD_APIC];
    let touched = flags.into_iter().zip(Hazard::ALL).find(|&(flag, _)| needs.has(flag));
    touched.map(|(_, hazard)| hazard).filter(|_| needs.has(Needs::DESTRUCTIVE))
}

/// The VGA-compatible controller and its driver.
fn vga(root: &Path) -> Option<(Address, Option<String>)> {
    let addresses = names(&root.join(PCI));
    let mut addresses: Vec<Address> = addresses.iter().filter_map(|name| name.parse().ok()).collect();
    addresses.sort();
    let is_vga = |dir: &Path| fs::read_to_string(dir.join("class")).is_ok_and(|class| class.starts_with(VGA));
    let address = addresses.into_iter().find(|address| is_vga(&address.dir(root)))?;
    let driver = link(&address.dir(root).join("driver"));
    Some((address, driver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pci::tests::tree;

    const DIR: &str = "sys/bus/pci/devices/0000:00:02.0";

    #[test]
    fn names_read_back() {
        for name in ["vga-hole", "apic-page", "0000:00:02.0", "0000:00:02.0:2"] {
            assert_eq!(name.parse::<Target>().unwrap().to_string(), name);
        }
        let said = "vga".parse::<Target>().unwrap_err();
        assert!(said.ends_with("(lspci -D shows them), nor vga-hole or apic-page"), "{said}");
    }

    /// What opening a target says where there is a device of that class, with or without a driver, and memory.
    fn open(target: &str, class: &str, driver: Option<&str>, memory: bool) -> Result<String, String> {
        let (path, mem) = (format!("{DIR}/class"), vec![0; (VGA_HOLE + 0x1000) as usize]);
        let mut files = vec![(path.as_str(), class.as_bytes())];
        files.extend(memory.then_some(("dev/mem", mem.as_slice())));
        let link = driver.map(|driver| (format!("{DIR}/driver"), driver));
        let links: Vec<_> = link.iter().map(|(path, target)| (path.as_str(), *target)).collect();
        let root = tree(&files, &links);
        let opened = target.parse::<Target>().unwrap().open(root.path());
        opened.map(|page| page.description().to_owned()).map_err(|error| crate::execute::chain(&error))
    }

    #[test]
    fn what_is_there_and_free_is_opened_and_nothing_else() {
        assert_eq!(open("vga-hole", "0x030000\n", None, true).unwrap(), "vga-hole");
        for (target, class, driver, memory, said) in [
            ("vga-hole", "0x020000\n", None, true, "no PCI device of class 0x0300 is here"),
            ("vga-hole", "0x030000\n", Some("../drivers/i915"), true, "the driver i915 is bound to 0000:00:02.0"),
            ("vga-hole", "0x030000\n", None, false, "this kernel has no /dev/mem"),
            ("apic-page", "0x030000\n", None, false, "this kernel has no /dev/mem"),
            ("0000:00:03.0", "0x030000\n", None, true, "there is no such PCI device"),
        ] {
            let error = open(target, class, driver, memory).unwrap_err();
            assert!(error.contains(said), "{target}: {error}");
        }
    }
}
