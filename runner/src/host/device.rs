//! What of the host's devices a run may give to VMs, as its user named them.

use super::dma::{Provider, Spec};
use super::hazard::Target;
use super::linux::Linux;
use super::mmio::{self, HostMmio};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, io};
use wire::step::Hazard;

/// The devices as named: arguments of `run`, kept in a run's results.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Named {
    /// What makes the DMA of VMs non-coherent, for the cells that want that: vfio-group=/dev/vfio/N,
    /// vfio-device=/dev/vfio/devices/vfioN, noiommu=/dev/vfio/noiommu-N, mdev=UUID or mdev=TYPE, stub (the lab's
    /// module), or kvm-virtio (a device of patched KVMs).
    #[arg(long, value_name = "PROVIDER")]
    pub dma: Option<Spec>,
    /// Map the first page of a BAR of this PCI device into guests, for the cells that want host MMIO. Guests read and
    /// write it: name a harmless device. Without BAR it is the first memory BAR.
    #[arg(long, value_name = "ADDRESS[:BAR]")]
    pub host_mmio: Option<mmio::Target>,
    /// Take the device of --host-mmio although a driver is bound to it.
    #[arg(long, requires = "host_mmio")]
    pub host_mmio_in_use_ok: bool,
    /// Run the destructive cells of this target: a PCI device's address, vga-hole or apic-page. Guests access it as
    /// cacheable memory, WHICH MAY TAKE THE HOST DOWN (docs/destructive.md). May be given several times.
    #[arg(long, value_name = "TARGET")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destructive: Vec<Target>,
    /// Boot this Linux kernel, a vmlinux, in the cells that want one.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<PathBuf>,
}

/// As on a command line, each argument behind a space.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dma) = &self.dma {
            write!(f, " --dma {dma}")?;
        }
        if let Some(target) = &self.host_mmio {
            write!(f, " --host-mmio {target}")?;
        }
        f.write_str(if self.host_mmio_in_use_ok { " --host-mmio-in-use-ok" } else { "" })?;
        self.destructive.iter().try_for_each(|target| write!(f, " --destructive {target}"))?;
        self.linux.as_ref().map_or(Ok(()), |linux| write!(f, " --linux {}", linux.display()))
    }
}

/// A device that was named cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct DeviceError {
    /// Which, why, and what to do about it.
    pub what: String,
    /// What the system said.
    #[source]
    pub source: Option<io::Error>,
}

impl DeviceError {
    /// Without a word of the system.
    pub fn new(what: impl Into<String>) -> Self {
        DeviceError { what: what.into(), source: None }
    }

    /// With what the system said.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        DeviceError { what: what.into(), source: Some(source) }
    }
}

/// The devices of a run, opened.
#[derive(Debug, Default)]
pub struct Devices {
    /// What makes a VM's DMA non-coherent.
    pub dma: Option<Provider>,
    /// A page of a PCI BAR.
    pub mmio: Option<HostMmio>,
    /// Pages for destructive cells.
    pub hazards: Vec<(Hazard, HostMmio)>,
    /// A kernel to boot.
    pub linux: Option<Linux>,
}

impl Devices {
    /// Opens what was named.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn open(named: &Named) -> Result<Devices, DeviceError> {
        let root = Path::new("/");
        let bar = |target| HostMmio::open(root, target, named.host_mmio_in_use_ok);
        let mut hazards: Vec<(Hazard, HostMmio)> = Vec::new();
        for target in &named.destructive {
            let hazard = target.hazard();
            if hazards.iter().any(|(known, _)| *known == hazard) {
                let what = format!("--destructive {target}: one target of its kind at a time, in a run of its own");
                return Err(DeviceError::new(what));
            }
            hazards.push((hazard, target.open(root)?));
        }
        Ok(Devices {
            hazards,
            dma: named.dma.as_ref().map(|spec| spec.open(root)).transpose()?,
            mmio: named.host_mmio.as_ref().map(bar).transpose()?,
            linux: named.linux.as_deref().map(Linux::open).transpose()?,
        })
    }

    /// The page of the host that is a hazard, if it was named.
    pub fn hazard(&self, hazard: Hazard) -> Option<&HostMmio> {
        self.hazards.iter().find(|(known, _)| *known == hazard).map(|(_, page)| page)
    }

    /// Whether none was named.
    pub fn is_empty(&self) -> bool {
        self.dma.is_none() && self.mmio.is_none() && self.hazards.is_empty() && self.linux.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_are_arguments() {
        let none = Named::default();
        let some = Named {
            dma: Some("mdev=mtty-1".parse().unwrap()),
            host_mmio: Some("0000:00:02.0:2".parse().unwrap()),
            host_mmio_in_use_ok: true,
            destructive: ["vga-hole", "0000:00:03.0"].map(|target| target.parse().unwrap()).into(),
            linux: Some("/boot/vmlinux".into()),
        };
        let words = " --dma mdev=mtty-1 --host-mmio 0000:00:02.0:2 --host-mmio-in-use-ok \
                     --destructive vga-hole --destructive 0000:00:03.0 --linux /boot/vmlinux";
        for (named, said) in [(none, ""), (some, words)] {
            assert_eq!(named.to_string(), said);
            assert_eq!(serde_json::from_str::<Named>(&serde_json::to_string(&named).unwrap()).unwrap(), named);
        }
        assert!(serde_json::from_str::<Named>(r#"{"dma": "stubb"}"#).is_err());
    }
}
