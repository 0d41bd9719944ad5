//! How a VM ended, in words.

use super::End;
use iced_x86::{Decoder, DecoderOptions};
use std::fmt;
use wire::layout::{EXIT_DONE, EXIT_PANIC};

/// Name of a `KVM_INTERNAL_ERROR_*` (`include/uapi/linux/kvm.h`).
fn suberror(number: u32) -> &'static str {
    match number {
        kvm_bindings::KVM_INTERNAL_ERROR_EMULATION => "KVM could not emulate an instruction",
        kvm_bindings::KVM_INTERNAL_ERROR_SIMUL_EX => "two exceptions at once that KVM could not merge",
        kvm_bindings::KVM_INTERNAL_ERROR_DELIVERY_EV => "an exit while an event was delivered",
        kvm_bindings::KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "an exit reason that KVM does not know",
        _ => "an error that this version has no name for",
    }
}

/// The instruction at the start of `bytes`, and its bytes; all bytes, if they are none.
fn instruction(f: &mut fmt::Formatter<'_>, rip: u64, bytes: &[u8]) -> fmt::Result {
    let instruction = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE).decode();
    let (name, len) = match instruction.is_invalid() {
        true => ("no instruction".to_owned(), bytes.len()),
        false => (instruction.to_string(), instruction.len()),
    };
    let hex: Vec<String> = bytes[..len].iter().map(|byte| format!("{byte:02x}")).collect();
    write!(f, ": {name} ({})", hex.join(" "))
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exit(EXIT_DONE) => f.write_str("the guest ran to its end"),
            End::Exit(EXIT_PANIC) => f.write_str("the guest gave up"),
            End::Exit(value) => write!(f, "the guest exited with {value:#x}, which no guest of this version does"),
            End::Shutdown => f.write_str("the VM shut down on a triple fault (KVM_EXIT_SHUTDOWN)"),
            End::Halt => f.write_str("the guest halted with nothing to wake it (KVM_EXIT_HLT)"),
            End::Timeout { rip: None } => f.write_str("the time was up"),
            End::Timeout { rip: Some(rip) } => write!(f, "the time was up; the boot vCPU was at RIP {rip:#x}"),
            End::Flood => f.write_str("flood: the log grew beyond its limit"),
            End::InternalError { suberror: number, rip, bytes } => {
                write!(f, "KVM_EXIT_INTERNAL_ERROR {number}: {} at RIP {rip:#x}", suberror(*number))?;
                if bytes.is_empty() { Ok(()) } else { instruction(f, *rip, bytes) }
            }
            End::FailEntry { reason } => {
                write!(f, "the CPU refused the guest's state (KVM_EXIT_FAIL_ENTRY), hardware reason {reason:#x}")
            }
            End::Unexpected(what) => write!(f, "an exit that no guest of this version makes: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_names_the_instruction() {
        let error = |bytes: &[u8]| End::InternalError { suberror: 1, rip: 0x1000, bytes: bytes.into() }.to_string();
        let said = "KVM_EXIT_INTERNAL_ERROR 1: KVM could not emulate an instruction at RIP 0x1000";
        assert_eq!(error(b"\x66\x0f\xae\x31\x90"), format!("{said}: clwb [rcx] (66 0f ae 31)"));
        assert_eq!(error(b"\x0f"), format!("{said}: no instruction (0f)"));
        assert_eq!(error(b""), said);
    }
}
