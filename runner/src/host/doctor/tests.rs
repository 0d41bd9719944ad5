//! The report of hosts of every kind.

use super::answer::Can;
use super::report::{Emulators, Report, examine};
use super::warning::Warning;
use crate::host::Host;
use crate::host::cpu::Cpu;
use crate::host::dma::Offer;
use crate::host::kvm::{Kvm, KvmTrouble};
use crate::host::module::Modules;
use crate::host::pci::{Bar, Device};
use crate::host::rights::Rights;
use crate::witness::Kind;
use std::collections::BTreeMap;

/// A host without fault: kvm_intel with EPT on bare metal, run as root.
fn intel() -> Host {
    let parameters = [("kvm.ignore_msrs", "N"), ("kvm_intel.ept", "Y")];
    Host {
        name: "xeon".into(),
        kernel: "7.2.13".into(),
        build: "#1 SMP".into(),
        taint: 0,
        cpu: Cpu {
            vendor: "GenuineIntel".into(),
            model: "A CPU".into(),
            maxphyaddr: 46,
            self_snoop: true,
            vmx: true,
            svm: false,
            hypervisor: None,
            allowed: vec![0, 1],
        },
        modules: Modules {
            vendor: Some("kvm_intel".into()),
            parameters: parameters.map(|(name, value)| (name.into(), value.into())).into(),
            builds: Default::default(),
        },
        kvm: Ok(Kvm {
            quirks: 0x7ff,
            apic_bus_cycles: true,
            memslots_v2: true,
            guest_memfd: true,
            readonly_memslots: true,
            one_reg: true,
            vfio_device: true,
            mce_banks: 32,
            mce_caps: 0x0f00_0100,
            maxphyaddr: 46,
            cpuid_mtrr_forced: false,
            slot_types: vec![wire::step::SlotType::Plain],
            virtio_device: false,
        }),
        rights: Rights { root: true, sys_admin: true, blind: BTreeMap::new(), host_msrs: true },
        dma: Offer::default(),
        pci: Vec::new(),
        clock: None,
        emulator: None,
    }
}

fn emulators() -> Emulators {
    Emulators {
        kvm: Ok("/q 7.2, -cpu host".into()),
        tcg: Ok("/q 7.2, -cpu max".into()),
        bochs: Ok("/b Bochs 3.0".into()),
    }
}

fn report(change: impl FnOnce(&mut Host)) -> Report {
    let mut host = intel();
    change(&mut host);
    Report::new(&host, &emulators())
}

#[test]
fn a_host_without_fault_gets_no_warning() {
    let report = report(|_| ());
    assert_eq!(report.warnings, []);
    assert!(report.answers.iter().all(|answer| answer.can == Can::Yes), "{report}");
}

#[test]
fn each_limit_is_warned_of() {
    type Change = fn(&mut Host);
    fn kvm(host: &mut Host) -> &mut Kvm {
        host.kvm.as_mut().unwrap()
    }
    let cases: [(Change, &str); 14] = [
        (|h| h.kvm = Err(KvmTrouble::NoDevice), "modprobe kvm_intel"),
        (
            |h| {
                h.kvm = Err(KvmTrouble::NoDevice);
                h.cpu.vmx = false;
            },
            "neither VMX nor SVM",
        ),
        (|h| h.kvm = Err(KvmTrouble::NoPermission { group: Some("kvm".into()) }), "usermod -aG kvm"),
        (|h| h.kvm = Err(KvmTrouble::NoPermission { group: None }), "run as root"),
        (|h| h.kvm = Err(KvmTrouble::ApiVersion(11)), "API version 11, not 12"),
        (|h| h.modules.vendor = Some("kvm_pvm".into()), "run on a host with kvm_intel"),
        (|h| drop(h.modules.parameters.insert("kvm_intel.ept".into(), "N".into())), "ept=1"),
        (|h| h.modules.vendor = Some("kvm_new".into()), "kvm_new is none whose policy"),
        (|h| kvm(h).quirks = 0x1ff, "6.12.78"),
        (|h| drop(h.modules.parameters.insert("kvm.ignore_msrs".into(), "Y".into())), "ignore_msrs is on"),
        (|h| h.cpu.hypervisor = Some("KVMKVMKVM".into()), "runs in a VM (KVMKVMKVM;"),
        (|h| kvm(h).cpuid_mtrr_forced = true, "shows guests CPUID.MTRR whatever"),
        (|h| drop(h.rights.blind.insert(Kind::Sptes, "no tracefs: mount it".into())), "decide. no tracefs: mount it."),
        (|h| h.taint = 1 << 9 | 1 << 12, "tainted (W)"),
    ];
    for (change, said) in cases {
        let report = report(change);
        let warnings: Vec<_> = report.warnings.iter().map(Warning::to_string).collect();
        assert_eq!(warnings.iter().filter(|text| text.contains(said)).count(), 1, "{said}: {warnings:?}");
        assert_eq!(warnings.len(), 1, "{said}: {warnings:?}");
    }
}

/// Who has no VMX, or a KVM in software, can still run stock kernels.
#[test]
fn the_lab_is_offered_where_kvm_cannot_tell() {
    type Change = fn(&mut Host);
    let no_vmx: Change = |h| (h.kvm, h.cpu.vmx) = (Err(KvmTrouble::NoDevice), false);
    let software: Change = |h| h.modules.vendor = Some("kvm_pvm".into());
    for change in [no_vmx, software] {
        assert!(report(change).warnings[0].to_string().contains("cargo run --release -p lab -- run"));
    }
    assert!(!report(|h| h.kvm = Err(KvmTrouble::NoDevice)).to_string().contains("-p lab"));
}

#[test]
fn devices_are_listed_with_what_they_need() {
    let device = |address: &str, driver: Option<&str>, memory_enabled| Device {
        address: address.parse().unwrap(),
        driver: driver.map(str::to_owned),
        group: Some(12),
        bars: [Some(Bar { len: 0x2000, memory: true, assigned: true }), None, None, None, None, None],
        memory_enabled,
    };
    let rows = |report: &Report, title: &str| {
        report.sections.iter().find(|section| section.title == title).unwrap().rows.clone()
    };
    let row = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let full = report(|host| {
        host.pci = vec![device("0000:00:02.0", Some("vfio-pci"), true), device("0000:00:03.0", None, false)];
        host.dma = Offer {
            groups: vec![12],
            devices: vec!["vfio0".into()],
            noiommu: Some(true),
            noiommu_groups: vec!["noiommu-0".into()],
            mdev_types: vec!["mtty-1".into()],
            mdev_devices: vec!["83b8f4f2-509f-382f-3c1e-e6bfe0fa1001".into()],
            stub: true,
        };
    });
    let expected = [
        row("KVM's VFIO device", "yes"),
        row("vfio-group", "/dev/vfio/12: 0000:00:02.0 (vfio-pci), 0000:00:03.0 (no driver)"),
        row("vfio-device", "/dev/vfio/devices/vfio0"),
        row("noiommu", "/dev/vfio/noiommu-0"),
        row("mdev", "mtty-1, 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"),
        row("kvm-virtio", "none: a device of KVM that no released kernel has (ci/kernels/patches)"),
        row("stub", "loaded"),
    ];
    assert_eq!(rows(&full, "Non-coherent DMA (run --dma)"), expected);
    let expected = [
        row("0000:00:02.0", "BAR 0, 0x2000 bytes; vfio-pci is bound to it"),
        row("0000:00:03.0", "BAR 0, 0x2000 bytes; no driver; off in its command register"),
    ];
    assert_eq!(rows(&full, "Host MMIO (run --host-mmio)"), expected);
    let bare = rows(&report(|_| ()), "Non-coherent DMA (run --dma)");
    assert!(bare[1..].iter().all(|(_, text)| text.starts_with("none: ")), "{bare:?}");
}

/// NPT leaves hold no memory type (`spte.c:make_spte`), so nobody needs to see them.
#[test]
fn npt_leaves_are_no_witness() {
    let amd = |blind: Option<&str>| {
        report(|host| {
            host.modules.vendor = Some("kvm_amd".into());
            host.modules.parameters.insert("kvm_amd.npt".into(), "1".into());
            host.rights.blind.extend(blind.map(|why| (Kind::Sptes, why.to_owned())));
        })
    };
    for report in [amd(Some("no tracefs")), amd(None)] {
        let leaves = report.answers.iter().find(|answer| answer.what == "SPTE leaves").unwrap();
        assert_eq!((leaves.can, leaves.why.as_str()), (Can::No, "NPT leaves hold no memory type"));
        assert_eq!(report.warnings, []);
    }
}

#[test]
fn a_missing_qemu_is_told_once() {
    let missing = || Err("there is none".to_owned());
    let report = Report::new(&intel(), &Emulators { kvm: missing(), tcg: missing(), bochs: missing() });
    let [warning] = &report.warnings[..] else { panic!("{report}") };
    assert_eq!(warning.to_string(), "machine qemu-kvm or qemu-tcg cannot be used: there is none.");
}

#[test]
fn without_kvm_and_qemu_nothing_can_be_told() {
    let mut host = intel();
    host.kvm = Err(KvmTrouble::NoDevice);
    let report = Report::new(&host, &Emulators { kvm: Err("a".into()), tcg: Err("b".into()), bochs: Err("c".into()) });
    assert!(report.answers.iter().all(|answer| answer.can == Can::No), "{report}");
    assert_eq!(report.warnings.len(), 2, "{report}");
}

#[test]
fn no_line_is_too_wide() {
    for report in [report(|h| h.modules.vendor = Some("kvm_pvm".into())), examine()] {
        let text = report.to_string();
        let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert_eq!(wide, [""; 0]);
        assert!(text.starts_with("What this host can tell\n  "), "{text}");
    }
}

#[test]
fn the_report_is_json_too() {
    let report = report(|h| h.cpu.hypervisor = Some("KVMKVMKVM".into()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["answers"][0]["can"], "yes");
    assert_eq!(json["facts"]["kvm-vendor"], "kvm_intel");
    assert!(json["warnings"][0].as_str().unwrap().contains("KVMKVMKVM"));
}
