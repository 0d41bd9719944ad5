//! What can be wrong with a configuration, for people.

use super::{Source, names};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// A mistake in a configuration, or in a name that picks something out of it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A mistake at a place in a file. `excerpt` is that line with a caret under the mistake, each line after a line
    /// feed.
    #[error("{place}: {message}{excerpt}")]
    At {
        /// File, line and column, counted from 1: `configs/suites/default.toml:7:9`.
        place: String,
        /// What is wrong.
        message: String,
        /// The line, and a caret.
        excerpt: String,
    },
    /// A file or a directory cannot be read.
    #[error("{}: cannot read it", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that has no place among the configurations.
    #[error("{}: {message}", path.display())]
    Stray {
        /// The file.
        path: PathBuf,
        /// Why, and where it should be.
        message: String,
    },
    /// A name, given on the command line, of something that is not there.
    #[error("{0}")]
    Name(String),
}

impl ConfigError {
    /// A mistake at the bytes `span` of a file.
    pub fn at(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        let text = &source.text;
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |feed| feed + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |feed| start + feed);
        let end = text.ceil_char_boundary(span.end).clamp(start, line_end);
        let (row, column) = (text[..start].matches('\n').count() + 1, text[line_start..start].chars().count() + 1);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let (row, margin) = (row.to_string(), " ".repeat(row.to_string().len()));

        // Tabs stay, so that the caret stands under the mistake.
        let shown = line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
        let indent: String = text[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(text[start..end].trim_end().chars().count().max(1));
        ConfigError::At {
            place: format!("{}:{row}:{column}", source.name),
            message: printable(&message.into()),
            excerpt: format!("\n  {row} | {shown}\n  {margin} | {indent}{carets}"),
        }
    }

    /// A mistake of a file as a whole.
    pub fn file(source: &Source, message: impl Into<String>) -> Self {
        ConfigError::At { place: source.name.clone(), message: printable(&message.into()), excerpt: String::new() }
    }

    /// A name at the bytes `span` of a file that is none of the `valid` ones. `kind` says what it should name, without
    /// article: "VM configuration".
    pub fn unknown<'a>(
        source: &Source,
        span: Range<usize>,
        kind: &str,
        found: &str,
        valid: impl Iterator<Item = &'a str>,
    ) -> Self {
        ConfigError::at(source, span, unknown(kind, found, valid))
    }

    /// A name from the command line that is none of the `valid` ones.
    pub fn no_such<'a>(kind: &str, found: &str, valid: impl Iterator<Item = &'a str>) -> Self {
        ConfigError::Name(unknown(kind, found, valid))
    }
}

/// The text without characters that steer a terminal: it may quote what is in a file.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unknown<'a>(kind: &str, found: &str, valid: impl Iterator<Item = &'a str>) -> String {
    format!("unknown {kind} `{found}`{}", names::hint(found, valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_shown_in_its_line() {
        let text = "[[cells]]\nvms = ['maxphyadr-36']\n".to_owned();
        let source = Source { name: "configs/suites/x.toml".to_owned(), text };
        let valid = ["default", "maxphyaddr-36", "maxphyaddr-39"];
        let error = ConfigError::unknown(&source, 17..31, "VM configuration", "maxphyadr-36", valid.into_iter());
        assert_eq!(
            error.to_string(),
            "configs/suites/x.toml:2:8: unknown VM configuration `maxphyadr-36`, did you mean `maxphyaddr-36`?\n  \
             2 | vms = ['maxphyadr-36']\n    |        ^^^^^^^^^^^^^^"
        );
    }
}
