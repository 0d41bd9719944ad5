//! Progress on standard error: a line for each kernel that runs just now, where that is a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// The lines of all kernels.
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Begins without lines.
    pub fn new() -> Self {
        Progress { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// A line for a kernel.
    pub fn line(&self, name: &str) -> Line<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {pos} cells {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(name.to_owned()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Line { progress: self, bar, name: name.to_owned() }
    }
}

/// The line of a kernel.
pub struct Line<'a> {
    progress: &'a Progress,
    bar: Option<ProgressBar>,
    name: String,
}

impl Line<'_> {
    /// Says what goes on.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => anstream::eprintln!("{}: {text}", self.name),
        }
    }

    /// Counts a cell.
    pub fn cell(&self, id: &str) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(id.to_owned());
        }
    }

    /// Says on standard output what came of the kernel.
    pub fn end(&self, text: &str) {
        match (&self.progress.bars, &self.bar) {
            (Some(bars), Some(bar)) => {
                bar.finish_and_clear();
                bars.suspend(|| anstream::println!("{text}"));
            }
            _ => anstream::println!("{text}"),
        }
    }
}
