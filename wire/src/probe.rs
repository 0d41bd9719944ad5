//! Probes of a page: what is timed to find out its effective memory type.

use core::fmt;

/// Accesses of a kind, or what is needed to read their times. One round of each is timed as a whole; [`SAMPLES`] rounds
/// make a [`Sample`].
///
/// A *line* is 64 bytes. "The bytes" are the first eight of the page's part under test, four with paging off; a store
/// stores what is there, but in [`Probe::Stream`] zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// [`ACCESSES`] times: a load of the bytes, LFENCE.
    Load,
    /// [`ACCESSES`] times: a store to the bytes, MFENCE.
    Drain,
    /// Stores to all of [`LINES`] lines, upwards, and one MFENCE at the end.
    Stream,
    /// [`ACCESSES`] times: a store to the bytes, MFENCE, a load of them, LFENCE.
    Reload,
    /// Four MOVNTDQA and one LFENCE for each of [`LINES`] lines.
    Gather,
    /// [`ACCESSES`] times: LFENCE.
    Lfence,
    /// [`ACCESSES`] times: MFENCE.
    Mfence,
    /// [`ACCESSES`] times: CLFLUSH of the bytes, MFENCE.
    Flush,
    /// [`ACCESSES`] times: CLFLUSH of the bytes, MFENCE, a load of them, LFENCE.
    FlushLoad,
    /// [`ACCESSES`] times: INVLPG of the bytes' linear address, a load of them, LFENCE, at CPL 0. The page in question is not
    /// the bytes' own but the page table that maps them, which the CPU reads each time.
    Walk,
}

/// Accesses in a round of most probes.
pub const ACCESSES: u32 = 16;
/// Lines in a round of the others.
pub const LINES: u32 = 16;
/// Rounds of a probe.
pub const SAMPLES: usize = 7;

impl Probe {
    /// All of them.
    pub const ALL: [Probe; 10] = [
        Probe::Load,
        Probe::Drain,
        Probe::Stream,
        Probe::Reload,
        Probe::Gather,
        Probe::Lfence,
        Probe::Mfence,
        Probe::Flush,
        Probe::FlushLoad,
        Probe::Walk,
    ];

    /// The word for it in a record.
    pub const fn word(self) -> &'static str {
        match self {
            Probe::Load => "load",
            Probe::Drain => "drain",
            Probe::Stream => "stream",
            Probe::Reload => "reload",
            Probe::Gather => "gather",
            Probe::Lfence => "lfence",
            Probe::Mfence => "mfence",
            Probe::Flush => "flush",
            Probe::FlushLoad => "flushload",
            Probe::Walk => "walk",
        }
    }

    /// Its place in [`Probe::ALL`], which is the number by which guests' assembly knows it.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The rounds of one probe, in ticks of the time-stamp counter a round, loop and fences included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The median.
    pub median: u32,
    /// The distance of the quartiles.
    pub spread: u32,
}

/// What the probes of a page took; those that were not done are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times([Option<Sample>; Probe::ALL.len()]);

impl Times {
    /// None.
    pub const NONE: Times = Times([None; Probe::ALL.len()]);

    /// The sample of a probe, if it was done.
    pub const fn get(&self, probe: Probe) -> Option<Sample> {
        self.0[probe.index()]
    }

    /// Puts the sample of a probe in.
    pub const fn set(&mut self, probe: Probe, sample: Sample) {
        self.0[probe.index()] = Some(sample);
    }

    /// The probes that were done, each with its sample.
    pub fn iter(&self) -> impl Iterator<Item = (Probe, Sample)> + '_ {
        Probe::ALL.into_iter().filter_map(|probe| self.get(probe).map(|sample| (probe, sample)))
    }
}

impl Sample {
    /// Of the rounds of a probe; it sorts them.
    pub fn of(rounds: &mut [u32; SAMPLES]) -> Sample {
        rounds.sort_unstable();
        let at = |quarters: usize| rounds[(SAMPLES - 1) * quarters / 4];
        Sample { median: at(2), spread: at(3) - at(1) }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_stands_where_its_index_says() {
        for (n, probe) in Probe::ALL.into_iter().enumerate() {
            assert_eq!(probe.index(), n);
        }
    }

    #[test]
    fn one_interrupted_round_does_not_show() {
        let mut rounds = [40, 41, 9_000_000, 42, 40, 41, 40];
        assert_eq!(Sample::of(&mut rounds), Sample { median: 41, spread: 1 });
        assert_eq!(Sample::of(&mut [7; SAMPLES]), Sample { median: 7, spread: 0 });
    }
}
