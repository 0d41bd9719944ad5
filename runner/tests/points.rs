//! How many points each test says that it makes, against what comes on /dev/kvm.

mod common;

use common::kvm;
use kvm_memtype::config::Set;
use kvm_memtype::guests;
use kvm_memtype::host;
use kvm_memtype::judge::{Deviations, Judge, Judgement, Verdict};
use kvm_memtype::machine::{Job, Limits, Machine};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::TestRef;
use kvm_memtype::plan::vm::VmConfig;

/// Tests that make a point more for each memslot flag that KVM takes, which another KVM may not.
const MORE: [&str; 2] = ["mmio/flags-v1", "mmio/flags-v2"];

/// Decided on a bare machine, and counted in the tests of that; on KVM inconclusive, and slow where CPL 0 is emulated.
const BARE: &str = "types";
/// Guests that hang, flood and lie are not about points.
const HOSTILE: &str = "hostile";

/// The number of points that came, as the judge complains where many more are wanted. No number where a guest skipped
/// or its VM ended early.
fn came(judgement: &Judgement) -> Option<u64> {
    judgement.reason.strip_suffix(" came")?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn every_test_makes_the_points_that_it_says() {
    let Some(machine) = kvm() else { return };
    let (set, vm, tests) = (Set::load(None).unwrap(), VmConfig::default(), guests::tests().unwrap());
    let sources = |kind| set.sources(kind).map(|(_, source)| source);
    let policies = Policies::load(sources("policies")).unwrap();
    let names: Vec<String> = tests.iter().map(TestRef::id).collect();
    let deviations = Deviations::load(sources("deviations"), &names).unwrap();
    let facts = host::vm_facts(&host::probe().facts("kvm"), &vm);
    let judge = Judge::new(&policies, &deviations);
    let (mut checked, mut wrong) = (0, Vec::new());
    for test in tests
        .iter()
        .filter(|test| ![BARE, HOSTILE].contains(&test.family.as_str()) && machine.lacks(test.needs, &vm).is_none())
    {
        let elf = guests::find(&test.family).unwrap().elf;
        let job = Job {
            elf,
            run: 1,
            test: &test.name,
            needs: test.needs,
            vm: &vm,
            limits: Limits::default(),
            module: &[],
            watch: None,
        };
        let observed = machine.run(&job).unwrap();
        let judged = |least| judge.cell(&test.id(), least, &observed, Some(job.run), &facts);
        let Some(came) = came(&judged(u64::MAX)) else { continue };
        // Where KVM surprises, a test may end elsewhere than it should.
        if !matches!(judged(0).verdict, Verdict::Pass | Verdict::Xfail | Verdict::Inconclusive) {
            continue;
        }
        checked += 1;
        let more = MORE.contains(&test.id().as_str()) && came > test.points;
        if test.points == 0 || came != test.points && !more {
            wrong.push(format!("{} says {}, {came} came", test.id(), test.points));
        }
    }
    assert!(checked > 10, "only {checked} tests could be checked here");
    assert_eq!(wrong, [""; 0]);
}
