//! How a boot ended: each kind of end that a reader must tell from the others.

use super::inbox::Inbox;
use super::watch::Hung;
use crate::mailbox::Event;
use kvm_memtype::machine::process;
use std::fmt;

/// How the emulator ended.
pub type Cause = process::Cause<()>;

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Init did its job and turned the machine off.
    Done,
    /// Init could not do its job; why.
    Init(String),
    /// The kernel panicked; its words.
    Panic(String),
    /// Nothing happened any more; what happened last.
    Hung(String),
    /// The machine was reset, as by a triple fault; what happened last.
    Reset(String),
    /// The emulator ended by an error of its own; its words.
    Emulator(String),
    /// What came through the mailbox is damaged.
    Garbled(String),
    /// Somebody stopped it.
    Interrupted,
}

/// What Bochs says when its exit port was written to. Without a word from init it was the ROM, which runs again after a
/// reset. QEMU just ends.
const SHUTDOWN: &str = "shutdown requested";
/// What a kernel says when it panics.
const PANIC: &str = "Kernel panic - not syncing";

impl Ending {
    /// What mailbox and console tell, why it counts as hung, how the emulator ended, and what it said.
    pub(super) fn new(inbox: &Inbox, console: &str, hung: Option<Hung>, cause: Cause, words: &str) -> Ending {
        let panic = console.lines().find_map(|line| line.find(PANIC).map(|at| line[at..].trim_end().to_owned()));
        if let Some(panic) = panic {
            return Ending::Panic(panic);
        }
        // A kernel that dies amid a frame damages it, so this is no reason of its own.
        if let Some(damage) = &inbox.damage {
            return Ending::Garbled(damage.clone());
        }
        match (&inbox.last, hung, cause) {
            (Some(Event::Done), ..) => Ending::Done,
            (Some(Event::Failed { what }), ..) => Ending::Init(what.clone()),
            (last, Some(Hung::Told(words)), _) => Ending::Hung(format!("{}: {words}", after(last.as_ref()))),
            (last, Some(Hung::Silent), _) | (last, _, Cause::Timeout) => Ending::Hung(after(last.as_ref())),
            (.., Cause::Stopped(())) => Ending::Interrupted,
            (last, _, Cause::Exited(status)) if status.success() || words.contains(SHUTDOWN) => {
                Ending::Reset(after(last.as_ref()))
            }
            (.., Cause::Exited(status)) => Ending::Emulator(format!("{status}: {}", words.trim())),
        }
    }
}

/// What happened last, in words.
fn after(event: Option<&Event>) -> String {
    match event {
        None => "before init ran".to_owned(),
        Some(Event::Up { .. } | Event::Without { .. }) => "while modules were loaded".to_owned(),
        Some(Event::Ready { .. } | Event::Ended { .. }) => "between suites".to_owned(),
        Some(Event::Suite { suite }) => format!("at the start of suite {suite}"),
        Some(Event::Cell { cell }) => format!("after cell {cell}"),
        Some(Event::Piece { .. } | Event::Failed { .. } | Event::Done) => "at the end".to_owned(),
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => write!(f, "done"),
            Ending::Init(why) => write!(f, "init failed: {why}"),
            Ending::Panic(words) => write!(f, "{words}"),
            Ending::Hung(last) => write!(f, "the kernel hung {last}"),
            Ending::Reset(last) => write!(f, "the machine was reset, by a triple fault or a reboot, {last}"),
            Ending::Emulator(words) => write!(f, "the emulator failed: {words}"),
            Ending::Garbled(what) => write!(f, "the mailbox is damaged: {what}"),
            Ending::Interrupted => write!(f, "interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::encode;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn ending(events: &[Event], console: &str, cause: Cause, words: &str) -> Ending {
        let mut inbox = Inbox::default();
        for (n, event) in (0..).zip(events) {
            inbox.take(&encode(n, event, b"").unwrap(), |_, _| Ok(())).unwrap();
        }
        Ending::new(&inbox, console, None, cause, words)
    }

    #[test]
    fn each_end_is_told_from_the_others() {
        let exited = |code: i32| Cause::Exited(ExitStatus::from_raw(code << 8));
        let shutdown = "[UNMAP ] Shutdown port: shutdown requested\n";
        let up = Event::Up { release: "6.1".into(), uptime: "1".into() };
        let cell = Event::Cell { cell: "pat-msr/bytes".into() };
        let panic = "[    1.0] x\n[    2.0] Kernel panic - not syncing: Attempted to kill init!\r\n";
        let failed = Event::Failed { what: "no module".into() };
        for (events, console, cause, words, wanted) in [
            (vec![up.clone(), Event::Done], "", exited(1), shutdown, "done"),
            (vec![up.clone(), failed], "", exited(1), shutdown, "init failed: no module"),
            (vec![up.clone()], panic, exited(1), shutdown, "Kernel panic - not syncing: Attempted to kill init!"),
            (vec![up.clone()], panic, Cause::Timeout, "", "Kernel panic - not syncing: Attempted to kill init!"),
            (vec![], "", Cause::Timeout, "", "the kernel hung before init ran"),
            (vec![up.clone(), cell.clone()], "", Cause::Timeout, "", "the kernel hung after cell pat-msr/bytes"),
            (vec![up.clone()], "", Cause::Stopped(()), "", "interrupted"),
            (
                vec![up],
                "",
                exited(1),
                "[CPU0] no such model\n",
                "the emulator failed: exit status: 1: [CPU0] no such model",
            ),
        ] {
            assert_eq!(ending(&events, console, cause, words).to_string(), wanted);
        }
        let mut damaged = Inbox::default();
        (damaged.damage, damaged.last) = (Some("a damaged frame".into()), Some(cell.clone()));
        for (console, wanted) in [
            ("", "the mailbox is damaged: a damaged frame"),
            (panic, "Kernel panic - not syncing: Attempted to kill init!"),
        ] {
            assert_eq!(Ending::new(&damaged, console, None, exited(1), shutdown).to_string(), wanted);
        }
        for (cause, words) in [(exited(1), shutdown), (exited(0), "")] {
            let reset = ending(std::slice::from_ref(&cell), "", cause, words);
            assert_eq!(reset, Ending::Reset("after cell pat-msr/bytes".into()));
        }
    }
}
