//! Runs against every policy.

use super::support::{DONE, RUN, deviations, facts, policies, run, with};
use crate::config::Source;
use crate::host::facts::{Fact, Facts};
use crate::judge::{Candidates, CellLog, Deviations, Judge, Pair, Seen, Standing};
use crate::machine::{Line, Observed};
use crate::model::policy::Policies;
use crate::report::{identify, identify_json};
use crate::witness::{Kind, Witnessed};
use snapbox::{assert_data_eq, str};
use std::collections::BTreeMap;
use wire::host::HostRecord;
use wire::layout::WINDOW;
use wire::outcome::Outcome;
use wire::record::Access;
use wire::register::Place;
use wire::step::{SlotApi, SlotMemory, Status, Step};

/// Bits 6:3 of EPT leaves.
const WB: u64 = 0x30;
const WB_IPAT: u64 = 0x70;
const PAT: Place = Place::msr(0x277);

/// A KVM with EPT and the TDP MMU on a CPU with self-snoop, and with both quirks on; then `more`.
fn ept(more: &[(&str, Fact)]) -> Facts {
    let on = ["tdp", "tdp-mmu", "self-snoop", "ignore-guest-pat", "cd-nw-cleared"].map(|name| (name, Fact::Bool(true)));
    with(&with(&with(&facts(), &on), &[("non-coherent-dma", Fact::Bool(false))]), more)
}

/// A page is touched, for which KVM makes an EPT leaf with these bits 6:3; then `then`, and a mark.
fn leaf(bits: u64, then: impl FnOnce(&super::support::Log)) -> Observed {
    let observed = run(|out, log| {
        let slot =
            Step::SetSlot { api: SlotApi::V1, slot: 1, flags: 0, gpa: WINDOW, pages: 1, memory: SlotMemory::Small };
        log.step(slot, Status::Done);
        out.access(Access { cpu: 0, write: true, width: 8, cpl: 0, gpa: WINDOW, value: 1, fault: None });
        log.host(HostRecord::Spte { gfn: WINDOW >> 12, level: 1, old: 1 << 63, new: 0x600_0001_0a2b_3907 | bits });
        log.step(Step::Mark, Status::Done);
        then(log);
        log.step(Step::Mark, Status::Done);
    });
    Observed { witness: Witnessed { watched: [Kind::Sptes].into(), ..Witnessed::default() }, ..observed }
}

/// The policies that explain these cells, each `family/test` of its own name.
fn explaining(deviations: &Deviations, cells: &[(&str, &Observed, &Facts)]) -> Vec<String> {
    let policies = policies();
    let judge = Judge::new(&policies, deviations);
    let logs = logs(cells);
    let candidates = judge.candidates(&logs);
    candidates.standing(Standing::Explains).map(|candidate| candidate.policy.id.clone()).collect()
}

fn logs<'a>(cells: &[(&'a str, &'a Observed, &'a Facts)]) -> Vec<CellLog<'a>> {
    let log = |&(cell, observed, facts)| CellLog { cell, test: "family/test", observed, run: Some(RUN), facts };
    cells.iter().map(log).collect()
}

#[test]
fn what_was_seen_leaves_the_policies_that_say_so() {
    let none = Deviations::none();
    let plain = leaf(WB_IPAT, |_| {});
    let coherent = ept(&[]);
    let not_rc = ["kvm-6.11", "kvm-6.16", "kvm-6.7", "kvm-pre-6.7"];
    assert_eq!(explaining(&none, &[("a", &plain, &coherent)]), not_rc);
    // A device that comes later zaps in all of them but the oldest, and in 6.11-rc, whose leaves are others.
    let stays = leaf(WB_IPAT, |log| log.step(Step::PlugDma, Status::Done));
    assert_eq!(explaining(&none, &[("a", &stays, &coherent)]), ["kvm-pre-6.7"]);
    // With the quirk disabled 6.16 alone honours the PAT; so does 6.11-rc, but in every VM.
    let honoured = leaf(WB, |_| {});
    let off = ept(&[("ignore-guest-pat", Fact::Bool(false))]);
    assert_eq!(explaining(&none, &[("a", &honoured, &off)]), ["kvm-6.11-rc", "kvm-6.16"]);
    assert_eq!(explaining(&none, &[("a", &plain, &coherent), ("b", &honoured, &off)]), ["kvm-6.16"]);
    assert_eq!(explaining(&none, &[("a", &honoured, &coherent)]), ["kvm-6.11-rc"]);
    // No KVM does both.
    assert_eq!(explaining(&none, &[("a", &plain, &coherent), ("b", &honoured, &coherent)]), [""; 0]);
}

/// Leaves of NPT are the same in every release; what zaps them is not.
#[test]
fn on_amd_the_oldest_alone_is_told_by_a_zap() {
    let none = Deviations::none();
    let npt = ept(&[("kvm-vendor", Fact::Text("kvm_amd".into())), ("non-coherent-dma", Fact::Bool(true))]);
    let def_type = Step::SetMsr { cpu: 0, index: wire::layout::MTRR_DEF_TYPE, value: 0xc06 };
    let stays = leaf(0, |log| log.step(def_type, Status::Done));
    // The architecture has nothing to say of leaves without a type.
    let later = ["kvm-6.11", "kvm-6.11-rc", "kvm-6.16", "kvm-6.7", "kvm-pvm", "architecture"];
    assert_eq!(explaining(&none, &[("a", &stays, &npt)]), later);
    let goes = leaf(0, |log| {
        log.step(def_type, Status::Done);
        log.host(HostRecord::Spte { gfn: WINDOW >> 12, level: 1, old: 0x600_0001_0a2b_3907, new: 1 << 63 });
    });
    assert_eq!(explaining(&none, &[("a", &goes, &npt)]), ["kvm-pre-6.7", "architecture"]);
}

#[test]
fn a_known_deviation_explains_and_is_named() {
    let observed = run(|out, _| out.write(PAT, 2, Outcome::ACCEPTED));
    let pvm = with(&facts(), &[("kvm-vendor", Fact::Text("kvm_pvm".into()))]);
    let known = deviations(
        "[[deviation]]\nid = 'any-pat'\nreason = 'r'\nsource = 's'\nwhen = [{ kvm-vendor = 'kvm_pvm' }]\n\
         tests = ['family/test']\npoints = [{ registers = ['0x277'], expected = 'refused', seen = 'accepted' }]\n",
    );
    let policies = policies();
    let cells = [("a", &observed, &pvm)];
    let logs = logs(&cells);
    let judge = Judge::new(&policies, &known);
    let candidates = judge.candidates(&logs);
    assert_eq!(candidates.all[0].policy.id, "kvm-pvm", "the one that governs comes first");
    for candidate in &candidates.all {
        assert_eq!(candidate.excused, BTreeMap::from([("any-pat", 1)]), "{}", candidate.policy.id);
    }
    // On another vendor's module it explains nothing.
    assert_eq!(explaining(&known, &[("a", &observed, &facts())]), [""; 0]);
    assert_eq!(explaining(&Deviations::none(), &cells), [""; 0]);
}

#[test]
fn what_cannot_be_believed_is_left_out() {
    let (good, facts) = (leaf(WB_IPAT, |_| {}), ept(&[]));
    let mut broken = leaf(WB, |_| {});
    broken.log.push(Line::Guest("0 what*0000".into()));
    let gaps = vec!["7 trace events were lost".to_owned()];
    let lost = leaf(WB, |_| {});
    let lost = Observed { witness: Witnessed { gaps, ..lost.witness.clone() }, ..lost };
    let (policies, none) = (policies(), Deviations::none());
    let cells = [("good", &good, &facts), ("broken", &broken, &facts), ("lost", &lost, &facts)];
    let logs = logs(&cells);
    let judge = Judge::new(&policies, &none);
    let candidates = judge.candidates(&logs);
    assert_eq!(candidates.cells, 1);
    let left_out: Vec<&str> = candidates.left_out.iter().map(|&(cell, _)| cell).collect();
    assert_eq!(left_out, ["broken", "lost"]);
    assert_eq!(candidates.standing(Standing::RuledOut).count(), 3, "6.11-rc, kvm_pvm and the architecture");
}

#[test]
fn a_run_of_nothing_is_explained_by_nobody() {
    let (policies, none) = (policies(), Deviations::none());
    let judge = Judge::new(&policies, &none);
    let candidates = judge.candidates(&[]);
    assert_eq!(candidates.standing(Standing::Silent).count(), policies.iter().count());
    assert_eq!((candidates.seen(), candidates.pairs()), (Seen::default(), Vec::new()));
}

/// Policies that differ in what a leaf is, and in two rows that need facts.
fn few() -> Policies {
    let base = "summary = 'the first'\nselect = [{ machine = 'kvm' }]\nhost = true\n\
                [[leaf]]\nname = 'any leaf'\nleaf = 'WB+IPAT'\nsource = 'one.c:one'\n";
    let same = "summary = 'the same'\nbase = 'one'\n\
                [[leaf]]\nname = 'AMD'\nwhen = { kvm-vendor = 'kvm_amd' }\nleaf = 'PAT0'\nsource = 'two.c:two'\n\
                [[zap]]\nname = 'CD'\non = ['mov-cd']\nzaps = 'none'\nsource = 'two.c:two'\n";
    let other = "summary = 'another'\n[[leaf]]\nname = 'other leaf'\nleaf = 'WB'\nsource = 'three.c:three'\n";
    let silent = "summary = 'of nothing'\n";
    let files = [("one", base), ("two", same), ("three", other), ("four", silent)];
    let files = files.map(|(id, text)| Source { name: format!("configs/policies/{id}.toml"), text: text.into() });
    Policies::load(&files).unwrap_or_else(|error| panic!("{error}"))
}

fn with_few<T>(cells: &[(&str, &Observed, &Facts)], take: impl FnOnce(&Candidates<'_>) -> T) -> T {
    let (policies, none) = (few(), Deviations::none());
    take(&Judge::new(&policies, &none).candidates(&logs(cells)))
}

fn printed(cells: &[(&str, &Observed, &Facts)]) -> String {
    with_few(cells, |candidates| {
        let mut bytes = Vec::new();
        identify(&mut anstream::StripStream::new(&mut bytes), "Linux 9", candidates).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

#[test]
fn people_see_what_explains_it_and_what_rules_the_others_out() {
    let (observed, facts) = (leaf(WB_IPAT, |_| {}), ept(&[]));
    let cells = ["a/1", "a/2"].map(|cell| (cell, &observed, &facts));
    assert_data_eq!(
        printed(&cells),
        str![[r#"
Linux 9
70 points in 2 cells
2 leaf SPTEs, 0 events that could zap leaves and 0 effective types bear on memory types

Explained by:
  one           the first; governs here by what was probed
                10 points as it says, 60 of which it says nothing
  two           the same
                10 points as it says, 60 of which it says nothing

Ruled out:
  three         another
                by 2 points in 2 cells
    a/1
      leaf SPTE of GPA 0xd0000000 (4K)
        seen      WB+IPAT
        expected  WB
        by        other leaf: whatever type the guest's MTRRs say
        source    three.c:three
    and 1 more cell

Say nothing of what was seen: four

No cell tells any two of them apart. From one would tell, but did not:
  two
    row `AMD` of two: no cell has kvm-vendor = kvm_amd
    row `CD` of two: it decided no point

Each of one, two explains all that was seen; by what was probed it is one.

"#]]
    );
}

#[test]
fn a_run_without_memory_types_says_so() {
    let (observed, facts) = (run(|out, _| out.write(PAT, 6, Outcome::ACCEPTED)), ept(&[]));
    let said = printed(&[("a/1", &observed, &facts)]);
    assert!(said.contains("Nothing that this run saw bears on memory types"), "{said}");
    assert!(said.ends_with("\nNo policy says anything of what was seen.\n"), "{said}");
    assert!(said.contains("Say nothing of what was seen: one, four, three, two"), "{said}");
    assert!(printed(&[]).ends_with("\nNothing was decided.\n"));
}

#[test]
fn programs_see_all_of_it() {
    let (observed, facts) = (leaf(WB_IPAT, |_| {}), ept(&[]));
    let cells = ["a/1", "a/2"].map(|cell| (cell, &observed, &facts));
    let json: serde_json::Value = with_few(&cells, |candidates| {
        let mut bytes = Vec::new();
        identify_json(&mut bytes, candidates).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    });
    let standing: Vec<(&str, &str)> = json["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["policy"].as_str().unwrap(), row["standing"].as_str().unwrap()))
        .collect();
    let expected = [("one", "explains"), ("two", "explains"), ("three", "ruled-out"), ("four", "silent")];
    assert_eq!(standing, expected);
    let against = json["policies"][2]["against"].as_array().unwrap();
    assert_eq!(against.len(), 2);
    assert_eq!((&against[1]["cell"], &against[1]["points"][0]["expected"]), (&"a/2".into(), &"WB".into()));
    assert_eq!(json["not-told-apart"][0]["policies"], serde_json::json!(["one", "two"]));
    assert_eq!(json["bears-on-memory-types"], true);
}

/// Rows in which policies differ are named with what kept them from telling.
#[test]
fn why_nothing_tells_two_apart_is_said() {
    let (observed, facts) = (leaf(WB_IPAT, |_| {}), ept(&[]));
    let because = with_few(&[("a/1", &observed, &facts)], |candidates| match candidates.pairs().as_slice() {
        [Pair { policies: ["one", "two"], because }] => because.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(because, ["row `AMD` of two: no cell has kvm-vendor = kvm_amd", "row `CD` of two: it decided no point"]);
    assert_eq!(observed.end, DONE);
}
