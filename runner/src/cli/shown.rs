//! How verdicts are printed: those of one run, and what the repetitions of a run have in common.

use super::Done;
use super::args::Format;
use crate::report::{Brief, CellVerdict, Human, Json, Repeats, Reporter, print_repeats};
use crate::results::Header;
use std::io::Write;

/// Prints to `out` in that format.
pub fn reporter<'a>(format: Format, out: impl Write + 'a) -> Box<dyn Reporter + 'a> {
    match format {
        Format::Human => Box::new(Human::new(out)),
        Format::Json => Box::new(Json(out)),
    }
}

/// Prints repetition `number` of that many: to people in one line.
pub fn repetition<'a>(format: Format, out: impl Write + 'a, number: usize, of: usize) -> Box<dyn Reporter + 'a> {
    match format {
        Format::Human => Box::new(Brief::new(out, number, of)),
        Format::Json => reporter(format, out),
    }
}

/// Says what repetitions have in common, if there is more than one, and what they come to.
///
/// # Errors
/// The output cannot be written.
pub fn repeats(format: Format, mut out: &mut dyn Write, repeats: &Repeats) -> Done {
    match format {
        _ if repeats.count() < 2 => {}
        Format::Human => print_repeats(&mut out, repeats)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(repeats).map_err(std::io::Error::from)?)?,
    }
    Ok(repeats.outcome())
}

/// Verdicts that are known already, with the header of their run; a serial log has none.
pub type Known<'a> = (Option<&'a Header>, &'a [CellVerdict]);

/// Prints what is known already of each repetition of a run.
///
/// # Errors
/// The output cannot be written.
pub fn again(format: Format, out: &mut dyn Write, repetitions: &[Known<'_>]) -> Done {
    let mut all = Repeats::default();
    for (number, &(header, verdicts)) in (1..).zip(repetitions) {
        let mut reporter = match number {
            1 => reporter(format, &mut *out),
            _ => repetition(format, &mut *out, number, repetitions.len()),
        };
        header.map_or(Ok(()), |header| reporter.begin(header))?;
        verdicts.iter().try_for_each(|verdict| reporter.cell(verdict))?;
        reporter.end(&all.add(verdicts))?;
    }
    repeats(format, out, &all)
}
