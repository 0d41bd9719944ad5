//! MSRs: a policy's rows applied to reads and writes, of the guest and of the host alike.

use super::point::{Effect, Rule, Why};
use super::policy::{Checks, ReadRule, RegisterRow, WriteRule};
use wire::outcome::{After, Fault, Outcome};

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Taken; reads back as this.
    Taken(u64),
    /// Accepted without effect.
    Ignored,
    /// #GP(0).
    Refused,
}

/// What a read gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// This value.
    Value(u64),
    /// A value that is not known.
    Unknown,
    /// #GP(0).
    Fault,
}

impl View {
    /// The value, if it is known.
    pub fn value(self) -> Option<u64> {
        match self {
            View::Value(value) => Some(value),
            _ => None,
        }
    }

    /// As the effect of RDMSR or MOV.
    pub fn effect(self) -> Effect {
        match self {
            View::Value(value) => Effect::Value(value),
            View::Unknown => Effect::AnyValue,
            View::Fault => Effect::Fault(Fault::GP0),
        }
    }
}

impl Fate {
    /// As the effect of a guest's write of `value` to a register that a read showed as `before`.
    pub fn effect(self, value: u64, before: View) -> Effect {
        let reads = |read| if read == value { After::AsWritten } else { After::Value(read) };
        let unreadable = After::Unreadable(Fault::GP0.vector);
        let (fault, after) = match (self, before) {
            (Fate::Taken(read), _) => (None, reads(read)),
            (Fate::Ignored, View::Value(before)) => (None, reads(before)),
            (Fate::Ignored, View::Unknown) => (None, After::AsWritten),
            (Fate::Ignored, View::Fault) => (None, unreadable),
            (Fate::Refused, View::Fault) => (Some(Fault::GP0), unreadable),
            (Fate::Refused, _) => (Some(Fault::GP0), After::AsWritten),
        };
        Effect::Written { fault, after }
    }
}

/// A guest's account of a write of `value` to a register that held `before`, with `AsWritten` for all that reads as if
/// it were said.
pub fn seen(value: u64, outcome: Outcome, before: Option<u64>) -> Effect {
    let quiet = if outcome.fault.is_none() { Some(value) } else { before };
    let after = match outcome.after {
        After::Value(read) if quiet == Some(read) => After::AsWritten,
        after => after,
    };
    Effect::Written { fault: outcome.fault, after }
}

/// What a register holds after a guest's write, where that differs from before or may.
pub fn now(value: u64, seen: Effect) -> Option<u64> {
    match seen {
        Effect::Written { after: After::Value(read), .. } => Some(read),
        Effect::Written { fault: None, after: After::AsWritten } => Some(value),
        _ => None,
    }
}

/// The bits at and above `maxphyaddr`.
fn above(maxphyaddr: Option<u8>) -> Option<u64> {
    maxphyaddr.map(|bits| u64::MAX.checked_shl(bits.into()).unwrap_or(0))
}

impl RegisterRow {
    /// What a read gives while `stored` is stored.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn view(&self, stored: Option<u64>, maxphyaddr: Option<u8>) -> Result<(View, Rule), Why> {
        match self.read {
            ReadRule::Unpredicted => Err(Why::Unpredicted),
            ReadRule::Any => Ok((View::Unknown, Rule::Readable)),
            ReadRule::Gp => Ok((View::Fault, Rule::NeverRead)),
            ReadRule::Fixed(value) => Ok((View::Value(value), Rule::Fixed)),
            ReadRule::Kept => match stored {
                None => Ok((View::Unknown, Rule::Readable)),
                Some(stored) if self.stores_bits_above_maxphyaddr => {
                    let above = above(maxphyaddr).ok_or(Why::Maxphyaddr)?;
                    Ok((View::Value(stored & !above), Rule::Kept))
                }
                Some(stored) => Ok((View::Value(stored), Rule::Kept)),
            },
        }
    }

    /// What is stored once `value` was taken.
    pub fn stored(&self, value: u64, maxphyaddr: Option<u8>) -> u64 {
        let extra = if self.stores_bits_above_maxphyaddr { above(maxphyaddr) } else { None };
        value | extra.unwrap_or(0)
    }

    /// What becomes of a write of `value`.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn fate(&self, value: u64, maxphyaddr: Option<u8>) -> Result<(Fate, Rule), Why> {
        match &self.write {
            WriteRule::Unpredicted => Err(Why::Unpredicted),
            WriteRule::Gp => Ok((Fate::Refused, Rule::NeverWritten)),
            WriteRule::Ignored => Ok((Fate::Ignored, Rule::Ignored)),
            WriteRule::Checked(checks) => Ok(match checks.broken(value, maxphyaddr)? {
                Some(rule) => (Fate::Refused, rule),
                None => (Fate::Taken(value), Rule::Accepted),
            }),
        }
    }
}

impl Checks {
    /// The check that `value` does not pass, if there is one.
    fn broken(&self, value: u64, maxphyaddr: Option<u8>) -> Result<Option<Rule>, Why> {
        for range in &self.reserved {
            let bits = value & range.mask(maxphyaddr).ok_or(Why::Maxphyaddr)?;
            if bits != 0 {
                return Ok(Some(Rule::Reserved { bits }));
            }
        }
        let types = self.bytes.iter().map(|&byte| (byte, value.to_le_bytes()[usize::from(byte)]));
        let wrong = types.into_iter().find(|(_, value)| !self.types.contains(value));
        Ok(wrong.map(|(byte, value)| Rule::NoType { byte, value }))
    }
}
