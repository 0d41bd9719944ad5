//! The classifier: which memory types the times of a page fit, held against two pages of the same vCPU in the same boot.
//!
//! Nothing here knows how long an access takes on any CPU. Each question is put as a ratio to what a hit and a miss cost
//! there and then:
//!
//! | question | probe | answer |
//! |---|---|---|
//! | is it cached? | `load` | as a hit, or as a load after CLFLUSH |
//! | do stores go to memory? | `drain` | WB: as fast as on the WB page; WT, WP: not |
//! | does a store leave the line in the cache? | `reload` | WT: the load after it hits; WP: it misses |
//! | are stores combined? | `stream` | WC: a line costs what one store does; UC: what eight do |
//! | are loads combined? | `gather` | WC: a line costs what one load does; UC: what four do |
//! | is a page table cached? | `walk` | as one that is WB, or by a miss more |
//!
//! SDM Vol. 3A, "Methods of Caching Available" and "Buffering of Write Combining Memory Locations"; Vol. 1, "Streaming
//! Load Hint Instruction". An answer between two is no answer, and leaves both.

use super::point::Why;
use std::fmt;
use wire::memtype::MemType;
use wire::probe::{ACCESSES, LINES, Probe, Sample, Times};

/// A set of effective memory types; UC- is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeSet(u8);

impl TypeSet {
    const ALL: TypeSet = TypeSet::of(&MemType::OF_MTRR);
    const CACHED: TypeSet = TypeSet::of(&[MemType::Wb, MemType::Wt, MemType::Wp]);
    const UNCACHED: TypeSet = TypeSet::of(&[MemType::Uc, MemType::Wc]);

    /// The set of these.
    pub const fn of(types: &[MemType]) -> TypeSet {
        let (mut bits, mut n) = (0, 0);
        while n < types.len() {
            bits |= 1 << types[n] as u8;
            n += 1;
        }
        TypeSet(bits)
    }

    /// Whether a type is in it.
    pub const fn has(self, memtype: MemType) -> bool {
        self.0 >> memtype as u8 & 1 != 0
    }

    /// The types in it.
    pub fn iter(self) -> impl Iterator<Item = MemType> {
        MemType::OF_MTRR.into_iter().filter(move |&memtype| self.has(memtype))
    }

    /// The type in it, if it is one.
    pub fn single(self) -> Option<MemType> {
        self.iter().next().filter(|_| self.0.count_ones() == 1)
    }

    /// Whether the times are of loads alone, and these are the types that no load tells apart.
    pub fn is_all_that_loads_tell(self, times: &Times) -> bool {
        times.get(Probe::Drain).is_none() && (self == Self::CACHED || self == Self::UNCACHED)
    }

    const fn without(self, other: TypeSet) -> TypeSet {
        TypeSet(self.0 & !other.0)
    }
}

impl fmt::Display for TypeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.iter();
        names.next().map_or("no type", MemType::name).fmt(f)?;
        names.try_for_each(|memtype| write!(f, " or {memtype}"))
    }
}

/// Ticks of a round, as a range in which it lies.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    low: i64,
    high: i64,
}

impl Ticks {
    fn of(sample: Sample) -> Ticks {
        let (median, spread) = (i64::from(sample.median), i64::from(sample.spread));
        Ticks { low: median - spread, high: median + spread }
    }

    /// What is left of it without what the rest of the loop costs.
    fn minus(self, other: Ticks) -> Ticks {
        Ticks { low: self.low - other.high, high: self.high - other.low }
    }

    fn middle(self) -> i64 {
        (self.low + self.high) / 2
    }
}

/// An answer to a question of which only one can be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Low,
    High,
    Open,
}

/// On which side of a gap a value lies.
fn side(value: Ticks, low: i64, high: i64) -> Side {
    match value {
        Ticks { high: most, .. } if most <= low => Side::Low,
        Ticks { low: least, .. } if least >= high => Side::High,
        _ => Side::Open,
    }
}

/// By what the times of a vCPU are read. All ticks are of [`ACCESSES`] accesses, loop and fences taken off.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    lfence: Ticks,
    mfence: Ticks,
    hit: i64,
    miss: i64,
    store: i64,
    /// Reads of a page table that is WB, if they were timed.
    walk: Option<Ticks>,
}

/// How much a miss must cost more than a hit, so that a time between them still says which it is.
const CONTRAST: i64 = 8;

impl Scale {
    /// Of the page that is WB.
    ///
    /// # Errors
    /// A probe is missing, or a miss costs about what a hit does, so that this machine's time shows no cache.
    pub fn of(wb: &Times) -> Result<Scale, Why> {
        let get = |probe| wb.get(probe).map(Ticks::of).ok_or(Why::NoScale);
        let (lfence, mfence) = (get(Probe::Lfence)?, get(Probe::Mfence)?);
        // A hit may cost nothing that shows; a tick an access is the least that anything is measured against.
        let least = i64::from(ACCESSES);
        let hit = get(Probe::Load)?.minus(lfence).middle().max(least);
        let miss = get(Probe::FlushLoad)?.minus(get(Probe::Flush)?).minus(lfence).middle();
        if miss < CONTRAST * hit {
            return Err(Why::NoContrast { hit: each(hit), miss: each(miss) });
        }
        let store = get(Probe::Drain)?.minus(mfence).middle().max(least);
        Ok(Scale { lfence, mfence, hit, miss, store, walk: None })
    }

    /// The same with reads of a page table that is WB.
    pub fn with_walks(self, wb: &Times) -> Scale {
        Scale { walk: wb.get(Probe::Walk).map(Ticks::of), ..self }
    }

    /// The types that the times of a page fit.
    ///
    /// # Errors
    /// Neither loads nor reads of a page table were timed, or there is nothing to hold the latter against.
    pub fn classify(&self, times: &Times) -> Result<TypeSet, Why> {
        let get = |probe| times.get(probe).map(Ticks::of);
        let hit_or_miss = |ticks| side(ticks, 2 * self.hit + self.miss / 16, self.miss / 3);
        let by_loads = |ticks| match hit_or_miss(ticks) {
            Side::Low => TypeSet::CACHED,
            Side::High => TypeSet::UNCACHED,
            Side::Open => TypeSet::ALL,
        };
        if let Some(walk) = get(Probe::Walk) {
            return self.walk.map(|wb| by_loads(walk.minus(wb))).ok_or(Why::NoScale);
        }
        let load = get(Probe::Load).ok_or(Why::NoScale)?.minus(self.lfence);
        let mut fits = by_loads(load);
        let mut rule_out = |side, low: &[MemType], high: &[MemType]| {
            fits = match side {
                Side::Low => fits.without(TypeSet::of(high)),
                Side::High => fits.without(TypeSet::of(low)),
                Side::Open => fits,
            }
        };
        use MemType::{Uc, Wb, Wc, Wp, Wt};
        if let Some(drain) = get(Probe::Drain) {
            let store = drain.minus(self.mfence);
            rule_out(side(store, 2 * self.store + self.miss / 16, self.store + self.miss / 4), &[Wb], &[Wt, Wp]);
            if let Some(reload) = get(Probe::Reload) {
                rule_out(hit_or_miss(reload.minus(drain).minus(self.lfence)), &[Wb, Wt], &[Wp]);
            }
            if let Some(stream) = get(Probe::Stream) {
                let alone = a_line_by(store);
                rule_out(side(stream, alone * 5 / 2, alone * 4), &[Wc], &[Uc]);
            }
        } else if let Some(gather) = get(Probe::Gather) {
            let alone = a_line_by(load);
            rule_out(side(gather, alone * 2, alone * 3), &[Wc], &[Uc]);
        }
        if fits == TypeSet::of(&[]) { Err(Why::NoClass) } else { Ok(fits) }
    }

    /// Ticks of a load that hits, and of one that misses.
    pub fn loads(&self) -> (u32, u32) {
        (each(self.hit), each(self.miss))
    }

    /// Ticks of a load from a page.
    pub fn load(&self, times: &Times) -> Option<u32> {
        times.get(Probe::Load).map(|load| each(Ticks::of(load).minus(self.lfence).middle()))
    }
}

/// Ticks of [`LINES`] lines if each costs what one access of this round does: what they cost where accesses are combined.
/// Where they are not, it is as many times that as a line has accesses.
fn a_line_by(round: Ticks) -> i64 {
    (round.middle() / i64::from(ACCESSES)).max(1) * i64::from(LINES)
}

/// Ticks of an access, of those of a round.
fn each(ticks: i64) -> u32 {
    (ticks.max(0) / i64::from(ACCESSES)).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A CPU as far as its times go: ticks of one access, fences and loop aside.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Cpu {
        /// A load that hits.
        pub hit: u32,
        /// A load that misses, or from UC or WC.
        pub miss: u32,
        /// A drained store to WB.
        pub store: u32,
        /// A drained store to memory.
        pub to_memory: u32,
        /// LFENCE or MFENCE, and what a loop takes.
        pub fence: u32,
        /// The distance of quartiles, in ticks of a round.
        pub spread: u32,
    }

    impl Cpu {
        pub(crate) const USUAL: Cpu = Cpu { hit: 4, miss: 300, store: 2, to_memory: 250, fence: 40, spread: 4 };

        /// What the probes of a page of that type take.
        pub(crate) fn times(self, memtype: MemType) -> Times {
            let Cpu { hit, miss, store, to_memory, fence, spread } = self;
            let cached = matches!(memtype, MemType::Wb | MemType::Wt | MemType::Wp);
            let load = if cached { hit } else { miss };
            let stored = if memtype == MemType::Wb { store } else { to_memory };
            let again = if memtype == MemType::Wp { miss } else { load };
            let line = match memtype {
                MemType::Uc | MemType::UcMinus => 8 * to_memory,
                MemType::Wc => to_memory,
                _ => 8 * stored,
            };
            let gathered = match memtype {
                MemType::Uc | MemType::UcMinus => 4 * miss,
                MemType::Wc => miss,
                _ => 4 * hit,
            };
            let flushed = if cached { fence + miss } else { fence };
            let mut times = Times::NONE;
            for (probe, each, count) in [
                (Probe::Load, load + fence, ACCESSES),
                (Probe::Drain, stored + fence, ACCESSES),
                (Probe::Stream, line, LINES),
                (Probe::Reload, stored + fence + again + fence, ACCESSES),
                (Probe::Gather, gathered, LINES),
                (Probe::Lfence, fence, ACCESSES),
                (Probe::Mfence, fence, ACCESSES),
                (Probe::Flush, flushed, ACCESSES),
                (Probe::FlushLoad, flushed + miss + fence, ACCESSES),
            ] {
                times.set(probe, Sample { median: each * count, spread });
            }
            times
        }
    }

    impl Cpu {
        /// What reads of a page table of that type take, with all else that a walk and INVLPG do.
        pub(crate) fn walks(self, memtype: MemType) -> Times {
            let cached = matches!(memtype, MemType::Wb | MemType::Wt | MemType::Wp);
            let read = if cached { self.hit } else { self.miss };
            let mut times = Times::NONE;
            times.set(Probe::Walk, Sample { median: (200 + read + self.fence) * ACCESSES, spread: self.spread });
            times
        }
    }

    /// The times of a page that was only loaded from.
    fn loaded(times: &Times) -> Times {
        let mut loaded = Times::NONE;
        for (probe, sample) in times.iter().filter(|(probe, _)| matches!(probe, Probe::Load | Probe::Gather)) {
            loaded.set(probe, sample);
        }
        loaded
    }

    #[test]
    fn each_type_is_told_on_a_usual_cpu() {
        let cpu = Cpu::USUAL;
        let scale = Scale::of(&cpu.times(MemType::Wb)).unwrap();
        for memtype in MemType::OF_MTRR {
            assert_eq!(scale.classify(&cpu.times(memtype)), Ok(TypeSet::of(&[memtype])), "{memtype}");
        }
        let of_loads = |memtype| {
            let times = loaded(&cpu.times(memtype));
            (scale.classify(&times).unwrap(), times)
        };
        assert!(of_loads(MemType::Wp).0.is_all_that_loads_tell(&of_loads(MemType::Wp).1));
        assert!(!of_loads(MemType::Wp).0.is_all_that_loads_tell(&cpu.times(MemType::Wp)));
        let fits = |memtype| of_loads(memtype).0.to_string();
        assert_eq!(fits(MemType::Wb), "WT or WP or WB");
        assert_eq!((fits(MemType::Uc), fits(MemType::Wc)), ("UC".into(), "WC".into()));
    }

    #[test]
    fn a_machine_without_caches_is_refused() {
        let cpu = Cpu { hit: 30, miss: 31, ..Cpu::USUAL };
        assert_eq!(Scale::of(&cpu.times(MemType::Wb)).unwrap_err(), Why::NoContrast { hit: 30, miss: 31 });
        assert_eq!(Scale::of(&loaded(&Cpu::USUAL.times(MemType::Wb))).unwrap_err(), Why::NoScale);
    }

    #[test]
    fn reads_of_a_page_table_tell_whether_it_is_cached() {
        let cpu = Cpu::USUAL;
        let scale = Scale::of(&cpu.times(MemType::Wb)).unwrap();
        assert_eq!(scale.classify(&cpu.walks(MemType::Wb)), Err(Why::NoScale));
        let scale = scale.with_walks(&cpu.walks(MemType::Wb));
        for memtype in MemType::OF_MTRR {
            let times = cpu.walks(memtype);
            let fits = scale.classify(&times).unwrap();
            assert!(fits.has(memtype) && fits.is_all_that_loads_tell(&times), "{memtype} is {fits}");
        }
        assert_eq!(scale.classify(&cpu.walks(MemType::Wp)).unwrap().to_string(), "WT or WP or WB");
        assert_eq!(scale.classify(&cpu.walks(MemType::Wc)).unwrap().to_string(), "UC or WC");
    }

    #[test]
    fn an_answer_between_two_leaves_both() {
        let cpu = Cpu::USUAL;
        let scale = Scale::of(&cpu.times(MemType::Wb)).unwrap();
        let between = Cpu { to_memory: 50, ..cpu }.times(MemType::Wt);
        assert_eq!(scale.classify(&between).unwrap().to_string(), "WT or WB");
        // A host that is busy: quartiles far apart.
        let busy = Cpu { spread: 6_000, ..cpu }.times(MemType::Uc);
        assert!(scale.classify(&busy).unwrap().iter().count() > 1);
    }

    #[test]
    fn times_that_contradict_themselves_are_no_type() {
        let scale = Scale::of(&Cpu::USUAL.times(MemType::Wb)).unwrap();
        let mut times = Cpu::USUAL.times(MemType::Wb);
        times.set(Probe::Reload, Sample { median: 16 * 900, spread: 0 });
        assert_eq!(scale.classify(&times), Err(Why::NoClass));
    }

    proptest! {
        /// Whatever the clock and whatever the memory, as long as a miss costs far more than a hit.
        #[test]
        fn each_type_comes_out(
            hit in 1..20u32, contrast in 12..200u32, store in 0..12u32, memory in 5..30u32, fence in 1..80u32,
            spread in 0..16u32, which in 0..5usize,
        ) {
            let miss = hit * contrast;
            let to_memory = store + miss * memory / 10 + 1;
            let cpu = Cpu { hit, miss, store, to_memory, fence, spread };
            let memtype = MemType::OF_MTRR[which];
            prop_assume!(miss > 100);
            let scale = Scale::of(&cpu.times(MemType::Wb)).unwrap();
            let fits = scale.classify(&cpu.times(memtype)).unwrap();
            prop_assert!(fits.has(memtype), "{} is {}", memtype, fits);
            prop_assert_eq!(fits.single(), Some(memtype));
        }

        #[test]
        fn any_times_have_an_answer(samples in proptest::collection::vec(any::<Option<(u32, u32)>>(), 20)) {
            let (mut wb, mut page) = (Times::NONE, Times::NONE);
            for (n, sample) in samples.into_iter().enumerate() {
                let Some((median, spread)) = sample else { continue };
                let times = if n < 10 { &mut wb } else { &mut page };
                times.set(Probe::ALL[n % 10], Sample { median, spread });
            }
            let _ = Scale::of(&wb).and_then(|scale| scale.with_walks(&wb).classify(&page));
        }
    }
}
