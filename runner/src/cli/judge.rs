//! `judge`: verdicts from observations by the present models, of a run or of a serial log that somebody kept.

use super::args::{Cli, Judge as Args};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, shown};
use crate::host;
use crate::host::facts::Facts;
use crate::judge::Judge;
use crate::machine::choose::Wanted;
use crate::machine::lines::LineSplitter;
use crate::machine::{End, Line, Observed};
use crate::plan::TestRef;
use crate::report::{CellVerdict, Cells};
use crate::results::{self, Intent, Run};
use clap::ValueEnum;
use std::io::Read;
use wire::layout::EXIT_DONE;
use wire::stream::{Item, Reader};

/// Judges and prints; of a run, the verdicts are written too, and its repetitions compared.
pub fn judge(cli: &Cli, args: &Args) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (policies, deviations) = knowledge.models(args.judging)?;
    let mut repetitions = Vec::new();
    if args.run == "-" {
        let judge = Judge::new(&policies, &deviations);
        repetitions.push((None, vec![serial_log(&judge, &knowledge.tests, args.machine)?]));
    } else {
        for dir in results::repetitions(&results::find(&cli.results, &args.run)?) {
            let (read, left) = (Run::read(&dir)?, Intent::left(&dir)?);
            let policies = policies.asked(read.header.policy.as_deref())?;
            let verdicts = run(&Judge::new(&policies, &deviations), &read, &left);
            results::write_verdicts(&dir, &verdicts)?;
            repetitions.push((Some(read.header), verdicts));
        }
    }
    let known: Vec<_> = repetitions.iter().map(|(header, verdicts)| (header.as_ref(), verdicts.as_slice())).collect();
    shown::again(args.format, &mut stdout(), &known)
}

/// The verdicts on a run's cells; one without a result was not run, or what its intent says.
pub(super) fn run(judge: &Judge<'_>, run: &Run, left: &[Intent]) -> Vec<CellVerdict> {
    let cells = Cells::new(&run.header);
    let mut verdicts: Vec<CellVerdict> = run.results.iter().map(|result| cells.verdict(judge, result)).collect();
    verdicts.extend(cells.not_run(&verdicts, left));
    verdicts
}

/// The verdict on a guest's serial log on standard input. How the VM ended is not in it: a log with an end line is
/// taken for one of a guest that ran to its end.
fn serial_log(judge: &Judge<'_>, tests: &[TestRef], machine: Option<Wanted>) -> Result<CellVerdict, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().read_to_end(&mut bytes);
    read.map_err(|error| Failure::Broken(format!("cannot read standard input: {error}")))?;
    let (mut log, mut splitter) = (Vec::new(), LineSplitter::default());
    splitter.push(&bytes, &mut log);
    splitter.finish(&mut log);
    let test =
        test_of(&log).map_err(|what| Failure::Usage(format!("standard input holds no guest's report: {what}")))?;
    let observed = Observed { log, end: End::Exit(EXIT_DONE), micros: 0, witness: Default::default() };
    let known = tests.iter().find(|known| known.id() == test);
    let known = known.ok_or_else(|| Failure::Usage(format!("this kvm-memtype has no test `{test}`")))?;
    let judgement = judge.cell(&test, known.points, &observed, None, &facts(machine));
    Ok(CellVerdict { cell: test, micros: None, broken: false, judgement })
}

/// The test that the start line names; or what is wrong with that line, or that there is none.
fn test_of(log: &[Line]) -> Result<String, String> {
    let mut reader = Reader::new(None);
    for line in log {
        if let Line::Guest(line) = line
            && let Some(Item::Begin { test, .. }) = reader.line(line).map_err(|error| error.to_string())?
        {
            return Ok(test);
        }
    }
    Err("no start line such as `0 kmt2 5eed pat-msr/bytes*fa71`".to_owned())
}

/// What is known of the machine that a log came from: nothing of QEMU TCG; this host, where it was KVM.
fn facts(machine: Option<Wanted>) -> Facts {
    let machine = machine.unwrap_or(Wanted::QemuTcg).to_possible_value();
    host::probe().facts(machine.as_ref().map_or("qemu-tcg", |machine| machine.get_name()))
}
