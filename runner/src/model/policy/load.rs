//! Reading policies, and finding the one that governs.

use super::Policy;
use crate::config::{self, ConfigError, Source};
use crate::host::facts::Facts;
use std::collections::BTreeMap;

/// All policies, by id.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    all: BTreeMap<String, Policy>,
    /// The one that governs, whatever the facts.
    asked: Option<String>,
}

/// No policy can be named for a cell.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// None was written for this.
    #[error("no policy governs where {facts}; a file under configs/policies with a `select` that holds here is needed")]
    None {
        /// The facts.
        facts: String,
    },
    /// More than one says that it governs.
    #[error("the policies {first} and {second} both say that they govern here; make one `select` narrower")]
    Two {
        /// The first of them.
        first: String,
        /// Another.
        second: String,
    },
    /// There is none of that id.
    #[error("no policy `{0}`; there are {1}; --config names a directory with others")]
    Unknown(String, String),
}

impl Policies {
    /// Reads policies, one a file, and gives each the rows of its base.
    ///
    /// # Errors
    /// The first mistake, with its place: among them a base that is not there or that leads back to the policy itself.
    pub fn load<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Result<Policies, ConfigError> {
        let mut files = BTreeMap::new();
        for source in sources {
            let policy: Policy = config::parse(source)?;
            check(source, &policy)?;
            files.insert(source.id().to_owned(), (source, policy));
        }
        let mut policies = BTreeMap::new();
        for id in files.keys() {
            policies.insert(id.clone(), resolved(id, &files)?);
        }
        Ok(Policies { all: policies, asked: None })
    }

    /// The policy of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, id: &str) -> Result<&Policy, PolicyError> {
        let known = || self.all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.all.get(id).ok_or_else(|| PolicyError::Unknown(id.to_owned(), known()))
    }

    /// These, with the policy of that id in place of the one that facts select; where none is asked for, as they are.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn asked(&self, id: Option<&str>) -> Result<Policies, PolicyError> {
        let asked = id.map(|id| self.get(id)).transpose()?.map(|policy| policy.id.clone());
        Ok(Policies { all: self.all.clone(), asked })
    }

    /// The policy that predicts what happens where these facts hold, or the one that was asked for. One that does stands
    /// in for its bases that would.
    ///
    /// # Errors
    /// None does, or more than one.
    pub fn governing(&self, facts: &Facts) -> Result<&Policy, PolicyError> {
        if let Some(id) = &self.asked {
            return self.get(id);
        }
        let mut all: Vec<&Policy> = self.iter().filter(|policy| policy.selects(facts)).collect();
        let bases: Vec<&String> = all.iter().flat_map(|policy| &policy.bases).collect();
        all.retain(|policy| !bases.contains(&&policy.id));
        let mut governing = all.into_iter();
        match (governing.next(), governing.next()) {
            (Some(policy), None) => Ok(policy),
            (Some(first), Some(second)) => Err(PolicyError::Two { first: first.id.clone(), second: second.id.clone() }),
            (None, _) => {
                let facts: Vec<String> = facts.iter().map(|(name, fact)| format!("{name} = {fact}")).collect();
                Err(PolicyError::None { facts: facts.join(", ") })
            }
        }
    }

    /// All of them, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.all.values()
    }
}

/// What the fields' types do not say.
fn check(source: &Source, policy: &Policy) -> Result<(), ConfigError> {
    let bad = |row: &str, what: &str| Err(ConfigError::file(source, format!("row `{row}`: {what}")));
    for row in &policy.registers {
        let super::WriteRule::Checked(checks) = &row.write else { continue };
        if checks.bytes.iter().any(|&byte| byte > 7) {
            return bad(&row.name, "a register has bytes 0 to 7");
        }
        if checks.bytes.is_empty() != checks.types.is_empty() {
            return bad(&row.name, "`bytes` and `types` need each other");
        }
    }
    let bits = policy.cr0.iter().flat_map(|cr0| &cr0.implies).flat_map(|implies| [implies.bit, implies.needs]);
    if bits.into_iter().any(|bit| bit > 63) {
        return bad("cr0", "CR0 has bits 0 to 63");
    }
    Ok(())
}

/// The policy `id` with the rows of all its bases.
fn resolved(id: &str, files: &BTreeMap<String, (&Source, Policy)>) -> Result<Policy, ConfigError> {
    let mut policy = files[id].1.clone();
    policy.id = id.to_owned();
    let (mut seen, mut at) = (vec![id], &files[id]);
    while let (source, Policy { base: Some(base), .. }) = at {
        let name = base.get_ref().as_str();
        if seen.contains(&name) {
            return Err(ConfigError::at(source, base.span(), format!("the base `{name}` leads back to itself")));
        }
        at = files.get(name).ok_or_else(|| {
            ConfigError::unknown(source, base.span(), "policy", name, files.keys().map(String::as_str))
        })?;
        policy.inherit(&at.1);
        policy.bases.push(name.to_owned());
        seen.push(name);
    }
    Ok(policy)
}
