//! `list`: the kernels that have a file, what is cached of them, and the patches.

use super::args::Lab;
use super::{Failure, Outcome};
use crate::cache;
use crate::fetch::Fetch;
use crate::kernel::Kernels;
use crate::patch::Patches;

/// Prints a line for each kernel and each patch.
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
    for (at, patch) in Patches::load(lab.patches.as_deref())?.all().enumerate() {
        if at == 0 {
            anstream::println!("\npatches, as in `lab run KERNEL+PATCH`:");
        }
        anstream::println!("{:<32}{:<24}{}", patch.name, patch.kernels()?.join(", "), patch.note.summary);
    }
    anstream::println!("\ncache: {}", root.display());
    Ok(Outcome::AsExpected)
}
