//! VM configurations: what of a VM is varied, apart from what a test needs.

use serde::{Deserialize, Serialize};

/// One VM configuration, a file under `configs/vm`; its id is the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VmConfig {
    /// One line that says what it is.
    pub summary: String,
    /// MAXPHYADDR in CPUID leaf 0x80000008, in bits; the host's own where there is none.
    #[serde(default)]
    pub maxphyaddr: Option<u8>,
    /// Whether CPUID.1:EDX shows MTRR.
    #[serde(default = "yes")]
    pub cpuid_mtrr: bool,
}

fn yes() -> bool {
    true
}
