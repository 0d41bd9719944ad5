//! What the host says: traces, the kernel's log, and QEMU.

use crate::judge::is_finding;
use crate::machine::qemu::ending;
use crate::witness::{KernelLog, Traced, take_lines};
use std::io::{self, ErrorKind, Read};
use wire::host::HostRecord;

/// The thread whose VM is traced: that of the recorded traces in the corpus.
const OWN: i32 = 137;

/// A trace, in pages as the kernel gives it.
pub fn trace(data: &[u8]) -> bool {
    let (mut rest, mut changes, mut traced) = (Vec::new(), Vec::new(), Traced::default());
    traced.threads.insert(OWN);
    for page in data.chunks(4096) {
        rest.extend_from_slice(page);
        take_lines(&mut rest, |line| traced.take(line, &mut changes));
    }
    traced.text();
    for change in &changes {
        assert_eq!(change.to_string().parse::<HostRecord>(), Ok(*change));
    }
    !changes.is_empty()
}

/// Gives a record a read, as /dev/kmsg does. An empty one is an overrun.
struct Records<'a>(std::slice::Split<'a, u8, fn(&u8) -> bool>);

impl Read for Records<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.next() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some([]) => Err(io::Error::from_raw_os_error(libc::EPIPE)),
            Some(record) => {
                let len = record.len().min(buffer.len());
                buffer[..len].copy_from_slice(&record[..len]);
                Ok(len)
            }
        }
    }
}

/// The kernel's log, with a zero byte between records.
pub fn kernel_log(data: &[u8]) -> bool {
    let news =
        KernelLog::of(Records(data.split(|&byte| byte == 0))).news().expect("no error but those that are waited out");
    news.lines.iter().filter(|line| is_finding(line)).count() > 0
}

/// QEMU's standard error.
pub fn qemu(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    assert!(!ending::account(&text).to_string().is_empty());
    ending::gave_up(&text)
}
