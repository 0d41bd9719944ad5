//! Verbs that write files: guests, man pages, completion scripts.

use super::args::{Cli, Extract};
use super::out::stdout;
use super::{Done, Failure};
use crate::guests;
use crate::report::Outcome;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `extract`: the guests' ELF files, and how to run one by hand.
pub fn extract(args: &Extract) -> Done {
    make(&args.dir)?;
    let mut out = stdout();
    for guest in guests::all() {
        let path = args.dir.join(format!("{}.elf", guest.family));
        write(&path, guest.elf)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|e| cannot("set the mode of", &path, &e))?;
        writeln!(out, "{}", path.display())?;
    }
    writeln!(out, "\nRun one by hand, and judge what it says:\n")?;
    writeln!(out, "  qemu-system-x86_64 -cpu max -nodefaults -display none -no-reboot -serial stdio \\")?;
    writeln!(out, "      -device isa-debug-exit,iobase=0xf4,iosize=4 \\")?;
    writeln!(out, "      -kernel {}/pat-msr.elf -append 'test=bytes' | tee log", args.dir.display())?;
    writeln!(out, "  kvm-memtype judge - < log\n")?;
    writeln!(out, "Tests of a guest: kvm-memtype list. Without test= the guest runs its first.")?;
    Ok(Outcome::AsExpected)
}

/// `completions`: a script for a shell, on standard output.
pub fn completions(shell: Shell) -> Done {
    // Into memory first: the generator panics where the output has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kvm-memtype", &mut script);
    stdout().write_all(&script)?;
    Ok(Outcome::AsExpected)
}

/// `man`: a page for the program and one for each verb.
pub fn man(dir: &Path) -> Done {
    make(dir)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| cannot("write man pages to", dir, &e))?;
    Ok(Outcome::AsExpected)
}

fn make(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| cannot("make", dir, &error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Broken(format!("cannot {what} {}: {error}", path.display()))
}
