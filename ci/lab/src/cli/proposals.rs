//! `proposals`: what stock and patched kernels do of each proposal for KVM, in one table.

use super::args::{Lab, Proposals as Args};
use super::{Failure, Outcome, table};
use crate::kernel::Kernels;
use crate::patch::{PatchError, Patches, checkout};
use kvm_memtype::config::{Set, Source};
use kvm_memtype::execute::chain;
use kvm_memtype::guests;
use kvm_memtype::judge::{Deviations, Judge};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::suite::Suite;
use kvm_memtype::plan::vm::VmConfig;
use kvm_memtype::plan::{Plan, TestRef};
use kvm_memtype::report::{Answers, Proposal, answers, print_proposals};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The suite in which proposals show.
const SUITE: &str = "memtype";

/// Prints the table, of boots that are there or of all kernels, which are booted then.
pub fn proposals(lab: &Lab, args: &Args) -> Result<Outcome, Failure> {
    let patches = Patches::load(lab.patches.as_deref())?;
    let set = Set::load(None)?;
    let policies = policies(&set, &patches)?;
    let all = read(args, &set, &policies)?;
    if !args.dirs.is_empty() {
        print(&args.dirs, &all, &set, &policies)?;
        return Ok(Outcome::AsExpected);
    }
    let stock = Kernels::load(lab.kernels.as_deref())?;
    let patched = all.iter().flat_map(|proposal| proposal.kernels.iter().cloned());
    let mut names: Vec<String> = stock.all().map(|spec| spec.id.clone()).chain(patched).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let (outcome, boots) = table::boot(lab, names, (SUITE, &[]), args.jobs, &args.booting, "proposals")?;
    print(&boots, &all, &set, &policies)?;
    Ok(outcome)
}

/// The built-in policies and those of the patches.
fn policies(set: &Set, patches: &Patches) -> Result<Policies, Failure> {
    let mut sources: Vec<Source> = set.sources("policies").map(|(_, source)| source.clone()).collect();
    for patch in patches.all() {
        let configs = patch.configs()?.into_iter().filter(|(path, _)| path.starts_with("policies/"));
        sources.extend(configs.map(|(path, text)| Source { name: path, text }));
    }
    Ok(Policies::load(sources.iter())?)
}

/// The proposals that have a file, by their names.
fn read(args: &Args, set: &Set, policies: &Policies) -> Result<Vec<Proposal>, Failure> {
    let missing =
        || Failure::Usage("ci/kernels/proposals is not there: --proposals names another directory".to_owned());
    let dir = args.proposals.clone().or_else(|| checkout("proposals")).ok_or_else(missing)?;
    let tests = guests::tests().map_err(|error| Failure::Broken(chain(&error)))?;
    let suite = Suite::read(set.source("suites", "suite", SUITE)?)?;
    let plan = Plan::new(&suite, &tests, &VmConfig::all(set)?, &[])?;
    let cells: Vec<String> = plan.cells.into_iter().map(|cell| cell.id).collect();
    let unread = |path: &Path, source: io::Error| PatchError::Read { path: path.to_owned(), source };
    let mut all = Vec::new();
    for path in table::entries(&dir).map_err(|error| unread(&dir, error))? {
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).map_err(|error| unread(&path, error))?;
            all.push(Proposal::read(&Source { name: path.display().to_string(), text }, policies, &cells)?);
        }
    }
    Ok(all)
}

fn print(boots: &[PathBuf], all: &[Proposal], set: &Set, policies: &Policies) -> Result<(), Failure> {
    let tests = guests::tests().map_err(|error| Failure::Broken(chain(&error)))?;
    let tests: Vec<String> = tests.iter().map(TestRef::id).collect();
    let deviations = Deviations::load(set.sources("deviations").map(|(_, source)| source), &tests)?;
    let broken = |error: &dyn std::error::Error| Failure::Broken(chain(error));
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for boot in boots {
        names.push(table::name(boot));
        let run = kvm_memtype::results::Run::read(&boot.join(SUITE)).map_err(|error| broken(&error))?;
        let governing = policies.asked(run.header.policy.as_deref()).map_err(|error| broken(&error))?;
        let judge = Judge::new(&governing, &deviations);
        columns.push(all.iter().map(|proposal| answers(&judge, policies, proposal, &run)).collect::<Vec<Answers>>());
    }
    let column = |at: usize| columns.iter().map(|column: &Vec<Answers>| column[at].clone()).collect();
    let rows: Vec<(&Proposal, Vec<Answers>)> = all.iter().enumerate().map(|(at, it)| (it, column(at))).collect();
    let printed = print_proposals(&mut anstream::stdout().lock(), &names, &rows);
    printed.map_err(|error| Failure::Broken(format!("cannot print: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Variant;
    use clap::Parser;

    #[test]
    fn the_proposals_of_the_checkout_are_right() {
        let (patches, kernels) = (Patches::load(None).unwrap(), Kernels::load(None).unwrap());
        let set = Set::load(None).unwrap();
        let policies = policies(&set, &patches).map_err(|_| "policies").unwrap();
        let lab = Lab::parse_from(["lab", "proposals"]);
        let crate::cli::args::Verb::Proposals(args) = &lab.verb else { panic!("another verb") };
        let all = read(args, &set, &policies).unwrap_or_else(|error| panic!("{error:?}"));
        let mut patched = BTreeSet::new();
        for name in all.iter().flat_map(|proposal| &proposal.kernels) {
            let variant: Variant = name.parse().unwrap();
            kernels.get(&variant.kernel).unwrap();
            for patch in &variant.patches {
                patches.get(patch).unwrap().diff(&variant.kernel).unwrap();
                patched.insert(patch.clone());
            }
        }
        // Each patch shows in some proposal.
        let names: BTreeSet<String> = patches.all().map(|patch| patch.name.clone()).collect();
        assert_eq!(patched, names);
    }
}
