//! `doctor`: what of the lab works on this host, and which Debian packages the rest needs.

use super::{Failure, Outcome};
use crate::apt::Archive;
use crate::bochs;
use std::env;
use std::path::Path;

/// What somebody may want of the lab, and the programs that it takes, each with its Debian package.
const WANTS: [(&str, &[(&str, &str)]); 4] = [
    ("stock kernels", &[("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg", "dpkg"), ("dpkg-deb", "dpkg")]),
    ("--machine bochs", &bochs::TOOLS),
    ("--machine stock-bochs", &[("bochs", "bochs")]),
    ("--machine qemu-svm", &[("qemu-system-x86_64", "qemu-system-x86")]),
];

/// Prints a line for each want.
pub fn doctor() -> Result<Outcome, Failure> {
    let keyring = Archive::of_this_machine().keyring;
    let mut first = Outcome::AsExpected;
    for (want, programs) in WANTS {
        let mut missing: Vec<String> = programs
            .iter()
            .filter(|(program, _)| !is_on_path(program))
            .map(|(program, package)| format!("{program} (package {package})"))
            .collect();
        if want == "stock kernels" && !keyring.is_file() {
            missing.push(format!("{} (package debian-archive-keyring)", keyring.display()));
        }
        let said = if missing.is_empty() { "ok".to_owned() } else { format!("missing: {}", missing.join(", ")) };
        anstream::println!("{want:<24}{said}");
        // The first two are what `lab run 6.1` takes.
        if !missing.is_empty() && ["stock kernels", "--machine bochs"].contains(&want) {
            first = Outcome::Broken;
        }
    }
    Ok(first)
}

/// Whether a program of that name is there.
fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}
