//! What is read of what others wrote, one function for each kind of input, for fuzzers: guests, users, other builds of this
//! program, kernels and QEMU may write anything, and none of it may panic or fill the memory.
//!
//! `fuzz/` has a target of cargo-fuzz for each, `ci/inputs` runs them on a stable compiler: docs/fuzzing-inputs.md.

mod config;
mod host;
mod image;
mod results;
mod serial;

/// A kind of input.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Its name: that of its directory in fuzz/corpus and of its target.
    pub name: &'static str,
    /// What it is and who writes it.
    pub what: &'static str,
    /// Reads one, and says whether it was found to be right.
    pub read: fn(&[u8]) -> bool,
}

/// All kinds.
pub const INPUTS: [Input; 16] = [
    Input { name: "serial", what: "bytes of a guest's serial line", read: serial::bytes },
    Input { name: "records", what: "records of guest and VMM, right in their frames", read: serial::records },
    Input { name: "judge", what: "a cell's log, right in its frames, judged by all policies", read: serial::judged },
    Input { name: "suite", what: "a suite", read: config::suite },
    Input { name: "vm", what: "a VM configuration", read: config::vm },
    Input { name: "policy", what: "a policy", read: config::policy },
    Input { name: "deviations", what: "known deviations", read: config::deviations },
    Input { name: "fleet", what: "a fleet, and the LAVA jobs made of it", read: config::fleet },
    Input { name: "history", what: "a history that is replayed", read: config::history },
    Input { name: "observations", what: "observations.jsonl of a run", read: results::observations },
    Input { name: "verdicts", what: "verdicts.jsonl of a run, or an intent", read: results::verdicts },
    Input { name: "trace", what: "a trace_pipe of tracefs", read: host::trace },
    Input { name: "kernel-log", what: "records of /dev/kmsg", read: host::kernel_log },
    Input { name: "qemu", what: "what QEMU says as it gives up", read: host::qemu },
    Input { name: "guest", what: "a guest's ELF file: loaded into RAM, its tests listed", read: image::guest },
    Input { name: "linux", what: "a vmlinux, loaded at its PVH entry", read: image::linux },
];

/// The input of that name.
pub fn find(name: &str) -> Option<&'static Input> {
    INPUTS.iter().find(|input| input.name == name)
}
