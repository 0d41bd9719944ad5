//! How a VM in QEMU ended, read from QEMU's exit status and standard error.

use crate::machine::process::Cause;
use crate::machine::{End, Line};
use std::os::unix::process::ExitStatusExt;

/// Why QEMU was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The guest said more than it may.
    Flood,
    /// Standard error holds a whole account of a vCPU that KVM gave up.
    Hopeless,
}

/// What came of a QEMU.
#[derive(Debug)]
pub struct Ended {
    /// The serial line.
    pub log: Vec<Line>,
    /// Standard error, as far as kept.
    pub stderr: String,
    /// Why the watch ended.
    pub cause: Cause<Why>,
}

/// How QEMU starts its account of a vCPU that KVM gave up (`accel/kvm/kvm-all.c`). It then stops the VM and waits.
const GAVE_UP: [&str; 5] = [
    "KVM internal error. Suberror:",
    "KVM: entry failed, hardware error",
    "error: kvm run failed",
    "KVM: unknown exit",
    "KVM: unhandled exit",
];

/// Whether standard error holds a whole account of a vCPU that KVM gave up, its state included.
pub fn gave_up(stderr: &str) -> bool {
    stderr.lines().any(|line| GAVE_UP.iter().any(|start| line.starts_with(start)))
        && stderr.split_inclusive('\n').any(|line| line.starts_with("Code=") && line.ends_with('\n'))
}

/// How the VM ended.
///
/// # Errors
/// QEMU itself failed; holds what it said.
pub fn end(ended: &Ended) -> Result<End, String> {
    match ended.cause {
        Cause::Timeout => Ok(End::Timeout { rip: None }),
        Cause::Stopped(Why::Flood) => Ok(End::Flood),
        Cause::Stopped(Why::Hopeless) => Ok(account(&ended.stderr)),
        Cause::Exited(status) => {
            let complaint = complaint(&ended.stderr);
            match (status.code(), status.signal()) {
                // A triple fault resets the machine, and -no-reboot makes that an orderly end, whatever else QEMU
                // remarked. It ends with 0 too when somebody tells it to.
                (Some(0), _) if !complaint.contains("terminating on signal") => Ok(End::Shutdown),
                // isa-debug-exit: the value is shifted by one and made odd. Status 1 is QEMU's own, too, but with a
                // reason.
                (Some(code), _) if code & 1 == 1 && (code != 1 || complaint.is_empty()) => {
                    Ok(End::Exit(code as u32 >> 1))
                }
                (Some(code), _) => Err(format!("it ended with status {code}: {}", or_nothing(&complaint))),
                (None, Some(signal)) => Err(format!("it was killed by signal {signal}: {}", or_nothing(&complaint))),
                (None, None) => Err(or_nothing(&complaint)),
            }
        }
    }
}

/// What QEMU complains of, without its warnings.
fn complaint(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.contains("warning: ") && !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn or_nothing(complaint: &str) -> String {
    if complaint.is_empty() { "it gave no reason".to_owned() } else { complaint.to_owned() }
}

/// Reads QEMU's account of a vCPU that KVM gave up.
pub fn account(stderr: &str) -> End {
    let what = stderr.lines().find(|line| GAVE_UP.iter().any(|start| line.starts_with(start))).unwrap_or(stderr);
    let rip = number(stderr, "RIP=", 16).or_else(|| number(stderr, "EIP=", 16)).unwrap_or_default();
    if let Some(suberror) = number(what, "Suberror: ", 10) {
        End::InternalError { suberror: suberror as u32, rip, bytes: bytes_at_rip(stderr) }
    } else if let Some(reason) = number(what, "hardware error 0x", 16) {
        End::FailEntry { reason }
    } else {
        End::Unexpected(format!("{what}, at RIP {rip:#x}"))
    }
}

/// The number behind the first `key`.
fn number(text: &str, key: &str, radix: u32) -> Option<u64> {
    let digits = text.split_once(key)?.1;
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], radix).ok()
}

/// The bytes from the one in angle brackets on, at most the 15 of an instruction.
fn bytes_at_rip(stderr: &str) -> Vec<u8> {
    let Some((_, code)) = stderr.lines().find(|line| line.starts_with("Code=")).and_then(|line| line.split_once('<'))
    else {
        return Vec::new();
    };
    let byte = |word: &str| u8::from_str_radix(word.trim_end_matches('>'), 16).ok();
    code.split_whitespace().map_while(byte).take(15).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    const WARNING: &str = "qemu-system-x86_64: warning: host doesn't support requested feature: pni\n";
    const INTERNAL_ERROR: &str = "KVM internal error. Suberror: 1\n\
        extra data[0]: 0x0000000000000001\n\
        emulation failure\n\
        EAX=00000600 EBX=000021e0 ECX=00100000 EDX=00000518\n\
        EIP=0010000a EFL=00000006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\
        Code=0f 20 e0 66 0d 00 06 0f 22 e0 <66> 0f ef c0 b8 10 00 00 00 e7 f4 f4 00 00 00 00\n";

    fn exited(raw: i32, stderr: &str) -> Result<End, String> {
        let cause = Cause::Exited(ExitStatus::from_raw(raw));
        end(&Ended { log: Vec::new(), stderr: stderr.into(), cause })
    }

    fn hopeless(stderr: &str) -> End {
        end(&Ended { log: Vec::new(), stderr: stderr.into(), cause: Cause::Stopped(Why::Hopeless) }).unwrap()
    }

    #[test]
    fn the_exit_port_comes_through() {
        assert_eq!(exited(0x21 << 8, WARNING), Ok(End::Exit(0x10)));
        assert_eq!(exited(1 << 8, WARNING), Ok(End::Exit(0)));
    }

    #[test]
    fn an_orderly_end_is_a_triple_fault() {
        assert_eq!(exited(0, WARNING), Ok(End::Shutdown));
        let error = exited(0, "qemu-system-x86_64: terminating on signal 15 from pid 7\n").unwrap_err();
        assert!(error.contains("signal 15 from pid 7"), "{error}");
    }

    #[test]
    fn failures_of_qemu_are_told_from_the_guests() {
        let error = exited(1 << 8, "Could not access KVM kernel module: Permission denied\n").unwrap_err();
        assert_eq!(error, "it ended with status 1: Could not access KVM kernel module: Permission denied");
        assert_eq!(exited(6, ""), Err("it was killed by signal 6: it gave no reason".into()));
        assert_eq!(exited(2 << 8, ""), Err("it ended with status 2: it gave no reason".into()));
    }

    #[test]
    fn an_account_counts_only_when_it_is_whole() {
        assert!(gave_up(INTERNAL_ERROR));
        for cut in 0..INTERNAL_ERROR.len() {
            assert!(!gave_up(&INTERNAL_ERROR[..cut]), "{cut}");
        }
        assert!(!gave_up(WARNING));
    }

    #[test]
    fn an_internal_error_is_read() {
        let bytes = vec![0x66, 0x0f, 0xef, 0xc0, 0xb8, 0x10, 0, 0, 0, 0xe7, 0xf4, 0xf4, 0, 0, 0];
        assert_eq!(hopeless(INTERNAL_ERROR), End::InternalError { suberror: 1, rip: 0x10_000a, bytes });
        let long_mode = "KVM internal error. Suberror: 3\nRIP=00000000001000f3 RFL=2\nCode=?? ??\n";
        assert_eq!(hopeless(long_mode), End::InternalError { suberror: 3, rip: 0x1000f3, bytes: Vec::new() });
    }

    #[test]
    fn other_accounts_are_read() {
        let dump = "\nRIP=0000000000001000 RFL=2\nCode=<90>\n";
        let reason = format!("KVM: entry failed, hardware error 0x80000021{dump}");
        assert_eq!(hopeless(&reason), End::FailEntry { reason: 0x8000_0021 });
        let fault = format!("error: kvm run failed Bad address{dump}");
        assert_eq!(hopeless(&fault), End::Unexpected("error: kvm run failed Bad address, at RIP 0x1000".into()));
    }
}
