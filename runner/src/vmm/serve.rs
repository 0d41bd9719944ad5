//! The runner's side of one job: what the VMM says is taken as if the guest had taken the VMM over.

use super::allowed;
use super::frame::{self, Kind, Trouble};
use super::in_force::InForce;
use super::job::{self, Answer};
use super::zygotes::Fate;
use crate::machine::lines::LONGEST;
use crate::machine::{End, Job, Line, MachineError, Observed};
use crate::witness::Watching;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::host::HostRecord;

/// How long a VMM may take on top of its guest's time, and a tenth of that.
pub const GRACE: Duration = Duration::from_secs(10);
/// The most bytes of a gap, and the most gaps.
const GAPS: (usize, usize) = (1024, 64);
/// The most characters of a text that is shown.
const MOST_TEXT: usize = 1000;
/// The most bytes of KVM's statistics.
const STATS: usize = 1 << 16;
/// What an answer may have for each byte of the log, and besides: a byte that is no UTF-8 is four characters, of which one is
/// escaped again.
const ANSWER: (usize, usize) = (8, 1 << 16);
/// Bytes of a log that a record counts for.
const RECORD: usize = 40;

/// Why a VMM gave no answer.
#[derive(Debug)]
pub enum Failed {
    /// Its time is up, and the guest's was before.
    Late,
    /// It ended before it answered.
    Died,
    /// It made a system call that is not allowed: its number and its second argument.
    Refused(u64, u64),
    /// It said what no VMM of this version says.
    Babbled(String),
    /// It said by itself why it could not run the job.
    Said(MachineError),
    /// The system refuses.
    Io(std::io::Error),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Failed {
        match trouble {
            Trouble::Late => Failed::Late,
            Trouble::Gone => Failed::Died,
            Trouble::Babble(what) => Failed::Babbled(what),
            Trouble::Io(error) => Failed::Io(error),
        }
    }
}

/// Has the VMM of that process id run a job.
///
/// # Errors
/// It gave no answer, or none that can be one.
pub fn serve(socket: &UnixStream, id: libc::pid_t, job: &Job<'_>) -> Result<Observed, Failed> {
    let began = Instant::now();
    let mut served = Served { socket, id, job, threads: 0, gaps: 0, counted: false, changes: Vec::new() };
    socket.set_write_timeout(Some(GRACE)).map_err(Failed::Io)?;
    // Where it does not take the job, what it says instead, or that it is gone, tells why.
    let sent = job::send(socket, job);
    let mut patience = GRACE.saturating_add(job.limits.timeout).saturating_add(job.limits.timeout / 10);
    let most = ANSWER.0.saturating_mul(job.limits.output).saturating_add(ANSWER.1);
    loop {
        let deadline = began.checked_add(patience);
        let (kind, content) = frame::read(socket, deadline, |kind| served.most(kind, most))?;
        // What witnesses take is none of the VMM's time.
        let asked = Instant::now();
        match kind {
            Kind::Done => {
                let observed = served.answer(&content)?;
                sent.map_err(Failed::Io)?;
                let micros = began.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
                return Ok(Observed { micros: observed.micros.min(micros), ..observed });
            }
            Kind::Refused => {
                let word = |at: usize| content.get(at..at + 8).and_then(|word| word.try_into().ok());
                let word = |at| word(at).map_or(0, u64::from_le_bytes);
                return Err(Failed::Refused(word(0), word(8)));
            }
            other => served.ask(other, &content)?,
        }
        patience = patience.saturating_add(asked.elapsed());
    }
}

/// Waits until a VMM is confined, and gives it no job.
///
/// # Errors
/// It could not be confined.
pub fn ready(socket: &UnixStream) -> Result<InForce, Failed> {
    let most = |kind| matches!(kind, Kind::Ready | Kind::Done).then_some(ANSWER.1);
    let (kind, content) = frame::read(socket, Instant::now().checked_add(GRACE), most)?;
    match kind {
        Kind::Ready => serde_json::from_slice(&content).map_err(|error| Failed::Babbled(error.to_string())),
        _ => match answer(&content)? {
            Answer::Failed(what, source) => Err(Failed::Said(said(&what, source))),
            Answer::Ran(_) => Err(Failed::Babbled("an answer to no job".to_owned())),
        },
    }
}

fn answer(content: &[u8]) -> Result<Answer, Failed> {
    serde_json::from_slice(content).map_err(|error| Failed::Babbled(format!("an answer that is none: {error}")))
}

fn said(what: &str, source: Option<String>) -> MachineError {
    MachineError { what: plain(what), source: source.map(|source| plain(&source).into()) }
}

/// A text of the VMM for terminals and reports: of some length, and without control characters.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().take(MOST_TEXT).map(shown).collect()
}

/// A job under way.
struct Served<'a> {
    socket: &'a UnixStream,
    id: libc::pid_t,
    job: &'a Job<'a>,
    threads: u8,
    gaps: usize,
    /// KVM's statistics have come: they come once.
    counted: bool,
    /// The changes of SPTEs that the witness has told, up to as many as a log has room for.
    changes: Vec<HostRecord>,
}

impl Served<'_> {
    /// How long a frame may be; none for one that does not come now.
    fn most(&self, kind: Kind, answer: usize) -> Option<usize> {
        let wants = self.job.watch.map(|watch| watch.wants());
        let (trace, stats) = (wants.is_some_and(|wants| wants.trace), wants.is_some_and(|wants| wants.stats));
        match kind {
            Kind::Ready => Some(ANSWER.1),
            Kind::Thread if trace && self.threads < self.job.needs.cpu_count() => Some(4),
            Kind::Sptes if trace => Some(0),
            Kind::Gap if wants.is_some() && self.gaps < GAPS.1 => Some(GAPS.0),
            Kind::Stats if stats && !self.counted => Some(STATS),
            Kind::Done => Some(answer),
            Kind::Refused => Some(16),
            _ => None,
        }
    }

    /// Does what the VMM asks of the witnesses.
    fn ask(&mut self, kind: Kind, content: &[u8]) -> Result<(), Failed> {
        let babble = |what: &str| Failed::Babbled(what.to_owned());
        let Some(watch) = self.job.watch else { return Ok(()) };
        let heard = match kind {
            Kind::Thread => {
                let thread = content.try_into().map(i32::from_le_bytes).map_err(|_| babble("a thread that is none"))?;
                if !Path::new(&format!("/proc/{}/task/{thread}", self.id)).exists() {
                    return Err(Failed::Babbled(format!("thread {thread}, which is not its own")));
                }
                self.threads += 1;
                watch.thread(thread);
                0
            }
            Kind::Sptes => self.changes(watch),
            Kind::Gap => {
                self.gaps += 1;
                watch.gap(&plain(&String::from_utf8_lossy(content)));
                return Ok(());
            }
            Kind::Stats => {
                let stats: BTreeMap<String, u64> =
                    serde_json::from_slice(content).map_err(|_| babble("statistics that are none"))?;
                if stats.keys().any(|name| !name.bytes().all(|byte| byte.is_ascii_graphic())) {
                    return Err(babble("statistics that are none"));
                }
                self.counted = true;
                watch.stats(stats);
                return Ok(());
            }
            _ => return Ok(()),
        };
        // Where it is not taken, the next frame does not come, which tells why.
        let _ = frame::write(self.socket, Kind::Heard, &u32::to_le_bytes(heard));
        Ok(())
    }

    /// Keeps the changes of SPTEs that are new, and returns how many there are.
    fn changes(&mut self, watch: &dyn Watching) -> u32 {
        let changes = watch.sptes();
        let count = changes.len().try_into().unwrap_or(u32::MAX);
        // More than that have no place in the log, which ends in a flood.
        let room = (self.job.limits.output / RECORD + 1).saturating_sub(self.changes.len());
        self.changes.extend(changes.into_iter().take(room));
        count
    }

    /// The answer, if it can be one.
    fn answer(&mut self, content: &[u8]) -> Result<Observed, Failed> {
        let mut observed = match answer(content)? {
            Answer::Ran(observed) => observed,
            Answer::Failed(what, source) => return Err(Failed::Said(said(&what, source))),
        };
        // The witnesses are the runner's, and speak for themselves.
        observed.witness = Default::default();
        let babble = |what: &str| Err(Failed::Babbled(what.to_owned()));
        if matches!(&observed.end, End::InternalError { bytes, .. } if bytes.len() > 15) {
            return babble("an instruction of more than 15 bytes");
        }
        if let End::Unexpected(what) = &mut observed.end {
            *what = plain(what);
        }
        let mut changes = self.changes.drain(..);
        for line in &mut observed.log {
            match line {
                // A byte that is no UTF-8 takes four.
                Line::Guest(text) | Line::Console(text) if text.len() > 4 * LONGEST || text.contains('\n') => {
                    return babble("a line that is none");
                }
                Line::Host(record @ (HostRecord::Spte { .. } | HostRecord::Zap { .. })) => match changes.next() {
                    Some(change) => *record = change,
                    None => return babble("a change of an SPTE that no witness has seen"),
                },
                _ => {}
            }
        }
        let (left, flood) = (changes.len(), observed.end == End::Flood);
        drop(changes);
        if let Some(watch) = self.job.watch.filter(|_| left > 0 && !flood) {
            watch.gap(&format!("{left} changes of SPTEs have no place in the log"));
        }
        Ok(observed)
    }
}

/// What failed, in words, of the VMM of that process id, and what became of it.
pub fn words(failed: Failed, id: libc::pid_t, fate: Fate) -> MachineError {
    let lives = match fate {
        Fate::Ended(_) => "",
        Fate::Lives => "; it does not die, so the kernel holds it, in KVM_RUN perhaps",
        Fate::Orphan => "; the process that made it is gone, too",
    };
    let what = match failed {
        Failed::Said(error) => return error,
        Failed::Late => format!(
            "the VMM (process {id}) was not done {} s and a tenth after the time of its guest was up, and was killed{lives}",
            GRACE.as_secs()
        ),
        Failed::Died => match fate {
            Fate::Ended(status) => {
                format!("the VMM (process {id}) ended before it was done: {status}; the kernel's log may say why")
            }
            _ => format!("the VMM (process {id}) closed its socket before it was done{lives}"),
        },
        Failed::Refused(number, argument) => format!(
            "the VMM (process {id}) made system call {number} ({}) with second argument {argument:#x}, which it must not",
            allowed::name(number)
        ),
        Failed::Babbled(what) => format!("the VMM (process {id}) says what no VMM of this version says: {what}"),
        Failed::Io(error) => {
            let what = format!("the socket to the VMM (process {id}) is broken");
            return MachineError { what, source: Some(error.into()) };
        }
    };
    MachineError { what, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;
    use crate::plan::vm::VmConfig;
    use crate::witness::Wants;
    use proptest::prelude::*;
    use std::io::Write;
    use std::sync::Mutex;
    use wire::needs::Needs;

    /// A witness that has seen one change, and keeps what it is told.
    #[derive(Debug, Default)]
    struct Eye(Mutex<Vec<String>>);

    const SEEN: HostRecord = HostRecord::Spte { gfn: 7, level: 1, old: 0, new: 0x77 };

    impl Watching for Eye {
        fn wants(&self) -> Wants {
            Wants { trace: true, stats: true }
        }

        fn thread(&self, thread: libc::pid_t) {
            self.0.lock().unwrap().push(format!("thread {thread}"));
        }

        fn sptes(&self) -> Vec<HostRecord> {
            vec![SEEN]
        }

        fn gap(&self, what: &str) {
            self.0.lock().unwrap().push(what.to_owned());
        }

        fn stats(&self, stats: BTreeMap<String, u64>) {
            self.0.lock().unwrap().push(format!("{stats:?}"));
        }
    }

    /// Serves a VMM that says these bytes whatever it is told, and then is silent, or gone.
    fn said(bytes: &[u8], gone: bool) -> (Result<Observed, Failed>, Vec<String>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(bytes).unwrap();
        let kept = if gone {
            drop(theirs);
            None
        } else {
            Some(theirs)
        };
        let (vm, eye) = (VmConfig::default(), Eye::default());
        let limits = Limits { timeout: Duration::ZERO, output: 4096 };
        let needs = Needs::NONE;
        let job = Job { elf: b"elf", run: 1, test: "t", needs, vm: &vm, limits, module: &[], watch: Some(&eye) };
        let served = serve(&ours, std::process::id() as i32, &job);
        drop(kept);
        (served, eye.0.into_inner().unwrap())
    }

    fn frame(kind: Kind, content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_le_bytes()[..], &[kind as u8], content].concat()
    }

    fn done(log: &str, end: &str) -> Vec<u8> {
        frame(
            Kind::Done,
            format!(r#"{{"Ran": {{"log": {log}, "end": {end}, "micros": 18446744073709551615}}}}"#).as_bytes(),
        )
    }

    #[test]
    fn a_change_of_an_spte_is_the_witness_s_own() {
        let place = r#"["<a", ">spte 0 0 0 0"]"#;
        let bytes = [frame(Kind::Sptes, b""), done(place, r#"{"exit": 16}"#)].concat();
        let (observed, told) = said(&bytes, false);
        let observed = observed.unwrap();
        assert_eq!(observed.log, [Line::Guest("a".into()), Line::Host(SEEN)]);
        assert!(observed.micros < 1_000_000_000 && told.is_empty(), "{told:?}");
        // One that is made up, and one that is kept back.
        let (made_up, _) = said(&done(place, r#""halt""#), false);
        assert!(matches!(made_up, Err(Failed::Babbled(what)) if what.contains("no witness has seen")));
        let (_, told) = said(&[frame(Kind::Sptes, b""), done("[]", r#""halt""#)].concat(), false);
        assert_eq!(told, ["1 changes of SPTEs have no place in the log"]);
    }

    #[test]
    fn only_its_own_threads_are_listened_to() {
        let own = crate::machine::kvm::sys::thread_id();
        let bytes = [frame(Kind::Thread, &own.to_le_bytes()), done("[]", r#""halt""#)].concat();
        let (observed, told) = said(&bytes, false);
        assert!(observed.is_ok());
        assert_eq!(told, [format!("thread {own}")]);
        let (observed, told) = said(&frame(Kind::Thread, &1i32.to_le_bytes()), false);
        assert!(matches!(observed, Err(Failed::Babbled(what)) if what == "thread 1, which is not its own"));
        assert!(told.is_empty());
        // It has one vCPU, and so one thread.
        let twice = frame(Kind::Thread, &own.to_le_bytes()).repeat(2);
        assert!(matches!(said(&twice, false).0, Err(Failed::Babbled(_))));
    }

    #[test]
    fn babble_is_named_and_costs_its_own_cell() {
        let long = [&[0xff, 0xff, 0xff, 0x7f, Kind::Done as u8][..], &[b'x'; 64]].concat();
        let other = frame(Kind::Done, br#"{"Ran": {"log": [], "end": "halt", "micros": 0, "cell": "boot/hello"}}"#);
        for (bytes, what) in [
            (b"garbage that is no frame".to_vec(), "at the wrong time"),
            (long, "where 98304 are the most"),
            (frame(Kind::Done, b"{"), "an answer that is none"),
            (other, "unknown field `cell`"),
            (frame(Kind::Job, b""), "at the wrong time"),
            (frame(Kind::Gap, &[b'x'; 2000]), "where 1024 are the most"),
            (frame(Kind::Gap, b"x").repeat(65), "at the wrong time"),
            (frame(Kind::Stats, b"[]"), "statistics that are none"),
            (frame(Kind::Stats, b"{}").repeat(2), "at the wrong time"),
            (frame(Kind::Stats, br#"{"\u001b[2J": 1}"#), "statistics that are none"),
            (done(r#"["<a\nb"]"#, r#""halt""#), "a line that is none"),
            (done(r#"["a"]"#, r#""halt""#), "is no line of a log"),
            (
                done(
                    "[]",
                    r#"{"internal-error": {"suberror": 1, "rip": 0, "bytes": [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}}"#,
                ),
                "more than 15 bytes",
            ),
        ] {
            let Err(failed) = said(&bytes, false).0 else { panic!("{what}") };
            let words = words(failed, 7, Fate::Lives).to_string();
            assert!(words.starts_with("the VMM (process 7) says what no VMM") && words.contains(what), "{words}");
        }
    }

    #[test]
    fn other_ends_are_named() {
        let refused = frame(Kind::Refused, &[libc::SYS_socket as u64, 1].map(u64::to_le_bytes).concat());
        let (failed, _) = said(&refused, false);
        let said_so = words(failed.unwrap_err(), 7, Fate::Lives).to_string();
        assert_eq!(
            said_so,
            "the VMM (process 7) made system call 41 (socket) with second argument 0x1, which it must not"
        );
        let failed = frame(Kind::Done, br#"{"Failed": ["cannot make a VM (KVM_CREATE_VM)", "out of memory"]}"#);
        let error = words(said(&failed, false).0.unwrap_err(), 7, Fate::Lives);
        assert_eq!(crate::execute::chain(&error), "cannot make a VM (KVM_CREATE_VM): out of memory");
        let (observed, _) = said(&done("[]", r#"{"unexpected": "\u001b[2Jx\n"}"#), false);
        assert_eq!(observed.unwrap().end, End::Unexpected("\\u{1b}[2Jx\\n".to_owned()));
        let (failed, _) = said(&[1, 2, 3], true);
        let killed = std::os::unix::process::ExitStatusExt::from_raw(libc::SIGKILL);
        let said_so = words(failed.unwrap_err(), 7, Fate::Ended(killed)).to_string();
        assert!(said_so.contains("ended before it was done: signal: 9 (SIGKILL)"), "{said_so}");
        assert!(
            words(Failed::Late, 7, Fate::Lives).to_string().ends_with("so the kernel holds it, in KVM_RUN perhaps")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer_or_a_named_failure(kinds: Vec<(u8, Vec<u8>)>, tail: Vec<u8>) {
            let frames = kinds.iter().flat_map(|(kind, content)| {
                [&(content.len() as u32).to_le_bytes()[..], &[kind % 12], content].concat()
            });
            let bytes: Vec<u8> = frames.chain(tail).collect();
            let (served, _) = said(&bytes, true);
            prop_assert!(served.is_err());
        }
    }
}
