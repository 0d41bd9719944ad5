//! What comes through the mailbox, in order, and what is wrong with it.

use crate::mailbox::{self, Event, Frame, Frames};
use std::io;

/// What came so far.
#[derive(Debug, Default)]
pub struct Inbox {
    frames: Frames,
    next: u32,
    /// What was damaged or lost first.
    pub damage: Option<String>,
    /// The last event that is no piece of a file.
    pub last: Option<Event>,
}

impl Inbox {
    /// Takes bytes, and hands each event on, with the piece of a file that came with it.
    ///
    /// # Errors
    /// What `each` says.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&Event, Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        self.frames.push(bytes);
        while let Some(frame) = self.frames.next() {
            let Frame::Good { sequence, payload } = frame else {
                self.damaged(format!("a damaged frame after number {}", self.next));
                continue;
            };
            if sequence != self.next {
                self.damaged(format!("frame {sequence} came instead of {}", self.next));
            }
            self.next = sequence.wrapping_add(1);
            match mailbox::decode(&payload) {
                Ok((event, piece)) => {
                    each(&event, piece)?;
                    // Pieces of files follow other events, and say nothing of where the machine is.
                    if !matches!(event, Event::Piece { .. }) {
                        self.last = Some(event);
                    }
                }
                Err(what) => self.damaged(what),
            }
        }
        Ok(())
    }

    fn damaged(&mut self, what: String) {
        self.damage.get_or_insert(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::encode;

    fn inbox(frames: &[Vec<u8>]) -> Inbox {
        let mut inbox = Inbox::default();
        inbox.take(&frames.concat(), |_, _| Ok(())).unwrap();
        inbox
    }

    #[test]
    fn what_is_lost_or_damaged_shows() {
        let frames: Vec<Vec<u8>> = (0..3).map(|n| encode(n, &Event::Done, b"piece").unwrap()).collect();
        let good = inbox(&frames);
        assert_eq!((good.damage, good.last), (None, Some(Event::Done)));
        let lost = inbox(&[frames[0].clone(), frames[2].clone()]);
        assert_eq!(lost.damage.unwrap(), "frame 2 came instead of 1");
        let mut damaged = frames;
        damaged[1][30] ^= 1;
        assert_eq!(inbox(&damaged).damage.unwrap(), "a damaged frame after number 1");
        let strange = inbox(&[mailbox::frame(0, b"{}\n")]);
        assert!(strange.damage.unwrap().starts_with("an event that is none"));
    }
}
