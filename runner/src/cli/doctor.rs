//! `doctor`: what this host is, what it can decide, and what to do about what it cannot.

use super::Done;
use super::args::{Doctor, Format};
use super::out::stdout;
use crate::host::doctor;
use crate::report::Outcome;
use std::io::Write;

/// Examines the host and prints what was found.
pub fn doctor(args: &Doctor) -> Done {
    let report = doctor::examine();
    let mut out = stdout();
    match args.format {
        Format::Human => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?)?,
    }
    Ok(Outcome::AsExpected)
}
