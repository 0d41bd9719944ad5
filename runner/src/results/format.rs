//! The lines of an observations file, as types.

use super::ResultsError;
use crate::busy::Loads;
use crate::host::device::Named;
use crate::host::facts::{Fact, Facts};
use crate::host::module::Modules;
use crate::host::quirks::IGNORE_GUEST_PAT;
use crate::machine::Observed;
use crate::plan::Cell;
use crate::plan::vm::VmConfig;
use crate::witness::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Version of the format. It goes up when a file of the version before would be read wrongly or not at all.
pub const FORMAT: u32 = 4;
/// A fact that the first files of the format lack. It is in the fact `quirks`, which they have.
const OFFERS_IGNORE_GUEST_PAT: &str = "offers-ignore-guest-pat";

/// Line 1: what was run, on what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Header {
    /// Run id, in hexadecimal; each guest put it into each line that it sent.
    #[serde(with = "hex")]
    pub run: u64,
    /// When the run began, as [`utc`](super::utc) writes it.
    pub started: String,
    /// Version of kvm-memtype that ran it.
    pub version: String,
    /// Digest of each guest that was embedded, by family, in hexadecimal.
    pub guests: BTreeMap<String, String>,
    /// Name of the machine, as given to `--machine`.
    pub machine: String,
    /// Id of the suite.
    pub suite: String,
    /// Filters from the command line.
    pub filters: Vec<String>,
    /// What was probed of the host.
    pub facts: Facts,
    /// The host in words, such as kernel and CPU model, by what each is.
    pub host: BTreeMap<String, String>,
    /// The witnesses that watched on the host's side.
    pub witnesses: BTreeSet<Kind>,
    /// The host's devices that VMs could be given.
    #[serde(default)]
    pub devices: Named,
    /// The CPUs that vCPUs were pinned to, vCPU n to the n-th, from the first on again where there are more; none where
    /// cells ran side by side.
    #[serde(default)]
    pub pinned: Vec<usize>,
    /// What kept the host busy.
    #[serde(default)]
    pub busy: Loads,
    /// The policy to judge by that was asked for; without one it is that which facts select.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether the run was to end at the first cell that is not as expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_fast: bool,
    /// The host's name, as it calls itself; in a merged run those of the shards' hosts, with commas. Empty where nobody noted it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// KVM's modules and their parameters.
    #[serde(default, skip_serializing_if = "Modules::is_unknown")]
    pub modules: Modules,
    /// The shard of a plan that was run, where it was not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The shards that a merged run was made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<Merged>,
    /// What was to be run, in this order.
    pub cells: Vec<PlannedCell>,
}

/// One shard of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which it is, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// All cells of the plan, so that what is missing is known when shards are merged.
    pub plan: Vec<PlannedCell>,
}

/// A shard as it was before it was merged with others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// Which it was, from 1.
    pub number: u32,
    /// How many there were.
    pub of: u32,
    /// When it began.
    pub started: String,
}

/// A cell of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCell {
    /// The cell's id.
    pub id: String,
    /// Its VM configuration as it was then.
    pub vm: VmConfig,
    /// The least number of points that its test made then.
    pub points: u64,
    /// The run id that its guest put into its report, in hexadecimal, in a merged run. Elsewhere it is that of the run and
    /// the cell's position.
    #[serde(default, with = "maybe_hex", skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
}

impl From<&Cell> for PlannedCell {
    fn from(cell: &Cell) -> Self {
        PlannedCell { id: cell.id.clone(), vm: cell.config.clone(), points: cell.points, run: None }
    }
}

/// Every other line: what came of one cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellResult {
    /// The cell's id.
    pub cell: String,
    /// What came of it.
    pub outcome: CellOutcome,
}

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellOutcome {
    /// It ran, to whatever end.
    Observed(Observed),
    /// It could not be done there, for this reason.
    Skip(String),
    /// The host went down while it ran: only its intent is left.
    Died(String),
    /// Host or harness are broken, in this way. A resumed run does the cell again.
    Error(String),
}

impl CellOutcome {
    /// Whether the cell need not be run again.
    pub fn is_final(&self) -> bool {
        !matches!(self, CellOutcome::Error(_))
    }
}

/// The header with the format's version, as it lies in line 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstLine<H> {
    format: u32,
    header: H,
}

/// Line 1 of a file, with its line feed.
///
/// # Errors
/// None: a header is always JSON.
pub fn first_line(header: &Header) -> serde_json::Result<Vec<u8>> {
    line(&FirstLine { format: FORMAT, header })
}

/// Anything as a line, with its line feed. JSON has none within.
pub(super) fn line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The header in line 1 of a file. The version is looked at first, for all else may differ in another one.
pub(super) fn header(path: &Path, text: &[u8]) -> Result<Header, ResultsError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = value(path, 1, text)?;
    if format != FORMAT {
        let message = format!("a file of format {format}, but this kvm-memtype reads format {FORMAT}");
        return Err(ResultsError::Line { path: path.to_owned(), line: 1, message });
    }
    let FirstLine { mut header, .. } = value::<FirstLine<Header>>(path, 1, text)?;
    // The fact is younger than the format, and policies ask for it.
    if let (Some(quirks), None) = (header.facts.int("quirks"), header.facts.get(OFFERS_IGNORE_GUEST_PAT)) {
        let offers = Fact::Bool(quirks & u64::from(IGNORE_GUEST_PAT) != 0);
        header.facts.set(OFFERS_IGNORE_GUEST_PAT, offers);
    }
    Ok(header)
}

/// What is in a line of a file.
pub(super) fn value<T: DeserializeOwned>(path: &Path, line: usize, text: &[u8]) -> Result<T, ResultsError> {
    serde_json::from_slice(text.trim_ascii_end()).map_err(|error| {
        // Serde counts lines too, but it sees only this one.
        let said = error.to_string();
        let said = said.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&said);
        let message = format!("column {}: {said}", error.column());
        ResultsError::Line { path: path.to_owned(), line, message }
    })
}

/// A number as a string of hexadecimal digits: JSON readers elsewhere lose precision above 2^53.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(|_| D::Error::custom(format!("{text:?} is not a hexadecimal number")))
    }
}

/// The same of a number that may not be there.
mod maybe_hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Hex(#[serde(with = "super::hex")] u64);

    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Hex).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Hex>::deserialize(deserializer)?.map(|Hex(value)| value))
    }
}
