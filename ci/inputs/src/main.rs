//! Runs the readers of foreign input on a corpus and on what becomes of it: `inputs --executions 100000`.
//!
//! It is the stable compiler's stand-in for cargo-fuzz, whose targets in fuzz/ call the same functions: it changes inputs
//! without looking at what that covers. It fails where a reader panics, aborts or hangs, takes too long or too much memory,
//! or keeps memory.

mod changes;
mod corpus;
mod memory;
mod work;

use clap::Parser;
use kvm_memtype::inputs::{INPUTS, Input, find};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use work::Work;

#[global_allocator]
static MEMORY: memory::Counted = memory::Counted;

/// Runs the readers of foreign input on a corpus and on what becomes of it.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// Only these kinds of input. Without any, all.
    #[arg(value_name = "KIND")]
    kinds: Vec<String>,
    /// Executions of each kind, besides those of the corpus.
    #[arg(long, value_name = "N", default_value = "100000")]
    executions: u64,
    /// Seconds after which no execution of a kind begins any more.
    #[arg(long, value_name = "SECONDS", default_value = "3600")]
    seconds: u64,
    /// What changes are drawn by: the same number makes the same ones.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Only this execution of the one kind that is named, whose input is written to standard output first.
    #[arg(long, value_name = "N")]
    only: Option<u64>,
    /// Where a directory of each kind has its inputs.
    #[arg(long, value_name = "DIR", default_value = "fuzz/corpus")]
    corpus: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(said) => {
            eprintln!("inputs: {said}");
            ExitCode::from(2)
        }
    }
}

/// Runs all kinds that are asked for, and says whether nothing was found.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let named = |name: &String| find(name).copied().ok_or_else(|| format!("no kind of input `{name}`"));
    let kinds: Vec<Input> = match arguments.kinds.is_empty() {
        true => INPUTS.to_vec(),
        false => arguments.kinds.iter().map(named).collect::<Result<_, _>>()?,
    };
    if arguments.only.is_none() {
        println!(
            "{:<14}{:>12} {:>10} {:>10} {:>9} {:>10} {:>10}",
            "input", "executions", "right", "a second", "longest", "memory", "kept"
        );
    }
    let mut good = true;
    for input in kinds {
        let corpus = corpus::read(&arguments.corpus.join(input.name))?;
        let work = Work { input, corpus: &corpus, seed: arguments.seed };
        match arguments.only {
            Some(number) => work.only(number)?,
            None => good &= work.all(arguments.executions, Duration::from_secs(arguments.seconds)),
        }
    }
    Ok(good)
}
