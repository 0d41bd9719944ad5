//! Cache-control instructions and the CPUID bits that announce them.

/// A cache-control instruction, SDM Vol. 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Insn {
    /// Write back and invalidate all caches (CPL 0).
    Wbinvd,
    /// Invalidate all caches without writing back (CPL 0).
    Invd,
    /// Write back all caches, and perhaps keep the lines (CPL 0).
    Wbnoinvd,
    /// Write back and invalidate one line.
    Clflush,
    /// The same, weakly ordered.
    Clflushopt,
    /// Write back one line, and perhaps keep it.
    Clwb,
}

impl Insn {
    /// All of them.
    pub const ALL: [Insn; 6] = [Insn::Wbinvd, Insn::Invd, Insn::Wbnoinvd, Insn::Clflush, Insn::Clflushopt, Insn::Clwb];

    /// Its mnemonic in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Insn::Wbinvd => "wbinvd",
            Insn::Invd => "invd",
            Insn::Wbnoinvd => "wbnoinvd",
            Insn::Clflush => "clflush",
            Insn::Clflushopt => "clflushopt",
            Insn::Clwb => "clwb",
        }
    }
}
