//! The program: reads the command line and does what it says.

use clap::Parser;
use kvm_memtype::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&cli::args::Cli::parse())
}
