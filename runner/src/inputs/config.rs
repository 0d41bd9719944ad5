//! What users write: configurations, fleets and histories.

use crate::config::{self, Set, Source};
use crate::fleet::Fleet;
use crate::fuzz::History;
use crate::guests;
use crate::judge::Deviations;
use crate::model::policy::Policies;
use crate::plan::suite::Suite;
use crate::plan::vm::VmConfig;
use crate::plan::{Plan, TestRef};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A file with this text, if it is text. What is not UTF-8 is refused before it is looked at.
fn source(data: &[u8]) -> Option<Source> {
    let text = std::str::from_utf8(data).ok()?.to_owned();
    Some(Source { name: "configs/input.toml".to_owned(), text })
}

/// What there is to be named.
struct Names {
    tests: Vec<TestRef>,
    ids: Vec<String>,
    vms: BTreeMap<String, VmConfig>,
}

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        let tests = guests::tests().expect("the embedded guests");
        let set = Set::load(None).expect("the embedded configurations");
        let vms = VmConfig::all(&set).expect("the embedded VM configurations");
        Names { ids: tests.iter().map(TestRef::id).collect(), tests, vms }
    })
}

/// Whether a mistake, if it is one, can be told.
fn told<T>(result: Result<T, config::ConfigError>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// A suite, and the cells that it plans.
pub fn suite(data: &[u8]) -> bool {
    let Names { tests, vms, .. } = names();
    let suite = source(data).and_then(|source| told(Suite::read(&source)));
    suite.and_then(|suite| told(Plan::new(&suite, tests, vms, &[]))).is_some()
}

/// A VM configuration, which a run's header must give back.
pub fn vm(data: &[u8]) -> bool {
    let Some(vm) = source(data).and_then(|source| told(config::parse::<VmConfig>(&source))) else { return false };
    let text = serde_json::to_string(&vm).expect("JSON");
    assert_eq!(serde_json::from_str::<VmConfig>(&text).expect("what was written"), vm);
    true
}

/// A policy without a base.
pub fn policy(data: &[u8]) -> bool {
    source(data).and_then(|source| told(Policies::load([&source]))).is_some()
}

/// Known deviations.
pub fn deviations(data: &[u8]) -> bool {
    source(data).and_then(|source| told(Deviations::load([&source], &names().ids))).is_some()
}

/// A fleet, and its jobs as YAML.
pub fn fleet(data: &[u8]) -> bool {
    let Some(fleet) = source(data).and_then(|source| told(Fleet::read(&source, &["default", "smoke"]))) else {
        return false;
    };
    // Ten thousand shards are ten thousand jobs: the first few show how they are written.
    fleet.jobs().take(8).for_each(|job| assert!(!job.definition.to_string().is_empty()));
    true
}

/// A history, which must read as it was written.
pub fn history(data: &[u8]) -> bool {
    let vms: Vec<&str> = names().vms.keys().map(String::as_str).collect();
    let Some((history, summary)) = source(data).and_then(|source| told(History::read(&source, &vms))) else {
        return false;
    };
    let again = Source { name: "again".to_owned(), text: history.write(&summary) };
    assert_eq!(History::read(&again, &vms).expect("what was written"), (history, summary));
    true
}
