//! The kernel log: Linux, Documentation/ABI/testing/dev-kmsg.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

/// The longest record.
const RECORD: usize = 8192;

/// All that the log holds, a message a line, with seconds since the kernel began. Empty where it cannot be read.
pub fn lines() -> Vec<String> {
    let log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let Ok(mut log) = log else { return Vec::new() };
    let (mut lines, mut record) = (Vec::new(), vec![0; RECORD]);
    loop {
        match log.read(&mut record) {
            Ok(length @ 1..) => lines.extend(line(&String::from_utf8_lossy(&record[..length]))),
            // Records were overwritten before they were read: the next read goes on behind them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => lines.push("... records are missing ...".to_owned()),
            _ => return lines,
        }
    }
}

/// The last messages.
pub fn last(count: usize) -> Vec<String> {
    let mut lines = lines();
    lines.split_off(lines.len().saturating_sub(count))
}

/// A record, `priority,sequence,microseconds,flags;message`, as dmesg shows it.
fn line(record: &str) -> Option<String> {
    let (head, message) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let message = message.lines().next().unwrap_or_default();
    Some(format!("[{:5}.{:06}] {message}", micros / 1_000_000, micros % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_as_dmesg_shows_them() {
        let record = "6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n";
        assert_eq!(line(record).unwrap(), "[    5.140900] NET: Registered protocol family 10");
        for strange in ["", "6,339", "6;x", "6,339,x,-;y"] {
            assert_eq!(line(strange), None);
        }
    }
}
