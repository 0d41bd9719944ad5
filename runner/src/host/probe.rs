//! All that is probed of a host, and the facts that follow from it.

use super::cpu::Cpu;
use super::dma::Offer;
use super::facts::{Fact, Facts};
use super::kvm::{Kvm, KvmTrouble};
use super::module::Modules;
use super::pci::Device;
use super::quirks::{CD_NW_CLEARED, IGNORE_GUEST_PAT, Quirks};
use super::rights::Rights;
use crate::machine::qemu::TCG_MAXPHYADDR;
use crate::plan::vm::VmConfig;
use serde::Serialize;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use wire::step::SlotType;

/// Environment variable that names the model of the host's clock (`ci/bochs`), where the host is an emulated
/// machine that has one: nothing that runs in there can find out.
pub const CLOCK: &str = "KVM_MEMTYPE_CLOCK";

/// Environment variable that names the emulator in which this host runs: nothing that runs in there can find out.
pub const EMULATOR: &str = "KVM_MEMTYPE_EMULATOR";

/// A host, probed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// Its name, as `uname -n` prints it.
    pub name: String,
    /// Kernel release, as `uname -r` prints it. No expectation is keyed on it.
    pub kernel: String,
    /// The kernel's build, as `uname -v` prints it: tells two builds of one release apart.
    pub build: String,
    /// The kernel's taint bits (`Documentation/admin-guide/tainted-kernels.rst`).
    pub taint: u64,
    /// The CPU.
    pub cpu: Cpu,
    /// KVM's modules.
    pub modules: Modules,
    /// KVM, or why it cannot be used.
    pub kvm: Result<Kvm, KvmTrouble>,
    /// What this process may do.
    pub rights: Rights,
    /// What there is that makes DMA non-coherent.
    pub dma: Offer,
    /// The PCI devices.
    pub pci: Vec<Device>,
    /// The model of this host's clock, as [`CLOCK`] says; none on silicon.
    pub clock: Option<String>,
    /// What emulates this host, as [`EMULATOR`] says; none on silicon.
    pub emulator: Option<String>,
}

/// Probes this host. Takes a few milliseconds, and changes nothing.
pub fn probe() -> Host {
    let proc =
        |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let cpu = Cpu::probe();
    let modules = Modules::probe(&cpu);
    Host {
        name: proc("hostname"),
        kernel: proc("osrelease"),
        build: proc("version"),
        taint: proc("tainted").parse().unwrap_or(0),
        cpu,
        modules,
        kvm: Kvm::probe(),
        rights: Rights::probe(),
        dma: Offer::probe(Path::new("/")),
        pci: Device::all(Path::new("/")),
        clock: env::var(CLOCK).ok().filter(|clock| !clock.is_empty()),
        emulator: env::var(EMULATOR).ok().filter(|emulator| !emulator.is_empty()),
    }
}

/// The parameter that has KVM use its TDP MMU, where there is two-dimensional paging.
const TDP_MMU: &str = "kvm.tdp_mmu";

/// Facts that are parameters of KVM's modules. Parameters of a vendor module are known where it is the one in use.
const PARAMETERS: [(&str, &str); 4] = [
    ("ignore-msrs", "kvm.ignore_msrs"),
    ("tdp", "kvm_intel.ept"),
    ("tdp", "kvm_amd.npt"),
    ("unrestricted-guest", "kvm_intel.unrestricted_guest"),
];

impl Host {
    /// The host in words, for results and reports, by what each is.
    pub fn description(&self) -> BTreeMap<String, String> {
        let vendor = self.modules.vendor.as_deref().unwrap_or("no KVM vendor module");
        let nested = self.cpu.hypervisor.as_deref().map(|name| format!(", itself a guest of {name}"));
        let cpu = format!("{}{}", self.cpu.model, nested.unwrap_or_default());
        let rows =
            [("kernel", format!("Linux {} {}", self.kernel, self.build)), ("KVM", vendor.to_owned()), ("CPU", cpu)];
        let clock = self.clock.as_ref().map(|clock| ("clock", format!("a model, {clock}, as {CLOCK} says")));
        let emulator = self.emulator.as_ref().map(|emulator| ("emulator", format!("{emulator}, as {EMULATOR} says")));
        rows.into_iter().chain(clock).chain(emulator).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The facts for guests on machine `machine` ([`Machine::name`](crate::machine::Machine::name)). Of a machine
    /// without KVM, little is known.
    pub fn facts(&self, machine: &str) -> Facts {
        let mut facts = Facts::default();
        let mut set = |name: &str, fact: Fact| facts.set(name, fact);
        set("machine", Fact::Text(machine.to_owned()));
        set("cpu-vendor", Fact::Text(self.cpu.vendor.clone()));
        let kvm = self.kvm.as_ref().ok().filter(|_| !matches!(machine, "qemu-tcg" | "bochs"));
        let vendor = self.modules.vendor.clone().filter(|_| kvm.is_some());
        set("kvm-vendor", Fact::Text(vendor.unwrap_or_else(|| "none".to_owned())));
        let Some(kvm) = kvm else {
            set("maxphyaddr", Fact::Int(TCG_MAXPHYADDR.into()));
            return facts;
        };
        set("maxphyaddr", Fact::Int(kvm.maxphyaddr.into()));
        for (name, parameter) in PARAMETERS {
            if let Some(on) = self.modules.is_on(parameter) {
                set(name, Fact::Bool(on));
            }
        }
        let tdp = self.modules.is_on("kvm_intel.ept").or_else(|| self.modules.is_on("kvm_amd.npt"));
        if let (Some(tdp_mmu), Some(tdp)) = (self.modules.is_on(TDP_MMU), tdp) {
            set("tdp-mmu", Fact::Bool(tdp_mmu && tdp));
        }
        if let Some(clock) = &self.clock {
            set("clock", Fact::Text(clock.clone()));
        }
        if let Some(emulator) = &self.emulator {
            set("emulator", Fact::Text(emulator.clone()));
        }
        set("host-hypervisor", Fact::Bool(self.cpu.hypervisor.is_some()));
        set("self-snoop", Fact::Bool(self.cpu.self_snoop));
        set("apic-bus-cycles", Fact::Bool(kvm.apic_bus_cycles));
        set("quirks", Fact::Int(kvm.quirks.into()));
        set("offers-ignore-guest-pat", Fact::Bool(kvm.quirks & IGNORE_GUEST_PAT != 0));
        set("memslots-v2", Fact::Bool(kvm.memslots_v2));
        set("guest-memfd", Fact::Bool(kvm.guest_memfd));
        set("one-reg", Fact::Bool(kvm.one_reg));
        set("readonly-memslots", Fact::Bool(kvm.readonly_memslots));
        set("mce-banks", Fact::Int(kvm.mce_banks.into()));
        set("mce-caps", Fact::Int(kvm.mce_caps));
        set("cpuid-mtrr-forced", Fact::Bool(kvm.cpuid_mtrr_forced));
        set("slot-non-coherent-dma", Fact::Bool(kvm.slot_types.contains(&SlotType::NonCoherentDma)));
        set("slot-wc", Fact::Bool(kvm.slot_types.contains(&SlotType::Wc)));
        set("virtio-device", Fact::Bool(kvm.virtio_device));
        facts
    }
}

/// The facts for guests in a VM with configuration `vm`.
pub fn vm_facts(host: &Facts, vm: &VmConfig) -> Facts {
    let mut facts = host.clone();
    if let Some(bits) = vm.maxphyaddr {
        facts.set("maxphyaddr", Fact::Int(bits.into()));
    }
    let mtrr = vm.cpuid_mtrr || host.is("cpuid-mtrr-forced");
    facts.set("cpuid-mtrr", Fact::Bool(mtrr));
    facts.set("non-coherent-dma", Fact::Bool(vm.non_coherent_dma));
    facts.set("slot-type", Fact::Text(vm.slot_type.to_string()));
    set_quirks(&mut facts, Some(vm.disable_quirks));
    facts
}

/// Sets the facts of a VM in which user space has disabled these quirks; takes them away if it is not known which.
pub fn set_quirks(facts: &mut Facts, disabled: Option<Quirks>) {
    let on = |disabled: Quirks, quirk| Fact::Bool(disabled.0 & quirk == 0);
    for (name, fact) in [
        ("disabled-quirks", disabled.map(|disabled| Fact::Int(disabled.0.into()))),
        ("ignore-guest-pat", disabled.map(|disabled| on(disabled, IGNORE_GUEST_PAT))),
        ("cd-nw-cleared", disabled.map(|disabled| on(disabled, CD_NW_CLEARED))),
    ] {
        match fact {
            Some(fact) => facts.set(name, fact),
            None => facts.forget(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::facts::NAMES;

    #[test]
    fn every_fact_has_a_known_name_and_every_name_a_fact() {
        let mut host = probe();
        host.clock = Some("memtime".into());
        host.emulator = Some("bochs".into());
        // Sandboxes can have /dev/kvm without /sys.
        let parameters = PARAMETERS.map(|(_, parameter)| parameter).into_iter().chain([TDP_MMU]);
        host.modules.parameters.extend(parameters.map(|parameter| (parameter.into(), "N".into())));
        let vm = VmConfig { maxphyaddr: Some(36), cpuid_mtrr: false, ..VmConfig::default() };
        let facts = vm_facts(&host.facts("kvm"), &vm);
        let named = |name: &str| NAMES.iter().any(|&(known, _)| known == name);
        assert!(facts.iter().all(|(name, _)| named(name)), "{facts:?}");
        assert!(host.kvm.is_err() || facts.iter().count() == NAMES.len(), "{facts:?}");
        assert_eq!(facts.int("maxphyaddr"), Some(36));
    }

    #[test]
    fn a_parameter_that_cannot_be_read_is_no_fact() {
        let mut host = probe();
        let mut fact = |value: Option<&str>| {
            host.modules.parameters = value.map(|value| ("kvm.ignore_msrs".into(), value.into())).into_iter().collect();
            host.facts("kvm").bool("ignore-msrs")
        };
        if fact(Some("Y")).is_some() {
            assert_eq!([fact(Some("Y")), fact(Some("N")), fact(None)], [Some(true), Some(false), None]);
        }
    }

    #[test]
    fn the_tdp_mmu_needs_two_dimensional_paging() {
        let mut host = probe();
        let mut fact = |values: &[(&str, &str)]| {
            let values = values.iter().map(|&(name, value)| (name.into(), value.into()));
            host.modules.parameters = values.collect();
            (host.facts("kvm").bool("tdp"), host.facts("kvm").bool("tdp-mmu"))
        };
        for vendor in ["kvm_intel.ept", "kvm_amd.npt"] {
            if fact(&[(vendor, "Y")]).0.is_some() {
                assert_eq!(fact(&[(vendor, "Y"), (TDP_MMU, "Y")]).1, Some(true));
                assert_eq!(fact(&[(vendor, "Y"), (TDP_MMU, "N")]).1, Some(false));
                assert_eq!(fact(&[(vendor, "N"), (TDP_MMU, "Y")]).1, Some(false));
                assert_eq!((fact(&[(vendor, "Y")]).1, fact(&[(TDP_MMU, "Y")]).1), (None, None));
            }
        }
    }

    #[test]
    fn a_hypervisor_below_the_host_is_a_fact() {
        let mut host = probe();
        for below in [None, Some("KVMKVMKVM".to_owned())] {
            host.cpu.hypervisor = below.clone();
            if host.kvm.is_ok() {
                assert_eq!(host.facts("kvm").bool("host-hypervisor"), Some(below.is_some()));
            }
        }
    }

    #[test]
    fn a_machine_without_kvm_has_no_facts_of_kvm() {
        let facts = probe().facts("qemu-tcg");
        assert_eq!(facts.get("kvm-vendor"), Some(&Fact::Text("none".into())));
        assert_eq!(facts.int("quirks"), None);
        assert_eq!(facts.int("maxphyaddr"), Some(40));
    }

    #[test]
    fn a_kvm_that_forces_mtrr_overrules_the_configuration() {
        let vm = VmConfig { cpuid_mtrr: false, ..VmConfig::default() };
        let mut host = Facts::default();
        assert!(!vm_facts(&host, &vm).is("cpuid-mtrr"));
        host.set("cpuid-mtrr-forced", Fact::Bool(true));
        let facts = vm_facts(&host, &vm);
        assert!(facts.is("cpuid-mtrr"));
    }
}
