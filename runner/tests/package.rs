//! The Debian package: made by ci/package of the program under test, read by lintian, installed, and run from there.

mod common;

use common::skip;
use snapbox::cmd::cargo_bin;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a command said, or nothing where there is no such program.
fn run(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => Some(output.expect("the program starts")),
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The package of the program under test, made once; or a skip.
fn package() -> Option<&'static Path> {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    for needed in ["dpkg-deb", "strip"] {
        if run(needed, &["--version".as_ref()]).is_none() {
            skip(&format!("there is no {needed} to make a Debian package with"));
            return None;
        }
    }
    let make = || {
        let (program, output) = (cargo_bin!("kvm-memtype"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("package"));
        let arguments = ["--binary".as_ref(), program.as_os_str(), "--output".as_ref(), output.as_os_str()];
        let made = run(repository().join("ci/package"), &arguments).expect("ci/package");
        assert!(made.status.success(), "{}", words(&made));
        String::from_utf8(made.stdout).expect("a path").trim_end().into()
    };
    Some(PACKAGE.get_or_init(make))
}

#[test]
fn the_program_is_static() {
    let elf = fs::read(cargo_bin!("kvm-memtype")).unwrap();
    let elf = object::read::elf::ElfFile64::<object::Endianness>::parse(&*elf).unwrap();
    let interpreter = |segment: &&object::elf::ProgramHeader64<_>| {
        use object::read::elf::ProgramHeader;
        segment.p_type(object::Endianness::Little) == object::elf::PT_INTERP
    };
    assert!(elf.elf_program_headers().iter().find(interpreter).is_none(), "it asks for a dynamic linker");
}

#[test]
fn the_package_pleases_lintian() {
    let Some(package) = package() else { return };
    let arguments = ["--fail-on", "error,warning", "--allow-root"].map(OsStr::new);
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([package.as_os_str()]).collect();
    match run("lintian", &arguments) {
        None => skip("there is no lintian to read the Debian package"),
        Some(said) => assert!(said.status.success(), "{}", words(&said)),
    }
}

#[test]
fn the_package_installs_and_the_program_in_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let Some(package) = package() else { return };
    let root = dir.path().join("root");
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        for part in ["updates", "info"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(part)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        let place = format!("--root={}", root.display());
        let installed = run("dpkg", &[place.as_ref(), "--install".as_ref(), package.as_os_str()]).expect("dpkg");
        assert!(installed.status.success(), "{}", words(&installed));
    } else {
        skip("only root can install a Debian package; it is unpacked instead");
        let unpacked = run("dpkg-deb", &["--extract".as_ref(), package.as_os_str(), root.as_os_str()]).unwrap();
        assert!(unpacked.status.success(), "{}", words(&unpacked));
    }
    let said = run(root.join("usr/bin/kvm-memtype"), &["doctor".as_ref()]).expect("the program");
    assert!(said.status.success(), "{}", words(&said));
    assert!(words(&said).contains("What this host can tell"), "{}", words(&said));
    for file in [
        "man/man1/kvm-memtype-run.1.gz",
        "bash-completion/completions/kvm-memtype",
        "doc/kvm-memtype/licenses.gz",
        "doc/kvm-memtype/sbom.cdx.json",
    ] {
        assert!(fs::metadata(root.join("usr/share").join(file)).is_ok_and(|file| file.len() > 100), "{file}");
    }
    verify(&root, &dir.path().join("units"));
}

/// Has systemd read the units of the package in `root`, from `scratch` and with the paths of `root`.
fn verify(root: &Path, scratch: &Path) {
    fs::create_dir_all(scratch).unwrap();
    let units = ["service", "timer"].map(|kind| format!("kvm-memtype-nightly.{kind}"));
    let paths = units.map(|unit| {
        let text = fs::read_to_string(root.join("lib/systemd/system").join(&unit)).expect("a unit");
        let path = scratch.join(unit);
        fs::write(&path, text.replace("ExecStart=", &format!("ExecStart={}", root.display()))).unwrap();
        path
    });
    let paths = paths.iter().map(|path| path.as_os_str());
    let arguments: Vec<&OsStr> = ["verify", "--man=no"].map(OsStr::new).into_iter().chain(paths).collect();
    match run("systemd-analyze", &arguments) {
        None => skip("there is no systemd-analyze to read the units of the Debian package"),
        Some(said) => assert!(said.status.success() && said.stderr.is_empty(), "{}", words(&said)),
    }
}
