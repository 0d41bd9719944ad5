//! Conditions: facts that must hold for a row, a policy or a deviation to apply.

use crate::config::names;
use crate::host::facts::{Fact, Facts, NAMES};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The name of a fact that there is. Another one is refused with the nearest, at its place in the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct FactName(String);

impl TryFrom<String> for FactName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let valid = || NAMES.iter().map(|&(name, _)| name);
        if valid().any(|known| known == name) {
            Ok(FactName(name))
        } else {
            Err(format!("unknown fact `{name}`{}", names::hint(&name, valid())))
        }
    }
}

/// Facts that must all hold. A fact that is not known does not hold; no facts always do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<FactName, Fact>")]
pub struct When(Facts);

impl When {
    /// Whether all of them are among `facts`.
    pub fn holds(&self, facts: &Facts) -> bool {
        facts.hold(&self.0)
    }

    /// The facts.
    pub fn facts(&self) -> &Facts {
        &self.0
    }

    /// Whether there are none, so that it holds anywhere.
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<FactName, Fact>> for When {
    fn from(facts: BTreeMap<FactName, Fact>) -> Self {
        When(facts.into_iter().map(|(name, fact)| (name.0, fact)).collect())
    }
}
