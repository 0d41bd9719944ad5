//! What of the confinement is in force, as a VMM found when it confined itself.

use serde::{Deserialize, Serialize};

/// What the kernel made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Landlock's ABI that is enforced; why not, where none is.
    pub landlock: Result<i32, String>,
    /// Why the filter of system calls is not in force, if so.
    pub seccomp: Result<(), String>,
    /// Why the VMM is of the same user as the runner, if so.
    pub user: Result<(), String>,
}

impl InForce {
    /// What is not in force, in words, each with the reason.
    pub fn missing(&self) -> Vec<String> {
        let because = |what: &str, why: Option<&String>| why.map(|why| format!("{what} ({why})"));
        [
            because("the filter of system calls", self.seccomp.as_ref().err()),
            because("Landlock", self.landlock.as_ref().err()),
            because("a user of its own", self.user.as_ref().err()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
