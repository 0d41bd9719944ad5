//! Programs that the build needs, and the packages that they are in.

use super::build::BuildError;
use kvm_memtype::machine::program::on_path;

/// Programs, and Debian's packages that have them.
pub const TOOLS: [(&str, &str); 4] = [("gcc", "gcc"), ("g++", "g++"), ("make", "make"), ("patch", "patch")];

/// Sees whether all programs are there.
///
/// # Errors
/// Names those that are not, and their packages.
pub fn complete() -> Result<(), BuildError> {
    let (programs, packages): (Vec<&str>, Vec<&str>) =
        TOOLS.into_iter().filter(|(program, _)| on_path(program).is_none()).unzip();
    match programs.is_empty() {
        true => Ok(()),
        false => Err(BuildError::Tools(programs.join(", "), packages.join(" "))),
    }
}
