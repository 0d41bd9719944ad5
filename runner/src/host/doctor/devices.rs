//! What of the host's devices VMs could be given, for people.

use super::report::Section;
use super::sections::{section, yes_no};
use crate::host::Host;
use crate::host::mmio;
use crate::host::pci::Device;

/// Who could make DMA non-coherent, and what the others would need.
pub(super) fn dma(host: &Host) -> Section {
    let offer = &host.dma;
    let none = |found: Vec<String>, needs: &str| match found.is_empty() {
        true => format!("none: {needs}"),
        false => found.join(", "),
    };
    let members = |group: u32| {
        let members = host.pci.iter().filter(|device| device.group == Some(group));
        members.map(|device| format!("{} ({})", device.address, device.driver_or_none())).collect::<Vec<_>>().join(", ")
    };
    let groups = offer.groups.iter().map(|&group| format!("/dev/vfio/{group}: {}", members(group))).collect();
    let in_vfio = |names: &[String], dir: &str| names.iter().map(|name| format!("{dir}/{name}")).collect();
    let noiommu = match offer.noiommu {
        Some(true) => "bind a device to vfio-pci that no IOMMU serves",
        Some(false) => {
            "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, then bind a device to vfio-pci"
        }
        None => "takes vfio.ko with CONFIG_VFIO_NOIOMMU, which Debian does not build",
    };
    section(
        "Non-coherent DMA (run --dma)",
        [
            ("KVM's VFIO device", host.kvm.as_ref().map_or("no".to_owned(), |kvm| yes_no(kvm.vfio_device))),
            ("vfio-group", none(groups, "bind a device to vfio-pci, behind an IOMMU that the kernel uses")),
            (
                "vfio-device",
                none(in_vfio(&offer.devices, "/dev/vfio/devices"), "as vfio-group, with a kernel from 6.6 on"),
            ),
            ("noiommu", none(in_vfio(&offer.noiommu_groups, "/dev/vfio"), noiommu)),
            (
                "mdev",
                none(
                    [&offer.mdev_types[..], &offer.mdev_devices].concat(),
                    "takes a module that makes mediated devices, such as the kernel's sample mtty",
                ),
            ),
            (
                "kvm-virtio",
                if host.kvm.as_ref().is_ok_and(|kvm| kvm.virtio_device) {
                    "KVM has the device"
                } else {
                    "none: a device of KVM that no released kernel has (ci/kernels/patches)"
                }
                .to_owned(),
            ),
            (
                "stub",
                if offer.stub { "loaded" } else { "none: only in the lab, whose kernels load the module vfio_stub" }
                    .to_owned(),
            ),
        ],
    )
}

/// Which BARs a memslot could be of.
pub(super) fn host_mmio(host: &Host) -> Section {
    let row = |device: &Device| {
        let (bar, len) = mmio::first_bar(device)?;
        let driver = match &device.driver {
            Some(driver) => format!("{driver} is bound to it"),
            None => "no driver".to_owned(),
        };
        let off = if device.memory_enabled { "" } else { "; off in its command register" };
        Some((device.address.to_string(), format!("BAR {bar}, {len:#x} bytes; {driver}{off}")))
    };
    let mut rows: Vec<_> = host.pci.iter().filter_map(row).collect();
    if rows.is_empty() {
        rows.push(("devices".to_owned(), "none: no PCI device has a memory BAR of a page".to_owned()));
    }
    Section { title: "Host MMIO (run --host-mmio)", rows }
}
