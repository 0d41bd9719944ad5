//! How many points each test says that it makes, against what comes on /dev/kvm.

mod common;

use common::kvm;
use kvm_memtype::config::Set;
use kvm_memtype::guests;
use kvm_memtype::host;
use kvm_memtype::judge::{Deviations, Judge, Verdict};
use kvm_memtype::machine::{Job, Limits, Machine};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::vm::VmConfig;

/// Tests that make a point more for each memslot flag that KVM takes, which another KVM may not.
const MORE: [&str; 2] = ["mmio/flags-v1", "mmio/flags-v2"];

#[test]
fn every_test_that_passes_makes_the_points_that_it_says() {
    let Some(machine) = kvm() else { return };
    let (set, vm) = (Set::load(None).unwrap(), VmConfig::default());
    let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
    let (deviations, facts) = (Deviations::none(), host::vm_facts(&host::probe().facts("kvm"), &vm));
    let judge = Judge::new(&policies, &deviations);
    let mut passed = 0;
    for test in guests::tests().unwrap() {
        if machine.lacks(test.needs, &vm).is_some() {
            continue;
        }
        let elf = guests::find(&test.family).unwrap().elf;
        let job = Job { elf, run: 1, test: &test.name, needs: test.needs, vm: &vm, limits: Limits::default() };
        let observed = machine.run(&job).unwrap();
        let judged = |least| judge.cell(&test.id(), least, &observed, Some(job.run), &facts);
        if judged(0).verdict != Verdict::Pass {
            continue;
        }
        passed += 1;
        assert!(test.points > 0, "{} says that it makes no point", test.id());
        assert_eq!(judged(test.points).verdict, Verdict::Pass, "{}: {}", test.id(), judged(test.points).reason);
        // One more than it says is one too many.
        let more = judged(test.points + 1).verdict;
        let wanted = if MORE.contains(&test.id().as_str()) { Verdict::Pass } else { Verdict::Error };
        assert_eq!(more, wanted, "{} makes more than {} points", test.id(), test.points);
    }
    assert!(passed > 10, "only {passed} tests pass here");
}
