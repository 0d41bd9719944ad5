//! What people and programs see of a run: each cell as it comes, and the sum.

mod again;
mod columns;
mod diff;
mod explain;
pub mod export;
mod html;
mod human;
mod identify;
mod json;
mod leaves;
mod leaves_words;
mod matrix;
mod planted;
mod proposals;
mod repeat;
mod sptes;
mod tally;
mod types;
mod verdict;
mod witness;
mod zaps;

pub use again::{again, replay};
pub use columns::names;
pub use diff::{Diff, Difference, Side, print_diff, print_diff_json};
pub use explain::{Explained, explain, explain_json};
pub use html::{HtmlError, HtmlPast, HtmlSide, PastStreak, html};
pub use human::{Human, counted};
pub use identify::{identify, identify_json};
pub use json::Json;
pub use leaves::Leaves;
pub use matrix::print_matrix;
pub use planted::{print_planted, print_planted_sum};
pub use proposals::{Answer, Answers, Proposal, answers, print_proposals};
pub use repeat::{Brief, Flaky, Repeats, Way, print_repeats};
pub use tally::{Outcome, Tally, is_expected};
pub use types::{Page, RAM, pages, print_types};
pub use verdict::{CellVerdict, Cells, family, test};
pub use zaps::Boots;

use crate::results::Header;
use std::io;

/// Prints a run. One file a format.
pub trait Reporter {
    /// A run begins.
    ///
    /// # Errors
    /// The output cannot be written.
    fn begin(&mut self, _: &Header) -> io::Result<()> {
        Ok(())
    }

    /// One cell has a verdict.
    ///
    /// # Errors
    /// The output cannot be written.
    fn cell(&mut self, cell: &CellVerdict) -> io::Result<()>;

    /// All cells have.
    ///
    /// # Errors
    /// The output cannot be written.
    fn end(&mut self, tally: &Tally) -> io::Result<()>;
}
