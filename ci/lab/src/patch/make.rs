//! Running `patch` and `make`, and what of their words people need.

use super::{Diff, PatchError};
use crate::child;
use crate::kernel::Build;
use kvm_memtype::machine::program::on_path;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Programs, and Debian's packages that have them. `cp` makes hard links, which Rust's library has no verb for.
pub const TOOLS: [(&str, &str); 5] =
    [("gcc", "gcc"), ("ld", "binutils"), ("make", "make"), ("patch", "patch"), ("cp", "coreutils")];

/// Variables that hold for each kernel. Debug information takes half of the time, BTF needs pahole, and a warning of a
/// compiler that the kernel was not made for is no error.
const VARIABLES: [&str; 4] = ["CC=gcc", "CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_KVM_WERROR="];

/// Variables of the environment by which make would build something else, or somewhere else.
const OTHERS: [&str; 6] = ["MAKEFLAGS", "MAKELEVEL", "KBUILD_OUTPUT", "ARCH", "CROSS_COMPILE", "O"];

/// Where the modules are made in a tree.
pub const KVM: &str = "arch/x86/kvm";

/// The vendors whose module is made beside kvm.ko.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// kvm-intel.ko.
    Intel,
    /// kvm-amd.ko.
    Amd,
}

impl Vendor {
    /// The variable that leaves the other vendor's module out.
    fn variable(self) -> &'static str {
        match self {
            Vendor::Intel => "CONFIG_KVM_AMD=",
            Vendor::Amd => "CONFIG_KVM_INTEL=",
        }
    }

    /// The modules that are made.
    pub fn modules(self) -> [&'static str; 2] {
        match self {
            Vendor::Intel => ["kvm", "kvm-intel"],
            Vendor::Amd => ["kvm", "kvm-amd"],
        }
    }
}

/// Sees whether all programs are there.
///
/// # Errors
/// Names those that are not, and their packages.
pub fn complete() -> Result<(), PatchError> {
    let (programs, packages): (Vec<&str>, Vec<&str>) =
        TOOLS.into_iter().filter(|(program, _)| on_path(program).is_none()).unzip();
    match programs.is_empty() {
        true => Ok(()),
        false => Err(PatchError::Tools(programs.join(", "), packages.join(" "))),
    }
}

/// The compiler's version, in its own words.
///
/// # Errors
/// It cannot be run.
pub fn compiler() -> Result<String, PatchError> {
    let mut command = Command::new("gcc");
    let output = child::output(command.arg("--version").env("LC_ALL", "C"));
    let output = output.map_err(|source| PatchError::Program { program: "gcc", source })?;
    Ok(output.stdout.lines().next().unwrap_or_default().to_owned())
}

/// All variables for make that change what is made.
pub fn variables(build: &Build) -> Vec<String> {
    VARIABLES.into_iter().map(str::to_owned).chain(build.make.iter().cloned()).collect()
}

/// Applies a diff in a tree. `source_of` is what the tree was made of, in words.
///
/// # Errors
/// It does not fit; the file and the hunk are named.
pub fn apply(tree: &Path, diff: &Diff, source_of: &str) -> Result<(), PatchError> {
    let file = tree.join(".diff");
    fs::write(&file, &diff.text)?;
    let mut command = Command::new("patch");
    // Hunks may have moved, but all lines around them must be there.
    command.args(["-p1", "--fuzz=0", "--force", "--no-backup-if-mismatch", "--reject-file=-", "-i"]).arg(&file);
    let output = child::output(command.current_dir(tree).env("LC_ALL", "C"));
    let output = output.map_err(|source| PatchError::Program { program: "patch", source })?;
    if output.status.success() {
        return Ok(());
    }
    let (diff_name, said) = (diff.name.clone(), diff.failure(&(output.stdout + &output.stderr)));
    Err(PatchError::Apply { diff: diff_name, source_of: source_of.to_owned(), said })
}

/// Makes the modules in a tree. All that is said goes to `log`; `what` is what is made, in words.
///
/// # Errors
/// The first error of the compiler.
pub fn make(tree: &Path, build: &Build, vendor: Vendor, what: &str, log: &Path) -> Result<(), PatchError> {
    let tree = fs::canonicalize(tree)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("make");
    command.arg("-C").arg(&tree).arg(format!("-j{jobs}")).arg(format!("M={}", tree.join(KVM).display()));
    command.args(variables(build)).arg(vendor.variable()).arg("modules").env("LC_ALL", "C");
    OTHERS.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    let output = child::output(&mut command);
    let output = output.map_err(|source| PatchError::Program { program: "make", source })?;
    let said = format!("{}{}", output.stdout, output.stderr);
    fs::write(log, &said)?;
    if output.status.success() {
        return Ok(());
    }
    let error = first_error(&output.stderr, &tree).unwrap_or_else(|| format!("make ended with {}", output.status));
    Err(PatchError::Make { what: what.to_owned(), log: log.to_owned(), error })
}

/// The first error in what make said, with the lines that show its place, and files by their names in the tree.
fn first_error(said: &str, tree: &Path) -> Option<String> {
    let kinds = [": error: ", ": fatal error: ", "ERROR: modpost: ", ": undefined reference to ", " *** "];
    let lines: Vec<&str> = said.lines().collect();
    let find = |kind: &str| lines.iter().position(|line| line.contains(kind));
    let at = kinds.iter().find_map(|kind| find(kind))?;
    // The compiler shows the line and points at the place in it.
    let shown =
        lines[at + 1..].iter().take_while(|line| line.trim_start().contains('|') && line.starts_with(' ')).take(2);
    let text: Vec<&str> = lines[at..=at].iter().chain(shown).copied().collect();
    let text = text.join("\n");
    Some(text.replace(&format!("{}/", tree.display()), "").replace(&format!("{KVM}/../../../"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_picked_out_with_its_place() {
        let said = "/t/arch/x86/kvm/mtrr.c: In function 'f':\n/t/arch/x86/kvm/mtrr.c:9:2: warning: unused\n    9 |  x;\n\
            /t/arch/x86/kvm/mtrr.c:10:5: error: 'y' undeclared\n   10 |     y = 1;\n      |     ^\n\
            /t/arch/x86/kvm/mtrr.c:11:5: error: second\nmake[1]: *** [x] Error 1\n";
        let wanted = "arch/x86/kvm/mtrr.c:10:5: error: 'y' undeclared\n   10 |     y = 1;\n      |     ^";
        assert_eq!(first_error(said, Path::new("/t")).unwrap(), wanted);
        let said = "ERROR: modpost: \"f\" [/t/arch/x86/kvm/kvm.ko] undefined!\nmake: *** [x] Error 1\n";
        assert_eq!(
            first_error(said, Path::new("/t")).unwrap(),
            "ERROR: modpost: \"f\" [arch/x86/kvm/kvm.ko] undefined!"
        );
        let said = "/t/arch/x86/kvm/../../../virt/kvm/vfio.c:3:1: error: z\n";
        assert_eq!(first_error(said, Path::new("/t")).unwrap(), "virt/kvm/vfio.c:3:1: error: z");
        assert_eq!(first_error("nothing\n", Path::new("/t")), None);
    }

    #[test]
    fn a_diff_that_does_not_fit_names_the_hunk_and_what_it_was_for() {
        if complete().is_err() {
            return crate::skip::skip("there are no tools to build KVM here");
        }
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("arch/x86/kvm/a.c");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let text = "--- a/arch/x86/kvm/a.c\n+++ b/arch/x86/kvm/a.c\n@@ -1,3 +1,3 @@\n one\n-2\n+two!\n three\n";
        let diff = Diff { name: "mine".into(), text: text.into() };
        let error = apply(tree.path(), &diff, "linux-source-6.1 6.1.1-1").unwrap_err().to_string();
        let wanted = "mine does not apply to linux-source-6.1 6.1.1-1: arch/x86/kvm/a.c: hunk 1 does not fit:\n@@ -1,3";
        assert!(error.starts_with(wanted), "{error}");
        apply(tree.path(), &Diff { text: text.replace("-2", "-two"), ..diff }, "x").unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "one\ntwo!\nthree\n");
    }
}
