//! What a machine that is not the embedded VMM cannot do, in words.

use super::kvm::NOT_BARE;
use crate::plan::vm::VmConfig;
use wire::needs::Needs;

/// Why a machine that offers no more than `offered` cannot do a test with these needs in such a VM, if so.
pub fn lacks(offered: Needs, needs: Needs, vm: &VmConfig) -> Option<String> {
    let missing: Vec<_> = Needs(needs.0 & !offered.0).words().collect();
    if needs.has(Needs::STEPS) {
        // What else is missing is for host steps, too.
        Some("it needs host steps, which only the machine kvm does".to_owned())
    } else if needs.has(Needs::BARE) && !offered.has(Needs::BARE) {
        Some(NOT_BARE.to_owned())
    } else if !missing.is_empty() {
        Some(format!("it needs {}, which only the machine kvm has", missing.join(", ")))
    } else {
        vm.embedded_only().map(|what| format!("the VM configuration has {what}, which only the machine kvm can make"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_names_who_could() {
        let (plain, dma) = (VmConfig::default(), VmConfig { non_coherent_dma: true, ..VmConfig::default() });
        assert_eq!(lacks(Needs::APIC, Needs::APIC, &plain), None);
        assert_eq!(lacks(Needs::APIC, Needs::BARE, &plain).as_deref(), Some(NOT_BARE));
        assert_eq!(lacks(Needs::BARE, Needs::BARE, &plain), None);
        let said = |needs, vm| lacks(Needs::NONE, needs, vm).unwrap();
        assert_eq!(said(Needs::STEPS, &plain), "it needs host steps, which only the machine kvm does");
        assert_eq!(said(Needs::MCE, &plain), "it needs mce, which only the machine kvm has");
        assert!(said(Needs::NONE, &dma).ends_with("which only the machine kvm can make"));
    }
}
