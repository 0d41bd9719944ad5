//! Verdicts. Only `pass` is a pass.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is to be thought of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every point is as predicted.
    Pass,
    /// A point is not.
    Fail,
    /// Points are not as predicted, each for a known reason.
    Xfail,
    /// A known reason to fail did not show.
    Xpass,
    /// The test cannot be done here.
    Skip,
    /// Something was seen of which nothing is predicted.
    Inconclusive,
    /// The test or its environment is broken.
    Error,
    /// The guest did not end.
    Timeout,
    /// The guest or the VM died.
    Crash,
    /// It was not tried.
    NotRun,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 10] = [
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Xfail,
        Verdict::Xpass,
        Verdict::Skip,
        Verdict::Inconclusive,
        Verdict::Error,
        Verdict::Timeout,
        Verdict::Crash,
        Verdict::NotRun,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Xfail => "xfail",
            Verdict::Xpass => "xpass",
            Verdict::Skip => "skip",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Error => "error",
            Verdict::Timeout => "timeout",
            Verdict::Crash => "crash",
            Verdict::NotRun => "not-run",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown verdict `{0}`{hint}", hint = crate::config::names::hint(.0, Verdict::ALL.iter().map(|verdict| verdict.word())))]
pub struct UnknownVerdict(pub String);

impl FromStr for Verdict {
    type Err = UnknownVerdict;

    fn from_str(word: &str) -> Result<Self, UnknownVerdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.word() == word).ok_or_else(|| UnknownVerdict(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_one_word_everywhere() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.to_string().parse(), Ok(verdict));
            assert_eq!(serde_json::to_string(&verdict).unwrap(), format!("\"{verdict}\""));
        }
        assert_eq!(
            "timout".parse::<Verdict>().unwrap_err().to_string(),
            "unknown verdict `timout`, did you mean `timeout`?"
        );
    }
}
