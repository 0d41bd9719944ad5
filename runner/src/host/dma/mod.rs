//! Providers of non-coherent DMA: files that KVM's VFIO device takes, after which a VM has DMA that may bypass caches.
//!
//! KVM_DEV_VFIO_FILE_ADD makes KVM ask VFIO whether it enforces coherency for the file. If it does not for one of the
//! VM's files, the VM counts as non-coherent (`virt/kvm/vfio.c`, `kvm_vfio_update_coherency`). No ioctl tells the
//! outcome: only leaves and their effects do. `docs/devices.md` says what to expect of which provider.
//! One provider is no file: a device of a patched KVM that is told that the VM's DMA is not coherent.

mod device;
mod group;
mod ioctl;
mod mdev;
mod noiommu;
mod offer;
mod stub;

pub use offer::Offer;

use super::device::DeviceError;
use mdev::Mdev;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What `--dma` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Spec {
    /// `vfio-group=/dev/vfio/12`: an IOMMU group.
    Group(PathBuf),
    /// `vfio-device=/dev/vfio/devices/vfio0`: a device.
    Device(PathBuf),
    /// `noiommu=/dev/vfio/noiommu-0`: the group of a device without an IOMMU.
    Noiommu(PathBuf),
    /// `mdev=UUID`: a mediated device that is there; `mdev=TYPE`: one that is made for the run.
    Mdev(String),
    /// `stub`: the lab's module vfio_stub.
    Stub,
    /// `kvm-virtio`: the KVM VIRTIO device of a patched KVM.
    KvmVirtio,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let path = |path: &str, prefix: &str| match path.strip_prefix(prefix).map(str::parse::<u32>) {
            Some(Ok(_)) => Ok(PathBuf::from(path)),
            _ => Err(format!("{path:?} is not of the form {prefix}N")),
        };
        match s.split_once('=') {
            Some(("vfio-group", group)) => path(group, "/dev/vfio/").map(Spec::Group),
            Some(("vfio-device", device)) => path(device, "/dev/vfio/devices/vfio").map(Spec::Device),
            Some(("noiommu", group)) => path(group, "/dev/vfio/noiommu-").map(Spec::Noiommu),
            Some(("mdev", name)) if !name.is_empty() && !name.contains(['/', '.']) => Ok(Spec::Mdev(name.to_owned())),
            Some(("mdev", name)) => Err(format!("{name:?} is neither the UUID nor the type of a mediated device")),
            None if s == "stub" => Ok(Spec::Stub),
            None if s == "kvm-virtio" => Ok(Spec::KvmVirtio),
            _ => Err("expected vfio-group=/dev/vfio/N, vfio-device=/dev/vfio/devices/vfioN, \
                      noiommu=/dev/vfio/noiommu-N, mdev=UUID, mdev=TYPE, stub or kvm-virtio"
                .to_owned()),
        }
    }
}

impl TryFrom<String> for Spec {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Spec> for String {
    fn from(it: Spec) -> String {
        it.to_string()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::Group(path) => write!(f, "vfio-group={}", path.display()),
            Spec::Device(path) => write!(f, "vfio-device={}", path.display()),
            Spec::Noiommu(path) => write!(f, "noiommu={}", path.display()),
            Spec::Mdev(name) => write!(f, "mdev={name}"),
            Spec::Stub => f.write_str("stub"),
            Spec::KvmVirtio => f.write_str("kvm-virtio"),
        }
    }
}

impl Spec {
    /// Opens it for a run. `root` is `/`.
    ///
    /// # Errors
    /// It cannot work here; says why and what to do.
    pub fn open(&self, root: &Path) -> Result<Provider, DeviceError> {
        let opened = match self {
            Spec::Group(path) => group::open(root, path),
            Spec::Device(path) => device::open(root, path),
            Spec::Noiommu(path) => noiommu::open(root, path),
            Spec::Mdev(name) => mdev::open(root, name),
            Spec::Stub => stub::open(root),
            Spec::KvmVirtio => Ok(Opened { file: None, _container: None, _made: None }),
        }?;
        Ok(Provider { spec: self.clone(), opened })
    }
}

/// A provider that is open. What it had to make or change is undone when it is dropped.
#[derive(Debug)]
pub struct Provider {
    spec: Spec,
    opened: Opened,
}

/// What a provider holds open. The order is that of closing: the group before its container, the device last.
#[derive(Debug)]
struct Opened {
    /// The file for KVM_DEV_VFIO_FILE_ADD, if it takes one.
    file: Option<File>,
    /// The VFIO container that the group is attached to.
    _container: Option<File>,
    /// The mediated device that was made.
    _made: Option<Mdev>,
}

impl Opened {
    fn file(file: File) -> Self {
        Opened { file: Some(file), _container: None, _made: None }
    }
}

impl Provider {
    /// As `--dma` names it.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The file for KVM_DEV_VFIO_FILE_ADD; none for the KVM VIRTIO device.
    pub fn file(&self) -> Option<&File> {
        self.opened.file.as_ref()
    }

    /// One that another process has opened and keeps for as long as this lives.
    pub fn handed(spec: Spec, file: Option<File>) -> Provider {
        Provider { spec, opened: Opened { file, _container: None, _made: None } }
    }

    /// The stub with a file of any kind.
    #[cfg(test)]
    pub(crate) fn of_any_file() -> Provider {
        let file = File::open("/dev/null").expect("/dev/null");
        Provider { spec: Spec::Stub, opened: Opened::file(file) }
    }
}

/// Opens a file of /dev to read and write; errors say who may, and who else may have it.
fn open(root: &Path, path: &Path) -> Result<File, DeviceError> {
    let place = root.join(path.strip_prefix("/").unwrap_or(path));
    OpenOptions::new().read(true).write(true).open(place).map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::EBUSY) => ": another program has it open, or a device of the group has another driver",
            Some(libc::EACCES | libc::EPERM) => ": run as root (noiommu takes CAP_SYS_RAWIO), or change its owner",
            _ => "",
        };
        DeviceError::io(format!("cannot open {}{advice}", path.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pci::tests::{RESOURCE, tree};

    fn refusal(spec: &str, files: &[(&str, &[u8])], links: &[(&str, &str)]) -> String {
        let root = tree(files, links);
        let error = spec.parse::<Spec>().unwrap().open(root.path()).expect_err(spec);
        crate::execute::chain(&error)
    }

    #[test]
    fn names_read_back() {
        for spec in [
            "vfio-group=/dev/vfio/12",
            "vfio-device=/dev/vfio/devices/vfio0",
            "noiommu=/dev/vfio/noiommu-0",
            "mdev=mtty-1",
            "stub",
            "kvm-virtio",
        ] {
            assert_eq!(spec.parse::<Spec>().unwrap().to_string(), spec);
        }
        for bad in ["", "stub=1", "vfio-group=12", "vfio-group=/dev/vfio/vfio", "noiommu=/dev/vfio/0", "mdev=../x"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_advice() {
        let device = "sys/bus/pci/devices/0000:00:02.0";
        let resource = (&*format!("{device}/resource"), RESOURCE.as_bytes());
        let bound = [
            (&*format!("{device}/driver"), "../drivers/e1000"),
            (&*format!("{device}/iommu_group"), "../../kernel/iommu_groups/12"),
        ];
        let parameter = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let types = "sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/available_instances";
        let uuid = "mdev=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 12] = [
            ("vfio-group=/dev/vfio/12", &[], &[], "there is no IOMMU group 12: this host has none at all"),
            ("vfio-group=/dev/vfio/13", &[resource], &bound, "there is no IOMMU group 13"),
            ("vfio-group=/dev/vfio/12", &[resource], &bound, "0000:00:02.0 (e1000)"),
            ("vfio-device=/dev/vfio/devices/vfio0", &[], &[], "from 6.6 on"),
            ("noiommu=/dev/vfio/noiommu-0", &[], &[], "CONFIG_VFIO_NOIOMMU"),
            ("noiommu=/dev/vfio/noiommu-0", &[(parameter, b"N\n")], &[], "echo Y > /sys/module/vfio"),
            ("noiommu=/dev/vfio/noiommu-0", &[(parameter, b"Y\n")], &[], "Bind a device to vfio-pci"),
            ("mdev=mtty-1", &[], &[], "no module that makes mediated devices"),
            ("mdev=mtty-2", &[(types, b"24\n")], &[], "no type mtty-2, only mtty-1"),
            ("mdev=mtty-1", &[(types, b"0\n")], &[], "no instance of mtty-1 is left"),
            (uuid, &[(types, b"24\n")], &[], "there is no mediated device 83b8f4f2"),
            ("stub", &[("proc/modules", b"kvm 1 0 - Live 0\nvfio_stubby 1\n")], &[], "name a VFIO device"),
        ];
        for (spec, files, links, said) in cases {
            let error = refusal(spec, files, links);
            assert!(error.contains(said), "{spec}: {error}");
        }
    }

    #[test]
    fn the_stub_takes_any_file() {
        let root = tree(&[("proc/modules", b"vfio_stub 16384 0 - Live 0x0\n"), ("dev/null", b"")], &[]);
        assert_eq!(Spec::Stub.open(root.path()).unwrap().spec(), &Spec::Stub);
    }

    /// A file that is no VFIO group takes no VFIO ioctl.
    #[test]
    fn a_group_that_is_none_is_refused() {
        let error = refusal("vfio-group=/dev/vfio/12", &[("dev/vfio/12", b"")], &[]);
        assert!(error.contains("cannot ask /dev/vfio/12 for its state (VFIO_GROUP_GET_STATUS)"), "{error}");
    }

    #[test]
    fn a_mediated_device_is_made_and_removed() {
        let parent = "sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1";
        let root = tree(
            &[
                (&format!("{parent}/available_instances"), b"24\n"),
                (&format!("{parent}/create"), b""),
                ("proc/sys/kernel/random/uuid", b"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001\n"),
                ("sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/remove", b""),
            ],
            &[],
        );
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        // No group appears beside a file of a test's tree, which is an error, and what was made is removed.
        let error = "mdev=mtty-1".parse::<Spec>().unwrap().open(root.path()).unwrap_err();
        assert!(error.to_string().contains("has no IOMMU group"), "{error}");
        assert_eq!(read(&format!("{parent}/create")), "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
        assert_eq!(read("sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/remove"), "1");
    }
}
