//! `fetch`: kernels into the cache, so that `run` needs no network.

use super::args::{FetchArgs, Lab};
use super::progress::Progress;
use super::{Failure, Outcome};
use crate::cache;
use crate::fetch::Fetch;
use crate::kernel::{Kernels, Spec};

/// Fetches and unpacks.
pub fn fetch(lab: &Lab, args: &FetchArgs) -> Result<Outcome, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let specs: Vec<&Spec> = match args.names.as_slice() {
        [] => kernels.all().collect(),
        names => names.iter().map(|name| kernels.get(name)).collect::<Result<_, _>>()?,
    };
    let root = cache::root().map_err(Failure::Broken)?;
    let progress = Progress::new();
    for spec in specs {
        let line = progress.line(&spec.id);
        let say = |text: &str| line.say(text);
        let ready = Fetch { root: &root, newest: args.newest, say: &say }.debian(spec)?;
        let release = ready.resolved.map(|resolved| resolved.release).unwrap_or_default();
        line.end(&format!("{:<16}{release:<32}{}", spec.id, ready.dir.display()));
    }
    Ok(Outcome::AsExpected)
}
