//! What can go wrong with results, for people.

use std::io;
use std::path::{Path, PathBuf};

/// Results cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The system refused something.
    #[error("{}: cannot {what} it", path.display())]
    Io {
        /// What was tried, an infinitive: "read".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a file is not what it should be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// Another process writes to the same run.
    #[error("{}: another process is writing this run; wait until it has ended", dir.display())]
    Locked {
        /// The run's directory.
        dir: PathBuf,
    },
    /// The run ended in a destructive cell on another host, which alone can tell what became of it.
    #[error("{}: it ended in a destructive cell on host {host}; go on with it there", dir.display())]
    Elsewhere {
        /// The run's directory.
        dir: PathBuf,
        /// The host's name.
        host: String,
    },
    /// A run that was asked for is not there.
    #[error("{0}")]
    NoRun(String),
}

impl ResultsError {
    /// Turns what the system said about trying to do `what` to `path` into an error.
    pub(super) fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> ResultsError {
        move |source| ResultsError::Io { what, path: path.to_owned(), source }
    }
}
