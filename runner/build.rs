//! Embeds the files under configs/ in the runner.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let configs = fs::canonicalize("../configs")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("configs.rs"), embed(&configs)?)
}

/// The source of a table of all configuration files, each with its path under configs/, in the order of these paths.
fn embed(configs: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", configs.display());
    let mut files = Vec::new();
    for kind in fs::read_dir(configs)? {
        let kind = kind?;
        if !kind.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(kind.path())? {
            let path = file?.path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let name = path.strip_prefix(configs).expect("it was listed there").to_string_lossy().into_owned();
            files.push((name, path));
        }
    }
    files.sort();
    let mut source = String::from("/// Path under configs/ and text of each file, sorted by path.\n");
    source.push_str("pub static CONFIGS: &[(&str, &str)] = &[\n");
    for (name, path) in files {
        writeln!(source, "    ({name:?}, include_str!({path:?})),").expect("a string takes all");
    }
    source.push_str("];\n");
    Ok(source)
}
