//! The memory types that a run's guests got, page by page: what was asked for, what was seen by times and by SPTEs, what
//! the architecture gives, and what KVM's policy gives.

use super::verdict::{Cells, test};
use crate::judge::Judge;
use crate::model::policy::PolicyError;
use crate::model::{Action, Decision, Effect, Replay, Setting};
use crate::results::{CellOutcome, Run};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wire::probe::Probe;
use wire::record::Timed;

/// The target of a page in a VM's own memory.
pub const RAM: &str = "ram";

/// What is behind a page, and what the guest asked for on the vCPU that timed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// The VM configuration.
    pub vm: String,
    /// `ram`, `read-only`, `host-mmio` or, in RAM, `page-table`.
    pub target: &'static str,
    /// The type of the MTRRs by the SDM; `-` where it is undefined or not known.
    pub mtrr: String,
    /// The type of the PAT.
    pub pat: String,
    /// CR0.CD is set.
    pub cd: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answers {
    /// By times: a type, or types that no probe there tells apart; `-` where times say nothing.
    pub times: String,
    /// The leaf SPTE; `-` where none was seen.
    pub leaf: String,
    /// What the architecture gives; `-` where it says nothing.
    pub architecture: String,
    /// What the policy that governs gives.
    pub policy: String,
    /// Whether the guest got what it asked for: what the architecture gives. Not known where times leave it open.
    pub honoured: Option<bool>,
}

/// A page that was timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    /// The cell, and the number of the page in it, in the order in which pages were timed: `memtype/pat:3`.
    pub id: String,
    /// What the guest asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// What it got.
    #[serde(flatten)]
    pub answers: Answers,
}

/// All pages that were timed in a run.
///
/// # Errors
/// No policy governs a cell, so that its log cannot be replayed.
pub fn pages(judge: &Judge<'_>, run: &Run) -> Result<Vec<Page>, PolicyError> {
    let cells = Cells::new(&run.header);
    let mut pages = Vec::new();
    for result in &run.results {
        let CellOutcome::Observed(observed) = &result.outcome else { continue };
        let (cell, facts) = (result.cell.as_str(), cells.facts(&result.cell));
        let vm = cell.split_once('@').map_or("default", |(_, vm)| vm);
        let mut count = 0;
        judge.replay(test(cell), observed, cells.run_id(cell), &facts, |replay, _, decisions, beside| {
            for decision in decisions {
                let Action::Timed(timed) = decision.action else { continue };
                count += 1;
                let other = beside.iter().find(|other| other.action == decision.action);
                let asked = Asked::of(replay, vm, &timed);
                let answers = Answers::of(replay, &timed, decision, other);
                pages.push(Page { id: format!("{cell}:{count}"), asked, answers });
            }
        })?;
    }
    Ok(pages)
}

impl Asked {
    /// What was asked for of a page that is timed now, in VM configuration `vm`.
    pub(super) fn of(replay: &Replay<'_>, vm: &str, timed: &Timed) -> Asked {
        let Setting { mtrr, pat, cd, device, readonly, .. } = replay.setting(timed);
        let target = match (device, readonly) {
            _ if timed.times.get(Probe::Walk).is_some() => "page-table",
            (true, _) => "host-mmio",
            (false, true) => "read-only",
            (false, false) => RAM,
        };
        Asked { vm: vm.to_owned(), target, mtrr: or_dash(mtrr), pat: or_dash(pat), cd }
    }
}

impl Answers {
    /// What came of a page that is timed now, and what the architecture has to say of it.
    pub(super) fn of(
        replay: &Replay<'_>,
        timed: &Timed,
        seen: &Decision<'_>,
        beside: Option<&Decision<'_>>,
    ) -> Answers {
        let predicted = |decision: &Decision<'_>| in_words(decision.predicted.ok()?.expected);
        Answers {
            times: or_dash(in_words(seen.seen)),
            leaf: or_dash(replay.setting(timed).leaf),
            architecture: or_dash(beside.and_then(predicted)),
            policy: or_dash(predicted(seen)),
            honoured: beside.and_then(|beside| beside.proves()),
        }
    }
}

/// A type that is predicted or seen, in words.
pub(super) fn in_words(effect: Effect) -> Option<String> {
    match effect {
        Effect::Type(memtype) => Some(memtype.to_string()),
        Effect::Types(types) => Some(types.to_string()),
        _ => None,
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Prints a table in Markdown for each VM configuration: a row for each thing asked for and what came of it.
///
/// # Errors
/// The output cannot be written.
pub fn print_types(out: &mut impl Write, pages: &[Page]) -> io::Result<()> {
    let mut rows: BTreeMap<(&Asked, &Answers), Vec<&str>> = BTreeMap::new();
    for page in pages {
        rows.entry((&page.asked, &page.answers)).or_default().push(&page.id);
    }
    let mut vm = None;
    for ((asked, answers), ids) in rows {
        if vm != Some(&asked.vm) {
            writeln!(out, "{}## {}\n", if vm.is_some() { "\n" } else { "" }, asked.vm)?;
            writeln!(
                out,
                "| target | MTRR | PAT | CD | seen by times | leaf SPTE | architecture | policy | as asked | pages | first |"
            )?;
            writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
            vm = Some(&asked.vm);
        }
        let honoured = answers.honoured.map_or("-", |honoured| if honoured { "yes" } else { "no" });
        let Answers { times, leaf, architecture, policy, .. } = answers;
        let Asked { target, mtrr, pat, cd, .. } = asked;
        writeln!(
            out,
            "| {target} | {mtrr} | {pat} | {} | {times} | {leaf} | {architecture} | {policy} | {honoured} | {} | {} |",
            u8::from(*cd),
            ids.len(),
            ids[0]
        )?;
    }
    let (asked, got) = (pages.len(), pages.iter().filter(|page| page.answers.honoured == Some(true)).count());
    let told = pages.iter().filter(|page| page.answers.honoured.is_some()).count();
    writeln!(out, "\n{asked} pages were timed; {told} of them show what they got, and {got} got what they asked for.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(id: &str, vm: &str, pat: &str, got: [&str; 4], honoured: Option<bool>) -> Page {
        let [times, leaf, architecture, policy] = got.map(str::to_owned);
        let asked = Asked { vm: vm.into(), target: "ram", mtrr: "WB".into(), pat: pat.into(), cd: false };
        Page { id: id.into(), asked, answers: Answers { times, leaf, architecture, policy, honoured } }
    }

    #[test]
    fn what_came_of_the_same_wish_stands_in_one_row_for_each_answer() {
        let pages = [
            page("memtype/pat:1", "default", "WC", ["WB", "WB+IPAT", "WC", "WB"], Some(false)),
            page("memtype/pat:2", "default", "WC", ["WB", "WB+IPAT", "WC", "WB"], Some(false)),
            page("memtype/plug:9", "default", "WC", ["WC", "WB", "WC", "WC"], Some(true)),
            page("memtype/pat@x:1", "x", "WC", ["-", "-", "-", "-"], None),
        ];
        let mut out = Vec::new();
        print_types(&mut out, &pages).unwrap();
        snapbox::assert_data_eq!(
            String::from_utf8(out).unwrap(),
            snapbox::str![[r#"
## default

| target | MTRR | PAT | CD | seen by times | leaf SPTE | architecture | policy | as asked | pages | first |
|---|---|---|---|---|---|---|---|---|---|---|
| ram | WB | WC | 0 | WB | WB+IPAT | WC | WB | no | 2 | memtype/pat:1 |
| ram | WB | WC | 0 | WC | WB | WC | WC | yes | 1 | memtype/plug:9 |

## x

| target | MTRR | PAT | CD | seen by times | leaf SPTE | architecture | policy | as asked | pages | first |
|---|---|---|---|---|---|---|---|---|---|---|
| ram | WB | WC | 0 | - | - | - | - | - | 1 | memtype/pat@x:1 |

4 pages were timed; 3 of them show what they got, and 1 got what they asked for.

"#]]
        );
        let line = serde_json::to_string(&pages[2]).unwrap();
        snapbox::assert_data_eq!(
            line,
            snapbox::str![[
                r#"{"id":"memtype/plug:9","vm":"default","target":"ram","mtrr":"WB","pat":"WC","cd":false,"times":"WC","leaf":"WB","architecture":"WC","policy":"WC","honoured":true}"#
            ]]
        );
    }
}
