//! Histories: lists of small operations for the guest `interpreter`, as words in its memory and as text in files.
//!
//! A history lies in blocks of eight words: a [`Head`], then an [`Op`] each. The loader hands it over as a boot module.

use crate::host;
use crate::layout::{CR0_CD, CR0_NW};
use crate::step::Step;
use crate::text::{TextError, Words};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Eight words of guest memory, little-endian.
pub type Block = [u64; 8];
/// Bytes of a [`Block`].
pub const BLOCK: usize = 64;
/// First word of a [`Head`]; also the version of this layout.
const MAGIC: u64 = u64::from_le_bytes(*b"kmthist1");

/// Numbers of operations in the first word of a block. Below are those of [`Step`]s.
const WRMSR: u64 = 0x100;
const MOV_CR0: u64 = 0x101;
const STORE: u64 = 0x102;
const LOAD: u64 = 0x103;

/// What stands before the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// vCPUs that the operations use, at least 1.
    pub cpus: u8,
    /// How many operations follow.
    pub count: u32,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// WRMSR on a vCPU, of an MTRR, the PAT or a neighbour.
    Wrmsr {
        /// The vCPU.
        cpu: u8,
        /// The MSR.
        index: u32,
        /// What is written.
        value: u64,
    },
    /// MOV to CR0 on a vCPU: CD and NW as they are in `bits`, which has no others, all else as it is.
    MovCr0 {
        /// The vCPU.
        cpu: u8,
        /// CD and NW at their places.
        bits: u64,
    },
    /// A vCPU stores eight bytes to a page of a test window, which is mapped through this entry of the PAT before.
    Store {
        /// The vCPU.
        cpu: u8,
        /// The address.
        gpa: u64,
        /// The entry of the PAT, 0 to 7.
        pat_entry: u8,
    },
    /// The same with a load.
    Load {
        /// The vCPU.
        cpu: u8,
        /// The address.
        gpa: u64,
        /// The entry of the PAT, 0 to 7.
        pat_entry: u8,
    },
    /// A host step. The vCPU of which it speaks rings the doorbell; where it speaks of none, the one that boots.
    Host(Step),
}

impl Head {
    /// As it lies in memory.
    pub const fn block(self) -> Block {
        [MAGIC, self.cpus as u64, self.count as u64, 0, 0, 0, 0, 0]
    }

    /// The head in a block, or nothing if it is none.
    pub fn from_block(block: Block) -> Option<Head> {
        let [_, cpus, count, ..] = block;
        let head = Head { cpus: cpus.try_into().ok()?, count: count.try_into().ok()? };
        (head.block() == block && head.cpus > 0).then_some(head)
    }
}

impl Op {
    /// As it lies in memory.
    pub const fn block(self) -> Block {
        match self {
            Op::Wrmsr { cpu, index, value } => [WRMSR, cpu as u64, index as u64, value, 0, 0, 0, 0],
            Op::MovCr0 { cpu, bits } => [MOV_CR0, cpu as u64, bits, 0, 0, 0, 0, 0],
            Op::Store { cpu, gpa, pat_entry } => [STORE, cpu as u64, gpa, pat_entry as u64, 0, 0, 0, 0],
            Op::Load { cpu, gpa, pat_entry } => [LOAD, cpu as u64, gpa, pat_entry as u64, 0, 0, 0, 0],
            Op::Host(step) => step.words(),
        }
    }

    /// The operation in a block, or nothing if it is none.
    pub fn from_block(block: Block) -> Option<Op> {
        let [number, cpu, a, b, ..] = block;
        let cpu = u8::try_from(cpu);
        let op = match number {
            WRMSR => Op::Wrmsr { cpu: cpu.ok()?, index: a.try_into().ok()?, value: b },
            MOV_CR0 => Op::MovCr0 { cpu: cpu.ok()?, bits: a },
            STORE => Op::Store { cpu: cpu.ok()?, gpa: a, pat_entry: b.try_into().ok()? },
            LOAD => Op::Load { cpu: cpu.ok()?, gpa: a, pat_entry: b.try_into().ok()? },
            _ => Op::Host(Step::from_words(block)?),
        };
        // Words that the operation does not use must be zero.
        (op.is_sound() && op.block() == block).then_some(op)
    }

    /// Whether its arguments are in their ranges.
    fn is_sound(self) -> bool {
        match self {
            Op::MovCr0 { bits, .. } => bits & !(CR0_CD | CR0_NW) == 0,
            Op::Store { pat_entry, .. } | Op::Load { pat_entry, .. } => pat_entry < 8,
            Op::Wrmsr { .. } | Op::Host(_) => true,
        }
    }

    /// The vCPU that does it.
    pub const fn cpu(self) -> u8 {
        match self {
            Op::Wrmsr { cpu, .. } | Op::MovCr0 { cpu, .. } | Op::Store { cpu, .. } | Op::Load { cpu, .. } => cpu,
            Op::Host(step) => match step {
                Step::SetMsr { cpu, .. }
                | Step::GetMsr { cpu, .. }
                | Step::SetOneReg { cpu, .. }
                | Step::GetOneReg { cpu, .. }
                | Step::SetCr0 { cpu, .. }
                | Step::GetCr0 { cpu } => cpu,
                Step::CopyState { to, .. } => to,
                _ => 0,
            },
        }
    }

    /// The same, done by another vCPU.
    pub const fn on(self, other: u8) -> Op {
        match self {
            Op::Wrmsr { index, value, .. } => Op::Wrmsr { cpu: other, index, value },
            Op::MovCr0 { bits, .. } => Op::MovCr0 { cpu: other, bits },
            Op::Store { gpa, pat_entry, .. } => Op::Store { cpu: other, gpa, pat_entry },
            Op::Load { gpa, pat_entry, .. } => Op::Load { cpu: other, gpa, pat_entry },
            Op::Host(step) => Op::Host(match step {
                Step::SetMsr { index, value, .. } => Step::SetMsr { cpu: other, index, value },
                Step::GetMsr { index, .. } => Step::GetMsr { cpu: other, index },
                Step::SetOneReg { index, value, .. } => Step::SetOneReg { cpu: other, index, value },
                Step::GetOneReg { index, .. } => Step::GetOneReg { cpu: other, index },
                Step::SetCr0 { value, .. } => Step::SetCr0 { cpu: other, value },
                Step::GetCr0 { .. } => Step::GetCr0 { cpu: other },
                Step::CopyState { .. } => Step::CopyState { from: other, to: other },
                other => other,
            }),
        }
    }
}

/// A history as it lies in memory.
pub fn encode(cpus: u8, ops: &[Op]) -> Vec<u8> {
    let head = Head { cpus, count: ops.len() as u32 };
    let blocks = core::iter::once(head.block()).chain(ops.iter().map(|op| op.block()));
    blocks.flatten().flat_map(u64::to_le_bytes).collect()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Wrmsr { cpu, index, value } => write!(f, "wrmsr {cpu:x} {index:x} {value:x}"),
            Op::MovCr0 { cpu, bits } => write!(f, "mov-cr0 {cpu:x} {bits:x}"),
            Op::Store { cpu, gpa, pat_entry } => write!(f, "store {cpu:x} {gpa:x} {pat_entry:x}"),
            Op::Load { cpu, gpa, pat_entry } => write!(f, "load {cpu:x} {gpa:x} {pat_entry:x}"),
            Op::Host(step) => step.fmt(f),
        }
    }
}

impl FromStr for Op {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        const CPU: &str = "a vCPU index";
        const ENTRY: &str = "an entry of the PAT, 0 to 7";
        let mut words = Words::new(s);
        let op = match words.word("an operation")? {
            "wrmsr" => Op::Wrmsr { cpu: words.hex(CPU)?, index: words.hex("an MSR")?, value: words.hex("a value")? },
            "mov-cr0" => Op::MovCr0 { cpu: words.hex(CPU)?, bits: words.hex("CR0.CD and CR0.NW")? },
            "store" => Op::Store { cpu: words.hex(CPU)?, gpa: words.hex("an address")?, pat_entry: words.hex(ENTRY)? },
            "load" => Op::Load { cpu: words.hex(CPU)?, gpa: words.hex("an address")?, pat_entry: words.hex(ENTRY)? },
            _ => return host::step_alone(s).map(Op::Host),
        };
        words.end()?;
        if op.is_sound() { Ok(op) } else { Err(TextError::new("an operation with arguments in their ranges", s)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::step;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn op() -> impl Strategy<Value = Op> {
        let touch = (any::<(u8, u64)>(), 0..8u8);
        prop_oneof![
            any::<(u8, u32, u64)>().prop_map(|(cpu, index, value)| Op::Wrmsr { cpu, index, value }),
            any::<(u8, u64)>().prop_map(|(cpu, bits)| Op::MovCr0 { cpu, bits: bits & (CR0_CD | CR0_NW) }),
            touch.clone().prop_map(|((cpu, gpa), pat_entry)| Op::Store { cpu, gpa, pat_entry }),
            touch.prop_map(|((cpu, gpa), pat_entry)| Op::Load { cpu, gpa, pat_entry }),
            step().prop_map(Op::Host),
        ]
    }

    proptest! {
        #[test]
        fn an_operation_survives_guest_memory_and_text(op in op()) {
            prop_assert_eq!(Op::from_block(op.block()), Some(op));
            prop_assert_eq!(op.to_string().parse(), Ok(op));
        }

        #[test]
        fn another_vcpu_does_the_same(op in op(), cpu: u8) {
            let other = op.on(cpu);
            prop_assert!(other == op || other.cpu() == cpu);
            prop_assert_eq!(other.on(op.cpu()).cpu(), op.cpu());
        }

        #[test]
        fn any_block_is_an_operation_or_none(number in 0x90..0x110u64, rest: [u64; 7]) {
            let mut block = [number, 0, 0, 0, 0, 0, 0, 0];
            block[1..].copy_from_slice(&rest);
            for block in [block, [block[0], rest[0] & 0xff, rest[1], rest[2] & 7, 0, 0, 0, 0]] {
                if let Some(op) = Op::from_block(block) {
                    prop_assert_eq!(op.block(), block);
                }
            }
        }

        #[test]
        fn any_text_is_an_operation_or_an_error(text in "[a-z0-9 -]{0,40}") {
            if let Ok(op) = text.parse::<Op>() {
                prop_assert_eq!(op.to_string(), text);
            }
        }

        #[test]
        fn a_history_reads_back(cpus in 1..=255u8, ops in proptest::collection::vec(op(), 0..9)) {
            let bytes = encode(cpus, &ops);
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            let blocks: Vec<Block> = bytes
                .chunks_exact(BLOCK)
                .map(|block| core::array::from_fn(|n| word(&block[8 * n..8 * n + 8])))
                .collect();
            prop_assert_eq!(Head::from_block(blocks[0]), Some(Head { cpus, count: ops.len() as u32 }));
            let read: Option<Vec<Op>> = blocks[1..].iter().map(|block| Op::from_block(*block)).collect();
            prop_assert_eq!(read, Some(ops));
        }
    }

    #[test]
    fn a_head_of_another_kind_is_none() {
        let head = Head { cpus: 2, count: 3 }.block();
        for (word, value) in [(0, 0), (1, 0), (1, 256), (2, 1 << 32), (7, 1)] {
            let mut block = head;
            block[word] = value;
            assert_eq!(Head::from_block(block), None, "{block:x?}");
        }
    }
}
