//! Commands that run a cell again.

use crate::results::Header;
use std::path::Path;

/// The command that runs a cell of a run again; the cell's id follows it.
pub fn again(header: &Header) -> String {
    format!("kvm-memtype run --machine {} --suite {}{} ", header.machine, header.suite, header.devices)
}

/// The command that runs a history again that is in the run's directory; its name and `.toml` follow it.
pub fn replay(header: &Header, dir: &Path) -> String {
    format!("kvm-memtype fuzz{} --replay {}/", header.devices, dir.display())
}
