//! Faults planted on purpose, one of each kind: a wrong model, a wrong guest, a wrong KVM. Each must be noticed.

mod common;

use common::kvm;
use kvm_memtype::config::{Set, Source};
use kvm_memtype::guests;
use kvm_memtype::host;
use kvm_memtype::judge::{Deviations, Judge, Judgement, Verdict};
use kvm_memtype::machine::kvm::{KvmMachine, Lie};
use kvm_memtype::machine::{Job, Limits, Machine};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::TestRef;
use kvm_memtype::plan::vm::VmConfig;
use wire::layout::PAT;
use wire::needs::Needs;

const RUN: u64 = 0x5eed;

fn sources(kind: &str) -> Vec<Source> {
    let set = Set::load(None).expect("the embedded configurations");
    set.sources(kind).map(|(_, source)| source.clone()).collect()
}

/// Runs a test of a guest and judges it by the policies in `policies`.
fn judged(machine: &KvmMachine, policies: &[Source], elf: &[u8], family: &str, test: &str) -> Judgement {
    let vm = VmConfig::default();
    let job =
        Job { elf, run: RUN, test, needs: Needs::NONE, vm: &vm, limits: Limits::default(), module: &[], watch: None };
    let observed = machine.run(&job).expect("the host runs the guest");
    let policies = Policies::load(policies).expect("the policies");
    let (id, tests) = (format!("{family}/{test}"), guests::tests().expect("the tests"));
    let known = tests.iter().find(|known| known.id() == id).expect("the test");
    let names: Vec<String> = tests.iter().map(TestRef::id).collect();
    let deviations = Deviations::load(&sources("deviations"), &names).expect("the deviations");
    let facts = host::vm_facts(&host::probe().facts("kvm"), &vm);
    Judge::new(&policies, &deviations).cell(&id, known.points, &observed, Some(RUN), &facts)
}

fn guest(family: &str) -> &'static [u8] {
    guests::find(family).expect("an embedded guest").elf
}

/// The verdict without any planted fault: the tests below show nothing if this is not a pass.
fn sound(machine: &KvmMachine, family: &str, test: &str) {
    let judgement = judged(machine, &sources("policies"), guest(family), family, test);
    assert_eq!(judgement.verdict, Verdict::Pass, "{family}/{test} without a fault: {}", judgement.reason);
}

#[test]
fn a_wrong_model_is_noticed() {
    let Some(machine) = kvm() else { return };
    sound(&machine, "mtrr-msr", "def-type");
    // A model that takes type 7 (UC-, a PAT type only) for an MTRR type.
    let mut policies = sources("policies");
    for source in &mut policies {
        source.text = source.text.replace("types = [0, 1, 4, 5, 6] }", "types = [0, 1, 4, 5, 6, 7] }");
    }
    let judgement = judged(&machine, &policies, guest("mtrr-msr"), "mtrr-msr", "def-type");
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert!(judgement.disagreements.iter().all(|point| point.did.contains("IA32_MTRR_DEF_TYPE")), "{judgement:?}");
    // Type 7 is written once in each of the two sweeps of the type, and once as 0xc06 with bit 0 flipped.
    assert_eq!(judgement.disagreements_total, 3);
}

#[test]
fn a_guest_that_does_not_do_what_it_says_is_noticed() {
    let Some(machine) = kvm() else { return };
    sound(&machine, "mtrr-msr", "program");
    // Every WRMSR becomes two NOPs: the guest reports writes that it never made.
    let mut elf = guest("mtrr-msr").to_vec();
    let mut patched = 0;
    for at in 0..elf.len() - 1 {
        if elf[at..at + 2] == [0x0f, 0x30] {
            elf[at..at + 2].fill(0x90);
            patched += 1;
        }
    }
    assert!(patched > 0, "no WRMSR in the guest");
    let judgement = judged(&machine, &sources("policies"), &elf, "mtrr-msr", "program");
    assert_eq!(judgement.verdict, Verdict::Fail, "{}", judgement.reason);
    assert!(judgement.disagreements_total > 50, "{judgement:?}");
}

#[test]
fn a_guest_that_garbles_its_report_is_noticed() {
    let Some(machine) = kvm() else { return };
    sound(&machine, "boot", "hello");
    // The first word of the protocol is a string in the guest.
    let mut elf = guest("boot").to_vec();
    let word = wire::frame::VERSION.as_bytes();
    let at = elf.windows(word.len()).position(|window| window == word).expect("the protocol's name in the guest");
    elf[at] ^= 1;
    let judgement = judged(&machine, &sources("policies"), &elf, "boot", "hello");
    assert_eq!(judgement.verdict, Verdict::Error, "{}", judgement.reason);
}

#[test]
fn a_kvm_that_lies_on_a_read_back_is_noticed() {
    let Some(machine) = kvm() else { return };
    sound(&machine, "pat-msr", "reset");
    // The value after RESET with PA4 and PA5 swapped.
    let machine = machine.lying(Lie { index: PAT, value: 0x0007_0604_0007_0406 });
    let judgement = judged(&machine, &sources("policies"), guest("pat-msr"), "pat-msr", "reset");
    assert_eq!(judgement.verdict, Verdict::Fail, "{}", judgement.reason);
    assert!(judgement.reason.contains("0x7060400070406"), "{}", judgement.reason);
}
