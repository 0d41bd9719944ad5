//! Frames: what begins and ends in a stream of bytes that may hold other bytes, or lose some.

use crc::{CRC_32_ISO_HDLC, Crc};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// What a frame begins with. The first byte is in no text, and an emulator writes text.
const MAGIC: [u8; 4] = *b"\x02KML";
/// Bytes before the payload: magic, sequence number, length of the payload, its checksum, and the checksum of these
/// three; each number of 32 bits, little-endian. The head has a checksum of its own, so that a wrong length does not
/// keep a reader waiting.
const HEAD: usize = 20;
/// The longest payload. What claims more is no frame.
const LONGEST: u32 = 64 << 20;

/// A payload as a frame.
pub fn frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let numbers = [sequence, payload.len() as u32, CRC.checksum(payload)].map(u32::to_le_bytes);
    let head = numbers.as_flattened();
    [&MAGIC, head, &CRC.checksum(head).to_le_bytes(), payload].concat()
}

/// What was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A frame whose checksum is right.
    Good {
        /// Its number.
        sequence: u32,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// Something that begins like a frame and is none.
    Broken,
}

/// Finds frames in bytes as they come.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes more of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops what is no frame.
    fn skip(&mut self) {
        let begin = self.bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
        // The last bytes may be the beginning of a magic.
        let begin = begin.unwrap_or_else(|| self.bytes.len().saturating_sub(MAGIC.len() - 1));
        self.bytes.drain(..begin);
    }
}

impl Iterator for Frames {
    type Item = Frame;

    /// The next frame, if all of it is there.
    fn next(&mut self) -> Option<Frame> {
        self.skip();
        let head: [u8; HEAD] = *self.bytes.first_chunk()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (sequence, length, check) = (number(4), number(8), number(12));
        let believed = CRC.checksum(&head[4..16]) == number(16) && length <= LONGEST;
        let end = HEAD + length as usize;
        if believed && self.bytes.len() < end {
            return None;
        }
        let payload = self.bytes.get(HEAD..end).filter(|payload| believed && CRC.checksum(payload) == check);
        let (used, found) = match payload {
            Some(payload) => (end, Frame::Good { sequence, payload: payload.to_vec() }),
            // The magic alone is dropped: a good frame may begin in what this one claimed to be its payload.
            None => (MAGIC.len(), Frame::Broken),
        };
        self.bytes.drain(..used);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(sequence: u32, payload: &[u8]) -> Frame {
        Frame::Good { sequence, payload: payload.to_vec() }
    }

    #[test]
    fn a_frame_cut_short_hides_none_behind_it() {
        let (first, second) = (frame(1, b"hello"), frame(2, b"world"));
        let mut frames = Frames::default();
        frames.push(&[&first[..first.len() - 2], &second[..]].concat());
        assert_eq!(frames.collect::<Vec<_>>(), [Frame::Broken, good(2, b"world")]);
    }

    #[test]
    fn a_frame_that_claims_too_much_is_none() {
        let mut frames = Frames::default();
        frames.push(&[&MAGIC[..], &[0xff; 16], &frame(0, b"x")].concat());
        assert_eq!(frames.collect::<Vec<_>>(), [Frame::Broken, good(0, b"x")]);
    }

    proptest! {
        #[test]
        fn frames_come_back_among_text_and_in_pieces(
            payloads in proptest::collection::vec(any::<Vec<u8>>(), 0..8),
            text in "[ -~\n]{0,40}",
            piece in 1..50usize,
        ) {
            let mut stream = text.clone().into_bytes();
            for (sequence, payload) in (0..).zip(&payloads) {
                stream.extend(frame(sequence, payload));
                stream.extend(text.bytes());
            }
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                frames.push(bytes);
                found.extend(frames.by_ref());
            }
            let wanted: Vec<_> = (0..).zip(&payloads).map(|(sequence, payload)| good(sequence, payload)).collect();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn a_changed_byte_never_makes_another_frame(
            payload in proptest::collection::vec(any::<u8>(), 0..64), at: usize, to: u8,
        ) {
            let mut bytes = frame(9, &payload);
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let mut frames = Frames::default();
            frames.push(&bytes);
            prop_assert!(frames.all(|found| found == Frame::Broken));
        }
    }
}
