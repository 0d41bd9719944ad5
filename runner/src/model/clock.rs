//! Clock models: what an access costs by its memory type, on machines of which that is known. One file each under
//! configs/clocks.

use super::point::Why;
use crate::config::{self, ConfigError, Source};
use crate::host::facts::{Fact, Facts};
use serde::Deserialize;
use std::collections::BTreeMap;
use wire::memtype::MemType;
use wire::record::Timed;

/// All clock models, by id.
#[derive(Debug, Clone, Default)]
pub struct Clocks(BTreeMap<String, Clock>);

/// What accesses cost on one kind of machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// One line that says what it is.
    pub summary: String,
    /// How it is known.
    pub source: String,
    /// Ticks that an access costs whatever its type.
    #[serde(rename = "loop")]
    overhead: u32,
    /// Ticks an access by which a measurement may be off.
    slack: u32,
    /// What comes on top, by type.
    ticks: Ticks,
}

/// The cost of each type that an access can have.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
struct Ticks {
    uc: Cost,
    wc: Cost,
    wt: Cost,
    wp: Cost,
    wb: Cost,
}

/// Ticks of the time-stamp counter.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    load: u32,
    store: u32,
}

impl Clocks {
    /// Reads clock models, one a file.
    ///
    /// # Errors
    /// The first mistake, with its place; among them two types that cannot be told apart.
    pub fn load<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Result<Clocks, ConfigError> {
        let mut clocks = BTreeMap::new();
        for source in sources {
            let clock: Clock = config::parse(source)?;
            if let Some((one, other)) = clock.too_near() {
                let what = format!("{one} and {other} cost less than twice the `slack` apart: no time could tell them");
                return Err(ConfigError::file(source, what));
            }
            clocks.insert(source.id().to_owned(), clock);
        }
        Ok(Clocks(clocks))
    }

    /// The model of that id.
    pub fn get(&self, id: &str) -> Option<&Clock> {
        self.0.get(id)
    }

    /// The model of the clock that the fact `clock` names, if there is one.
    pub fn of(&self, facts: &Facts) -> Option<&Clock> {
        match facts.0.get("clock") {
            Some(Fact::Text(id)) => self.0.get(id),
            _ => None,
        }
    }
}

impl Clock {
    /// The memory type of accesses that took this time.
    ///
    /// # Errors
    /// They fit none. Two they cannot fit, see [`Clocks::load`].
    pub fn classify(&self, timed: &Timed) -> Result<MemType, Why> {
        let near = |measured: u64, cost: u32| {
            let wanted = u64::from(timed.count) * (u64::from(self.overhead) + u64::from(cost));
            measured.abs_diff(wanted) <= u64::from(timed.count) * u64::from(self.slack)
        };
        // Nothing was timed by no access.
        let fits = |&(_, cost): &(MemType, Cost)| {
            timed.count != 0 && near(timed.loads, cost.load) && near(timed.stores, cost.store)
        };
        self.costs().into_iter().find(fits).map(|(memtype, _)| memtype).ok_or(Why::NoClass)
    }

    fn costs(&self) -> [(MemType, Cost); 5] {
        let Ticks { uc, wc, wt, wp, wb } = self.ticks;
        [(MemType::Uc, uc), (MemType::Wc, wc), (MemType::Wt, wt), (MemType::Wp, wp), (MemType::Wb, wb)]
    }

    /// Ticks that a load and a store of each type cost on top; UC- costs what UC does.
    pub fn ticks(&self) -> impl Iterator<Item = (MemType, u32, u32)> {
        let costs = self.costs().into_iter().chain([(MemType::UcMinus, self.ticks.uc)]);
        costs.map(|(memtype, cost)| (memtype, cost.load, cost.store))
    }

    /// Two types of which one measurement could be.
    fn too_near(&self) -> Option<(MemType, MemType)> {
        let near = |a: u32, b: u32| a.abs_diff(b) <= self.slack.saturating_mul(2);
        let costs = self.costs();
        let pairs = costs.iter().enumerate().flat_map(|(n, one)| costs[..n].iter().map(move |other| (one, other)));
        pairs
            .filter(|((_, a), (_, b))| near(a.load, b.load) && near(a.store, b.store))
            .map(|(one, other)| (one.0, other.0))
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Set;
    use proptest::prelude::*;

    fn memtime() -> Clock {
        let set = Set::load(None).unwrap();
        let clocks = Clocks::load(set.sources("clocks").map(|(_, source)| source)).unwrap();
        let facts = |id: &str| Facts([("clock".to_owned(), Fact::Text(id.into()))].into());
        assert!(clocks.of(&facts("silicon")).is_none() && clocks.of(&Facts::default()).is_none());
        clocks.of(&facts("memtime")).unwrap().clone()
    }

    fn timed(count: u32, loads: u64, stores: u64) -> Timed {
        Timed { cpu: 0, cpl: 3, gpa: 0x20_0000, pat_entry: Some(0), nested: None, count, loads, stores }
    }

    /// Ticks as they were measured of each type.
    #[test]
    fn measured_times_have_one_type_each() {
        let clock = memtime();
        for (loads, stores, memtype) in [
            (0x32cf, 0x32c9, MemType::Uc),
            (0x264f, 0x5c9, MemType::Wc),
            (0xcf, 0xfc9, MemType::Wt),
            (0xcf, 0x14c9, MemType::Wp),
            (0xcf, 0xc9, MemType::Wb),
        ] {
            assert_eq!(clock.classify(&timed(64, loads, stores)), Ok(memtype));
        }
    }

    #[test]
    fn what_fits_no_type_is_refused() {
        let clock = memtime();
        for (loads, stores) in [(0, 0x2000), (0xcf, 0x1249), (0x1900, 0x1900), (u64::MAX, u64::MAX), (0xcf, 0x5c9)] {
            assert_eq!(clock.classify(&timed(64, loads, stores)), Err(Why::NoClass), "{loads:#x} {stores:#x}");
        }
        assert_eq!(clock.classify(&timed(0, 0, 0)), Err(Why::NoClass));
    }

    #[test]
    fn types_that_time_cannot_tell_are_refused() {
        let set = Set::load(None).unwrap();
        let text = set.source("clocks", "clock", "memtime").unwrap().text.replace("slack = 8", "slack = 10");
        let error = Clocks::load([&Source { name: "configs/clocks/x.toml".into(), text }]).unwrap_err();
        assert!(error.to_string().starts_with("configs/clocks/x.toml: WP and WT cost less than twice"), "{error}");
    }

    proptest! {
        /// However long the loops and whatever is lost around them within the slack, the type comes out.
        #[test]
        fn each_type_comes_out_of_its_cost(count in 1..10_000u32, off in 0..=8u64, which in 0..5usize) {
            let clock = memtime();
            let (memtype, cost) = clock.costs()[which];
            let ticks = |cost: u32| u64::from(count) * (u64::from(clock.overhead + cost) + off);
            prop_assert_eq!(clock.classify(&timed(count, ticks(cost.load), ticks(cost.store))), Ok(memtype));
        }

        #[test]
        fn any_times_have_an_answer(count: u32, loads: u64, stores: u64) {
            let _ = memtime().classify(&timed(count, loads, stores));
        }
    }
}
