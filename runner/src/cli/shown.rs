//! How verdicts are printed: those of one run, and what the repetitions of a run have in common.

use super::args::Format;
use super::out::stdout;
use super::{Done, Failure};
use crate::report::{Brief, CellVerdict, Human, Json, Repeats, Reporter, print_repeats};
use std::io::Write;

/// Prints to standard output in that format.
pub fn reporter(format: Format) -> Box<dyn Reporter> {
    match format {
        Format::Human => Box::new(Human::new(stdout())),
        Format::Json => Box::new(Json(stdout())),
    }
}

/// Prints repetition `number` of that many: to people in one line.
pub fn repetition(format: Format, number: usize, of: usize) -> Box<dyn Reporter> {
    match format {
        Format::Human => Box::new(Brief::new(stdout(), number, of)),
        Format::Json => reporter(format),
    }
}

/// Says what repetitions have in common, if there is more than one, and what they come to.
///
/// # Errors
/// The output cannot be written.
pub fn repeats(format: Format, repeats: &Repeats) -> Done {
    match format {
        _ if repeats.count() < 2 => {}
        Format::Human => print_repeats(&mut stdout(), repeats)?,
        Format::Json => writeln!(stdout(), "{}", serde_json::to_string(repeats).map_err(std::io::Error::from)?)?,
    }
    Ok(repeats.outcome())
}

/// Prints verdicts that are known already: of each repetition of a run.
///
/// # Errors
/// The output cannot be written.
pub fn again(format: Format, repetitions: &[Vec<CellVerdict>]) -> Done {
    let mut all = Repeats::default();
    for (number, verdicts) in (1..).zip(repetitions) {
        let mut reporter = if number == 1 { reporter(format) } else { repetition(format, number, repetitions.len()) };
        verdicts.iter().try_for_each(|verdict| reporter.cell(verdict)).map_err(Failure::from)?;
        reporter.end(&all.add(verdicts))?;
    }
    repeats(format, &all)
}
