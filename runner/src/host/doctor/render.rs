//! The report as plain text, for terminals of 100 columns.

use super::report::Report;
use std::fmt;

/// The widest line.
const WIDTH: usize = 100;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "What this host can tell")?;
        let answers: Vec<_> =
            self.answers.iter().map(|a| (a.what.to_owned(), format!("{:<7} {}", a.can.word(), a.why))).collect();
        rows(f, &answers)?;
        if !self.warnings.is_empty() {
            writeln!(f, "\nWhat limits it")?;
        }
        for warning in &self.warnings {
            hanging(f, "  - ", &warning.to_string())?;
        }
        for section in &self.sections {
            writeln!(f, "\n{}", section.title)?;
            rows(f, &section.rows)?;
        }
        Ok(())
    }
}

/// Names and values in two columns.
fn rows(f: &mut fmt::Formatter<'_>, rows: &[(String, String)]) -> fmt::Result {
    let column = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| hanging(f, &format!("  {name:<column$}  "), value))
}

/// A text behind a prefix, broken at spaces into lines that start where the first one does.
fn hanging(f: &mut fmt::Formatter<'_>, prefix: &str, text: &str) -> fmt::Result {
    let indent = prefix.chars().count();
    let (mut used, mut gap) = (indent, "");
    f.write_str(prefix)?;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > indent && used + gap.len() + length > WIDTH {
            write!(f, "\n{:indent$}", "")?;
            (used, gap) = (indent, "");
        }
        write!(f, "{gap}{word}")?;
        used += gap.len() + length;
        gap = " ";
    }
    f.write_str("\n")
}
