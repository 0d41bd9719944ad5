//! Nearest names: what somebody probably meant.

/// How alike two names must be for one to be offered for the other; 1 is equal. One wrong letter in three passes.
const ALIKE: f64 = 0.6;

/// The most names that a hint lists.
const MOST: usize = 8;

/// The name that is most like `found`, whether it is much like it or not, and how much. Of equals the first.
pub fn nearest<'a>(found: &str, valid: impl Iterator<Item = &'a str>) -> Option<(&'a str, f64)> {
    let mut best: Option<(&str, f64)> = None;
    for name in valid {
        let alike = strsim::normalized_damerau_levenshtein(found, name);
        if best.is_none_or(|(_, most)| alike > most) {
            best = Some((name, alike));
        }
    }
    best
}

/// What to add to a complaint about `found`: the name that was probably meant, or the names that there are.
pub fn hint<'a>(found: &str, valid: impl Iterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.collect();
    match (nearest(found, valid.iter().copied()), valid.as_slice()) {
        (Some((name, alike)), _) if alike >= ALIKE => format!(", did you mean `{name}`?"),
        (_, []) => ", there are none".to_owned(),
        (_, [name]) => format!(", expected `{name}`"),
        (_, names) => {
            let listed = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let rest = if names.len() > MOST { format!(", ... ({} in all)", names.len()) } else { String::new() };
            format!(", expected one of {listed}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_offered_and_otherwise_the_list() {
        assert_eq!(hint("test", ["summary", "tests"].into_iter()), ", did you mean `tests`?");
        assert_eq!(hint("zzz", ["summary", "tests"].into_iter()), ", expected one of `summary`, `tests`");
        assert_eq!(hint("zzz", ["tests"].into_iter()), ", expected `tests`");
        assert_eq!(hint("zzz", [].into_iter()), ", there are none");
        let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let listed = ", expected one of `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`, ... (9 in all)";
        assert_eq!(hint("zzz", many.into_iter()), listed);
    }

    #[test]
    fn of_equally_near_names_the_first_is_taken() {
        assert_eq!(nearest("ab", ["xb", "ax"].into_iter()), Some(("xb", 0.5)));
        assert_eq!(nearest("ab", [].into_iter()), None);
    }
}
