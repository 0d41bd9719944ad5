//! `mdev`: a mediated device, such as the kernel's samples mtty, mdpy and mbochs: hardware that is none.

use super::{Opened, group};
use crate::host::device::DeviceError;
use crate::host::sysfs::{link, names, text};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the devices that can make mediated ones are.
const PARENTS: &str = "sys/class/mdev_bus";
/// Where mediated devices are.
const DEVICES: &str = "sys/bus/mdev/devices";

/// A mediated device that was made for a run. Dropped, it is removed.
#[derive(Debug)]
pub struct Mdev(PathBuf);

impl Drop for Mdev {
    fn drop(&mut self) {
        // Nobody is left to be told; the device is harmless, and `doctor` lists it.
        let _ = fs::write(self.0.join("remove"), "1");
    }
}

/// A type of mediated devices, with the directory that makes one.
#[derive(Debug)]
pub struct Type {
    /// Its name, such as `mtty-1`.
    pub name: String,
    dir: PathBuf,
}

/// The types that this host can make.
pub fn types(root: &Path) -> Vec<Type> {
    let parents = root.join(PARENTS);
    let of = |parent: String| {
        let dir = parents.join(parent).join("mdev_supported_types");
        names(&dir).into_iter().map(move |name| Type { dir: dir.join(&name), name })
    };
    names(&parents).into_iter().flat_map(of).collect()
}

/// The UUIDs of the mediated devices that are there.
pub fn devices(root: &Path) -> Vec<String> {
    names(&root.join(DEVICES))
}

/// Opens the group of the device with that UUID, or of one of that type, which it makes.
pub fn open(root: &Path, name: &str) -> Result<Opened, DeviceError> {
    if is_uuid(name) {
        let dir = root.join(DEVICES).join(name);
        return match dir.exists() {
            true => group_of(root, name, None),
            false => Err(DeviceError::new(format!("there is no mediated device {name} (ls /{DEVICES})"))),
        };
    }
    let types = types(root);
    let Some(found) = types.iter().find(|found| found.name == name) else {
        return Err(DeviceError::new(match &types[..] {
            [] => "no module that makes mediated devices is loaded: try modprobe mtty (CONFIG_SAMPLE_VFIO_MDEV_MTTY; \
                   Debian does not build it)"
                .to_owned(),
            types => {
                let known: Vec<_> = types.iter().map(|known| known.name.as_str()).collect();
                format!("this host's mediated devices have no type {name}, only {}", known.join(", "))
            }
        }));
    };
    if text(&found.dir.join("available_instances")).as_deref() == Some("0") {
        return Err(DeviceError::new(format!("no instance of {name} is left: remove one (ls /{DEVICES})")));
    }
    let uuid = text(&root.join("proc/sys/kernel/random/uuid"));
    let uuid = uuid.ok_or_else(|| DeviceError::new("cannot read a UUID from /proc/sys/kernel/random/uuid"))?;
    let create =
        |error| DeviceError::io(format!("cannot make a mediated device of type {name} (that is for root)"), error);
    fs::write(found.dir.join("create"), &uuid).map_err(create)?;
    let made = Mdev(root.join(DEVICES).join(&uuid));
    group_of(root, &uuid, Some(made))
}

fn group_of(root: &Path, uuid: &str, made: Option<Mdev>) -> Result<Opened, DeviceError> {
    let Some(number) = link(&root.join(DEVICES).join(uuid).join("iommu_group")) else {
        return Err(DeviceError::new(format!(
            "the mediated device {uuid} has no IOMMU group: its driver is not bound, or the kernel has no VFIO groups"
        )));
    };
    let opened = group::attach(root, &Path::new("/dev/vfio").join(number))?;
    Ok(Opened { _made: made, ..opened })
}

/// Whether it is of the form 8-4-4-4-12 hexadecimal digits.
fn is_uuid(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}
