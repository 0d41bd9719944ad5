//! What a host has of each kind of provider.

use super::{mdev, noiommu, stub};
use crate::host::sysfs::{names, text};
use serde::Serialize;
use std::path::Path;

/// What could be named to `--dma` here. Being there is not being usable: opening it tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offer {
    /// The numbers of the IOMMU groups in /dev/vfio.
    pub groups: Vec<u32>,
    /// The files in /dev/vfio/devices.
    pub devices: Vec<String>,
    /// vfio.enable_unsafe_noiommu_mode; `None` where vfio.ko is not loaded or does not have it.
    pub noiommu: Option<bool>,
    /// The files of groups without IOMMU, as in /dev/vfio.
    pub noiommu_groups: Vec<String>,
    /// The types of mediated devices that can be made.
    pub mdev_types: Vec<String>,
    /// The UUIDs of the mediated devices that are there.
    pub mdev_devices: Vec<String>,
    /// The lab's module vfio_stub is loaded.
    pub stub: bool,
}

impl Offer {
    /// Looks at /dev/vfio, sysfs and /proc/modules. `root` is `/`.
    pub fn probe(root: &Path) -> Offer {
        let vfio = names(&root.join("dev/vfio"));
        let mut groups: Vec<u32> = vfio.iter().filter_map(|name| name.parse().ok()).collect();
        groups.sort_unstable();
        Offer {
            groups,
            devices: names(&root.join("dev/vfio/devices")),
            noiommu: text(&root.join(noiommu::PARAMETER)).map(|value| value == "Y"),
            noiommu_groups: vfio.into_iter().filter(|name| name.starts_with("noiommu-")).collect(),
            mdev_types: mdev::types(root).into_iter().map(|known| known.name).collect(),
            mdev_devices: mdev::devices(root),
            stub: stub::is_loaded(root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pci::tests::tree;

    #[test]
    fn what_is_there_is_found() {
        let root = tree(
            &[
                ("dev/vfio/vfio", b""),
                ("dev/vfio/12", b""),
                ("dev/vfio/3", b""),
                ("dev/vfio/noiommu-0", b""),
                ("dev/vfio/devices/vfio0", b""),
                ("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", b"Y\n"),
                ("sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create", b""),
                ("sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create", b""),
                ("sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/remove", b""),
                ("proc/modules", b"vfio_stub 16384 0 - Live 0x0\n"),
            ],
            &[],
        );
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let found = Offer {
            groups: vec![3, 12],
            devices: words(&["vfio0"]),
            noiommu: Some(true),
            noiommu_groups: words(&["noiommu-0"]),
            mdev_types: words(&["mtty-1", "mtty-2"]),
            mdev_devices: words(&["83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"]),
            stub: true,
        };
        assert_eq!(Offer::probe(root.path()), found);
        assert_eq!(Offer::probe(&root.path().join("nowhere")), Offer::default());
    }
}
