//! `merge`: the runs of shards as one run.

use super::args::{Cli, Format, Merge};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, judge, shown};
use crate::judge::Judge;
use crate::results::{self, Intent, Run, Writer};
use std::io::Write;

/// Writes the merged run, judges it and prints it.
pub fn merge(cli: &Cli, args: &Merge) -> Done {
    let (policies, deviations) = Knowledge::load(cli.config.as_deref())?.models(args.judging)?;
    let mut runs = Vec::new();
    for run in &args.runs {
        let dir = results::find(&cli.results, run)?;
        if let Some(intent) = Intent::left(&dir)?.first() {
            let what = format!("it ended in {}; go on with it there first: kvm-memtype run --resume", intent.cell);
            return Err(Failure::Usage(format!("{}: {what}", dir.display())));
        }
        runs.push(Run::read(&dir)?);
    }
    let (header, results) = results::merge(&runs)?;
    let policies = policies.asked(header.policy.as_deref())?;
    let mut writer = Writer::create(&cli.results, &header)?;
    results.iter().try_for_each(|result| writer.append(result))?;
    let dir = writer.dir().to_owned();
    drop(writer);
    let verdicts = judge::run(&Judge::new(&policies, &deviations), &Run::read(&dir)?, &[]);
    results::write_verdicts(&dir, &verdicts)?;
    let done = shown::again(args.format, &mut stdout(), &[(Some(&header), &verdicts)]);
    if args.format == Format::Human {
        let (shards, of) = (header.merged.len(), header.merged.first().map_or(0, |shard| shard.of));
        writeln!(stdout(), "{shards} of {of} shards merged in {}", dir.display())?;
    }
    done
}
