//! A host that fails: no /dev/kvm, no rights, no memory, no tracefs, a clock that jumps, two runs at once.

use crate::disk;
use crate::inject::{self, Answer, Call, Trap};
use crate::kvm::hit;
use crate::program::{self, Ran, program, ran};
use crate::qemu;
use crate::table::{Group, Miss, Row};
use kvm_memtype::judge::Verdict::Error;
use libc::{EACCES, EBUSY, ENOENT, ENOMEM};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

pub const OPEN: Trap = Trap::Call(libc::SYS_openat);
const MAP: Trap = Trap::Call(libc::SYS_mmap);
const CLONE: Trap = Trap::Call(libc::SYS_clone);
const CLONE3: Trap = Trap::Call(libc::SYS_clone3);
const SYNC: Trap = Trap::Call(libc::SYS_fdatasync);
const CELLS: [&str; 3] = ["boot/hello", "cr0-cache/clwb", "pat-msr/reset"];
/// No witness, so that nothing of the host has a say.
pub const RUN: [&str; 5] = ["--witness", "none", "boot/hello", "cr0-cache/clwb", "pat-msr/reset"];
const RAM: u64 = kvm_memtype::machine::kvm::RAM as u64;

pub fn results() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().expect("a directory"))
}

/// A run with these arguments and nothing injected, but what is done to the command before.
pub fn changed(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Result<Ran, Miss> {
    let results = results();
    let mut command = program(results.path(), &[&["run", "--format", "json"], arguments].concat());
    change(&mut command);
    match program::plain(command) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENODEV)) => {
            Err(Miss::Skip(format!("no mount namespace of its own: {error}")))
        }
        output => ran(output, results),
    }
}

/// What a mount takes: source, target, type, flags, options.
type Mount = (&'static str, String, &'static str, libc::c_ulong, &'static str);

/// Has the program see these mounts, which nobody else does.
pub fn mounted(command: &mut Command, mounts: Vec<Mount>) {
    let text = |text: &str| CString::new(text).expect("no zero byte");
    let mounts: Vec<_> = mounts
        .into_iter()
        .map(|(source, target, kind, flags, options)| (text(source), text(&target), text(kind), flags, text(options)))
        .collect();
    let mount = |(source, target, kind, flags, options): &(CString, CString, CString, libc::c_ulong, CString)| {
        // SAFETY: strings that live through the call.
        let done =
            unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, options.as_ptr().cast()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let private = (text("none"), text("/"), text(""), libc::MS_REC | libc::MS_PRIVATE, text(""));
    // SAFETY: system calls alone, on what was made before.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            mount(&private)?;
            mounts.iter().try_for_each(mount)
        });
    }
}

fn limited(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: one call, on a structure that the closure owns.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &raw const limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

/// The run does not begin, and says why.
pub fn refused(ran: &Ran, words: &[&str]) -> Result<String, Miss> {
    ran.ended(3, words)?;
    Ok(ran.said.trim().to_owned())
}

/// Fails each openat of a path that has this part.
pub fn no_open(part: &'static str, errno: i32) -> impl FnMut(&Call) -> Answer + Send + 'static {
    move |call| if call.path().contains(part) { Answer::Errno(errno) } else { Answer::GoOn }
}

pub fn row(id: &str, texts: [&str; 3], check: impl Fn() -> Result<String, Miss> + Send + Sync + 'static) -> Row {
    Row::new(Group::Host, &format!("host-{id}"), texts, check)
}

fn devices() -> Vec<Row> {
    let none = "exit code 3: \"there is no /dev/kvm\", and what to do";
    vec![
        row("kvm-absent", ["there is no /dev/kvm", "openat fails with ENOENT", none], || {
            refused(&program::run(&RUN, &[OPEN], no_open("/dev/kvm", ENOENT))?, &["there is no /dev/kvm."])
        }),
        row(
            "kvm-fallback",
            [
                "there is no /dev/kvm, and no machine was asked for",
                "the same",
                "it says that it falls back to QEMU TCG, a negative control; or that there is no QEMU either",
            ],
            || {
                let results = results();
                let arguments = ["run", "--format", "json", "boot/hello"];
                let output = inject::run(program(results.path(), &arguments), &[OPEN], no_open("/dev/kvm", ENOENT));
                let ran = ran(output, results)?;
                let falls = ran.said.contains("falling back to QEMU TCG") && ran.cells.len() == 1;
                let lacks = ran.code == Some(3) && ran.said.contains("no QEMU to fall back to");
                match ran.said.contains("there is no /dev/kvm") && (falls || lacks) {
                    true => Ok(ran.said.replace('\n', " ")),
                    false => Err(Miss::Wrong(ran.said)),
                }
            },
        ),
        row(
            "kvm-other",
            [
                "/dev/kvm is another device",
                "/dev/null is mounted over it, in a mount namespace",
                "exit code 3: the API version is wrong",
            ],
            || {
                let over = vec![("/dev/null", "/dev/kvm".to_owned(), "", libc::MS_BIND, "")];
                let ran = changed(&[&["--machine", "kvm"], &RUN[..]].concat(), |command| mounted(command, over))?;
                refused(&ran, &["KVM has API version -1, not 12."])
            },
        ),
        row(
            "kvm-permission",
            [
                "/dev/kvm is not for this user",
                "another user id; where it may use it, openat fails with EACCES",
                "exit code 3: \"no permission to open /dev/kvm\", and which group to join",
            ],
            || {
                let nobody = changed(&[&["--machine", "kvm"], &RUN[..]].concat(), |command| {
                    command.uid(65_534).gid(65_534);
                });
                match nobody {
                    Ok(ran) if ran.said.contains("/dev/kvm") => refused(&ran, &["no permission to open /dev/kvm."]),
                    // Not root, or the program is where only root may go, or /dev/kvm is for all.
                    _ => refused(
                        &program::run(&RUN, &[OPEN], no_open("/dev/kvm", EACCES))?,
                        &["no permission to open /dev/kvm."],
                    ),
                }
            },
        ),
    ]
}

/// What is mounted where tracefs should be, and what is said about it where SPTEs are asked for.
fn tracefs(id: &str, fault: &'static str, how: &'static str, words: &'static str, mounts: fn() -> Vec<Mount>) -> Row {
    let seen = format!("who asks for SPTEs is told \"{words}\" (exit code 2); without them all cells are as they were");
    row(id, [fault, how, &seen], move || {
        if !Path::new(TRACEFS).is_dir() {
            return Err(Miss::Skip(format!("there is no {TRACEFS} to mount something over")));
        }
        let asked = ["--machine", "kvm", "--witness", "sptes", "boot/hello"];
        let ran = changed(&asked, |command| mounted(command, mounts()))?;
        ran.ended(2, &[words])?;
        let plain = [&["--machine", "kvm", "--witness", "stats"], &CELLS[..]].concat();
        let without = changed(&plain, |command| mounted(command, mounts()))?;
        without.unchanged(&program::sound(&[&["--witness", "stats"], &CELLS[..]].concat())?)?;
        Ok(ran.said.trim().to_owned())
    })
}

const TRACEFS: &str = "/sys/kernel/tracing";

fn tracing() -> Vec<Row> {
    vec![
        tracefs(
            "tracefs-absent",
            "tracefs is not mounted",
            "an empty tmpfs over both of its places",
            "no tracefs at /sys/kernel/tracing: as root, mount -t tracefs tracefs /sys/kernel/tracing",
            || {
                vec![
                    ("tmpfs", TRACEFS.to_owned(), "tmpfs", 0, ""),
                    ("tmpfs", "/sys/kernel/debug".to_owned(), "tmpfs", 0, ""),
                ]
            },
        ),
        tracefs(
            "tracefs-read-only",
            "tracefs is read-only",
            "a directory with `instances` is mounted over it, read-only",
            "/sys/kernel/tracing/instances cannot be written to (Read-only file system (os error 30)): as root, mount -o remount,rw",
            || {
                let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
                vec![
                    (fake_tracefs(), TRACEFS.to_owned(), "", libc::MS_BIND, ""),
                    ("none", TRACEFS.to_owned(), "", flags, ""),
                ]
            },
        ),
        tracefs(
            "tracefs-other",
            "what is there is no tracefs",
            "a directory with `instances` is mounted over it",
            "/sys/kernel/tracing/instances/kvm-memtype-",
            || vec![(fake_tracefs(), TRACEFS.to_owned(), "", libc::MS_BIND, "")],
        ),
        row(
            "tracefs-busy",
            [
                "an instance of tracefs cannot be made: it is busy",
                "such a directory is mounted over it, and mkdir fails with EBUSY",
                "who asks for SPTEs is told so (exit code 2)",
            ],
            || {
                let results = results();
                let arguments = ["run", "--machine", "kvm", "--witness", "sptes", "boot/hello"];
                let mut command = program(results.path(), &arguments);
                mounted(&mut command, vec![(fake_tracefs(), TRACEFS.to_owned(), "", libc::MS_BIND, "")]);
                // mkdir's path is its first argument, and all that a run makes before its results.
                let output = inject::run(command, &[Trap::Call(libc::SYS_mkdir)], |_| Answer::Errno(EBUSY));
                let ran = ran(output, results)?;
                ran.ended(2, &["cannot make /sys/kernel/tracing/instances/kvm-memtype-", "Device or resource busy"])?;
                Ok(ran.said.trim().to_owned())
            },
        ),
    ]
}

/// A directory that has `instances` and KVM's events in it, and nothing else. It is left to the system's temporary directory.
fn fake_tracefs() -> &'static str {
    static DIR: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join("kvm-memtype-faults-tracefs");
        ["instances", "events/kvmmmu"].iter().for_each(|it| fs::create_dir_all(dir.join(it)).expect("a directory"));
        dir.display().to_string()
    })
}

/// One call of the system fails for one cell.
fn one_cell(
    id: &str,
    texts: [&str; 2],
    traps: &'static [Trap],
    is: fn(&Call) -> bool,
    errno: i32,
    words: &'static [&'static str],
) -> Row {
    let seen = format!("one cell is `error`: \"{}\"; none after `--resume`", words.join("\", \""));
    row(id, [texts[0], texts[1], &seen], move || {
        let arguments = [&RUN[..], &["smp/direct-2"]].concat();
        let sound = program::sound(&arguments)?;
        let mut left = Some(Answer::Errno(errno));
        let ran = hit(
            &arguments,
            traps,
            move |call, _| if is(call) { left.take().unwrap_or(Answer::GoOn) } else { Answer::GoOn },
        )?;
        let seen = ran.costs_one(&sound, &[Error], words)?;
        program::resume(&ran.results)?.unchanged(&sound)?;
        Ok(seen)
    })
}

/// Whether a clone makes a thread, and not a process.
fn makes_thread(call: &Call) -> bool {
    let mut flags = [0; 8];
    if call.trap == CLONE {
        flags = call.args[0].to_le_bytes();
    } else {
        // `struct clone_args` begins with them.
        let memory = File::open(format!("/proc/{}/mem", call.thread));
        let _ = memory.and_then(|memory| memory.read_exact_at(&mut flags, call.args[0]));
    }
    u64::from_le_bytes(flags) & libc::CLONE_THREAD as u64 != 0
}

fn memory() -> Vec<Row> {
    vec![
        one_cell(
            "memory-ram",
            ["no memory for the guest's RAM", "mmap of that size fails with ENOMEM, once"],
            &[MAP],
            |call| call.args[1] == RAM,
            ENOMEM,
            &["cannot map the guest's RAM", "Cannot allocate memory"],
        ),
        one_cell(
            "timers",
            ["no timer for the deadline", "timer_create fails with EAGAIN, once"],
            &[Trap::Call(libc::SYS_timer_create)],
            |_| true,
            libc::EAGAIN,
            &["cannot make a timer", "Resource temporarily unavailable"],
        ),
        one_cell(
            "threads",
            ["no thread for a vCPU", "clone3 or clone of a thread fails with EAGAIN, once, in `smp/direct-2`"],
            &[CLONE3, CLONE],
            makes_thread,
            libc::EAGAIN,
            &["cannot make a thread for a vCPU", "Resource temporarily unavailable"],
        ),
        row(
            "memory-none",
            [
                "no memory at all from some moment on",
                "each mmap and brk after the first cell fails with ENOMEM",
                "what was measured is kept, and `--resume` ends as if nothing had been",
            ],
            || {
                let sound = program::sound(&RUN)?;
                let mut synced = 0;
                let brk = Trap::Call(libc::SYS_brk);
                let ran = program::run(&RUN, &[MAP, brk, SYNC], move |call| {
                    synced += usize::from(call.trap == SYNC);
                    if call.trap != SYNC && synced >= 2 { Answer::Errno(ENOMEM) } else { Answer::GoOn }
                })?;
                program::resume(&ran.results)?.unchanged(&sound)?;
                Ok(format!("code {:?}, {}; all is there after --resume", ran.code, ran.said.trim()))
            },
        ),
        row(
            "files-none",
            ["no more files may be opened", "RLIMIT_NOFILE of 5", "exit code 3, with what cannot be opened"],
            || {
                let arguments = [&["--machine", "kvm"], &RUN[..]].concat();
                let ran = changed(&arguments, |command| limited(command, libc::RLIMIT_NOFILE, 5))?;
                refused(&ran, &["Too many open files"])
            },
        ),
    ]
}

fn others() -> Vec<Row> {
    vec![
        row(
            "two-runs",
            [
                "two runs in one results directory at the same time",
                "both are started",
                "each has a directory of its own, and all its cells as they were",
            ],
            || {
                let sound = program::sound(&RUN)?;
                let results = results();
                let arguments = [&["run", "--machine", "kvm", "--format", "json"], &RUN[..]].concat();
                let both = [(), ()].map(|()| {
                    let mut command = program(results.path(), &arguments);
                    command.stdout(Stdio::piped()).spawn().expect("it runs")
                });
                for child in both {
                    let output = child.wait_with_output().expect("it ends");
                    ran(Ok(output), results.clone())?.unchanged(&sound)?;
                }
                let dirs = fs::read_dir(results.path()).expect("the results").count();
                if dirs == 2 { Ok("2 directories".to_owned()) } else { Err(Miss::Wrong(format!("{dirs} directories"))) }
            },
        ),
        row(
            "two-writers",
            [
                "a run is gone on with that is not over",
                "`--resume` while it waits in its second cell",
                "exit code 3: another process is writing this run; the run itself ends as it would have",
            ],
            || {
                let results = results();
                let arguments = [&["run", "--machine", "kvm", "--format", "json"], &RUN[..]].concat();
                let (mut synced, dir) = (0, results.path().to_owned());
                let said = Arc::new(std::sync::Mutex::new(None));
                let keep = said.clone();
                let output = inject::run(program(results.path(), &arguments), &[SYNC], move |_| {
                    synced += 1;
                    if synced == 3 {
                        let other = program(&dir, &["run", "--resume", "latest"]).output();
                        *keep.lock().expect("nobody panics with it") = other.ok();
                    }
                    Answer::GoOn
                });
                ran(output, results)?.unchanged(&program::sound(&RUN)?)?;
                let other = said.lock().expect("nobody panics with it").take();
                let other = other.ok_or_else(|| Miss::Wrong("the other one did not run".to_owned()))?;
                let text = String::from_utf8_lossy(&other.stderr).trim().to_owned();
                match other.status.code() == Some(3) && text.contains("another process is writing this run") {
                    true => Ok(text),
                    false => Err(Miss::Wrong(format!("{:?}: {text}", other.status))),
                }
            },
        ),
        row(
            "clock",
            [
                "the wall clock jumps",
                "every use of it in the source is looked at: a clock that is read without a system call cannot be faked",
                "it names runs and intents and nothing else: no time is measured by it, and two runs of one second have directories of their own",
            ],
            || {
                // When a run began, when a destructive cell did, and how both are written.
                let known = ["cli/run.rs", "results/intent.rs", "results/time.rs"];
                let found = wall_clocks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
                match found == known {
                    true => Ok(format!("it is read in {}", known.join(", "))),
                    false => Err(Miss::Wrong(format!("it is used in {found:?}"))),
                }
            },
        ),
        row(
            "results-torn",
            [
                "the power fails: the last line is torn, at each of its bytes",
                "the file of a run that is over is cut there",
                "that cell alone counts as not done, and at three of the places `--resume` ends with each cell once, as it was",
            ],
            torn,
        ),
    ]
}

/// The files of the source that know the wall clock, but for tests.
fn wall_clocks(dir: &Path) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).expect("the source").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                left.push(entry);
                continue;
            }
            let text = fs::read_to_string(&entry).expect("a source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if ["SystemTime", "CLOCK_REALTIME", "gettimeofday", "libc::time("].iter().any(|word| code.contains(word)) {
                found.push(entry.strip_prefix(dir).expect("in there").display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn torn() -> Result<String, Miss> {
    use kvm_memtype::results::{Run, Writer};
    let sound = program::sound(&RUN)?;
    let ran = program::run(&RUN, &[], |_| Answer::GoOn)?;
    let dir = fs::read_dir(ran.results.path()).expect("the results").next().expect("a run").expect("an entry").path();
    let file = dir.join("observations.jsonl");
    let whole = fs::read(&file).expect("the observations");
    let last = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').expect("lines") + 1;
    let wrong = |at: usize, what: String| Err(Miss::Wrong(format!("cut at byte {at} of the line: {what}")));
    for len in last..whole.len() {
        fs::write(&file, &whole[..len]).expect("a cut file");
        match Run::read(&dir) {
            Ok(run) if run.results.len() == CELLS.len() - 1 && run.torn == len - last => {}
            other => return wrong(len - last, format!("{other:?}")),
        }
        match Writer::resume(&dir) {
            Ok(resumed) if resumed.done.len() == CELLS.len() - 1 => {}
            other => return wrong(len - last, format!("{other:?}")),
        }
    }
    for len in [last, last + 1, whole.len() - 1] {
        fs::write(&file, &whole[..len]).expect("a cut file");
        program::resume(&ran.results)?.unchanged(&sound)?;
        let lines = fs::read(&file).expect("the observations").iter().filter(|&&byte| byte == b'\n').count();
        if lines != 1 + CELLS.len() {
            return wrong(len - last, format!("{lines} lines"));
        }
    }
    Ok(format!("{} places", whole.len() - last))
}

/// All rows.
pub fn rows() -> Vec<Row> {
    [devices(), tracing(), memory(), disk::rows(), others(), qemu::rows()].into_iter().flatten().collect()
}
