//! What keeps a host busy, and the list of it that `--busy` takes.

use crate::config::names;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// A thread spins on each CPU that the boot vCPU does not use; where there is one only, on that one.
    Cpu,
    /// A thread spins on the boot vCPU's CPU, so that the two have it in turn.
    Shared,
    /// A thread on each other CPU takes memory, writes to it and gives it back.
    Memory,
    /// A real-time thread takes the boot vCPU's CPU away half of the time.
    Realtime,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 4] = [Load::Cpu, Load::Shared, Load::Memory, Load::Realtime];

    /// Its name on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Load::Cpu => "cpu",
            Load::Shared => "shared",
            Load::Memory => "memory",
            Load::Realtime => "realtime",
        }
    }

    /// What its threads do, in words that the numbers of their CPUs follow.
    pub(super) const fn does(self) -> &'static str {
        match self {
            Load::Cpu => "a thread spins on CPU",
            Load::Shared => "a thread spins beside the boot vCPU on CPU",
            Load::Memory => "a thread fills memory on CPU",
            Load::Realtime => "a real-time thread takes half of CPU",
        }
    }

    /// Those of the CPUs on which it has threads.
    pub(super) fn cpus(self, allowed: &[usize]) -> &[usize] {
        match (self, allowed) {
            (Load::Cpu | Load::Memory, [_, others @ ..]) if !others.is_empty() => others,
            (_, [first, ..]) => std::slice::from_ref(first),
            (_, []) => &[],
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A list as `--busy` takes it: words with commas between. A run's header has it as a list; results of old have `true` for
/// the first kind, and `false` for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Loads(pub BTreeSet<Load>);

impl Loads {
    /// Whether nothing is kept busy.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Loads {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let load = |word: &str| {
            let known = Load::ALL.into_iter().find(|load| load.word() == word);
            let hint = || names::hint(word, Load::ALL.iter().map(|load| load.word()));
            known.ok_or_else(|| format!("unknown load `{word}`{}", hint()))
        };
        list.split(',').map(load).collect::<Result<_, _>>().map(Loads)
    }
}

impl fmt::Display for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|load| load.word()).collect();
        f.write_str(&words.join(","))
    }
}

impl<'de> Deserialize<'de> for Loads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Old(bool),
            List(BTreeSet<Load>),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Old(true) => Loads([Load::Cpu].into()),
            Either::Old(false) => Loads::default(),
            Either::List(loads) => Loads(loads),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_words_and_in_a_header() {
        let loads = Loads(Load::ALL.into());
        assert_eq!(loads.to_string(), "cpu,shared,memory,realtime");
        assert_eq!(loads.to_string().parse(), Ok(loads.clone()));
        let text = serde_json::to_string(&loads).unwrap();
        assert_eq!(text, r#"["cpu","shared","memory","realtime"]"#);
        assert_eq!(serde_json::from_str::<Loads>(&text).unwrap(), loads);
        assert_eq!(serde_json::from_str::<Loads>("true").unwrap(), Loads([Load::Cpu].into()));
        assert!(serde_json::from_str::<Loads>("false").unwrap().is_none());
        assert!(serde_json::from_str::<Loads>(r#"["cpus"]"#).is_err());
        assert_eq!("cpu,memroy".parse::<Loads>().unwrap_err(), "unknown load `memroy`, did you mean `memory`?");
    }

    #[test]
    fn each_load_is_where_it_shall_be() {
        assert_eq!([Load::Cpu, Load::Memory].map(|load| load.cpus(&[3, 4, 9])), [&[4, 9], &[4, 9]]);
        assert_eq!([Load::Shared, Load::Realtime].map(|load| load.cpus(&[3, 4, 9])), [&[3], &[3]]);
        assert_eq!(Load::ALL.map(|load| load.cpus(&[3])), [&[3]; 4]);
    }
}
