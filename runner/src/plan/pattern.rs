//! Patterns over names: `*` stands for any text, all else for itself.

use crate::config::{ConfigError, Source};
use toml::Spanned;

/// A list of patterns in a configuration.
pub(crate) type Patterns = Spanned<Vec<Spanned<String>>>;

/// The positions of the `names` that any of the patterns fits. `kind` says what they are names of.
///
/// # Errors
/// A pattern that fits nothing, or no pattern at all.
pub(crate) fn matches(
    source: &Source,
    patterns: &Patterns,
    kind: &str,
    names: &[String],
) -> Result<Vec<usize>, ConfigError> {
    if patterns.get_ref().is_empty() {
        return Err(ConfigError::at(source, patterns.span(), format!("no {kind} is named here")));
    }
    for pattern in patterns.get_ref() {
        if !names.iter().any(|name| fits(pattern.get_ref(), name)) {
            let meant = candidates(names.iter().map(String::as_str));
            let meant = meant.iter().map(String::as_str);
            return Err(ConfigError::unknown(source, pattern.span(), kind, pattern.get_ref(), meant));
        }
    }
    let wanted = |name: &String| patterns.get_ref().iter().any(|pattern| fits(pattern.get_ref(), name));
    Ok((0..names.len()).filter(|&at| wanted(&names[at])).collect())
}

/// Whether the whole of `name` fits `pattern`.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, pattern)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut rest) = name.strip_prefix(head) else {
        return false;
    };
    // Each piece is taken where it comes first: that leaves the most for those after it.
    let mut pieces: Vec<&str> = pattern.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(tail)
}

/// What a pattern could have been meant to be: each name, and each name cut after a `/` or `-`, with a `*`.
fn candidates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        all.push(name.to_owned());
        all.extend(name.match_indices(['/', '-']).map(|(at, _)| format!("{}*", &name[..=at])));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_text_and_all_else_is_itself() {
        for (pattern, name) in [
            ("boot/hello", "boot/hello"),
            ("*", ""),
            ("*", "boot/hello"),
            ("boot/*", "boot/"),
            ("*/h*o", "boot/hello"),
            ("**lo", "boot/hello"),
            ("*o*o*o", "boot/hello"),
            ("a*ab", "aab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("boot", "boot/hello"),
            ("hello", "boot/hello"),
            ("", "a"),
            ("*o*o*o*o", "boot/hello"),
            ("a*a", "a"),
            ("a*b", "abc"),
            ("b.", "bo"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    /// The definition, by trying all ways.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| slow(rest, &name[skip..])),
            Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| first == byte && slow(rest, name)),
        }
    }

    proptest! {
        #[test]
        fn it_is_as_defined(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn every_candidate_fits_its_name(name in "[a-c/-]{1,8}") {
            for candidate in candidates([name.as_str()].into_iter()) {
                prop_assert!(fits(&candidate, &name), "{}", candidate);
            }
        }
    }
}
