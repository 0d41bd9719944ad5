//! The lab: runs kvm-memtype on kernels in an emulated machine. The same program is /init and kvm-memtype in there.

mod apt;
mod bochs;
mod boot;
mod cache;
mod child;
mod cli;
mod fetch;
mod image;
mod init;
mod kernel;
mod mailbox;
mod patch;
mod results;
mod unpack;

#[cfg(test)]
#[path = "../../../runner/src/skip.rs"]
mod skip;

use clap::Parser;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("init") => init::main(),
        Some("kvm-memtype") => kvm_memtype::cli::main(&kvm_memtype::cli::args::Cli::parse()),
        _ => match cli::args::Lab::try_parse() {
            Ok(lab) => cli::main(&lab),
            Err(error) => cli::bisect::refused(&error),
        },
    }
}
