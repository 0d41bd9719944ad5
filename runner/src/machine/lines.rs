//! Lines of a serial line: bytes in, however they are chunked, log lines out.

use super::Line;

/// Most bytes of one line. What is longer goes on in a line of its own, so that nothing is lost and no checksum fits.
pub const LONGEST: usize = 64 << 10;

/// Cuts what a guest sends at its line feeds, which are dropped.
///
/// A byte that is not UTF-8 is shown as `\xNN`. A line's place in the log is where its last byte came.
#[derive(Debug)]
pub struct LineSplitter {
    pending: Vec<u8>,
    /// Which line of a log it makes.
    line: fn(String) -> Line,
}

impl Default for LineSplitter {
    fn default() -> Self {
        LineSplitter::of(Line::Guest)
    }
}

impl LineSplitter {
    /// One that makes such lines.
    pub fn of(line: fn(String) -> Line) -> Self {
        LineSplitter { pending: Vec::new(), line }
    }

    /// Takes the next bytes and appends the lines that they complete to `log`.
    pub fn push(&mut self, mut bytes: &[u8], log: &mut Vec<Line>) {
        while !bytes.is_empty() {
            let room = bytes.len().min(LONGEST - self.pending.len());
            let feed = bytes[..room].iter().position(|&b| b == b'\n');
            let (line, rest) = bytes.split_at(feed.unwrap_or(room));
            self.pending.extend_from_slice(line);
            bytes = if feed.is_some() { &rest[1..] } else { rest };
            if feed.is_some() || self.pending.len() == LONGEST {
                log.push(self.take());
            }
        }
    }

    /// Says that no more bytes come: a line without a line feed is appended as well.
    pub fn finish(mut self, log: &mut Vec<Line>) {
        if !self.pending.is_empty() {
            log.push(self.take());
        }
    }

    fn take(&mut self) -> Line {
        let mut text = String::with_capacity(self.pending.len());
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                text.push_str(&format!("\\x{byte:02x}"));
            }
        }
        self.pending.clear();
        (self.line)(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut splitter, mut log) = (LineSplitter::default(), Vec::new());
        chunks.into_iter().for_each(|chunk| splitter.push(chunk, &mut log));
        splitter.finish(&mut log);
        log.iter().map(|line| line.to_string()[1..].to_owned()).collect()
    }

    #[test]
    fn line_feeds_cut_and_empty_lines_stay() {
        assert_eq!(lines([&b"a\n\nb"[..]]), ["a", "", "b"]);
        assert_eq!(lines([&b"a\n"[..]]), ["a"]);
        assert_eq!(lines([]), [""; 0]);
    }

    #[test]
    fn other_bytes_than_utf8_are_escaped() {
        assert_eq!(lines([&b"\xff\xc3\xa4\xc3\n"[..]]), [r"\xffä\xc3"]);
    }

    #[test]
    fn a_character_that_comes_in_two_chunks_is_whole() {
        assert_eq!(lines([&b"\xc3"[..], &b"\xa4\n"[..]]), ["ä"]);
    }

    #[test]
    fn a_line_is_cut_at_the_longest() {
        let text = [vec![b'a'; LONGEST + 1], b"\nb".to_vec()].concat();
        let found = lines([&text[..]]);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 1, 1]);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..20),
            4 => "[a-zä\n]{0,20}".prop_map(String::into_bytes),
            1 => (LONGEST - 2..LONGEST + 2).prop_map(|n| vec![b'x'; n]),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(bytes in bytes(), sizes in prop::collection::vec(1..100usize, 1..8)) {
            let (mut chunks, mut rest) = (Vec::new(), &bytes[..]);
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(lines(chunks), lines([&bytes[..]]));
        }

        #[test]
        fn text_comes_back(text in "[a-zä ]{0,30}(\n[a-zä ]{0,30}){0,5}\n") {
            prop_assert_eq!(lines([text.as_bytes()]), text.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
