//! Median and quartiles of a series.

use std::fmt;

/// Median and quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// First quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub high: f64,
}

impl Spread {
    /// Of a series; of an even number the lower neighbour counts, and of none all is zero.
    pub fn of(mut series: Vec<f64>) -> Self {
        series.sort_by(f64::total_cmp);
        let at = |quarter| series.get(series.len().saturating_sub(1) * quarter / 4).copied().unwrap_or(0.0);
        Spread { low: at(1), median: at(2), high: at(3) }
    }
}

/// With the formatter's precision: `1.05 (1.03 to 1.08)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let Spread { low, median, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nine_the_fifth_is_the_median() {
        let spread = Spread::of((1..=9).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { low: 3.0, median: 5.0, high: 7.0 });
        assert_eq!(format!("{spread:.1}"), "5.0 (3.0 to 7.0)");
    }

    #[test]
    fn of_few_there_is_always_one() {
        assert_eq!(Spread::of(vec![2.0]).median, 2.0);
        assert_eq!(Spread::of(Vec::new()).high, 0.0);
    }
}
