//! What rows of all kinds have in common.

use super::{EffectiveRow, LeafRow, MemslotFlagRow, Policy, RegisterRow, When, ZapRow};

/// A row of some kind.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'p> {
    /// Its name. Predictions refer to a row by this very string.
    pub name: &'p str,
    /// When it applies.
    pub when: &'p When,
}

/// A row with a name and a condition.
trait Row: PartialEq {
    fn row(&self) -> RowRef<'_>;
}

macro_rules! rows {
    ($($kind:ty),*) => {
        $(impl Row for $kind {
            fn row(&self) -> RowRef<'_> {
                RowRef { name: &self.name, when: &self.when }
            }
        })*
    };
}

rows!(RegisterRow, LeafRow, ZapRow, EffectiveRow, MemslotFlagRow);

impl Policy {
    /// The rows that `other` does not have, of those that have conditions.
    pub fn rows_beyond<'p>(&'p self, other: &Policy) -> Vec<RowRef<'p>> {
        fn beyond<'p, R: Row>(own: &'p [R], others: &[R]) -> impl Iterator<Item = RowRef<'p>> {
            own.iter().filter(|row| !others.contains(row)).map(Row::row)
        }
        beyond(&self.leaves, &other.leaves)
            .chain(beyond(&self.zaps, &other.zaps))
            .chain(beyond(&self.effective, &other.effective))
            .chain(beyond(&self.registers, &other.registers))
            .chain(beyond(&self.memslot_flags, &other.memslot_flags))
            .collect()
    }
}
