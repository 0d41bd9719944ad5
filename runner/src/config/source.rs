//! The text of one configuration file, and reading it.

use super::{ConfigError, names};
use serde::de::DeserializeOwned;
use std::path::Path;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path as shown to people, such as `configs/suites/default.toml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The file's name without directory and ending: the id of what it configures.
    pub fn id(&self) -> &str {
        Path::new(&self.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&self.name)
    }
}

/// Reads a file as a `T`.
///
/// # Errors
/// The first mistake in it, with its place and, for a misspelt field or variant, the valid name that is nearest.
pub fn parse<T: DeserializeOwned>(source: &Source) -> Result<T, ConfigError> {
    toml::from_str(&source.text).map_err(|error| {
        let message = suggestion(error.message()).unwrap_or_else(|| error.message().to_owned());
        match error.span() {
            // A field that the top level lacks has no place.
            Some(span) if span != (0..0) || !message.starts_with("missing field") => {
                ConfigError::at(source, span, message)
            }
            _ => ConfigError::file(source, message),
        }
    })
}

/// Serde's message on an unknown field or variant, with the nearest of the names that it lists.
fn suggestion(message: &str) -> Option<String> {
    let kind = ["unknown field", "unknown variant"].into_iter().find(|kind| message.starts_with(kind))?;
    let (found, list) = message[kind.len()..].rsplit_once(", expected ")?;
    let found = found.trim_start().strip_prefix('`')?.strip_suffix('`')?;
    let valid: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    Some(format!("{kind} `{found}`{}", names::hint(found, valid.into_iter())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use toml::Spanned;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only read from text")]
    struct Example {
        name: Spanned<String>,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        rows: Vec<Row>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Guest,
        Host,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from text")]
    struct Row {
        bits: u8,
    }

    fn source(text: &str) -> Source {
        Source { name: "configs/x/example.toml".to_owned(), text: text.to_owned() }
    }

    fn complaint(text: &str) -> String {
        parse::<Example>(&source(text)).unwrap_err().to_string()
    }

    #[test]
    fn the_id_is_the_name_of_the_file() {
        assert_eq!(source("").id(), "example");
    }

    #[test]
    fn a_mistake_has_its_place_and_the_nearest_name() {
        for (text, place, message, excerpt) in [
            ("nane = 1", ":1:1", "unknown field `nane`, did you mean `name`?", "\n  1 | nane = 1\n    | ^^^^"),
            (
                "name = 'a'\nkind = 'gust'",
                ":2:8",
                "unknown variant `gust`, did you mean `guest`?",
                "\n  2 | kind = 'gust'\n    |        ^^^^^^",
            ),
            (
                "name = 'a'\nkind = 'x'",
                ":2:8",
                "unknown variant `x`, expected one of `guest`, `host`",
                "\n  2 | kind = 'x'\n    |        ^^^",
            ),
            (
                "name = 'a'\n\n\n\n\n\n\n\n[[rows]]\n\tbit = 2 # two\n",
                ":10:2",
                "unknown field `bit`, did you mean `bits`?",
                "\n  10 | \tbit = 2 # two\n     | \t^^^",
            ),
            (
                "name = 'a'\nrows = [{ bits = 300 }]",
                ":2:18",
                "invalid value: integer `300`, expected u8",
                "\n  2 | rows = [{ bits = 300 }]\n    |                  ^^^",
            ),
            ("name = 'a'\n[[rows]]", ":2:1", "missing field `bits`", "\n  2 | [[rows]]\n    | ^^^^^^^^"),
            ("kind = 'guest'", "", "missing field `name`", ""),
            ("", "", "missing field `name`", ""),
            ("name = 1\nname = 2", ":2:1", "duplicate key", "\n  2 | name = 2\n    | ^^^^"),
            (
                "\"\\n\\u001b\" = 1",
                ":1:1",
                "unknown field `??`, expected one of `name`, `kind`, `rows`",
                "\n  1 | \"\\n\\u001b\" = 1\n    | ^^^^^^^^^^",
            ),
            ("name = 'a", ":1:10", "invalid literal string, expected `'`", "\n  1 | name = 'a\n    |          ^"),
            ("[rows\n", ":1:6", "unclosed table, expected `]`", "\n  1 | [rows\n    |      ^"),
            (
                "name = '\u{e9}' # \u{1b}[2J\r\n",
                ":1:14",
                "invalid comment character, expected printable characters",
                "\n  1 | name = '\u{e9}' # ?[2J\n    |              ^",
            ),
            (
                "name = 'a'\r\nrows = ['\u{e9}\u{1f600}']\r\n",
                ":2:9",
                "invalid type: string \"\u{e9}\u{1f600}\", expected struct Row",
                "\n  2 | rows = ['\u{e9}\u{1f600}']\n    |         ^^^^",
            ),
        ] {
            assert_eq!(complaint(text), format!("configs/x/example.toml{place}: {message}{excerpt}"));
        }
    }

    /// Texts that are nearly right, where the interesting mistakes are.
    fn nearly() -> impl Strategy<Value = String> {
        const PIECES: [&str; 16] = [
            "name", "kind", "rows", "bits", " = ", "'guest'", "\"", "'", "[[", "]]", "{", "}", "\n", "\r\n", "\u{e9}",
            "`",
        ];
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in prop_oneof![nearly(), any::<String>()], start in 0..80usize, len in 0..80usize) {
            let source = source(&text);
            if let Err(error) = parse::<Example>(&source) {
                prop_assert!(error.to_string().starts_with("configs/x/example.toml"));
            }
            let error = ConfigError::at(&source, start..start + len, "said");
            prop_assert!(error.to_string().contains(": said\n"), "{}", error);
        }
    }
}
