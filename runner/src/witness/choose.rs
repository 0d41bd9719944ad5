//! Which witnesses watch: those asked for, or those that the host allows.

use super::{Kind, Kinds, Witnesses};
use std::num::NonZeroUsize;

/// The witnesses of a run, and what had to be said about the choice.
#[derive(Debug, Default)]
pub struct Choice {
    /// The witnesses, at work.
    pub witnesses: Witnesses,
    /// Those that would watch but cannot, each with the reason.
    pub missing: Vec<(Kind, String)>,
}

/// Starts the witnesses that are asked for, for guests of machine `machine` of which `jobs` run at a time. Without a
/// word, those of [`Kind::DEFAULT`] and of `more` that can be had.
///
/// # Errors
/// One that was asked for cannot watch, and what to do about it.
pub fn choose(asked: Option<&Kinds>, more: &[Kind], machine: &str, jobs: NonZeroUsize) -> Result<Choice, String> {
    let trouble = |kind: Kind| match kind.probe(machine) {
        Ok(()) if kind.hears_all() && jobs.get() > 1 => {
            Err(format!("{jobs} cells at a time could not be told apart: without --jobs it can watch"))
        }
        probed => probed,
    };
    let mut missing = Vec::new();
    let kinds = match asked {
        Some(asked) => {
            for &kind in &asked.0 {
                trouble(kind).map_err(|why| format!("the witness `{kind}` cannot watch: {why}"))?;
            }
            asked.clone()
        }
        None => {
            let mut kinds = Kinds::default();
            for kind in Kind::DEFAULT.into_iter().chain(more.iter().copied()) {
                match trouble(kind) {
                    Ok(()) => drop(kinds.0.insert(kind)),
                    Err(why) => missing.push((kind, why)),
                }
            }
            kinds
        }
    };
    Ok(Choice { witnesses: Witnesses::start(&kinds)?, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_had_or_refused() {
        let (one, two) = (NonZeroUsize::MIN, 2.try_into().unwrap());
        let asked: Kinds = "sptes".parse().unwrap();
        let error = choose(Some(&asked), &[], "qemu-kvm", one).unwrap_err();
        assert!(error.starts_with("the witness `sptes` cannot watch: only the machine kvm tells"), "{error}");
        let none = choose(Some(&Kinds::default()), &[Kind::Zaps], "qemu-kvm", two).unwrap();
        assert!(none.witnesses.watch(true).is_none());
        assert_eq!(none.missing, []);
    }

    #[test]
    fn without_a_word_a_host_gives_what_it_can() {
        let choice = choose(None, &[Kind::Zaps], "qemu-tcg", NonZeroUsize::MIN).unwrap();
        assert_eq!(choice.witnesses.kinds(), &Kinds::default());
        let why = |kind| choice.missing.iter().find(|(missing, _)| *missing == kind).map(|(_, why)| why.as_str());
        assert!(Kind::DEFAULT.into_iter().all(|kind| why(kind).is_some()));
        assert!(why(Kind::Zaps).is_some_and(|why| why.contains("only the machine kvm")));
    }

    #[test]
    fn those_who_hear_everybody_hear_one_cell_at_a_time() {
        let choice = choose(None, &[], "kvm", 2.try_into().unwrap()).unwrap();
        assert!(choice.witnesses.kinds().0.iter().all(|kind| !kind.hears_all()));
        assert!(choice.missing.iter().any(|(kind, _)| *kind == Kind::Log));
    }
}
