//! What this process may do on the host, beyond the use of /dev/kvm.

use crate::witness::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};

/// Bit of CAP_SYS_ADMIN in a capability set (`include/uapi/linux/capability.h`).
const CAP_SYS_ADMIN: u32 = 21;

/// Privileges that witnesses need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rights {
    /// The effective user is root.
    pub root: bool,
    /// CAP_SYS_ADMIN is in effect.
    pub sys_admin: bool,
    /// The witnesses of the host's side that cannot watch guests of machine `kvm`, each with the reason.
    pub blind: BTreeMap<Kind, String>,
    /// /dev/cpu/0/msr can be read: the host's own MTRRs and PAT.
    pub host_msrs: bool,
}

impl Rights {
    /// Tries what this process may do. Changes nothing.
    pub fn probe() -> Rights {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let blind = |kind: Kind| Some((kind, kind.probe("kvm").err()?));
        Rights {
            // SAFETY: the call takes nothing and cannot fail.
            root: unsafe { libc::geteuid() } == 0,
            sys_admin: effective(&status) >> CAP_SYS_ADMIN & 1 == 1,
            blind: Kind::ALL.into_iter().filter_map(blind).collect(),
            host_msrs: File::open("/dev/cpu/0/msr").is_ok(),
        }
    }
}

/// The effective capability set in `/proc/self/status`.
fn effective(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        assert_eq!(effective("CapPrm:\t00ff\nCapEff:\t0000000000200000\n"), 1 << CAP_SYS_ADMIN);
        assert_eq!(effective(""), 0);
    }
}
