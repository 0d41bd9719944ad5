//! What became of cells in earlier runs, for their pages: as an index of history has it.

use super::data::Data;
use crate::judge::Verdict;
use serde::Serialize;

/// A cell in all runs on hosts of one kind.
#[derive(Debug, Clone)]
pub struct HtmlPast {
    /// The cell's id.
    pub cell: String,
    /// The kind of host, in words.
    pub place: String,
    /// The hosts by name, in words; empty where nobody noted them.
    pub hosts: String,
    /// Runs one after the other with the same verdict, oldest first.
    pub streaks: Vec<PastStreak>,
}

/// Runs one after the other in which a cell had the same verdict.
#[derive(Debug, Clone)]
pub struct PastStreak {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason in the last of them.
    pub reason: String,
    /// How many.
    pub runs: usize,
    /// When the first and the last began, and on which kernel.
    pub ends: [(String, String); 2],
    /// The first of them.
    pub first: String,
}

/// One place as it stands in the file: numbers of texts for the place and its hosts; then for each streak the number of its
/// verdict, from 1, its runs, and numbers of texts: when the first and the last began, their kernels, the first run, the reason.
#[derive(Debug, Serialize)]
pub(super) struct PastData(u32, u32, Vec<[u32; 8]>);

impl PastData {
    /// Makes numbers of it.
    pub fn new(past: &HtmlPast, data: &mut Data) -> Self {
        let streak = |it: &PastStreak, data: &mut Data| {
            let verdict = 1 + Verdict::ALL.iter().position(|&verdict| verdict == it.verdict).unwrap_or_default();
            let [(from, from_kernel), (to, to_kernel)] = &it.ends;
            let runs = u32::try_from(it.runs).unwrap_or(u32::MAX);
            let [from, to, from_kernel, to_kernel, first, reason] =
                [from, to, from_kernel, to_kernel, &it.first, &it.reason].map(|text| data.text(text));
            [verdict as u32, runs, from, to, from_kernel, to_kernel, first, reason]
        };
        let (place, hosts) = (data.text(&past.place), data.text(&past.hosts));
        PastData(place, hosts, past.streaks.iter().map(|it| streak(it, data)).collect())
    }
}
