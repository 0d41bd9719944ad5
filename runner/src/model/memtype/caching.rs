//! What CR0.CD and CR0.NW make of a CPU's caches.

/// A kind of CPU, as far as the manuals tell kinds apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuKind {
    /// Intel Pentium and P6.
    IntelP6,
    /// Intel Atom.
    IntelAtom,
    /// Intel since Pentium 4 and Xeon, but Atom.
    Intel,
    /// AMD.
    Amd,
}

/// What a CPU does with its caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// The memory type decides.
    Normal,
    /// No line is filled in. What a cache holds is served from it, and stays coherent.
    NoFill,
    /// As [`NoFill`](Self::NoFill), but nobody keeps the caches coherent.
    NoFillIncoherent,
    /// Nothing is cached.
    Off,
}

impl Caching {
    /// Of a `cpu` with these bits in its own CR0, which a hypervisor may keep the guest's from. Nothing for CD clear and NW
    /// set, which MOV to CR0 refuses with #GP(0).
    ///
    /// SDM Vol. 3A, "Cache Control", table "Cache Operating Modes"; that CD disables caching on Atom is a note to it. AMD:
    /// APM Vol. 2, 3.1.1 "CR0 Register" and 7.6.2 "Cache Control Mechanisms", of which a summary was read and not the
    /// manual.
    pub fn of(cpu: CpuKind, cd: bool, nw: bool) -> Option<Caching> {
        Some(match (cpu, cd, nw) {
            (_, false, false) => Caching::Normal,
            (_, false, true) => return None,
            (CpuKind::IntelAtom, true, _) => Caching::Off,
            (CpuKind::IntelP6, true, true) => Caching::NoFillIncoherent,
            (CpuKind::IntelP6 | CpuKind::Intel | CpuKind::Amd, true, _) => Caching::NoFill,
        })
    }

    /// Whether accesses are as those of UC once the caches are flushed, whatever the memory type.
    pub fn is_uncached_once_flushed(self) -> bool {
        self != Caching::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [CpuKind; 4] = [CpuKind::IntelP6, CpuKind::IntelAtom, CpuKind::Intel, CpuKind::Amd];

    #[test]
    fn each_mode_is_the_manuals() {
        let all = |cd, nw| KINDS.map(|cpu| Caching::of(cpu, cd, nw));
        assert_eq!(all(false, false), [Some(Caching::Normal); 4]);
        assert_eq!(all(false, true), [None; 4], "#GP(0)");
        let modes = [Caching::NoFill, Caching::Off, Caching::NoFill, Caching::NoFill];
        assert_eq!(all(true, false), modes.map(Some));
        let modes = [Caching::NoFillIncoherent, Caching::Off, Caching::NoFill, Caching::NoFill];
        assert_eq!(all(true, true), modes.map(Some));
    }

    /// What the tables of effective types say of CD holds for every CPU: the tests flush before they time.
    #[test]
    fn with_cd_set_and_caches_flushed_every_cpu_is_uncached() {
        for mode in KINDS.into_iter().flat_map(|cpu| [false, true].map(|nw| Caching::of(cpu, true, nw).unwrap())) {
            assert!(mode.is_uncached_once_flushed());
        }
        assert!(!Caching::Normal.is_uncached_once_flushed());
    }
}
