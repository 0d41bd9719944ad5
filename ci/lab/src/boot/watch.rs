//! Watching a machine: its console into a file, its mailbox to whoever waits for it.

use super::ending::{Cause, Ending};
use super::inbox::Inbox;
use crate::mailbox::Event;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most that is kept of the console.
const CONSOLE: usize = 4 << 20;

/// A machine under watch. `each` is handed each event, with the piece of a file that came with it.
pub struct Watch<'a> {
    console: File,
    text: Vec<u8>,
    inbox: Inbox,
    each: &'a mut dyn FnMut(&Event, Vec<u8>) -> io::Result<()>,
    failed: Option<io::Error>,
    heard: Instant,
    hung: bool,
    silence: Duration,
    stop: &'a AtomicBool,
}

impl<'a> Watch<'a> {
    /// Begins to watch. `console` is the file for what the kernel says; without a sign of life for `silence` it counts
    /// as hung; `stop` is set to end the machine.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(
        console: &Path,
        silence: Duration,
        stop: &'a AtomicBool,
        each: &'a mut dyn FnMut(&Event, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let console = File::create(console)?;
        let (text, inbox, heard) = (Vec::new(), Inbox::default(), Instant::now());
        Ok(Watch { console, text, inbox, each, failed: None, heard, hung: false, silence, stop })
    }

    /// Takes bytes of the console.
    pub(super) fn console(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        let bytes = &bytes[..bytes.len().min(CONSOLE - self.text.len())];
        self.text.extend_from_slice(bytes);
        let written = self.console.write_all(bytes);
        self.go_on(written)
    }

    /// Takes bytes of the mailbox.
    pub(super) fn mailbox(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        let taken = self.inbox.take(bytes, &mut self.each);
        self.go_on(taken)
    }

    /// Takes note that nothing comes.
    pub(super) fn silence(&mut self) -> ControlFlow<()> {
        self.hung = self.heard.elapsed() >= self.silence;
        if self.hung || self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn go_on(&mut self, done: io::Result<()>) -> ControlFlow<()> {
        self.heard = Instant::now();
        match done {
            Ok(()) if !self.stop.load(Ordering::Relaxed) => ControlFlow::Continue(()),
            done => {
                self.failed = done.err();
                ControlFlow::Break(())
            }
        }
    }

    /// How it ended. `cause` is how the emulator did, and `words` is what it said on standard error.
    ///
    /// # Errors
    /// Something that came could not be kept.
    pub(super) fn end(self, cause: Cause, words: &str) -> io::Result<Ending> {
        match self.failed {
            Some(error) => Err(error),
            None => {
                let cause = if self.hung { Cause::Timeout } else { cause };
                Ok(Ending::new(&self.inbox, &String::from_utf8_lossy(&self.text), cause, words))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::encode;

    static GO: AtomicBool = AtomicBool::new(false);
    static STOP: AtomicBool = AtomicBool::new(true);

    #[test]
    fn the_console_is_kept_and_events_are_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let (mut seen, mut each_path) = (Vec::new(), String::new());
        let mut each = |event: &Event, piece: Vec<u8>| {
            match event {
                Event::Piece { path, .. } => each_path.clone_from(path),
                event => seen.push(event.clone()),
            }
            if piece == b"full" { Err(io::Error::other("disk full")) } else { Ok(()) }
        };
        let mut watch = Watch::new(&path, Duration::from_secs(1), &GO, &mut each).unwrap();
        assert_eq!(watch.console(b"hello\n"), ControlFlow::Continue(()));
        assert_eq!(watch.mailbox(&encode(0, &Event::Done, b"").unwrap()), ControlFlow::Continue(()));
        let piece = Event::Piece { path: "a/b".into(), offset: 0 };
        assert_eq!(watch.mailbox(&encode(1, &piece, b"full").unwrap()), ControlFlow::Break(()));
        assert_eq!(watch.end(Cause::Stopped(()), "").unwrap_err().to_string(), "disk full");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello\n");
        assert_eq!((seen, each_path.as_str()), (vec![Event::Done], "a/b"));
    }

    #[test]
    fn a_machine_that_is_silent_for_too_long_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let mut each = |_: &Event, _| Ok(());
        let mut watch = Watch::new(&dir.path().join("c"), Duration::from_secs(3600), &GO, &mut each).unwrap();
        assert_eq!(watch.silence(), ControlFlow::Continue(()));
        watch.silence = Duration::ZERO;
        assert_eq!(watch.silence(), ControlFlow::Break(()));
        assert_eq!(watch.end(Cause::Stopped(()), "").unwrap(), Ending::Hung("before init ran".into()));
    }

    #[test]
    fn a_stopped_machine_is_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let mut each = |_: &Event, _| Ok(());
        let mut watch = Watch::new(&dir.path().join("c"), Duration::from_secs(1), &STOP, &mut each).unwrap();
        assert_eq!(watch.console(b"x"), ControlFlow::Break(()));
        assert_eq!(watch.end(Cause::Stopped(()), "").unwrap(), Ending::Interrupted);
    }
}
