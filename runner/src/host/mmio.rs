//! A page of a host PCI device's BAR, for a memslot that is MMIO to KVM.

use super::device::DeviceError;
use super::pci::{Address, Device};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion};

const PAGE: usize = 0x1000;

/// What `--host-mmio` names: `0000:00:02.0`, or `0000:00:02.0:2` for BAR 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    address: Address,
    bar: Option<usize>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let whole = s.parse().map(|address| Target { address, bar: None });
        let Some((Ok(address), bar)) = s.rsplit_once(':').map(|(address, bar)| (address.parse(), bar)) else {
            return whole;
        };
        match bar.parse() {
            Ok(bar @ 0..=5) => Ok(Target { address, bar: Some(bar) }),
            _ => Err(format!("{bar:?} is no BAR: they are 0 to 5")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bar {
            Some(bar) => write!(f, "{}:{bar}", self.address),
            None => self.address.fmt(f),
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

/// Number and length in bytes of a device's first memory BAR that has a page.
pub fn first_bar(device: &Device) -> Option<(usize, u64)> {
    let mut bars = device.bars.iter().enumerate().filter_map(|(number, bar)| Some((number, (*bar)?)));
    bars.find(|(_, bar)| bar.memory && bar.len >= PAGE as u64).map(|(number, bar)| (number, bar.len))
}

/// A page of the host's physical memory, such as the first of a memory BAR, mapped anew for each VM.
#[derive(Debug)]
pub struct HostMmio {
    page: Page,
    what: String,
}

/// Where the page comes from.
#[derive(Debug)]
enum Page {
    /// At this place in a file.
    File(File, u64),
    /// It is mapped, and its file closed.
    Mapped(Arc<MmapRegion>),
}

impl HostMmio {
    /// Finds the BAR ([`first_bar`] where none is named) and maps its first page once, without touching
    /// it. A device with a driver is refused unless `in_use_ok`.
    ///
    /// # Errors
    /// Why the device or the BAR will not do, and what to do about it.
    pub fn open(root: &Path, target: &Target, in_use_ok: bool) -> Result<Self, DeviceError> {
        let Target { address, bar } = target;
        let refuse = |what: String| Err(DeviceError::new(format!("cannot use {address} as host MMIO: {what}")));
        let Some(device) = Device::at(root, address) else {
            return refuse("there is no such PCI device (lspci -D shows all)".to_owned());
        };
        if let Some(driver) = device.driver.as_deref().filter(|_| !in_use_ok) {
            return refuse(format!(
                "the driver {driver} is bound to it, and a guest would get at registers that it uses. Unbind it \
                 (echo {address} > {}/driver/unbind), or say --host-mmio-in-use-ok",
                address.dir(root).display()
            ));
        }
        let first = || first_bar(&device).map(|(bar, _)| bar);
        let Some((number, found)) = bar.or_else(first).and_then(|bar| Some((bar, device.bars[bar]?))) else {
            return refuse(match bar {
                Some(bar) => format!("it has no BAR {bar}"),
                None => "it has no memory BAR of a page".to_owned(),
            });
        };
        if !found.memory {
            return refuse(format!("BAR {number} is of I/O ports, which cannot be mapped"));
        }
        if found.len < PAGE as u64 {
            return refuse(format!("BAR {number} has {} bytes, less than a page", found.len));
        }
        if !found.assigned {
            return refuse(format!("BAR {number} has no address: the kernel found no room for it"));
        }
        if !device.memory_enabled {
            return refuse(format!(
                "its memory BARs are off in its command register. Switch them on, as root: \
                 echo 1 > {0}/enable; and off again afterwards: echo 0 > {0}/enable",
                address.dir(root).display()
            ));
        }
        let path = address.dir(root).join(format!("resource{number}"));
        let cannot = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => ": this kernel gives no files to map BARs by",
                io::ErrorKind::PermissionDenied => ": that is for root, on a kernel that is not locked down",
                _ => "",
            };
            DeviceError::io(format!("cannot open {}{advice}", path.display()), error)
        };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(cannot)?;
        let what = format!("{address} BAR {number}");
        let mmio = HostMmio { page: Page::File(file, 0), what };
        let cannot = |error| DeviceError::io(format!("cannot map a page of {}", path.display()), error);
        mmio.map().map_err(cannot)?;
        Ok(mmio)
    }

    /// Takes a page by its physical address from /dev/mem, and maps it once, without touching it.
    ///
    /// # Errors
    /// What the system says, and what to do about it.
    pub fn memory(root: &Path, address: u64, what: &str) -> Result<Self, DeviceError> {
        let cannot = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => ": this kernel has no /dev/mem (CONFIG_DEVMEM)",
                io::ErrorKind::PermissionDenied => {
                    ": that is for root, on a kernel that is not locked down and that shows this page \
                     (CONFIG_IO_STRICT_DEVMEM; boot with iomem=relaxed)"
                }
                _ => "",
            };
            DeviceError::io(format!("cannot map {what}, physical address {address:#x}{advice}"), error)
        };
        let file = OpenOptions::new().read(true).write(true).open(root.join("dev/mem")).map_err(cannot)?;
        let page = HostMmio { page: Page::File(file, address), what: what.to_owned() };
        page.map().map_err(cannot)?;
        Ok(page)
    }

    /// What it is: device and BAR, or the name by which it was asked for.
    pub fn description(&self) -> &str {
        &self.what
    }

    /// What another process takes it from: the file, if it is not mapped yet, and the place in that.
    pub fn parts(&self) -> Option<(&File, u64)> {
        match &self.page {
            Page::File(file, offset) => Some((file, *offset)),
            Page::Mapped(_) => None,
        }
    }

    /// The page of another process, of its [`parts`](HostMmio::parts) and its description, mapped for good. The file, which
    /// may hold more than the page, is closed.
    ///
    /// # Errors
    /// As [`map`](HostMmio::map).
    pub fn handed(file: File, offset: u64, what: String) -> io::Result<HostMmio> {
        let page = HostMmio { page: Page::File(file, offset), what };
        let region = page.map()?;
        Ok(HostMmio { page: Page::Mapped(region), ..page })
    }

    /// Maps the page.
    ///
    /// # Errors
    /// What mmap says: a kernel in lockdown forbids it, and one with CONFIG_IO_STRICT_DEVMEM for a BAR in use.
    pub fn map(&self) -> io::Result<Arc<MmapRegion>> {
        let (file, offset) = match &self.page {
            Page::File(file, offset) => (file, *offset),
            Page::Mapped(region) => return Ok(region.clone()),
        };
        let region = MmapRegionBuilder::new(PAGE)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED)
            .with_file_offset(FileOffset::new(file.try_clone()?, offset))
            .build()
            .map_err(|error| match error {
                MmapRegionError::Mmap(error) => error,
                other => io::Error::other(other),
            })?;
        Ok(Arc::new(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pci::tests::{RESOURCE, tree};

    const DIR: &str = "sys/bus/pci/devices/0000:00:02.0";

    fn open(target: &str, command: u8, driver: Option<&str>, in_use_ok: bool) -> Result<HostMmio, String> {
        let config = [0, 0, 0, 0, command, 4];
        let link = driver.map(|driver| (format!("{DIR}/driver"), driver));
        let root = tree(
            &[
                (&format!("{DIR}/resource"), RESOURCE.as_bytes()),
                (&format!("{DIR}/config"), &config),
                (&format!("{DIR}/resource0"), &[7; 2 * PAGE]),
            ],
            &link.iter().map(|(path, target)| (path.as_str(), *target)).collect::<Vec<_>>(),
        );
        HostMmio::open(root.path(), &target.parse()?, in_use_ok).map_err(|error| crate::execute::chain(&error))
    }

    #[test]
    fn the_first_memory_bar_is_mapped() {
        for target in ["0000:00:02.0", "0000:00:02.0:0"] {
            let mmio = open(target, 6, None, false).unwrap();
            assert_eq!(mmio.description(), "0000:00:02.0 BAR 0");
            let page = mmio.map().unwrap();
            assert_eq!(page.size(), PAGE);
        }
        open("0000:00:02.0", 6, Some("../drivers/e1000"), true).unwrap();
    }

    #[test]
    fn what_will_not_do_is_refused_with_advice() {
        for (target, command, driver, said) in [
            ("0000:00:03.0", 6, None, "there is no such PCI device"),
            ("0000:00:02.0", 6, Some("../drivers/e1000"), "the driver e1000 is bound"),
            ("0000:00:02.0:1", 6, None, "it has no BAR 1"),
            ("0000:00:02.0:2", 6, None, "BAR 2 is of I/O ports"),
            ("0000:00:02.0:3", 6, None, "BAR 3 has 256 bytes, less than a page"),
            ("0000:00:02.0:4", 6, None, "BAR 4 has no address"),
            ("0000:00:02.0", 4, None, "echo 1 > "),
            ("0000:00:02.0:6", 6, None, "\"6\" is no BAR: they are 0 to 5"),
            ("0000:00:02", 6, None, "\"0000:00:02\" is no PCI address"),
            ("0000:00:02.0:", 6, None, "\"\" is no BAR"),
        ] {
            let error = open(target, command, driver, false).unwrap_err();
            assert!(error.contains(said), "{target}: {error}");
        }
    }

    #[test]
    fn a_resource_that_cannot_be_opened_is_named() {
        let resource = "0x00000000fe000000 0x00000000fe001fff 0x0000000000040200\n";
        let root = tree(
            &[(&format!("{DIR}/resource"), resource.as_bytes()), (&format!("{DIR}/config"), &[0, 0, 0, 0, 2, 0])],
            &[],
        );
        let error = HostMmio::open(root.path(), &"0000:00:02.0".parse().unwrap(), false).unwrap_err();
        assert!(
            error.to_string().ends_with("0000:00:02.0/resource0: this kernel gives no files to map BARs by"),
            "{error}"
        );
    }
}
