//! QEMU that is missing, old, another program, or dies.

use crate::host::{changed, refused};
use crate::program::{self, program};
use crate::table::{Group, Miss, Row};
use kvm_memtype::judge::Verdict::Error;
use std::fs;

/// QEMU in these words of a shell.
fn fake(script: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("qemu");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    dir
}

fn qemu(id: &str, texts: [&str; 3], script: &'static str, words: &'static [&'static str]) -> Row {
    Row::new(Group::Qemu, &format!("qemu-{id}"), texts, move || {
        let dir = fake(script);
        let path = if script.is_empty() { dir.path().join("missing") } else { dir.path().join("qemu") };
        let ran = changed(&["--machine", "qemu-tcg", "boot/hello"], |command| {
            command.env("KVM_MEMTYPE_QEMU", path);
        })?;
        refused(&ran, words)
    })
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let three = "exit code 3, with what it said";
    vec![
        qemu("missing", ["there is no QEMU", "the path leads nowhere", "exit code 3, with the path"], "", &["missing"]),
        qemu(
            "old",
            ["QEMU is too old", "a program that says it is QEMU 1.0 and knows no option", three],
            "[ \"$1\" = --version ] && { echo 'QEMU emulator version 1.0'; exit; }\necho \"$0: invalid option\" >&2; exit 1",
            &["invalid option"],
        ),
        qemu(
            "other",
            [
                "what is called QEMU is another program",
                "a program that prints nothing",
                "exit code 3, and that it is no QEMU",
            ],
            "exit 0",
            &["QEMU"],
        ),
        qemu(
            "killed-at-once",
            ["QEMU is killed whenever it runs a guest", "a program that kills itself", "exit code 3, with the signal"],
            "[ \"$1\" = --version ] && { echo 'QEMU emulator version 7.2.0'; exit; }\nkill -9 $$",
            &["it was killed by signal 9"],
        ),
        Row::new(
            Group::Qemu,
            "qemu-dying",
            [
                "QEMU is killed in the middle of one cell",
                "a program that is QEMU, but kills it when it runs `pat-msr/reset`",
                "one cell is `error` and names the signal; none after `--resume`",
            ],
            dying,
        ),
    ]
}

fn dying() -> Result<String, Miss> {
    let Some(real) = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64")).find(|path| path.is_file())
    }) else {
        return Err(Miss::Skip("there is no qemu-system-x86_64".to_owned()));
    };
    let dir = fake(&format!(
        "case \"$*\" in *test=reset*) [ -e \"$0.sound\" ] || kill -9 $$;; esac\nexec {} \"$@\"",
        real.display()
    ));
    let cells = ["--machine", "qemu-tcg", "boot/hello", "pat-msr/reset", "cr0-cache/clts"];
    let path = dir.path().join("qemu");
    let run = || {
        changed(&cells, |command| {
            command.env("KVM_MEMTYPE_QEMU", &path);
        })
    };
    let ran = run()?;
    fs::write(dir.path().join("qemu.sound"), "").expect("a file");
    let sound = run()?.cells;
    if sound.is_empty() {
        return Err(Miss::Skip(format!("QEMU runs no guest here: {}", ran.said)));
    }
    let seen = ran.costs_one(&sound, &[Error], &["it was killed by signal 9"])?;
    let mut again = program(ran.results.path(), &["run", "--resume", "latest", "--format", "json"]);
    again.env("KVM_MEMTYPE_QEMU", &path);
    crate::program::ran(program::plain(again), ran.results.clone())?.unchanged(&sound)?;
    Ok(seen)
}
