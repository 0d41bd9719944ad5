//! The kernel's log as /dev/kmsg gives it (`Documentation/ABI/testing/dev-kmsg`).

use crate::judge::is_finding;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// The device.
pub const KMSG: &str = "/dev/kmsg";
/// A read gives one record, and fails where it does not fit: the kernel makes none longer than this
/// (`kernel/printk/internal.h`, `PRINTK_MESSAGE_MAX`, with room for a dictionary).
const LONGEST: usize = 16 << 10;
/// The most lines that are kept of what has come since the last time.
const MOST_LINES: usize = 1024;

/// How the device is opened: reads do not wait.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    /// Counts all records of this boot.
    number: u64,
    /// The kernel itself wrote it; others can write into its log too.
    kernel: bool,
    /// It goes on where the one before ended.
    continues: bool,
    text: String,
}

impl Message {
    /// Reads `6,339,5140900,-;text`; lines after the first that begin with a space are a dictionary.
    fn parse(record: &[u8]) -> Option<Message> {
        let record = String::from_utf8_lossy(record);
        let (prefix, text) = record.split_once(';')?;
        let mut fields = prefix.split(',');
        let priority: u64 = fields.next()?.parse().ok()?;
        let number = fields.next()?.parse().ok()?;
        let flags = fields.nth(1)?;
        let text = unescape(text.lines().next().unwrap_or_default());
        // The low three bits of the priority are the level, the others the facility: 0 is the kernel.
        Some(Message { number, kernel: priority >> 3 == 0, continues: flags.contains(['c', '+']), text })
    }
}

/// The kernel writes bytes that are not printable, and the backslash, as `\xNN`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend(before.bytes());
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.extend(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The kernel's log from now on.
#[derive(Debug)]
pub struct KernelLog<R = File> {
    device: R,
    /// Number of the last record, once one has come.
    last: Option<u64>,
}

/// What has come since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Lines of the kernel itself, in order: those that say that something is wrong with it before all others, where
    /// they are too many to keep.
    pub lines: Vec<String>,
    /// Lines that were too many to keep.
    pub more: u64,
    /// Records that were overwritten before they were read, at least.
    pub lost: u64,
}

/// Lines as they come, up to a bound.
#[derive(Default)]
struct Kept {
    /// Each with whether it says that something is wrong.
    lines: Vec<(bool, String)>,
    more: u64,
}

impl Kept {
    /// Takes the next line, which is whole.
    fn take(&mut self, line: String) {
        let finding = is_finding(&line);
        if self.lines.len() == MOST_LINES {
            self.more += 1;
            match self.lines.iter().rposition(|&(finding, _)| !finding) {
                Some(last) if finding => drop(self.lines.remove(last)),
                _ => return,
            }
        }
        self.lines.push((finding, line));
    }
}

impl KernelLog {
    /// Opens it, at its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> io::Result<KernelLog> {
        let mut device = options().open(KMSG)?;
        device.seek(SeekFrom::End(0))?;
        Ok(KernelLog::of(device))
    }
}

impl<R: Read> KernelLog<R> {
    /// The log that this device gives, a record a read.
    pub fn of(device: R) -> KernelLog<R> {
        KernelLog { device, last: None }
    }

    /// What has come since the last time.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn news(&mut self) -> io::Result<News> {
        let (mut kept, mut lost, mut record) = (Kept::default(), 0, vec![0; LONGEST]);
        let (mut overwritten, mut line) = (false, None::<String>);
        loop {
            let message = match self.device.read(&mut record) {
                Ok(0) => break,
                Ok(count) => Message::parse(&record[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Records were overwritten before they were read; the next read gives the oldest that is left.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    overwritten = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(message) = message else { continue };
            let missing = self.last.map_or(0, |last| message.number.saturating_sub(last + 1));
            lost += missing.max(overwritten.into());
            overwritten = false;
            self.last = Some(message.number);
            match &mut line {
                _ if !message.kernel => {}
                Some(line) if message.continues => {
                    if line.len() < LONGEST {
                        line.push_str(&message.text);
                    }
                }
                _ => line.replace(message.text).into_iter().for_each(|line| kept.take(line)),
            }
        }
        line.into_iter().for_each(|line| kept.take(line));
        lost += u64::from(overwritten);
        Ok(News { lines: kept.lines.into_iter().map(|(_, line)| line).collect(), more: kept.more, lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// Gives a record or an error a read, as the device does.
    struct Device(VecDeque<Result<Vec<u8>, i32>>);

    impl Read for Device {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                Some(Ok(record)) => {
                    buffer[..record.len()].copy_from_slice(&record);
                    Ok(record.len())
                }
                Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(ErrorKind::WouldBlock.into()),
            }
        }
    }

    fn log(records: &[Result<&str, i32>]) -> KernelLog<Device> {
        let records = records.iter().map(|record| record.map(|text| text.as_bytes().to_owned()));
        KernelLog::of(Device(records.collect()))
    }

    fn news(lines: &[&str], lost: u64) -> News {
        News { lines: lines.iter().map(|&line| line.to_owned()).collect(), more: 0, lost }
    }

    #[test]
    fn the_kernels_own_lines_are_read() {
        let mut log = log(&[
            Ok("4,605,4255386311,-;kvm-pvm: pid 4667 vcpu1: CR0.PG stays clear\n"),
            Ok(
                "6,606,4255386312,-,caller=T1;e1000: a \\x5c and a tab\\x09 \\xzz\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:03.0\n",
            ),
            // Facility 1: somebody wrote to /dev/kmsg.
            Ok("12,607,4255386313,-;WARNING: from user space\n"),
            Err(libc::EINTR),
            Ok("4,608,4255386314,-;Modules linked in: kvm_intel\n"),
            Ok("4,609,4255386315,c; kvm irqbypass\n"),
        ]);
        let lines = [
            "kvm-pvm: pid 4667 vcpu1: CR0.PG stays clear",
            "e1000: a \\ and a tab\t \\xzz",
            "Modules linked in: kvm_intel kvm irqbypass",
        ];
        assert_eq!(log.news().unwrap(), news(&lines, 0));
        assert_eq!(log.news().unwrap(), News::default());
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        let mut lossy = log(&[Ok("6,1,1,-;a\n"), Err(libc::EPIPE), Ok("6,5,1,-;b\n"), Ok("6,6,1,-;c\n")]);
        assert_eq!(lossy.news().unwrap(), news(&["a", "b", "c"], 3));
        // Before the first record, nobody knows how many.
        assert_eq!(log(&[Err(libc::EPIPE), Ok("6,5,1,-;b\n")]).news().unwrap(), news(&["b"], 1));
        assert_eq!(log(&[Err(libc::EPIPE)]).news().unwrap(), news(&[], 1));
        assert_eq!(log(&[Err(libc::EIO)]).news().unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn findings_are_kept_before_others() {
        const WARNING: &str = "WARNING: at the end";
        let records: Vec<String> = (0..MOST_LINES + 7)
            .map(|number| format!("6,{number},1,-;line {number}\n"))
            .chain([format!("4,{},1,-;WARNING: at\n", MOST_LINES + 7), format!("4,{},1,c; the end\n", MOST_LINES + 8)])
            .collect();
        let records: Vec<_> = records.iter().map(|record| Ok(record.as_str())).collect();
        let news = log(&records).news().unwrap();
        assert_eq!((news.lines.len(), news.more, news.lost), (MOST_LINES, 8, 0));
        assert_eq!(news.lines[MOST_LINES - 2..], [format!("line {}", MOST_LINES - 2), WARNING.to_owned()]);
        // More findings than lines: the first are kept.
        let findings: Vec<String> =
            (0..MOST_LINES + 2).map(|number| format!("4,{number},1,-;BUG: {number}\n")).collect();
        let news = log(&findings.iter().map(|record| Ok(record.as_str())).collect::<Vec<_>>()).news().unwrap();
        assert_eq!((news.lines[MOST_LINES - 1].clone(), news.more), (format!("BUG: {}", MOST_LINES - 1), 2));
    }

    #[test]
    fn this_kernels_log_has_an_end() {
        match KernelLog::open() {
            Ok(mut log) => drop(log.news().unwrap()),
            Err(error) => crate::skip::skip(&format!("{KMSG}: {error}")),
        }
    }

    proptest! {
        #[test]
        fn any_record_is_one_or_none(record in proptest::collection::vec(any::<u8>(), 1..200), text in "\\PC*") {
            Message::parse(&record);
            unescape(&text);
        }

        #[test]
        fn text_reads_back(text in "[ -~]*") {
            let escaped = text.replace('\\', "\\x5c");
            let message = Message::parse(format!("6,7,8,-;{escaped}\n").as_bytes()).unwrap();
            prop_assert_eq!(message, Message { number: 7, kernel: true, continues: false, text });
        }
    }
}
