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

/// The most that a kernel may say on its console; one that says more says the same over and over.
const CONSOLE: usize = 4 << 20;

/// What a kernel says when it finds that a CPU makes no progress: Linux, kernel/watchdog.c and kernel/rcu/tree_stall.h.
/// All words of one of them are in the line.
const STUCK: [&[&str]; 4] = [
    &["soft lockup"],
    &["hard LOCKUP"],
    &["rcu: INFO:", "detected stall"],
    &["rcu: INFO:", "detected expedited stall"],
];

/// How long a machine may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a sign of life: an event, or before init runs anything on the console.
    pub silence: Duration,
    /// In all.
    pub whole: Duration,
}

/// Why a machine counts as hung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hung {
    /// It gave no sign of life.
    Silent,
    /// It did, but something else tells; in words.
    Told(String),
}

/// A machine under watch. `each` is handed each event, with the piece of a file that came with it.
pub struct Watch<'a> {
    console: File,
    text: Vec<u8>,
    /// Where in `text` the line begins that is not looked at yet.
    unread: usize,
    inbox: Inbox,
    each: &'a mut dyn FnMut(&Event, Vec<u8>) -> io::Result<()>,
    failed: Option<io::Error>,
    began: Instant,
    heard: Instant,
    hung: Option<Hung>,
    limits: Limits,
    stop: &'a AtomicBool,
}

impl<'a> Watch<'a> {
    /// Begins to watch. `console` is the file for what the kernel says; beyond `limits` it counts as hung; `stop` is set
    /// to end the machine.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(
        console: &Path,
        limits: Limits,
        stop: &'a AtomicBool,
        each: &'a mut dyn FnMut(&Event, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let console = File::create(console)?;
        let (text, inbox, began) = (Vec::new(), Inbox::default(), Instant::now());
        Ok(Watch { console, text, unread: 0, inbox, each, failed: None, began, heard: began, hung: None, limits, stop })
    }

    /// Takes bytes of the console.
    pub(super) fn console(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        // A kernel in trouble may talk for ever: once init runs, only what init sends is a sign of life.
        if self.inbox.last.is_none() && !bytes.is_empty() {
            self.heard = Instant::now();
        }
        let kept = &bytes[..bytes.len().min(CONSOLE - self.text.len())];
        self.text.extend_from_slice(kept);
        self.failed = self.console.write_all(kept).err();
        if kept.len() < bytes.len() {
            self.hang(format!("it said more than {} MiB on its console", CONSOLE >> 20));
        }
        while let Some(length) = self.text[self.unread..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.text[self.unread..self.unread + length]).trim().to_owned();
            self.unread += length + 1;
            if STUCK.iter().any(|words| words.iter().all(|word| line.contains(word))) {
                self.hang(line);
            }
        }
        self.go_on()
    }

    /// Takes bytes of the mailbox.
    pub(super) fn mailbox(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        let (each, heard) = (&mut self.each, &mut self.heard);
        let taken = self.inbox.take(bytes, |event, piece| {
            *heard = Instant::now();
            each(event, piece)
        });
        self.failed = taken.err();
        self.go_on()
    }

    /// Takes note that nothing comes.
    pub(super) fn silence(&mut self) -> ControlFlow<()> {
        self.go_on()
    }

    /// What tells first counts: what comes behind it follows from it.
    fn hang(&mut self, words: String) {
        self.hung.get_or_insert(Hung::Told(words));
    }

    /// Whether there is something to wait for.
    fn go_on(&mut self) -> ControlFlow<()> {
        if self.heard.elapsed() >= self.limits.silence {
            self.hung.get_or_insert(Hung::Silent);
        }
        if self.began.elapsed() >= self.limits.whole {
            self.hang(format!("it was not done after {} s", self.limits.whole.as_secs()));
        }
        let stop = self.failed.is_some() || self.hung.is_some() || self.stop.load(Ordering::Relaxed);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// How it ended. `cause` is how the emulator did, and `words` is what it said on standard error.
    ///
    /// # Errors
    /// Something that came could not be kept.
    pub(super) fn end(self, cause: Cause, words: &str) -> io::Result<Ending> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Ending::new(&self.inbox, &String::from_utf8_lossy(&self.text), self.hung, cause, words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::encode;

    const LIMITS: Limits = Limits { silence: Duration::from_secs(3600), whole: Duration::from_secs(3600) };

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
        let mut watch = Watch::new(&path, LIMITS, &GO, &mut each).unwrap();
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
        let mut watch = Watch::new(&dir.path().join("c"), LIMITS, &GO, &mut each).unwrap();
        assert_eq!(watch.silence(), ControlFlow::Continue(()));
        watch.limits.silence = Duration::ZERO;
        assert_eq!(watch.silence(), ControlFlow::Break(()));
        assert_eq!(watch.end(Cause::Stopped(()), "").unwrap(), Ending::Hung("before init ran".into()));
    }

    /// How a machine ends whose init is up, and which then says this on its console.
    fn talks(limits: Limits, pieces: &[&[u8]]) -> (ControlFlow<()>, Ending) {
        let dir = tempfile::tempdir().unwrap();
        let mut each = |_: &Event, _| Ok(());
        let mut watch = Watch::new(&dir.path().join("c"), LIMITS, &GO, &mut each).unwrap();
        let up = Event::Up { release: "6.1".into(), uptime: "1".into() };
        assert_eq!(watch.mailbox(&encode(0, &up, b"").unwrap()), ControlFlow::Continue(()));
        watch.limits = limits;
        let mut flow = ControlFlow::Continue(());
        for piece in pieces {
            flow = watch.console(piece);
            if flow.is_break() {
                break;
            }
        }
        (flow, watch.end(Cause::Stopped(()), "").unwrap())
    }

    #[test]
    fn a_machine_that_talks_hangs_too() {
        let soft = "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kvm-memtype:71]";
        let hard = "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0";
        let own = "rcu: INFO: rcu_preempt self-detected stall on CPU";
        let other = "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:";
        for words in [soft, hard, own, other] {
            let (first, rest) = words.split_at(12);
            let (flow, ending) = talks(LIMITS, &[b"x\n", first.as_bytes(), rest.as_bytes(), b"\r\nmore\n"]);
            assert_eq!(flow, ControlFlow::Break(()));
            assert_eq!(ending, Ending::Hung(format!("while modules were loaded: {words}")));
        }
        let flood = vec![b'x'; CONSOLE];
        let (flow, ending) = talks(LIMITS, &[&flood, b"x"]);
        let words = "while modules were loaded: it said more than 4 MiB on its console";
        assert_eq!((flow, ending), (ControlFlow::Break(()), Ending::Hung(words.into())));
        for (limits, words) in [
            (Limits { silence: Duration::ZERO, ..LIMITS }, "while modules were loaded"),
            (Limits { whole: Duration::ZERO, ..LIMITS }, "while modules were loaded: it was not done after 0 s"),
        ] {
            assert_eq!(talks(limits, &[b"chatter\n"]), (ControlFlow::Break(()), Ending::Hung(words.into())));
        }
    }

    #[test]
    fn once_init_runs_the_console_is_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let mut each = |_: &Event, _| Ok(());
        let mut watch = Watch::new(&dir.path().join("c"), LIMITS, &GO, &mut each).unwrap();
        let began = watch.heard;
        let _ = watch.console(b"x\n");
        let heard = watch.heard;
        assert_ne!(heard, began);
        let _ = watch.mailbox(b"what an emulator says\n");
        let up = Event::Up { release: "6.1".into(), uptime: "1".into() };
        assert_eq!(watch.heard, heard);
        let _ = watch.mailbox(&encode(0, &up, b"").unwrap());
        let up = watch.heard;
        assert_ne!(up, heard);
        let _ = watch.console(b"x\n");
        assert_eq!(watch.heard, up);
    }

    #[test]
    fn a_stopped_machine_is_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let mut each = |_: &Event, _| Ok(());
        let mut watch = Watch::new(&dir.path().join("c"), LIMITS, &STOP, &mut each).unwrap();
        assert_eq!(watch.console(b"x"), ControlFlow::Break(()));
        assert_eq!(watch.end(Cause::Stopped(()), "").unwrap(), Ending::Interrupted);
    }
}
