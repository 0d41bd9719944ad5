//! Diffs as `patch -p1` takes them: their head, the files that they change, and the hunk that does not fit.

use std::fs;
use std::io;
use std::path::Path;

/// Where a KVM's files are. The build of its modules sees no other changes.
const PLACES: [&str; 4] = ["arch/x86/kvm/", "virt/kvm/", "include/", "arch/x86/include/"];

/// The most lines of a hunk that are shown.
const MOST_LINES: usize = 16;

/// A diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// What it is called to people: the name of its patch, or of its file.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Diff {
    /// Reads a file.
    ///
    /// # Errors
    /// The system refuses, or it is not UTF-8.
    pub fn read(name: &str, path: &Path) -> io::Result<Diff> {
        Ok(Diff { name: name.to_owned(), text: fs::read_to_string(path)? })
    }

    /// What stands before the first file: words for people.
    pub fn head(&self) -> &str {
        let mut at = 0;
        for line in self.text.split_inclusive('\n') {
            if line.starts_with("--- ") || line.starts_with("diff --git ") {
                break;
            }
            at += line.len();
        }
        &self.text[..at]
    }

    /// The files that it changes, without the first directory of their names.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for file in self.text.lines().filter_map(|line| line.strip_prefix("+++ ").or(line.strip_prefix("--- "))) {
            let file = stripped(file);
            if file != "/dev/null" && !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }

    /// The first file that is not part of what is built.
    pub fn stray(&self) -> Option<&str> {
        let is_stray = |file: &&str| file.contains("..") || !PLACES.iter().any(|place| file.starts_with(place));
        self.files().into_iter().find(is_stray)
    }

    /// What went wrong, from what `patch` said: the file, and the first hunk of it that does not fit.
    pub fn failure(&self, said: &str) -> String {
        let mut file = "";
        for line in said.lines() {
            if let Some(name) = line.strip_prefix("patching file ") {
                file = name.trim_matches('\'');
            } else if let Some(number) = failed(line) {
                let hunk = self.hunk(file, number).unwrap_or_default();
                return format!("{file}: hunk {number} does not fit:\n{hunk}");
            }
        }
        let other = said.lines().find(|line| !line.trim().is_empty() && !line.starts_with("patching file "));
        other.unwrap_or("patch did not say why").trim().to_owned()
    }

    /// The n-th hunk of a file, from 1, or the first lines of it.
    fn hunk(&self, file: &str, number: usize) -> Option<String> {
        let after =
            self.text.lines().skip_while(|line| line.strip_prefix("+++ ").is_none_or(|it| stripped(it) != file));
        let of_file = after.skip(1).take_while(|line| !line.starts_with("--- ") && !line.starts_with("diff --git "));
        let hunk = of_file.skip_while({
            let mut seen = 0;
            move |line| {
                seen += usize::from(line.starts_with("@@ "));
                seen < number
            }
        });
        let mut lines: Vec<&str> = Vec::new();
        for line in hunk {
            if !lines.is_empty() && line.starts_with("@@ ") {
                break;
            }
            if lines.len() == MOST_LINES {
                lines.push("...");
                break;
            }
            lines.push(line);
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// A file's name without what is behind a tab, and without its first directory.
fn stripped(file: &str) -> &str {
    let file = file.split('\t').next().unwrap_or(file).trim_end();
    match file.split_once('/') {
        Some((first, rest)) if !first.is_empty() => rest,
        _ => file,
    }
}

/// The number in `Hunk #2 FAILED at 345.`
fn failed(line: &str) -> Option<usize> {
    let (number, rest) = line.strip_prefix("Hunk #")?.split_once(' ')?;
    rest.starts_with("FAILED").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Words.\nMore words.\n\n--- a/arch/x86/kvm/mtrr.c\n+++ b/arch/x86/kvm/mtrr.c\t2026-01-01\n\
        @@ -1,2 +1,2 @@\n one\n-two\n+2\n@@ -10,2 +10,2 @@ f\n ten\n-eleven\n+11\n\
        --- /dev/null\n+++ b/include/linux/new.h\n@@ -0,0 +1 @@\n+new\n";

    fn diff(text: &str) -> Diff {
        Diff { name: "x".into(), text: text.into() }
    }

    #[test]
    fn head_and_files_are_found() {
        let diff = diff(TEXT);
        assert_eq!(diff.head(), "Words.\nMore words.\n\n");
        assert_eq!(diff.files(), ["arch/x86/kvm/mtrr.c", "include/linux/new.h"]);
        assert_eq!(diff.stray(), None);
        assert_eq!(self::diff("no diff").files(), Vec::<&str>::new());
    }

    #[test]
    fn a_file_of_another_part_is_stray() {
        for file in ["mm/memory.c", "arch/x86/kvm/../../../mm/x.c", "/etc/passwd"] {
            let text = TEXT.replace("arch/x86/kvm/mtrr.c", file);
            assert_eq!(diff(&text).stray(), Some(file), "{file}");
        }
    }

    #[test]
    fn the_hunk_that_does_not_fit_is_shown() {
        let said = "patching file arch/x86/kvm/mtrr.c\nHunk #1 succeeded at 3 (offset 2 lines).\n\
            Hunk #2 FAILED at 10.\n1 out of 2 hunks FAILED -- saving rejects to file x.rej\n";
        let wanted = "arch/x86/kvm/mtrr.c: hunk 2 does not fit:\n@@ -10,2 +10,2 @@ f\n ten\n-eleven\n+11";
        assert_eq!(diff(TEXT).failure(said), wanted);
        let said = "patch: **** Only garbage was found in the patch input.\n";
        assert_eq!(diff("").failure(said), "patch: **** Only garbage was found in the patch input.");
        assert_eq!(diff("").failure(""), "patch did not say why");
    }
}
