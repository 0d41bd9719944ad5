//! Programs that the build needs, and the packages that they are in.

use super::build::BuildError;
use std::env;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The compiler of nearly all of Bochs.
const COMPILER: &str = "g++";
/// Programs, and Debian's packages that have them.
pub const TOOLS: [(&str, &str); 4] = [("gcc", "gcc"), (COMPILER, "g++"), ("make", "make"), ("patch", "patch")];

/// The compiler's version, which is part of what a build is.
///
/// # Errors
/// There is none.
pub fn compiler() -> Result<String, BuildError> {
    let output = Command::new(COMPILER).arg("--version").output();
    let output =
        output.map_err(|_| missing().unwrap_or(BuildError::Tools(COMPILER.to_owned(), COMPILER.to_owned())))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// Sees whether all programs are there.
///
/// # Errors
/// Names those that are not, and their packages.
pub fn complete() -> Result<(), BuildError> {
    missing().map_or(Ok(()), Err)
}

fn missing() -> Option<BuildError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| {
        env::split_paths(&path).any(|dir| {
            dir.join(name).metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
    };
    let missing: Vec<_> = TOOLS.iter().filter(|(program, _)| !is_there(program)).collect();
    let [programs, packages] = [|tool: &(&'static str, _)| tool.0, |tool: &(_, &'static str)| tool.1]
        .map(|name| missing.iter().map(|tool| name(tool)).collect::<Vec<&str>>());
    (!missing.is_empty()).then(|| BuildError::Tools(programs.join(", "), packages.join(" ")))
}
