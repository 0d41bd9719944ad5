//! The file: page, style, script and data in one, with an overview for those who let no script run.

use super::cell::Keep;
use super::data::Data;
use crate::judge::Verdict;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Write};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// The script, in the order in which its parts need each other.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("script/dom.js"),
    include_str!("script/data.js"),
    include_str!("script/query.js"),
    include_str!("script/types.js"),
    include_str!("script/list.js"),
    include_str!("script/overview.js"),
    include_str!("script/matrix.js"),
    include_str!("script/changes.js"),
    include_str!("script/past.js"),
    include_str!("script/cell.js"),
    include_str!("script/about.js"),
    include_str!("script/main.js"),
);
/// The most cells that the overview without scripts names.
const MOST_NAMED: usize = 50;

/// Writes the file.
///
/// # Errors
/// It cannot be written.
pub fn write(out: &mut dyn Write, data: &Data, keep: Keep) -> io::Result<()> {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    let kept = if keep == Keep::All { "all" } else { "telling" };
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.write_all(before.as_bytes())?;
        match name {
            "policy" => out.write_all(policy.as_bytes())?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => out.write_all(SCRIPT.as_bytes())?,
            "kept" => out.write_all(kept.as_bytes())?,
            "overview" => out.write_all(overview(data).as_bytes())?,
            "data" => {
                let mut safe = WithoutTags { out, held: Vec::with_capacity(1 << 16) };
                serde_json::to_writer(&mut safe, data)?;
                safe.flush()?;
            }
            _ => unreachable!("page.html has a place for {name}, which nothing fills"),
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// The digest of an inline part, as a Content-Security-Policy has it: no other part runs.
fn digest(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for three in Sha256::digest(text).chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for sextet in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * sextet) & 63) as usize];
            base64.push(if sextet > three.len() { '=' } else { letter.into() });
        }
    }
    base64
}

/// JSON as it may stand in an HTML element: `<` is nowhere but in strings, where an escape says the same.
struct WithoutTags<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
}

impl Write for WithoutTags<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'<' => self.held.extend(b"\\u003c"),
                byte => self.held.push(byte),
            }
        }
        if self.held.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

/// Runs and their verdicts as a table, and the cells that are not as expected.
fn overview(data: &Data) -> String {
    let mut html = String::from("<table><thead><tr><th>kernel</th><th>suite</th>");
    // Writing to a String does not fail.
    for verdict in Verdict::ALL {
        let _ = write!(html, "<th>{verdict}</th>");
    }
    html.push_str("<th>run</th></tr></thead><tbody>");
    for side in &data.sides {
        for run in &side.runs {
            let _ = write!(html, "<tr><td>{}</td><td>{}</td>", escaped(&side.name), escaped(&run.suite));
            for count in &run.counts {
                let _ = write!(html, "<td>{count}</td>");
            }
            let _ = write!(html, "<td>{}</td></tr>", escaped(&run.dir));
        }
    }
    html.push_str("</tbody></table><p>Not as expected:</p><ul>");
    let alarms = data.sides.iter().enumerate().flat_map(|(n, side)| data.alarms(n).map(move |alarm| (side, alarm)));
    for (n, (side, (cell, verdict, reason))) in alarms.enumerate() {
        if n == MOST_NAMED {
            html.push_str("<li>and more</li>");
            break;
        }
        let [cell, name, reason] = [&cell, side.name.as_str(), reason].map(escaped);
        let _ = write!(html, "<li>{verdict} {cell} ({name}): {reason}</li>");
    }
    html + "</ul>"
}

/// Text as it may stand between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_as_others_have_it() {
        // printf '' | sha256sum | xxd -r -p | base64
        assert_eq!(digest(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn no_text_ends_the_element_that_it_is_in() {
        let mut file = Vec::new();
        let mut safe = WithoutTags { out: &mut file, held: Vec::new() };
        let hostile = "</script><img onerror=alert(1)><!--";
        serde_json::to_writer(&mut safe, hostile).unwrap();
        safe.flush().unwrap();
        assert!(!file.contains(&b'<'));
        assert_eq!(serde_json::from_slice::<String>(&file).unwrap(), hostile);
        assert_eq!(escaped(hostile), "&lt;/script&gt;&lt;img onerror=alert(1)&gt;&lt;!--");
    }
}
