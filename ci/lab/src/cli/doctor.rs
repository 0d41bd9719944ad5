//! `doctor`: what of the lab works on this host, and which Debian packages the rest needs.

use super::{Failure, Outcome};
use crate::apt::{self, Archive};
use crate::{bochs, cache, patch};
use kvm_memtype::machine::program::on_path;

/// A program, and the Debian package that has it.
type Program = (&'static str, &'static str);

/// What packages are fetched and read with.
const PACKAGES: [Program; 5] =
    [("apt-get", "apt"), ("apt-cache", "apt"), (apt::HELPER, "apt"), ("dpkg", "dpkg"), ("dpkg-deb", "dpkg")];

/// Prints a line for each thing that somebody may want of the lab. The first two are what `lab run 6.1` takes: without one
/// of them the host does not do.
pub fn doctor() -> Result<Outcome, Failure> {
    let root = cache::root().map_err(Failure::Broken)?;
    let mut packages = missing(&PACKAGES);
    match Archive::of_this_machine() {
        Ok(Archive { keyring, .. }) if keyring.is_file() => {}
        Ok(Archive { keyring, .. }) => {
            packages.push(format!("{} (package debian-archive-keyring)", keyring.display()));
        }
        Err(none) => packages.push(none.to_string()),
    }
    let is_built = bochs::is_built(&root);
    let bochs = if is_built { Vec::new() } else { missing(&bochs::TOOLS) };
    let does = packages.is_empty() && bochs.is_empty();
    say("stock kernels", &packages, "");
    // What packages of a kernel's source are taken apart with is needed for any package.
    say("6.1+PATCH, mutants", &missing(&patch::TOOLS), "");
    say("--machine bochs", &bochs, if is_built { ", built" } else { ", will be built" });
    // Debian's build has no display that displays nothing, see the runner's machine::bochs.
    say(
        "--machine stock-bochs",
        &missing(&[("bochs", "bochs")]),
        ", opens a VNC server on all interfaces while it runs",
    );
    say("--machine qemu-svm", &missing(&[("qemu-system-x86_64", "qemu-system-x86")]), "");
    Ok(if does { Outcome::AsExpected } else { Outcome::Broken })
}

fn say(want: &str, missing: &[String], note: &str) {
    match missing.is_empty() {
        true => anstream::println!("{want:<24}ok{note}"),
        false => anstream::println!("{want:<24}missing: {}", missing.join(", ")),
    }
}

/// Those of the programs that are not there.
fn missing(programs: &[Program]) -> Vec<String> {
    let missing = programs.iter().filter(|(program, _)| on_path(program).is_none());
    missing.map(|(program, package)| format!("{program} (package {package})")).collect()
}
