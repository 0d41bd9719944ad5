//! The witnesses as a VMM sees them: at the other end of its socket.

use super::frame::{self, Kind};
use crate::witness::{Wants, Watching};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::host::HostRecord;

/// In the place of each change of SPTEs: the runner keeps those that it has read itself, and takes only their places from
/// the VMM's log.
pub const PLACE: HostRecord = HostRecord::Spte { gfn: 0, level: 0, old: 0, new: 0 };

/// The witnesses in the runner. vCPUs ask one after the other.
#[derive(Debug)]
pub struct Remote {
    socket: Mutex<UnixStream>,
    wants: Wants,
}

impl Remote {
    /// Those at the other end of the socket.
    pub fn new(socket: UnixStream, wants: Wants) -> Remote {
        Remote { socket: Mutex::new(socket), wants }
    }

    fn tell(&self, kind: Kind, content: &[u8]) -> MutexGuard<'_, UnixStream> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if frame::write(&socket, kind, content).is_err() {
            gone();
        }
        socket
    }

    fn ask(&self, kind: Kind, content: &[u8]) -> u32 {
        let socket = self.tell(kind, content);
        match frame::read(&socket, None, |kind| (kind == Kind::Heard).then_some(4)) {
            Ok((_, count)) => count.try_into().map_or(0, u32::from_le_bytes),
            Err(_) => gone(),
        }
    }
}

/// Nobody is there any more to whom the rest would matter.
fn gone() -> ! {
    // SAFETY: the call ends the process at once, and runs nothing of it.
    unsafe { libc::_exit(1) }
}

impl Watching for Remote {
    fn wants(&self) -> Wants {
        self.wants
    }

    fn thread(&self, thread: libc::pid_t) {
        self.ask(Kind::Thread, &thread.to_le_bytes());
    }

    fn sptes(&self) -> Vec<HostRecord> {
        vec![PLACE; self.ask(Kind::Sptes, &[]) as usize]
    }

    fn gap(&self, what: &str) {
        drop(self.tell(Kind::Gap, what.as_bytes()));
    }

    fn stats(&self, stats: BTreeMap<String, u64>) {
        drop(self.tell(Kind::Stats, serde_json::json!(stats).to_string().as_bytes()));
    }
}
