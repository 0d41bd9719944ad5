//! History: what became of each cell over many runs. Runs and their verdicts are the truth; an [`Index`] in SQLite makes
//! them quick to ask, and is made anew from them at any time.

mod index;
mod timeline;

pub use index::{Index, IndexError, Synced};
pub use timeline::{Entry, Group, Slower, Streak, Timeline};
