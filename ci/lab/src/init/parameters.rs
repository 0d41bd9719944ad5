//! Whether modules took the parameters that they were given.

use super::{Fallible, Parameter};
use std::fs;

/// What the kernel reads as a boolean: Linux, lib/kstrtox.c, kstrtobool.
const BOOLEANS: [(&str, bool); 14] = [
    ("1", true),
    ("y", true),
    ("Y", true),
    ("t", true),
    ("T", true),
    ("on", true),
    ("ON", true),
    ("0", false),
    ("n", false),
    ("N", false),
    ("f", false),
    ("F", false),
    ("off", false),
    ("OFF", false),
];

/// Reads each parameter back from sysfs.
///
/// # Errors
/// One is not there, as when no module has it, or has another value, as when the CPU cannot do what it asks for.
pub fn check(parameters: &[Parameter]) -> Fallible<()> {
    for Parameter { module, name, value } in parameters {
        let path = format!("/sys/module/{module}/parameters/{name}");
        let is = fs::read_to_string(&path)
            .map_err(|error| format!("{module}.{name}={value} was not applied: cannot read {path}: {error}"))?;
        if !same(value, is.trim()) {
            return Err(format!("{module}.{name}={value} was not applied: {path} is {}", is.trim()).into());
        }
    }
    Ok(())
}

/// Whether what was given is what sysfs shows: as text, as a boolean, or as a number.
fn same(given: &str, shown: &str) -> bool {
    let both = |read: fn(&str) -> Option<i128>| read(given).is_some_and(|value| read(shown) == Some(value));
    given == shown || both(boolean) || both(number)
}

fn boolean(text: &str) -> Option<i128> {
    BOOLEANS.iter().find(|(word, _)| *word == text).map(|(_, value)| i128::from(*value))
}

fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_however_it_is_written() {
        for (given, shown) in [("1", "Y"), ("0", "N"), ("y", "1"), ("off", "N"), ("0x10", "16"), ("never", "never")] {
            assert!(same(given, shown), "{given} {shown}");
        }
        for (given, shown) in [("1", "N"), ("0", "Y"), ("2", "Y"), ("16", "17"), ("x", "y"), ("never", "always")] {
            assert!(!same(given, shown), "{given} {shown}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_there_was_not_applied() {
        let parameter = Parameter { module: "no_such".into(), name: "ept".into(), value: "0".into() };
        let error = check(&[parameter]).unwrap_err().to_string();
        assert!(error.starts_with("no_such.ept=0 was not applied: cannot read /sys/module/no_such/"), "{error}");
    }
}
