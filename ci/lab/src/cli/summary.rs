//! What is said of a boot when it has ended, and what it comes to.

use super::Outcome;
use super::task::{Came, Ended};
use crate::boot::Ending;
use crate::kernel::Variant;
use crate::results::CONSOLE;
use kvm_memtype::report::{self, Repeats};

/// A boot in a line or a few.
pub struct Summary {
    /// What it comes to.
    pub outcome: Outcome,
    /// What to say.
    pub text: String,
}

impl Summary {
    /// Of a machine that ran. `suites` are those that were to be run.
    pub fn new(variant: &Variant, suites: &[String], came: &Came, seconds: f64) -> Summary {
        let parts: Vec<(Outcome, String)> = suites
            .iter()
            .map(|suite| {
                let ended = came.suites.iter().find(|ended| ended.suite == *suite);
                let repeats = came.dir.repeats(suite).map_err(|error| error.to_string());
                let (outcome, said) = of_suite(&came.ending, ended, repeats);
                (outcome, format!("{suite}: {said}"))
            })
            .collect();
        let missing = if came.complete && !came.without.is_empty() { Outcome::Broken } else { Outcome::AsExpected };
        let outcome = parts.iter().map(|(outcome, _)| *outcome).fold(of_ending(&came.ending).max(missing), Ord::max);
        let release = came.release.as_deref().unwrap_or("before init");
        let said: Vec<&str> = parts.iter().map(|(_, said)| said.as_str()).collect();
        let (said, dir) = (said.join("; "), came.dir.path());
        let mut text = format!("{variant} ({release})  {said}  {seconds:.1} s  {}", dir.display());
        for what in &came.without {
            text.push_str(&format!("\n  {what}"));
        }
        if came.ending != Ending::Done {
            text.push_str(&format!("\n  {}; console: {}", came.ending, dir.join(CONSOLE).display()));
        }
        Summary { outcome, text }
    }

    /// Of a kernel that could not be booted.
    pub fn broken(variant: &Variant, why: &str) -> Summary {
        Summary { outcome: Outcome::Broken, text: format!("{variant}  not booted: {why}") }
    }
}

fn of_ending(ending: &Ending) -> Outcome {
    match ending {
        Ending::Done => Outcome::AsExpected,
        Ending::Panic(_) | Ending::Hung(_) | Ending::Reset(_) => Outcome::Kernel,
        Ending::Init(_) | Ending::Emulator(_) | Ending::Garbled(_) | Ending::Interrupted => Outcome::Broken,
    }
}

/// A suite's outcome, by the exit code of kvm-memtype and the verdicts that came; the two must agree.
fn of_suite(ending: &Ending, ended: Option<&Ended>, repeats: Result<Option<Repeats>, String>) -> (Outcome, String) {
    let (Ended { code, said, .. }, repeats) = match (ended, repeats) {
        (None, _) if *ending == Ending::Done => {
            return (Outcome::Broken, "init was done, but sent no end of the suite".to_owned());
        }
        // The end of the machine says why.
        (None, _) => return (Outcome::AsExpected, "not done".to_owned()),
        (Some(_), Err(error)) => return (Outcome::Broken, error),
        (Some(ended), Ok(repeats)) => (ended, repeats),
    };
    let Some(repeats) = repeats.filter(|_| matches!(code, 0 | 1 | 3)) else {
        return (Outcome::Broken, format!("kvm-memtype ended with {code}: {said}"));
    };
    let counts = repeats.words();
    let (outcome, wanted) = match repeats.outcome() {
        report::Outcome::AsExpected => (Outcome::AsExpected, 0),
        report::Outcome::Surprise => (Outcome::Surprise, 1),
        report::Outcome::Broken => (Outcome::Broken, 3),
    };
    if *code == wanted {
        return (outcome, counts);
    }
    let differs = format!("{counts}, but kvm-memtype ended with {code} where these verdicts make {wanted}: {said}");
    (Outcome::Broken, differs.trim_end_matches([':', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_memtype::judge::{Judgement, Verdict};
    use kvm_memtype::report::CellVerdict;

    fn repeats(verdicts: &[Verdict]) -> Repeats {
        let mut repeats = Repeats::default();
        for &verdict in verdicts {
            let judgement = Judgement { points: 1, ..Judgement::new(verdict, String::new()) };
            repeats.add(&[CellVerdict { cell: "a/b".into(), micros: None, broken: false, judgement }]);
        }
        repeats
    }

    fn tally(verdict: Verdict) -> Repeats {
        repeats(&[verdict])
    }

    #[test]
    fn a_suite_is_what_its_verdicts_and_its_exit_code_say() {
        let ended = |code| Ended { suite: "default".into(), code, said: "unknown suite".into() };
        let of = |code, tally| of_suite(&Ending::Done, Some(&ended(code)), Ok(tally));
        assert_eq!(of(0, Some(tally(Verdict::Pass))), (Outcome::AsExpected, "1 pass".to_owned()));
        assert_eq!(of(1, Some(tally(Verdict::Fail))), (Outcome::Surprise, "1 fail".to_owned()));
        let broken = (Outcome::Broken, "kvm-memtype ended with 2: unknown suite".to_owned());
        assert_eq!(of(2, None), broken);
        assert_eq!(of(0, None).0, Outcome::Broken);
        assert_eq!(of(139, Some(tally(Verdict::Pass))).0, Outcome::Broken);
        let torn = of_suite(&Ending::Done, Some(&ended(0)), Err("torn".into()));
        assert_eq!(torn, (Outcome::Broken, "torn".to_owned()));
        let differs = "1 pass, but kvm-memtype ended with 1 where these verdicts make 0: unknown suite";
        assert_eq!(of(1, Some(tally(Verdict::Pass))), (Outcome::Broken, differs.to_owned()));
        assert_eq!(of(0, Some(tally(Verdict::Fail))).0, Outcome::Broken);
    }

    #[test]
    fn a_flaky_cell_is_a_surprise_although_each_repetition_is_as_expected() {
        let ended = |code| Ended { suite: "default".into(), code, said: String::new() };
        let of = |code, verdicts| of_suite(&Ending::Done, Some(&ended(code)), Ok(Some(repeats(verdicts))));
        let steady = (Outcome::AsExpected, "1 pass, the same 2 times".to_owned());
        assert_eq!(of(0, &[Verdict::Pass, Verdict::Pass]), steady);
        let flaky = (Outcome::Surprise, "1 pass at first, 1 flaky in 3 times: a/b".to_owned());
        assert_eq!(of(1, &[Verdict::Pass, Verdict::Skip, Verdict::Pass]), flaky);
        assert_eq!(of(0, &[Verdict::Pass, Verdict::Skip]).0, Outcome::Broken);
    }

    #[test]
    fn a_suite_without_an_end_is_broken_unless_the_machine_ended_before() {
        let of = |ending| of_suite(&ending, None, Ok(Some(tally(Verdict::Pass))));
        assert_eq!(of(Ending::Panic(String::new())), (Outcome::AsExpected, "not done".to_owned()));
        assert_eq!(of(Ending::Done).0, Outcome::Broken);
    }

    #[test]
    fn a_kernel_that_dies_is_no_suite_that_fails() {
        for (ending, outcome) in [
            (Ending::Done, Outcome::AsExpected),
            (Ending::Panic(String::new()), Outcome::Kernel),
            (Ending::Hung(String::new()), Outcome::Kernel),
            (Ending::Reset(String::new()), Outcome::Kernel),
            (Ending::Init(String::new()), Outcome::Broken),
            (Ending::Garbled(String::new()), Outcome::Broken),
            (Ending::Interrupted, Outcome::Broken),
        ] {
            assert_eq!(of_ending(&ending), outcome, "{ending:?}");
        }
    }
}
