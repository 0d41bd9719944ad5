//! What the machine tells the lab, byte by byte through I/O port 0xe9: events, and pieces of files.

mod frame;

pub use frame::{Frame, Frames, frame};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The port: `port_e9_hack` of Bochs, isa-debugcon of QEMU.
pub const PORT: u16 = 0xe9;

/// The most bytes that a piece of a file may become when it is unpacked.
const PIECE: u64 = 256 << 20;

/// Something that happened in the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Init runs.
    Up {
        /// `uname -r`.
        release: String,
        /// Seconds since the kernel began, on the machine's clock.
        uptime: String,
    },
    /// Something that the suites can do without is not there.
    Without {
        /// What, and why.
        what: String,
    },
    /// /dev/kvm is there.
    Ready {
        /// Seconds since the kernel began, on the machine's clock.
        uptime: String,
    },
    /// A suite begins.
    Suite {
        /// Its id.
        suite: String,
    },
    /// A cell of the suite has its verdict.
    Cell {
        /// The cell's id.
        cell: String,
    },
    /// More of a file; the event's frame carries it, compressed.
    Piece {
        /// The file's path under the directory of results.
        path: String,
        /// Where in the file the piece belongs.
        offset: u64,
    },
    /// A suite has ended.
    Ended {
        /// Its id.
        suite: String,
        /// Exit code of kvm-memtype.
        code: i32,
        /// What it said on standard error.
        said: String,
    },
    /// Init cannot go on.
    Failed {
        /// What failed, and why.
        what: String,
    },
    /// All is done; the machine will be turned off.
    Done,
}

/// The bytes that carry an event, and with it a piece of a file.
pub fn encode(sequence: u32, event: &Event, piece: &[u8]) -> io::Result<Vec<u8>> {
    let mut payload = serde_json::to_vec(event)?;
    payload.push(b'\n');
    if !piece.is_empty() {
        let mut encoder = GzEncoder::new(payload, Compression::fast());
        encoder.write_all(piece)?;
        payload = encoder.finish()?;
    }
    Ok(frame(sequence, &payload))
}

/// The event and the piece of a file that a payload carries.
///
/// # Errors
/// It is none that init makes.
pub fn decode(payload: &[u8]) -> Result<(Event, Vec<u8>), String> {
    let end = payload.iter().position(|&byte| byte == b'\n').ok_or("an event without end")?;
    let (text, packed) = (&payload[..end], &payload[end + 1..]);
    let event = serde_json::from_slice(text).map_err(|error| format!("an event that is none: {error}"))?;
    let mut piece = Vec::new();
    if !packed.is_empty() {
        let mut decoder = GzDecoder::new(packed).take(PIECE);
        decoder
            .read_to_end(&mut piece)
            .map_err(|error| format!("a piece of a file that cannot be unpacked: {error}"))?;
    }
    Ok((event, piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> Event {
        Event::Piece { path: "default/observations.jsonl".to_owned(), offset: 7 }
    }

    #[test]
    fn an_event_comes_back_with_its_piece() {
        for (event, piece) in [(Event::Done, &b""[..]), (event(), &[b'x'; 100_000])] {
            let mut frames = Frames::default();
            frames.push(&encode(3, &event, piece).unwrap());
            let Some(Frame::Good { sequence: 3, payload }) = frames.next() else { panic!("no frame") };
            assert_eq!(decode(&payload).unwrap(), (event, piece.to_vec()));
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_too_much(payload: Vec<u8>) {
            let _ = decode(&payload);
        }
    }
}
