//! `report`: the verdicts of runs again, for people and for other tools; or the leaf SPTEs or the costs of boots of runs side
//! by side.

use super::args::{Cli, Format, Judging, Report, ReportFormat};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, html, judged, shown};
use crate::judge::Judge;
use crate::replace::replace;
use crate::report::export::{self, Judged, junit, kcidb, ktap, lava, markdown, prometheus};
use crate::report::{self, Boots, Leaves, Outcome, Page};
use crate::results::{self, Run};
use anstream::StripStream;
use std::io::{self, Write};
use std::path::Path;

/// Prints what is asked for, to standard output or into a file.
pub fn report(cli: &Cli, args: &Report) -> Done {
    let Some(path) = &args.output else {
        return print(cli, args, &mut stdout());
    };
    let mut page = Vec::new();
    let outcome = print(cli, args, &mut StripStream::new(&mut page))?;
    replace(path, |file| file.write_all(&page))
        .map_err(|error| Failure::Broken(format!("cannot write {}: {error}", path.display())))?;
    Ok(outcome)
}

fn print(cli: &Cli, args: &Report, out: &mut dyn Write) -> Done {
    if args.leaves {
        return leaves(cli, args, out);
    }
    if args.zaps {
        return zaps(cli, args, out);
    }
    if args.matrix {
        return matrix(cli, args, out);
    }
    if args.types && !matches!(args.format, ReportFormat::Human | ReportFormat::Json) {
        return Err(Failure::Usage("--types is printed for people and as json".into()));
    }
    if args.history && args.format != ReportFormat::Html {
        return Err(Failure::Usage("--history is for --format html: `kvm-memtype history` prints it".into()));
    }
    match args.format {
        ReportFormat::Human => lines(cli, args, Format::Human, out),
        ReportFormat::Json => lines(cli, args, Format::Json, out),
        ReportFormat::Ktap => export(cli, args, |runs| ktap::write(out, runs)),
        ReportFormat::Junit => export(cli, args, |runs| junit::write(out, runs)),
        ReportFormat::Markdown => export(cli, args, |runs| markdown::write(out, runs)),
        ReportFormat::Kcidb => {
            let origin =
                args.kcidb_origin.as_ref().ok_or_else(|| Failure::Usage("kcidb takes --kcidb-origin".into()))?;
            export(cli, args, |runs| kcidb::write(out, runs, origin, args.kcidb_build.as_ref()))
        }
        ReportFormat::Lava => export(cli, args, |runs| lava::write(out, runs)),
        ReportFormat::Prometheus => export(cli, args, |runs| prometheus::write(out, runs)),
        ReportFormat::Html => html::html(cli, &args.runs, args.history, out),
    }
}

/// Has an exporter write the runs that are named, their repetitions included.
fn export(cli: &Cli, args: &Report, write: impl FnOnce(&[Judged]) -> io::Result<()>) -> Done {
    let named: Vec<Vec<Judged>> = args.runs.iter().map(|run| judged::named(cli, run)).collect::<Result<_, _>>()?;
    let outcome = export::outcome(named.iter().map(Vec::as_slice));
    write(&named.into_iter().flatten().collect::<Vec<_>>())?;
    Ok(outcome)
}

/// Prints one run, line by line: its verdicts, and what its repetitions have in common; or its pages.
fn lines(cli: &Cli, args: &Report, format: Format, out: &mut dyn Write) -> Done {
    let [run] = args.runs.as_slice() else {
        let what = "one run is reported at a time, without --leaves or --zaps and in this format";
        return Err(Failure::Usage(what.into()));
    };
    if args.types {
        return types(cli, format, &results::find(&cli.results, run)?, out);
    }
    let repetitions = judged::named(cli, run)?;
    let policy = repetitions.first().and_then(|judged| judged.run.header.policy.as_ref());
    if let (Format::Human, Some(policy)) = (format, policy) {
        writeln!(out, "by policy {policy}, as asked")?;
    }
    let known: Vec<_> =
        repetitions.iter().map(|judged| (Some(&judged.run.header), judged.verdicts.as_slice())).collect();
    shown::again(format, out, &known)
}

/// The pages that were timed in the run in `dir`.
fn pages(cli: &Cli, dir: &Path) -> Result<Vec<Page>, Failure> {
    let (policies, deviations) = Knowledge::load(cli.config.as_deref())?.models(Judging { no_deviations: false })?;
    let run = Run::read(dir)?;
    let policies = policies.asked(run.header.policy.as_deref())?;
    let pages = report::pages(&Judge::new(&policies, &deviations), &run);
    pages.map_err(|error| Failure::Broken(error.to_string()))
}

/// Prints the types that pages got as small tables.
fn matrix(cli: &Cli, args: &Report, mut out: &mut dyn Write) -> Done {
    for (at, run) in args.runs.iter().enumerate() {
        let pages = pages(cli, &results::find(&cli.results, run)?)?;
        if args.runs.len() > 1 {
            writeln!(out, "{}# {run}\n", if at > 0 { "\n" } else { "" })?;
        }
        report::print_matrix(&mut out, &pages)?;
    }
    Ok(Outcome::AsExpected)
}

/// Prints the memory types of the pages that were timed in the run in `dir`.
fn types(cli: &Cli, format: Format, dir: &Path, mut out: &mut dyn Write) -> Done {
    let pages = pages(cli, dir)?;
    match format {
        Format::Human => report::print_types(&mut out, &pages)?,
        Format::Json => {
            for page in &pages {
                serde_json::to_writer(&mut out, page).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
        }
    }
    Ok(Outcome::AsExpected)
}

/// Prints the tables of leaf SPTEs.
fn leaves(cli: &Cli, args: &Report, mut out: &mut dyn Write) -> Done {
    let (policies, deviations) = Knowledge::load(cli.config.as_deref())?.models(Judging { no_deviations: false })?;
    let runs = runs(cli, args)?;
    let mut leaves = Leaves::default();
    for run in &runs {
        let policies = policies.asked(run.header.policy.as_deref())?;
        leaves.add(&Judge::new(&policies, &deviations), run).map_err(|error| Failure::Broken(error.to_string()))?;
    }
    leaves.print(&mut out)?;
    Ok(Outcome::AsExpected)
}

/// Prints the tables of what boots cost.
fn zaps(cli: &Cli, args: &Report, mut out: &mut dyn Write) -> Done {
    let runs = runs(cli, args)?;
    let mut boots = Boots::default();
    runs.iter().for_each(|run| boots.add(run));
    if boots.is_empty() {
        let what = "no boot came to its end in these runs: kvm-memtype run --suite zaps makes one that has some";
        return Err(Failure::Usage(what.into()));
    }
    boots.print(&mut out, &report::names(&runs.iter().collect::<Vec<_>>()))?;
    Ok(Outcome::AsExpected)
}

/// The runs that are named.
fn runs(cli: &Cli, args: &Report) -> Result<Vec<Run>, Failure> {
    args.runs.iter().map(|run| Ok(Run::read(&results::find(&cli.results, run)?)?)).collect()
}
