//! The job: what init is to do, written by the lab into the image.

use super::Power;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What init is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Seconds since 1970 at the start, for the machine's clock.
    pub time: u64,
    /// What to load, in this order.
    pub modules: Vec<Module>,
    /// What the modules, loaded or built in, must show as their parameters before a suite runs.
    pub parameters: Vec<Parameter>,
    /// Suites to run.
    pub suites: Vec<String>,
    /// Further arguments of `kvm-memtype run`.
    pub arguments: Vec<String>,
    /// Environment of kvm-memtype.
    pub environment: BTreeMap<String, String>,
    /// How the machine is turned off.
    pub power: Power,
}

/// A module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its file in the image.
    pub path: String,
    /// Its parameters, as insmod takes them.
    pub parameters: String,
    /// Whether nothing else depends on it: where it does not load, the suites run without it.
    pub optional: bool,
}

/// A parameter of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The module, with `_` for `-`.
    pub module: String,
    /// The parameter's name.
    pub name: String,
    /// What it was given.
    pub value: String,
}
