//! What was probed, in sections of lines for people.

use super::devices;
use super::report::{Emulators, Section};
use crate::host::Host;
use crate::host::kvm::Kvm;
use crate::host::quirks::QUIRKS;
use crate::host::slot_type;
use crate::witness::Kind;
use wire::step::SlotType;

/// Module parameters that bear on memory types or on what the witnesses see.
const PARAMETERS: [&str; 9] = [
    "kvm.ignore_msrs",
    "kvm.tdp_mmu",
    "kvm.mmio_caching",
    "kvm_intel.ept",
    "kvm_intel.unrestricted_guest",
    "kvm_intel.nested",
    "kvm_amd.npt",
    "kvm_amd.nested",
    "kvm.enable_virt_at_load",
];

pub(super) fn sections(host: &Host, emulators: &Emulators) -> Vec<Section> {
    let kvm = host.kvm.as_ref().ok();
    let mut sections = vec![kernel(host), module(host), cpu(host)];
    sections.extend(kvm.map(capabilities));
    sections.extend(kvm.map(quirks));
    sections.extend([machines(host, emulators), rights(host), witnesses(host), nesting(host)]);
    sections.extend([devices::dma(host), devices::host_mmio(host)]);
    sections
}

pub(super) fn section<const N: usize>(title: &'static str, rows: [(&str, String); N]) -> Section {
    Section { title, rows: rows.map(|(name, value)| (name.to_owned(), value)).into() }
}

pub(super) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn kernel(host: &Host) -> Section {
    section("Kernel", [("release", host.kernel.clone()), ("taint", host.taint.to_string())])
}

fn module(host: &Host) -> Section {
    let vendor = host.modules.vendor.clone().unwrap_or_else(|| "none".to_owned());
    let mut section = section("KVM module", [("vendor", vendor)]);
    let shown = PARAMETERS.iter().filter_map(|&name| Some((name.to_owned(), host.modules.parameter(name)?.to_owned())));
    section.rows.extend(shown);
    section
}

fn cpu(host: &Host) -> Section {
    let cpu = &host.cpu;
    section(
        "CPU",
        [
            ("model", format!("{}, {}", cpu.model, cpu.vendor)),
            ("MAXPHYADDR", format!("{} bits", cpu.maxphyaddr)),
            ("self-snoop", yes_no(cpu.self_snoop)),
            (
                "virtualization",
                if cpu.vmx {
                    "VMX"
                } else if cpu.svm {
                    "SVM"
                } else {
                    "none"
                }
                .to_owned(),
            ),
            ("vCPUs are pinned", pinning(&cpu.allowed)),
        ],
    )
}

/// What `run` does about the place of vCPUs.
fn pinning(allowed: &[usize]) -> String {
    let cpus = allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match allowed {
        [] => "no: the system does not say on which CPUs this process may run".to_owned(),
        [only] => format!("with --jobs 1: all to CPU {only}, the only one that this process may use"),
        _ => format!("with --jobs 1: vCPU n to the n-th of the CPUs {cpus}, the first again after the last"),
    }
}

fn capabilities(kvm: &Kvm) -> Section {
    section(
        "KVM capabilities",
        [
            ("APIC bus cycles", yes_no(kvm.apic_bus_cycles)),
            ("memslots v2", yes_no(kvm.memslots_v2)),
            ("read-only memslots", yes_no(kvm.readonly_memslots)),
            ("guest_memfd", yes_no(kvm.guest_memfd)),
            ("ONE_REG for MSRs", yes_no(kvm.one_reg)),
            ("MC banks", kvm.mce_banks.to_string()),
            ("MCG_CAP bits", format!("{:#x}", kvm.mce_caps)),
            ("guest MAXPHYADDR", format!("{} bits", kvm.maxphyaddr)),
            ("memslot types", slot_types(kvm)),
            ("CPUID.MTRR", if kvm.cpuid_mtrr_forced { "always shown" } else { "can be hidden" }.to_owned()),
        ],
    )
}

/// The flags of memslots that say something of memory types.
fn slot_types(kvm: &Kvm) -> String {
    let flags = kvm.slot_types.iter().filter(|&&typed| typed != SlotType::Plain).map(|&typed| slot_type::name(typed));
    let flags: Vec<_> = flags.collect();
    if flags.is_empty() { "no flag; no released kernel has one".to_owned() } else { flags.join(", ") }
}

fn quirks(kvm: &Kvm) -> Section {
    let name = |bit: u32| QUIRKS.get(bit as usize).copied().unwrap_or(("?", "unknown to this version"));
    let row = |bit: u32| {
        let (name, meaning) = name(bit);
        (format!("{:#x} {name}", 1u32 << bit), meaning.to_owned())
    };
    let rows = (0..u32::BITS).filter(|bit| kvm.quirks >> bit & 1 == 1).map(row).collect();
    Section { title: "KVM quirks that can be disabled", rows }
}

fn machines(host: &Host, emulators: &Emulators) -> Section {
    let other = |result: &Result<String, String>| match result {
        Ok(what) => what.clone(),
        Err(why) => format!("no: {why}"),
    };
    let kvm = match &host.kvm {
        Ok(_) => "the embedded VMM on /dev/kvm".to_owned(),
        Err(trouble) => format!("no: {trouble}"),
    };
    let rows = [
        ("kvm", kvm),
        ("qemu-kvm", other(&emulators.kvm)),
        ("qemu-tcg", other(&emulators.tcg)),
        ("bochs", other(&emulators.bochs)),
    ];
    section("Machines", rows)
}

fn rights(host: &Host) -> Section {
    let rights = &host.rights;
    section(
        "Privileges",
        [
            ("root", yes_no(rights.root)),
            ("CAP_SYS_ADMIN", yes_no(rights.sys_admin)),
            ("host MSRs", if rights.host_msrs { "/dev/cpu/0/msr" } else { "not readable" }.to_owned()),
        ],
    )
}

/// What each witness shows, or why it cannot watch and what to do about that.
fn witnesses(host: &Host) -> Section {
    let row = |kind: Kind| {
        let blind = host.rights.blind.get(&kind).map(|why| format!("no: {why}"));
        (kind.to_string(), blind.unwrap_or_else(|| format!("yes: {}", kind.shows())))
    };
    Section { title: "Witnesses", rows: Kind::ALL.map(row).into() }
}

fn nesting(host: &Host) -> Section {
    let below = match &host.cpu.hypervisor {
        Some(name) => format!("a hypervisor, {name:?}, which may force WB under everything"),
        None => "bare metal, as far as CPUID says".to_owned(),
    };
    section("Nesting", [("below this kernel", below)])
}
