//! The documents: links lead somewhere, commands print what they are said to print, quotes are in the files that they
//! name, and mdBook makes a site of them.

mod common;

use common::skip;
use kvm_memtype::machine::Line;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use snapbox::cmd::{Command, cargo_bin};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::{env, fs, process};
use wire::frame::{VERSION, checksum};
use wire::stream::Reader;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// What a document is made of, as far as tests are about it.
#[derive(Debug, Default)]
struct Document {
    links: Vec<String>,
    /// The names that a link can lead to, as GitHub and mdBook make them of headings.
    anchors: BTreeSet<String>,
    /// Code blocks: the word behind the fence, and the text.
    blocks: Vec<(String, String)>,
}

fn read(path: &Path) -> Document {
    let text = fs::read_to_string(path).expect("a document");
    let (mut document, mut slugs) = (Document::default(), HashMap::<String, u32>::new());
    let (mut heading, mut block) = (None::<String>, None::<(String, String)>);
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let before = slugs.entry(slug.clone()).or_default();
                document.anchors.insert(if *before == 0 { slug } else { format!("{slug}-{before}") });
                *before += 1;
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(word))) => {
                block = Some((word.into_string(), String::new()))
            }
            Event::End(TagEnd::CodeBlock) => document.blocks.extend(block.take()),
            Event::Text(text) | Event::Code(text) => {
                let parts = heading.iter_mut().chain(block.as_mut().map(|(_, text)| text));
                parts.for_each(|part| part.push_str(&text));
            }
            _ => {}
        }
    }
    document
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// All files below `dir` whose names end so, but for what builds leave.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && name != "target" {
            found.extend(files(&entry, ending));
        } else if name.ends_with(ending) {
            found.push(entry);
        }
    }
    found
}

/// The documents by path. What runs leave in results/ is not theirs.
fn documents() -> BTreeMap<PathBuf, Document> {
    let root = repository();
    let mut paths = ["ARCHITECTURE.md", "CHANGELOG.md", "README.md", "results/README.md", "results/mutants.md"]
        .map(|name| root.join(name))
        .to_vec();
    paths.extend(["ci", "docs"].iter().flat_map(|dir| files(&root.join(dir), ".md")));
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// What is wrong with a link of the document at `from`; `anchors` are those of a file, if it is a known one.
fn broken(from: &Path, link: &str, anchors: impl Fn(&Path) -> Option<BTreeSet<String>>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let to = if path.is_empty() { from.to_owned() } else { plain(&from.parent()?.join(path)) };
    let missing = || Some(format!("{}: {link} leads nowhere", from.display()));
    match anchors(&to) {
        Some(anchors) if anchor.is_empty() || anchors.contains(anchor) => None,
        None if anchor.is_empty() && to.exists() => None,
        _ => missing(),
    }
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let anchors = |path: &Path| documents.get(path).map(|document| document.anchors.clone());
    let mut wrong = Vec::new();
    for (path, document) in &documents {
        wrong.extend(document.links.iter().filter_map(|link| broken(path, link, anchors)));
    }
    assert!(documents.values().map(|document| document.links.len()).sum::<usize>() > 100, "so few links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let from = repository().join("docs/lab.md");
    let anchors = |path: &Path| path.ends_with("docs/lab.md").then(|| BTreeSet::from(["axes".to_owned()]));
    for link in ["nothing.md", "#ax", "lab.md#ax", "../README.md#no", "../../lab.md"] {
        assert!(broken(&from, link, anchors).is_some(), "{link}");
    }
    for link in ["#axes", "lab.md", "../docs/lab.md#axes", "../ci", "https://example.org/x#y"] {
        assert_eq!(broken(&from, link, anchors), None);
    }
}

#[test]
fn every_document_is_in_the_table_of_contents() {
    let (root, documents) = (repository(), documents());
    let summary = root.join("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        documents[&summary].links.iter().map(|link| plain(&root.join("docs").join(link))).collect();
    let all: BTreeSet<PathBuf> = documents.into_keys().filter(|path| *path != summary).collect();
    assert_eq!(listed, all);
}

#[test]
fn commands_print_what_is_said() {
    let mut count = 0;
    for (path, document) in documents() {
        for (_, text) in document.blocks.iter().filter(|(word, _)| word == "console") {
            let (command, said) = text.split_once('\n').expect("a command and what it prints");
            let words: Vec<&str> = command.strip_prefix("$ kvm-memtype ").expect("our program").split(' ').collect();
            eprintln!("{}: {command}", path.display());
            let program = Command::new(cargo_bin!("kvm-memtype")).args(words).env("NO_COLOR", "1");
            program.current_dir(repository()).assert().success().stdout_eq(said);
            count += 1;
        }
    }
    assert!(count > 0);
}

/// A block of code that begins with a comment that is the path of a file is in that file.
#[test]
fn quotes_are_from_the_files_that_they_name() {
    let (root, mut count) = (repository(), 0);
    for (path, document) in documents() {
        for (_, text) in &document.blocks {
            let Some((first, quote)) = text.split_once('\n') else { continue };
            let name = first.strip_prefix("// ").or(first.strip_prefix("# ")).map(|name| root.join(name));
            let Some(source) = name.filter(|name| name.is_file()).map(|name| fs::read_to_string(name).unwrap()) else {
                continue;
            };
            assert!(source.contains(quote), "{}: this is not in {}:\n{quote}", path.display(), &first[2..]);
            count += 1;
        }
    }
    assert!(count >= 5, "quotes are not found any more");
}

/// mdBook: what MDBOOK names, what ci/readers/setup has made, or that of the host.
fn mdbook() -> Option<PathBuf> {
    let named = env::var_os("MDBOOK").map(PathBuf::from);
    let candidates = named.into_iter().chain([repository().join("target/readers/mdbook/bin/mdbook"), "mdbook".into()]);
    candidates.into_iter().find(|path| process::Command::new(path).arg("--version").output().is_ok())
}

/// The values of an attribute in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split_once('"')).map(|(value, _)| value).collect()
}

#[test]
fn the_site_is_built_and_its_links_lead_somewhere() {
    let Some(mdbook) = mdbook() else {
        return skip("there is no mdbook to make the site with: cargo install mdbook --no-default-features --locked");
    };
    let built = process::Command::new(repository().join("ci/book")).env("MDBOOK", mdbook).output().expect("ci/book");
    let said = String::from_utf8_lossy(&[&built.stdout[..], &built.stderr].concat()).into_owned();
    assert!(built.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let site = repository().join("target/book/html");
    // One holds all others, one is shown at any address, and one is no page of the site but an example of a report.
    let pages = files(&site, ".html")
        .into_iter()
        .filter(|path| !["print.html", "404.html", "docs/report.html"].iter().any(|name| path.ends_with(name)));
    let pages: BTreeMap<PathBuf, String> =
        pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    assert!(pages.len() > 40, "{} pages", pages.len());
    let ids: BTreeMap<&PathBuf, BTreeSet<String>> = pages
        .iter()
        .map(|(path, page)| (path, attributes(page, "id").into_iter().map(str::to_owned).collect()))
        .collect();
    let anchors = |path: &Path| ids.get(&path.to_owned()).cloned();
    let mut wrong = Vec::new();
    for (path, page) in &pages {
        let links = attributes(page, "href").into_iter().chain(attributes(page, "src"));
        wrong.extend(links.filter(|link| !link.starts_with("data:")).filter_map(|link| broken(path, link, anchors)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows of a document's tables: the code in each cell.
fn rows(path: &Path) -> Vec<Vec<Vec<String>>> {
    let text = fs::read_to_string(path).expect("a document");
    let mut rows: Vec<Vec<Vec<String>>> = Vec::new();
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
        match (event, rows.last_mut()) {
            (Event::Start(Tag::TableRow), _) => rows.push(Vec::new()),
            (Event::Start(Tag::TableCell), Some(row)) => row.push(Vec::new()),
            (Event::Code(code), Some(row)) => row.last_mut().into_iter().for_each(|cell| cell.push(code.to_string())),
            (Event::End(TagEnd::Table), _) => rows.push(Vec::new()),
            _ => {}
        }
    }
    rows
}

#[test]
fn the_wire_is_as_its_page_shows_it() {
    let page = repository().join("docs/wire.md");
    let (_, report) = read(&page).blocks.into_iter().next().expect("a report");
    let mut reader = Reader::new(Some(0x5eed));
    report.lines().for_each(|line| assert!(reader.line(line).is_ok_and(|item| item.is_some()), "{line}"));
    reader.finish().expect("a whole report");
    let (mut guests, mut hosts) = (0, 0);
    // The examples are sent as one report.
    let sent =
        |number: u32, body: &str| format!("{number:x} {body}*{:04x}", checksum(1, &format!("{number:x} {body}")));
    let mut examples_read = Reader::new(None);
    examples_read.line(&sent(0, &format!("{VERSION} 1 a/b"))).expect("a start");
    for row in rows(&page) {
        match row.as_slice() {
            [kinds, what, examples] if !kinds.is_empty() && !examples.is_empty() => {
                let example = &examples[0];
                let kind = example.split(' ').next().expect("a word");
                assert!(kinds.iter().any(|it| it == kind), "{example} is no {kinds:?}, {what:?}");
                guests += 1;
                let line = sent(guests, example);
                examples_read.line(&line).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
            [examples, _] if examples.first().is_some_and(|example| example.starts_with('>')) => {
                examples[0].parse::<Line>().unwrap_or_else(|error| panic!("{}: {error}", examples[0]));
                hosts += 1;
            }
            _ => {}
        }
    }
    assert_eq!((guests, hosts), (18, 6), "rows with an example");
}
