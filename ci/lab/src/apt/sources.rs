//! Where the machine gets its packages from: apt's sources, in both forms; sources.list(5).

use std::fs;
use std::path::{Path, PathBuf};

/// Where a machine's sources are.
const ETC: &str = "/etc/apt";
/// Where Debian's keys are.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A source of binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    signed_by: Option<PathBuf>,
}

/// The machine's own sources name no archive of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "apt's sources in /etc/apt name no Debian archive: add a mirror's line for any suite, `deb URL/debian stable main`"
)]
pub struct NoArchive;

/// The Debian archive as this machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Base of the main archive.
    pub main: String,
    /// Base of the security archive.
    pub security: String,
    /// The keys that sign both.
    pub keyring: PathBuf,
}

impl Archive {
    /// What the machine's own sources say.
    ///
    /// # Errors
    /// They name no Debian archive.
    pub fn of_this_machine() -> Result<Archive, NoArchive> {
        let mut files = vec![Path::new(ETC).join("sources.list")];
        let parts = fs::read_dir(Path::new(ETC).join("sources.list.d")).into_iter().flatten().flatten();
        files.extend(parts.map(|entry| entry.path()));
        files.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => stanzas(&text),
                Some("list") => lines(&text),
                _ => Vec::new(),
            }
        };
        Archive::from_entries(&files.into_iter().flat_map(read).collect::<Vec<_>>())
    }

    fn from_entries(entries: &[Entry]) -> Result<Archive, NoArchive> {
        let find = |wanted: fn(&str, &str) -> bool| {
            let fits = |entry: &&Entry| {
                entry.uris.iter().any(|uri| entry.suites.iter().any(|suite| wanted(uri.trim_end_matches('/'), suite)))
            };
            entries.iter().find(fits)
        };
        let main = find(|uri, suite| uri.ends_with("/debian") && !suite.contains("security"));
        let security = find(|uri, suite| suite.ends_with("-security") && !uri.contains("ubuntu"));
        let base = |entry: &Entry| entry.uris.first().map(|uri| uri.trim_end_matches('/').to_owned());
        let keyring = [main, security].into_iter().flatten().find_map(|entry| entry.signed_by.clone());
        let main = main.and_then(base).ok_or(NoArchive)?;
        // Mirrors have it beside the main one.
        let security = security.and_then(base).unwrap_or_else(|| format!("{main}-security"));
        Ok(Archive { main, security, keyring: keyring.unwrap_or_else(|| KEYRING.into()) })
    }

    /// A sources.list for these suites.
    pub fn list(&self, suites: &[String]) -> String {
        let line = |suite: &String| {
            let base = if suite.ends_with("-security") { &self.security } else { &self.main };
            format!("deb [arch=amd64 signed-by={}] {base} {suite} main\n", self.keyring.display())
        };
        suites.iter().map(line).collect()
    }
}

/// Reads lines such as `deb [signed-by=/a/b] http://mirror.example/debian trixie main`.
fn lines(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        Some(Entry { uris: vec![uri.to_owned()], suites: vec![suite.to_owned()], signed_by: signed_by.map(Into::into) })
    };
    text.lines().filter_map(entry).collect()
}

/// Reads stanzas of fields, deb822(5). A keyring that is written into the file has no path and is left out.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let at = stanza
                .iter()
                .position(|line| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name)))?;
            let more = stanza[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
            let words = stanza[at][name.len() + 1..].split_whitespace();
            Some(words.chain(more.flat_map(|line| line.split_whitespace())).map(str::to_owned).collect::<Vec<_>>())
        };
        let is = |name, value: &str| field(name).is_some_and(|words| words.iter().any(|word| word == value));
        if let (true, false, Some(uris), Some(suites)) =
            (is("Types", "deb"), is("Enabled", "no"), field("URIs"), field("Suites"))
        {
            let signed_by = field("Signed-By").and_then(|words| words.into_iter().find(|word| word.starts_with('/')));
            entries.push(Entry { uris, suites, signed_by: signed_by.map(Into::into) });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_name_the_archive() {
        let deb822 = "Types: deb deb-src\n# a remark\nURIs: http://mirror.example/debian/\nSuites: bookworm\n \
            bookworm-updates\nComponents: main\nSigned-By: /a/key.gpg\n\nTypes: deb\nURIs: http://sec.example/debian-security\n\
            Suites: bookworm-security\nComponents: main\n";
        let one_line = "# deb http://no.example/debian x main\n\
            deb [arch=amd64 signed-by=/a/key.gpg] http://mirror.example/debian bookworm main # remark\n\
            deb-src http://no.example/debian bookworm main\n\
            deb http://sec.example/debian-security/ bookworm-security main\n";
        let wanted = Archive {
            main: "http://mirror.example/debian".to_owned(),
            security: "http://sec.example/debian-security".to_owned(),
            keyring: "/a/key.gpg".into(),
        };
        assert_eq!(Archive::from_entries(&stanzas(deb822)), Ok(wanted.clone()));
        assert_eq!(Archive::from_entries(&lines(one_line)), Ok(wanted.clone()));
        let suites = ["sid".to_owned(), "trixie-security".to_owned()];
        assert_eq!(
            wanted.list(&suites),
            "deb [arch=amd64 signed-by=/a/key.gpg] http://mirror.example/debian sid main\n\
             deb [arch=amd64 signed-by=/a/key.gpg] http://sec.example/debian-security trixie-security main\n"
        );
    }

    #[test]
    fn what_is_not_debian_or_turned_off_does_not_count() {
        let text = "deb http://main.example/ubuntu noble main\ndeb https://x.example/apt cloud main\n\
            deb http://sec.example/ubuntu noble-security main\n";
        let mut entries = lines(text);
        entries.extend(stanzas("Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\n"));
        entries.extend(stanzas("Types: deb-src\nURIs: http://src.example/debian\nSuites: sid\n"));
        assert_eq!(Archive::from_entries(&entries), Err(NoArchive));
        entries.extend(lines("deb http://mirror.example/debian sid main"));
        let archive = Archive::from_entries(&entries).unwrap();
        assert_eq!(archive.security, "http://mirror.example/debian-security");
        assert_eq!(archive.keyring, Path::new(KEYRING));
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "(deb|Types|URIs|Suites|:| |\\[|\\]|#|\n|signed-by=|é){0,40}") {
            let _ = (lines(&text), stanzas(&text));
        }
    }
}
