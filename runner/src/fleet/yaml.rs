//! A little YAML, enough for LAVA's jobs: maps in the order in which they were made, lists, and strings in double quotes.

use std::fmt;

/// A value. It prints as a document of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// True or false.
    Flag(bool),
    /// A list.
    List(Vec<Yaml>),
    /// Keys and values.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// A map of these.
    pub fn map<const N: usize>(pairs: [(&str, Yaml); N]) -> Yaml {
        Yaml::Map(pairs.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// A list of these.
    pub fn list(items: impl IntoIterator<Item = impl Into<Yaml>>) -> Yaml {
        Yaml::List(items.into_iter().map(Into::into).collect())
    }

    /// Adds to a map.
    pub fn with(mut self, key: &str, value: Yaml) -> Yaml {
        if let Yaml::Map(pairs) = &mut self {
            pairs.push((key.to_owned(), value));
        }
        self
    }

    /// Writes the value; what it is in stands `indent` spaces in, and its first line begins where the writer is.
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Yaml::Text(text) => quoted(f, text),
            Yaml::Number(number) => write!(f, "{number}"),
            Yaml::Flag(flag) => write!(f, "{flag}"),
            Yaml::List(items) if items.is_empty() => f.write_str("[]"),
            Yaml::Map(pairs) if pairs.is_empty() => f.write_str("{}"),
            Yaml::List(items) => items.iter().enumerate().try_for_each(|(at, item)| {
                line(f, at, indent)?;
                f.write_str("- ")?;
                item.write(f, indent + 2)
            }),
            Yaml::Map(pairs) => pairs.iter().enumerate().try_for_each(|(at, (key, value))| {
                line(f, at, indent)?;
                quoted(f, key)?;
                let block = matches!(value, Yaml::List(items) if !items.is_empty())
                    || matches!(value, Yaml::Map(pairs) if !pairs.is_empty());
                if block {
                    write!(f, ":\n{:1$}", "", indent + 2)?
                } else {
                    f.write_str(": ")?
                }
                value.write(f, indent + 2)
            }),
        }
    }
}

/// Begins a line for an item that is not the first.
fn line(f: &mut fmt::Formatter<'_>, at: usize, indent: usize) -> fmt::Result {
    if at == 0 { Ok(()) } else { write!(f, "\n{:indent$}", "") }
}

/// A string in double quotes, or bare where it is a plain word. Strings of JSON are strings of YAML.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    // Words that YAML takes for something else.
    const OTHER: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let word = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'-'));
    let plain = text.starts_with(|first: char| first.is_ascii_lowercase()) && word(text);
    if plain && text != "null" && !OTHER.contains(&text) {
        return f.write_str(text);
    }
    f.write_str(&serde_json::Value::from(text).to_string())
}

impl fmt::Display for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)?;
        f.write_str("\n")
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Yaml::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Yaml::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_indented_and_quoted() {
        let inner = Yaml::map([("url", "https://a/b".into()), ("type", "image".into()), ("no", Yaml::Flag(true))]);
        let deploy =
            Yaml::map([("kernel", inner), ("prompts", Yaml::list(["/ #", "a: \"b\"\n"])), ("n", Yaml::Number(3))]);
        let jobs = Yaml::List(vec![Yaml::map([("deploy", deploy)]), Yaml::map([("empty", Yaml::Map(Vec::new()))])]);
        let job = Yaml::map([("actions", jobs), ("tags", Yaml::List(Vec::new()))]);
        let text = "actions:\n  - deploy:\n      kernel:\n        url: \"https://a/b\"\n        type: image\n        \
                    \"no\": true\n      prompts:\n        - \"/ #\"\n        - \"a: \\\"b\\\"\\n\"\n      \"n\": 3\n  \
                    - empty: {}\ntags: []\n";
        assert_eq!(job.to_string(), text);
    }
}
