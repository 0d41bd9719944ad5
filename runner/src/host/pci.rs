//! PCI devices as sysfs shows them: drivers, BARs, IOMMU groups.

use super::sysfs::{link, names};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where sysfs has them, below the root of the file system.
const DEVICES: &str = "sys/bus/pci/devices";

/// Flags of a BAR in a device's `resource` file (`include/linux/ioport.h`).
mod flag {
    pub const IO: u64 = 0x100;
    pub const MEMORY: u64 = 0x200;
    pub const DISABLED: u64 = 0x1000_0000;
    pub const UNSET: u64 = 0x2000_0000;
}

/// Offset of the command register in PCI configuration space.
const COMMAND: usize = 4;
/// Command register: the device answers accesses to its memory BARs.
const MEMORY_SPACE: u8 = 1 << 1;

/// Domain, bus, device and function, as in `0000:00:02.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// Its directory in sysfs.
    pub fn dir(&self, root: &Path) -> PathBuf {
        root.join(DEVICES).join(&self.0)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
            digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let parts = s.split_once(':').and_then(|(domain, rest)| {
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            Some((domain, bus, device, function))
        });
        match parts {
            Some((domain, bus, device, function))
                if hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2) && hex(function, 1..=1) =>
            {
                Ok(Address(s.to_ascii_lowercase()))
            }
            _ => Err(format!("{s:?} is no PCI address such as 0000:00:02.0 (lspci -D shows them)")),
        }
    }
}

/// A base address register that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bar {
    /// Bytes behind it.
    pub len: u64,
    /// Whether it is of memory; else it is of I/O ports.
    pub memory: bool,
    /// Whether it has an address.
    pub assigned: bool,
}

/// A PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// Where it is.
    pub address: Address,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// The number of its IOMMU group.
    pub group: Option<u32>,
    /// Its BARs by number; the upper half of a 64-bit one is `None`.
    pub bars: [Option<Bar>; 6],
    /// Whether its memory BARs are enabled in its command register.
    pub memory_enabled: bool,
}

impl Device {
    /// The device at an address, if there is one.
    pub fn at(root: &Path, address: &Address) -> Option<Device> {
        let dir = address.dir(root);
        let resource = fs::read_to_string(dir.join("resource")).ok()?;
        let command = fs::read(dir.join("config")).ok().and_then(|config| config.get(COMMAND).copied());
        Some(Device {
            address: address.clone(),
            driver: link(&dir.join("driver")),
            group: link(&dir.join("iommu_group")).and_then(|name| name.parse().ok()),
            bars: bars(&resource),
            memory_enabled: command.is_some_and(|command| command & MEMORY_SPACE != 0),
        })
    }

    /// All devices, by address.
    pub fn all(root: &Path) -> Vec<Device> {
        let mut addresses: Vec<Address> =
            names(&root.join(DEVICES)).iter().filter_map(|name| name.parse().ok()).collect();
        addresses.sort();
        addresses.iter().filter_map(|address| Device::at(root, address)).collect()
    }

    /// The driver's name, or that there is none.
    pub fn driver_or_none(&self) -> &str {
        self.driver.as_deref().unwrap_or("no driver")
    }
}

/// The BARs in a `resource` file: a line each with first and last address and flags. Lines after the sixth are the
/// ROM's and bridges' windows (`Documentation/PCI/sysfs-pci.rst`).
fn bars(resource: &str) -> [Option<Bar>; 6] {
    let bar = |line: &str| {
        let mut words = line.split_whitespace().map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16));
        let (Some(Ok(first)), Some(Ok(last)), Some(Ok(flags))) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        (flags & (flag::IO | flag::MEMORY) != 0).then(|| Bar {
            len: last.saturating_sub(first).saturating_add(1),
            memory: flags & flag::MEMORY != 0,
            assigned: flags & (flag::DISABLED | flag::UNSET) == 0,
        })
    };
    let mut lines = resource.lines();
    std::array::from_fn(|_| lines.next().and_then(bar))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory tree in the place of `/`, with files by path and links by path and target.
    pub fn tree(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for (path, target) in links {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        root
    }

    /// The file `resource` of a device with memory in BAR 0 (64 bits wide), ports in BAR 2, less than a page in BAR 3,
    /// and memory without an address in BAR 4.
    pub const RESOURCE: &str = "0x0000004000000000 0x000000400007ffff 0x0000000000140204\n\
                                0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                                0x000000000000c000 0x000000000000c01f 0x0000000000040101\n\
                                0x00000000fe000000 0x00000000fe0000ff 0x0000000000040200\n\
                                0x0000000000000000 0x0000000000000fff 0x0000000020040200\n\
                                0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                                0x00000000fff00000 0x00000000ffffffff 0x0000000000046200\n";

    #[test]
    fn addresses_are_checked() {
        for good in ["0000:00:02.0", "10000:0a:1F.7"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good.to_ascii_lowercase());
        }
        for bad in ["", "00:02.0", "0000:00:02", "0000:00:02.", "0000:0:02.0", "../../x:00:02.0", "0000:00:02.0/.."] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bars_are_read() {
        let memory = |len, assigned| Some(Bar { len, memory: true, assigned });
        let ports = Some(Bar { len: 32, memory: false, assigned: true });
        assert_eq!(
            bars(RESOURCE),
            [memory(0x80000, true), None, ports, memory(0x100, true), memory(0x1000, false), None]
        );
        assert_eq!(bars("garbage\n0x1 0x2"), [None; 6]);
    }

    #[test]
    fn a_device_is_as_sysfs_says() {
        let dir = "sys/bus/pci/devices/0000:00:02.0";
        let root = tree(
            &[(&format!("{dir}/resource"), RESOURCE.as_bytes()), (&format!("{dir}/config"), &[0, 0, 0, 0, 6, 4])],
            &[(&format!("{dir}/driver"), "../drivers/vfio-pci"), (&format!("{dir}/iommu_group"), "../groups/12")],
        );
        let [device] = &Device::all(root.path())[..] else { panic!("there is one device") };
        assert_eq!(device.address.to_string(), "0000:00:02.0");
        assert_eq!((device.driver_or_none(), device.group, device.memory_enabled), ("vfio-pci", Some(12), true));
        assert_eq!(Device::at(root.path(), &"0000:00:03.0".parse().unwrap()), None);
    }
}
