//! `list`: the kernels that have a file, and what is cached of them.

use super::args::Lab;
use super::{Failure, Outcome};
use crate::cache;
use crate::fetch::Fetch;
use crate::kernel::Kernels;

/// Prints a line for each kernel.
pub fn list(lab: &Lab) -> Result<Outcome, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let root = cache::root().map_err(Failure::Broken)?;
    let fetch = Fetch { root: &root, newest: false, say: &|_| {} };
    for spec in kernels.all() {
        let state = match fetch.known(spec) {
            Some(resolved) if fetch.is_cached(&resolved, spec) => format!("{}, cached", resolved.release),
            Some(resolved) => format!("{}, not cached", resolved.release),
            None => "never fetched".to_owned(),
        };
        anstream::println!("{:<16}{:<36}{state}", spec.id, spec.summary);
    }
    anstream::println!("\ncache: {}", root.display());
    Ok(Outcome::AsExpected)
}
