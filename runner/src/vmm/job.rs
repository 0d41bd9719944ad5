//! A job on its way to a VMM, and the answer on its way back.
//!
//! A job is the length of a head as a little-endian u32, the head in JSON, the guest's ELF file, and its module.

use super::frame::{self, Kind, Trouble};
use crate::execute::chain;
use crate::host::quirks::Quirks;
use crate::machine::{Job, Limits, MachineError, Observed};
use crate::plan::vm::VmConfig;
use crate::witness::Wants;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use wire::needs::Needs;

/// The most bytes of a job.
const MOST: usize = 1 << 28;

/// A job but for its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Head {
    run: u64,
    test: String,
    needs: u64,
    vm: VmConfig,
    /// Those of `vm` by bit: it has only those that have names.
    quirks: u32,
    timeout: Duration,
    output: usize,
    /// What the witnesses want, if any watch.
    pub wants: Option<Wants>,
    /// Bytes of the guest; the rest is its module.
    elf: usize,
}

/// How a job went.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It ran.
    Ran(Observed),
    /// Host or harness is broken: what was tried, and what the system said.
    Failed(String, Option<String>),
}

impl From<Result<Observed, MachineError>> for Answer {
    fn from(result: Result<Observed, MachineError>) -> Answer {
        match result {
            Ok(observed) => Answer::Ran(observed),
            Err(error) => Answer::Failed(error.what, error.source.map(|source| chain(source.as_ref()))),
        }
    }
}

/// Sends a job.
///
/// # Errors
/// The VMM is gone, or does not take it for as long as the socket's timeout.
pub fn send(to: &UnixStream, job: &Job<'_>) -> io::Result<()> {
    let head = Head {
        run: job.run,
        test: job.test.to_owned(),
        needs: job.needs.0,
        vm: VmConfig { disable_quirks: Quirks::default(), ..job.vm.clone() },
        quirks: job.vm.disable_quirks.0,
        timeout: job.limits.timeout,
        output: job.limits.output,
        wants: job.watch.map(|watch| watch.wants()),
        elf: job.elf.len(),
    };
    let head = serde_json::to_vec(&head)?;
    let length = (head.len() as u32).to_le_bytes();
    frame::write(to, Kind::Job, &[&length[..], &head, job.elf, job.module].concat())
}

/// A job that has come.
#[derive(Debug)]
pub struct Received {
    /// All of it but the bytes.
    pub head: Head,
    vm: VmConfig,
    content: Vec<u8>,
    /// Where in the content the guest begins.
    elf: usize,
}

impl Received {
    /// Waits for one; none, where the runner wants no VM any more.
    ///
    /// # Errors
    /// In words: what came is no job.
    pub fn wait(from: &UnixStream) -> Result<Option<Received>, String> {
        let content = match frame::read(from, None, |kind| (kind == Kind::Job).then_some(MOST)) {
            Ok((_, content)) => content,
            Err(Trouble::Gone) => return Ok(None),
            Err(trouble) => return Err(format!("no job came: {trouble:?}")),
        };
        let cut = || "no job came: it is cut".to_owned();
        let (length, rest) = content.split_first_chunk().ok_or_else(cut)?;
        let (head, bytes) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        let head: Head = serde_json::from_slice(head).map_err(|error| format!("no job came: {error}"))?;
        if head.elf > bytes.len() {
            return Err(cut());
        }
        let vm = VmConfig { disable_quirks: Quirks(head.quirks), ..head.vm.clone() };
        let elf = content.len() - bytes.len();
        Ok(Some(Received { head, vm, content, elf }))
    }

    /// The job, without witnesses.
    pub fn job(&self) -> Job<'_> {
        let Head { run, test, needs, timeout, output, elf, .. } = &self.head;
        let (elf, module) = self.content[self.elf..].split_at(*elf);
        let limits = Limits { timeout: *timeout, output: *output };
        Job { elf, run: *run, test, module, needs: Needs(*needs), vm: &self.vm, limits, watch: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::step::SlotType;

    #[test]
    fn a_job_arrives_as_it_is() {
        let vm = VmConfig {
            maxphyaddr: Some(36),
            cpuid_mtrr: false,
            disable_quirks: Quirks(1 << 31 | 2),
            slot_type: SlotType::Wc,
            ..VmConfig::default()
        };
        let limits = Limits { timeout: Duration::from_millis(1500), output: 77 };
        let needs = Needs::APIC.and(Needs::cpus(3));
        let job = Job { elf: b"elf", run: u64::MAX, test: "t", module: b"mod", needs, vm: &vm, limits, watch: None };
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &job).unwrap();
        let received = Received::wait(&b).unwrap().unwrap();
        assert_eq!(format!("{:?}", received.job()), format!("{job:?}"));
        assert!(received.head.wants.is_none());
        drop(a);
        assert!(Received::wait(&b).unwrap().is_none());
    }

    #[test]
    fn what_is_no_job_is_said() {
        let (a, b) = UnixStream::pair().unwrap();
        frame::write(&a, Kind::Sptes, b"").unwrap();
        let said = Received::wait(&b).unwrap_err();
        assert!(said.starts_with("no job came: Babble"), "{said}");
        // Another one that has said nothing yet: the first has a frame's content left.
        let (a, b) = UnixStream::pair().unwrap();
        for content in [&b"\x02\0"[..], b"\x03\0\0\0{}"] {
            frame::write(&a, Kind::Job, content).unwrap();
            assert_eq!(Received::wait(&b).unwrap_err(), "no job came: it is cut");
        }
    }
}
