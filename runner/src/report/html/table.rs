//! Values that stand for themselves once and by number from then on, and columns of numbers.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::collections::HashMap;
use std::hash::Hash;

/// Each value once, by number in the order in which they came.
#[derive(Debug)]
pub struct Table<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// The number of a value, which is put in if it is new.
    pub fn number(&mut self, value: T) -> u32 {
        let next = self.values.len() as u32;
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            next
        })
    }

    /// All values.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl Table<String> {
    /// The number of a text.
    pub fn text(&mut self, text: &str) -> u32 {
        match self.numbers.get(text) {
            Some(&number) => number,
            None => self.number(text.to_owned()),
        }
    }
}

/// A column of numbers. It is written as an array or, where that is shorter, as an object with runs of equal numbers: each
/// number, then how often it stands.
#[derive(Debug, Default)]
pub struct Column(pub Vec<u32>);

impl Column {
    fn runs(&self) -> impl Iterator<Item = (u32, usize)> {
        self.0.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
    }
}

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if 2 * self.runs().count() >= self.0.len() {
            return self.0.serialize(serializer);
        }
        struct Runs<'a>(&'a Column);
        impl Serialize for Runs<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(None)?;
                for (value, count) in self.0.runs() {
                    list.serialize_element(&value)?;
                    list.serialize_element(&count)?;
                }
                list.end()
            }
        }
        let mut object = serializer.serialize_map(Some(1))?;
        object.serialize_entry("runs", &Runs(self))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_number() {
        let mut table = Table::default();
        assert_eq!(["a", "b", "a", ""].map(|text| table.text(text)), [0, 1, 0, 2]);
        assert_eq!(table.values(), ["a", "b", ""]);
    }

    #[test]
    fn a_column_is_written_the_shorter_way() {
        let json = |values: &[u32]| serde_json::to_string(&Column(values.to_vec())).unwrap();
        assert_eq!(json(&[1, 2, 3]), "[1,2,3]");
        assert_eq!(json(&[7, 7, 7, 7, 7, 2]), r#"{"runs":[7,5,2,1]}"#);
        assert_eq!(json(&[]), "[]");
    }
}
