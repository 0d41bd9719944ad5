//! Registers that decide memory types, and on which vCPU they are.

use crate::text::{self, TextError};
use core::fmt;

/// A register that a guest or the host reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// A model-specific register, by the index that goes into ECX.
    Msr(u32),
    /// CR0 through MOV CR0.
    Cr0,
    /// CR0 through LMSW, which reaches PE, MP, EM and TS only. What is read back is CR0.
    Lmsw,
    /// CR0 through CLTS, which clears TS only. What is read back is CR0.
    Clts,
    /// CR4, whose MCE bit says what a machine check does.
    Cr4,
}

impl Register {
    /// The word for a register that is not an MSR.
    pub(crate) const fn word(self) -> Option<&'static str> {
        match self {
            Register::Msr(_) => None,
            Register::Cr0 => Some("cr0"),
            Register::Lmsw => Some("lmsw"),
            Register::Clts => Some("clts"),
            Register::Cr4 => Some("cr4"),
        }
    }
}

/// A register of one vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// vCPU index, 0 for the one that boots.
    pub cpu: u8,
    /// The register.
    pub register: Register,
}

impl Place {
    /// `register` of the vCPU that boots.
    pub const fn boot(register: Register) -> Self {
        Place { cpu: 0, register }
    }

    /// The MSR `index` of the vCPU that boots.
    pub const fn msr(index: u32) -> Self {
        Place::boot(Register::Msr(index))
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.word()) {
            (Register::Msr(index), _) => write!(f, "{index:x}"),
            (_, Some(word)) => f.write_str(word),
            (_, None) => unreachable!("only an MSR has no word"),
        }
    }
}

/// As on the wire: `277`, or `2:cr0` on vCPU 2.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cpu != 0 {
            write!(f, "{:x}:", self.cpu)?;
        }
        self.register.fmt(f)
    }
}

impl core::str::FromStr for Register {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        match [Register::Cr0, Register::Lmsw, Register::Clts, Register::Cr4].into_iter().find(|r| r.word() == Some(s)) {
            Some(register) => Ok(register),
            None => text::hex(s, "a register").map(Register::Msr),
        }
    }
}

impl core::str::FromStr for Place {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let (cpu, register) = match s.split_once(':') {
            Some((cpu, register)) => (text::hex(cpu, "a vCPU index")?, register),
            None => (0, s),
        };
        Ok(Place { cpu, register: register.parse()? })
    }
}
