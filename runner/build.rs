//! Builds the guests and the ROM and embeds them and the configurations, so that the runner is one file.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Freestanding code for a target that has an operating system: linked low and static, no SSE, no red zone under
/// interrupts.
const FLAGS: [&str; 8] = [
    "-Crelocation-model=static",
    "-Ccode-model=small",
    "-Cno-redzone=y",
    "-Cpanic=abort",
    "-Ctarget-feature=-sse,-sse2,+soft-float",
    "-Cforce-frame-pointers=no",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
];
const LINK_FLAGS: [&str; 3] =
    ["-Clink-arg=-static", "-Clink-arg=-no-pie", "-Clink-arg=-Wl,--build-id=none,--gc-sections"];

/// Variables of the build around us that are not the guests': flags, wrappers, targets, and what Cargo says of this
/// package.
const FOREIGN: [&str; 8] = [
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_RUSTFLAGS",
];
const FOREIGN_PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PROFILE_"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    guests(&root, &out)?;
    rom(&root, &out)?;
    configs(&root.join("configs"), &out)
}

/// Builds every binary of tests-guest and writes `guests.rs`: a table of family and ELF bytes.
fn guests(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let source = root.join("tests-guest");
    for input in ["wire/src", "wire/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let built = freestanding(root, &source, &out.join("guests"), &source.join("guest.ld"), &[])?;
    let mut table = String::from("&[\n");
    for path in sorted(&source.join("src/bin"))? {
        let family = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a guest's name is not text")?;
        writeln!(table, "    ({family:?}, include_bytes!({:?})),", built.join(family))?;
    }
    fs::write(out.join("guests.rs"), table + "]\n").map_err(Into::into)
}

/// Builds the ROM for machine `bochs` and copies it to `rom.bin`.
fn rom(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let source = root.join("rom");
    let flat = "-Clink-arg=-Wl,--oformat=binary";
    let built = freestanding(root, &source, &out.join("rom"), &source.join("rom.ld"), &[flat])?;
    fs::copy(built.join("rom"), out.join("rom.bin")).map(|_| ()).map_err(Into::into)
}

/// Builds the binaries of the package `source` as freestanding code linked by `script`, and says where they are.
fn freestanding(
    root: &Path,
    source: &Path,
    target: &Path,
    script: &Path,
    more: &[&str],
) -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", source.display());
    let script = format!("-Clink-arg=-Wl,-T,{}", script.display());
    // Panic messages hold paths of sources: those of the builder's home have no place in reports.
    let sources = [(cargo_home()?.join("registry/src"), "registry"), (root.to_owned(), "kvm-memtype")];
    let remap = sources.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let own = [script.as_str(), &remap[0], &remap[1]];
    let flags: Vec<&str> = FLAGS.into_iter().chain(LINK_FLAGS).chain(own).chain(more.iter().copied()).collect();
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.current_dir(source).args(["build", "--release", "--quiet", "--locked", "--bins", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target);
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        if FOREIGN_PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).status()?;
    match status.success() {
        true => Ok(target.join(TARGET).join("release")),
        false => Err(format!("building {} failed: {status}", source.display()).into()),
    }
}

/// Cargo's home, where the sources of dependencies are.
fn cargo_home() -> Result<PathBuf, Box<dyn Error>> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(Path::new(&env::var_os("HOME").ok_or("neither CARGO_HOME nor HOME is set")?).join(".cargo")),
    }
}

/// Writes `configs.rs`: a table of path below configs/ and text.
fn configs(dir: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut table = String::from("&[\n");
    for kind in sorted(dir)? {
        for path in sorted(&kind)? {
            let name = path.strip_prefix(dir)?.to_str().ok_or("a configuration's name is not text")?;
            writeln!(table, "    ({name:?}, include_str!({path:?})),")?;
        }
    }
    fs::write(out.join("configs.rs"), table + "]\n").map_err(Into::into)
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}
