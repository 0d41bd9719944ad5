//! The pages of docs/families: each is made of the header of its guest's source and of the tests that the guest lists.
//!
//! `SNAPSHOTS=overwrite cargo test --test families` writes them anew.

use kvm_memtype::config::Set;
use kvm_memtype::guests;
use kvm_memtype::plan::suite::Suite;
use kvm_memtype::plan::vm::VmConfig;
use kvm_memtype::plan::{Plan, TestRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The paragraphs that each header has behind its first one, by how they begin, and the title of what follows.
const PARTS: [(&str, &str); 3] =
    [("What: ", "What it does"), ("Why: ", "Why"), ("Source: ", "What says how it should be")];
/// The least that such a paragraph says, in bytes.
const LEAST: usize = 60;
/// One of these is in each paragraph `Source`: a manual, or a file of the kernel.
const SOURCES: [&str; 5] = ["SDM", "APM", ".c:", ".h:", "Documentation/"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the header of a family's source says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// The first paragraph, without the family's name.
    summary: String,
    /// Those of [`PARTS`].
    parts: [String; 3],
    /// The others.
    notes: Vec<String>,
}

/// Reads the header of a source file; or what is missing of it.
fn header(family: &str, source: &str) -> Result<Header, String> {
    let lines: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let paragraphs: Vec<String> = lines.split(|line| line.is_empty()).map(|lines| lines.join(" ")).collect();
    let (first, rest) = paragraphs.split_first().ok_or("it has no header")?;
    let begin = format!("Family `{family}`: ");
    let summary = first.strip_prefix(&begin).ok_or_else(|| format!("it does not begin with `//! {begin}`"))?;
    let mut parts = Vec::new();
    for (begin, _) in PARTS {
        let part = rest.iter().find_map(|paragraph| paragraph.strip_prefix(begin));
        let part = part.ok_or_else(|| format!("it has no paragraph `{begin}...`"))?;
        if part.len() < LEAST {
            return Err(format!("its paragraph `{begin}...` says next to nothing"));
        }
        parts.push(part.to_owned());
    }
    if !SOURCES.iter().any(|source| parts[2].contains(source)) {
        return Err(format!("its paragraph `Source: ...` names none of {}", SOURCES.join(", ")));
    }
    let known = |paragraph: &String| PARTS.iter().any(|(begin, _)| paragraph.starts_with(begin));
    let notes = rest.iter().filter(|paragraph| !known(paragraph)).cloned().collect();
    let parts = parts.try_into().map_err(|_| "it has too few paragraphs")?;
    Ok(Header { summary: summary.to_owned(), parts, notes })
}

/// A text in lines of the width of the repository.
fn wrapped(text: &str) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        if used > 0 && used + 1 + word.chars().count() > 120 {
            out.push('\n');
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.chars().count();
    }
    out
}

fn page(family: &str, header: &Header, tests: &[&TestRef], suites: &BTreeSet<String>) -> String {
    let mut out = format!("# Family `{family}`\n\n{}\n", wrapped(&sentence(&header.summary)));
    let runs: Vec<String> = suites.iter().map(|suite| format!("`run --suite {suite}`")).collect();
    out += &format!("\nRun by {}.\n", runs.join(", "));
    for note in &header.notes {
        out += &format!("\n{}\n", wrapped(note));
    }
    for ((_, title), part) in PARTS.iter().zip(&header.parts) {
        out += &format!("\n## {title}\n\n{}\n", wrapped(&sentence(part)));
    }
    out += "\n## Tests\n\n| test | does | points at least | vCPUs | needs |\n|---|---|---|---|---|\n";
    for TestRef { name, summary, needs, points, .. } in tests {
        let words: Vec<_> = needs.words().collect();
        let summary = summary.replace('|', "\\|");
        out += &format!("| `{name}` | {summary} | {points} | {} | {} |\n", needs.cpu_count(), words.join(", "));
    }
    out + &format!(
        "\nThis page is made of the header of `tests-guest/src/bin/{family}.rs` and of the tests that the guest lists:\n\
         `SNAPSHOTS=overwrite cargo test --test families`.\n"
    )
}

/// A text as one that begins a line: with a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn index(families: &[(String, Header, usize, BTreeSet<String>)]) -> String {
    let mut out =
        "# Test families\n\nA family is one guest: a file in `tests-guest/src/bin`. Each has a page, made of that \
                   file's header.\n\n| family | | tests | suites |\n|---|---|---|---|\n"
            .to_owned();
    for (family, header, tests, suites) in families {
        let summary = sentence(&header.summary).replace('|', "\\|");
        let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
        out += &format!("| [`{family}`]({family}.md) | {summary} | {tests} | {} |\n", suites.join(", "));
    }
    out
}

/// The suites that hold tests of each family.
fn suites(tests: &[TestRef]) -> BTreeMap<String, BTreeSet<String>> {
    let set = Set::load(None).expect("the configurations");
    let vms = VmConfig::all(&set).expect("the VM configurations");
    let mut suites: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, source) in set.sources("suites") {
        let suite = Suite::read(source).expect("a suite");
        for cell in Plan::new(&suite, tests, &vms, &[]).expect("a plan").cells {
            suites.entry(cell.family).or_default().insert(id.to_owned());
        }
    }
    suites
}

#[test]
fn every_family_has_its_page() {
    let tests = guests::tests().expect("the tests");
    let suites = suites(&tests);
    let (mut pages, mut families, mut wrong) = (BTreeMap::new(), Vec::new(), Vec::new());
    for guest in guests::all() {
        let (family, path) = (guest.family, format!("tests-guest/src/bin/{}.rs", guest.family));
        let source = fs::read_to_string(repository().join(&path)).expect("the guest's source");
        match header(family, &source) {
            Err(what) => wrong.push(format!("{path}: {what}")),
            Ok(header) => {
                let tests: Vec<&TestRef> = tests.iter().filter(|test| test.family == family).collect();
                let suites = suites.get(family).cloned().unwrap_or_default();
                pages.insert(format!("{family}.md"), page(family, &header, &tests, &suites));
                families.push((family.to_owned(), header, tests.len(), suites));
            }
        }
    }
    let advice = "a header is a paragraph `Family `NAME`: ...`, then `What: ...` (what the guest does), `Why: ...` (what \
                  that decides) and `Source: ...` (section of a manual by its title, or kernel file:function)";
    assert!(wrong.is_empty(), "{}\n{advice}", wrong.join("\n"));
    pages.insert("README.md".to_owned(), index(&families));
    let dir = repository().join("docs/families");
    let present = fs::read_dir(&dir).map(|entries| {
        entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    });
    let present: BTreeSet<String> = present.unwrap_or_default();
    if env::var("SNAPSHOTS").is_ok_and(|what| what == "overwrite") {
        fs::create_dir_all(&dir).expect("the directory of the pages");
        present.iter().filter(|name| !pages.contains_key(*name)).for_each(|name| {
            fs::remove_file(dir.join(name)).expect("a page of no family");
        });
        pages.iter().for_each(|(name, text)| fs::write(dir.join(name), text).expect("a page"));
        return;
    }
    let differs = |name: &&String| fs::read_to_string(dir.join(name)).ok().as_ref() != pages.get(*name);
    let stale: Vec<&String> = pages.keys().chain(&present).filter(differs).collect();
    let how = "SNAPSHOTS=overwrite cargo test --test families";
    assert!(stale.is_empty(), "these pages of docs/families are not what the guests say; {how} writes them: {stale:?}");
}

#[test]
fn a_header_that_says_too_little_is_refused() {
    let long = "x".repeat(LEAST);
    let whole = format!(
        "//! Family `a`: one.\n//! two\n//!\n//! A note.\n//!\n//! What: {long}\n//!\n//! Why: {long}\n//!\n//! Source: SDM {long}\n\n#![no_std]\n"
    );
    let read = header("a", &whole).unwrap();
    assert_eq!((read.summary.as_str(), read.notes), ("one. two", vec!["A note.".to_owned()]));
    for (from, to, said) in [
        ("Family `a`: ", "Tests of a: ", "it does not begin with `//! Family `a`: `"),
        ("What: ", "That: ", "it has no paragraph `What: ...`"),
        ("Why: x", "Why: so.\n//!\n//! x", "its paragraph `Why: ...` says next to nothing"),
        ("SDM", "me", "its paragraph `Source: ...` names none of"),
        ("//!", "//", "it does not begin with"),
    ] {
        let error = header("a", &whole.replace(from, to)).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}
