//! KVM that fails: each ioctl with each errno that it can give, and KVM_RUN with exits and endings that it can come to.

use crate::inject::{Answer, Call, Trap};
use crate::program::{self, Ran};
use crate::table::{Group, Miss, Row};
use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_SHUTDOWN, KVM_INTERNAL_ERROR_DELIVERY_EV,
    KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_run,
};
use kvm_memtype::judge::Verdict::{self, Crash, Error, Fail, Inconclusive, Timeout};
use libc::{
    E2BIG, EAGAIN, EBUSY, EEXIST, EFAULT, EHWPOISON, EINTR, EINVAL, EIO, EMFILE, ENFILE, ENODEV, ENOENT, ENOEXEC,
    ENOMEM, ENOSYS, ENOTTY, ENXIO, EPERM,
};
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Cells of which one is hit, none of them long.
const CELLS: [&str; 3] = ["boot/hello", "cr0-cache/clwb", "pat-msr/reset"];
const NOTHING: &str = "";
/// KVM_RUN, by its number.
const RUN: u8 = 0x80;
/// What syncs a line of the results: the header's is the first.
const SYNC: Trap = Trap::Call(libc::SYS_fdatasync);

/// An ioctl: name, number, a cell of its own that makes it (besides [`CELLS`]), the errnos that it can give by
/// Documentation/virt/kvm/api.rst and the code behind it, what becomes of the cell, and what the reason names besides the errno.
type Ioctl = (&'static str, u8, &'static str, &'static [i32], Verdict, &'static [&'static str]);

const IOCTLS: [Ioctl; 19] = [
    (
        "KVM_CREATE_VM",
        0x01,
        NOTHING,
        &[ENOMEM, EPERM, EBUSY, EMFILE, ENFILE, EINVAL, EIO, ENODEV],
        Error,
        &["KVM_CREATE_VM"],
    ),
    ("KVM_GET_VCPU_MMAP_SIZE", 0x04, NOTHING, &[EINVAL], Error, &["KVM_CREATE_VM"]),
    ("KVM_SET_TSS_ADDR", 0x47, NOTHING, &[EINVAL, EIO], Error, &["KVM_SET_TSS_ADDR"]),
    (
        "KVM_SET_USER_MEMORY_REGION",
        0x46,
        NOTHING,
        &[ENOMEM, EINVAL, EEXIST, EFAULT, EIO],
        Error,
        &["KVM_SET_USER_MEMORY_REGION"],
    ),
    ("KVM_CREATE_VCPU", 0x41, NOTHING, &[ENOMEM, EINVAL, EEXIST, EMFILE, ENFILE, EBUSY], Error, &["KVM_CREATE_VCPU"]),
    ("KVM_GET_SREGS", 0x83, NOTHING, &[ENOMEM, EFAULT, EINVAL, EIO], Error, &["KVM_GET_SREGS"]),
    ("KVM_GET_MSRS", 0x88, NOTHING, &[ENOMEM, EFAULT, E2BIG], Error, &["KVM_GET_MSRS"]),
    ("KVM_SET_CPUID2", 0x90, NOTHING, &[ENOMEM, EFAULT, E2BIG, EINVAL], Error, &["KVM_SET_CPUID2"]),
    ("KVM_SET_SREGS", 0x84, NOTHING, &[ENOMEM, EFAULT, EINVAL], Error, &["KVM_SET_SREGS"]),
    ("KVM_SET_REGS", 0x82, NOTHING, &[ENOMEM, EFAULT, EINVAL], Error, &["KVM_SET_REGS"]),
    (
        "KVM_RUN",
        RUN,
        NOTHING,
        &[EFAULT, ENOEXEC, ENOSYS, EPERM, ENOMEM, EINVAL, EIO, ENXIO, EBUSY, EHWPOISON],
        Error,
        &["KVM_RUN"],
    ),
    ("KVM_ENABLE_CAP", 0xa3, "smp/sipi-2", &[ENOMEM, EINVAL, EEXIST, EPERM], Error, &["KVM_CAP_SPLIT_IRQCHIP"]),
    ("KVM_GET_STATS_FD", 0xce, NOTHING, &[ENOMEM, EMFILE, ENFILE, EFAULT], Inconclusive, &["KVM_GET_STATS_FD"]),
    ("KVM_SET_MSRS", 0x89, "msr-host/cap", &[ENOMEM, EFAULT, E2BIG, EINVAL], Fail, &["KVM_SET_MSRS"]),
    ("KVM_GET_ONE_REG", 0xab, "msr-host/one-reg-def-type", &[ENOENT, EINVAL, EPERM, EBUSY], Fail, &["KVM_GET_ONE_REG"]),
    ("KVM_SET_ONE_REG", 0xac, "msr-host/one-reg-def-type", &[ENOENT, EPERM, EBUSY], Fail, &["KVM_SET_ONE_REG"]),
    (
        "KVM_SET_USER_MEMORY_REGION2",
        0x49,
        "mmio/flags-v2",
        &[ENOMEM, EEXIST, EFAULT],
        Fail,
        &["KVM_SET_USER_MEMORY_REGION2"],
    ),
    ("KVM_X86_SETUP_MCE", 0x9c, "mc/fatal", &[EINVAL, EFAULT, ENOMEM], Fail, &["KVM_X86_SETUP_MCE"]),
    ("KVM_X86_SET_MCE", 0x9e, "mc/fatal", &[EINVAL, EFAULT, ENXIO], Fail, &["KVM_X86_SET_MCE"]),
];

/// What the system calls an errno.
fn words(errno: i32) -> String {
    let said = io::Error::from_raw_os_error(errno).to_string();
    said.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Its name, as in the manual.
fn name(errno: i32) -> &'static str {
    match errno {
        E2BIG => "E2BIG",
        EAGAIN => "EAGAIN",
        EBUSY => "EBUSY",
        EEXIST => "EEXIST",
        EFAULT => "EFAULT",
        EHWPOISON => "EHWPOISON",
        EINTR => "EINTR",
        EINVAL => "EINVAL",
        EIO => "EIO",
        EMFILE => "EMFILE",
        ENFILE => "ENFILE",
        ENODEV => "ENODEV",
        ENOENT => "ENOENT",
        ENOEXEC => "ENOEXEC",
        ENOMEM => "ENOMEM",
        ENOSYS => "ENOSYS",
        ENOTTY => "ENOTTY",
        ENXIO => "ENXIO",
        EPERM => "EPERM",
        _ => unreachable!("an errno without a name here"),
    }
}

/// Runs cells, and has the calls of some kinds answered that come after the first cell; `answer` is told how many cells are done.
pub fn hit(
    arguments: &[&str],
    traps: &[Trap],
    mut answer: impl FnMut(&Call, usize) -> Answer + Send + 'static,
) -> Result<Ran, Miss> {
    let (mut synced, hits) = (0usize, Arc::new(AtomicUsize::new(0)));
    let count = hits.clone();
    let ran = program::run(arguments, &[&[SYNC], traps].concat(), move |call| {
        synced += usize::from(call.trap == SYNC);
        if call.trap == SYNC || synced < 2 {
            return Answer::GoOn;
        }
        let answer = answer(call, synced - 1);
        count.fetch_add(usize::from(answer != Answer::GoOn), Ordering::Relaxed);
        answer
    })?;
    match hits.load(Ordering::Relaxed) {
        0 => Err(Miss::Wrong(format!("nothing was hit; code {:?}, {:?}: {}", ran.code, ran.cells, ran.said))),
        _ => Ok(ran),
    }
}

/// An answer for the first call, and none for the others.
pub fn once(answer: Answer) -> impl FnMut(&Call, usize) -> Answer + Send + 'static {
    let mut left = Some(answer);
    move |_, _| left.take().unwrap_or(Answer::GoOn)
}

/// The options of a run that nothing on the host can disturb, and these cells.
fn quiet<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["--witness", "stats"].iter().chain(&CELLS).chain(more.iter().filter(|it| !it.is_empty())).copied().collect()
}

fn ioctl(&(ioctl, number, cell, errnos, verdict, named): &'static Ioctl) -> Row {
    let names: Vec<&str> = errnos.iter().map(|&errno| name(errno)).collect();
    let fault = format!("{ioctl} fails with {}", names.join(", "));
    let again = if verdict == Error { "; none after `--resume`" } else { "" };
    let seen = format!("one cell is `{verdict}` and names {}{again}", named.join(", "));
    let how = "the first call after the first cell, each errno in a run of its own";
    Row::new(Group::Ioctl, &format!("ioctl-{ioctl}"), [&fault, how, &seen], move || {
        let arguments = quiet(&[cell]);
        let sound = program::sound(&arguments)?;
        if sound.get(cell).is_some_and(|(verdict, _)| *verdict == Verdict::Skip) {
            return Err(Miss::Skip(format!("{cell}: {}", sound[cell].1)));
        }
        let mut seen = String::new();
        for (n, &errno) in errnos.iter().enumerate() {
            let ran = hit(&arguments, &[Trap::Kvm(number)], once(Answer::Errno(errno)))?;
            let said = if verdict == Error { words(errno) } else { String::new() };
            seen = ran.costs_one(&sound, &[verdict], &[named, &[said.as_str()]].concat())?;
            if n == 0 && verdict == Error {
                program::resume(&ran.results)?.unchanged(&sound)?;
            }
        }
        Ok(format!("{} times, the last: {seen}", errnos.len()))
    })
}

/// An exit of KVM_RUN: what is written into the page that KVM shares with user space, and what becomes of the cell.
type Exit = (&'static str, &'static str, u32, [u32; 4], &'static str);

const EXITS: [Exit; 8] = [
    (
        "internal-error-emulation",
        "KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION",
        KVM_EXIT_INTERNAL_ERROR,
        [KVM_INTERNAL_ERROR_EMULATION, 0, 0, 0],
        "KVM_EXIT_INTERNAL_ERROR 1: KVM could not emulate an instruction at RIP 0x",
    ),
    (
        "internal-error-simul-ex",
        "KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_SIMUL_EX",
        KVM_EXIT_INTERNAL_ERROR,
        [KVM_INTERNAL_ERROR_SIMUL_EX, 0, 0, 0],
        "KVM_EXIT_INTERNAL_ERROR 2: two exceptions at once",
    ),
    (
        "internal-error-delivery",
        "KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_DELIVERY_EV",
        KVM_EXIT_INTERNAL_ERROR,
        [KVM_INTERNAL_ERROR_DELIVERY_EV, 0, 0, 0],
        "KVM_EXIT_INTERNAL_ERROR 3: an exit while an event was delivered",
    ),
    (
        "internal-error-exit",
        "KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON",
        KVM_EXIT_INTERNAL_ERROR,
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, 0, 0, 0],
        "KVM_EXIT_INTERNAL_ERROR 4: an exit reason that KVM does not know",
    ),
    (
        "internal-error-new",
        "KVM_EXIT_INTERNAL_ERROR with a number that nobody knows",
        KVM_EXIT_INTERNAL_ERROR,
        [77, 0, 0, 0],
        "KVM_EXIT_INTERNAL_ERROR 77: an error that this version has no name for",
    ),
    (
        "fail-entry",
        "KVM_EXIT_FAIL_ENTRY",
        KVM_EXIT_FAIL_ENTRY,
        [0x8000_0021, 0, 0, 0],
        "(KVM_EXIT_FAIL_ENTRY), hardware reason 0x80000021",
    ),
    ("shutdown", "KVM_EXIT_SHUTDOWN", KVM_EXIT_SHUTDOWN, [0; 4], "(KVM_EXIT_SHUTDOWN)"),
    ("exit-new", "an exit that nobody knows", 9999, [0; 4], "an exit that no guest of this version makes"),
];

fn exit(&(id, fault, reason, words, why): &'static Exit) -> Row {
    let how = "KVM_RUN is not done; the reason is written into its `kvm_run`";
    let seen = format!("one cell is `crash`: {why}");
    Row::new(Group::Run, &format!("run-{id}"), [fault, how, &seen], move || {
        let arguments = quiet(&[]);
        let sound = program::sound(&arguments)?;
        let mut left = true;
        let ran = hit(&arguments, &[Trap::Kvm(RUN)], move |call, _| {
            if !std::mem::take(&mut left) {
                return Answer::GoOn;
            }
            let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let page = |offset: usize, bytes: &[u8]| call.write("anon_inode:kvm-vcpu:0", offset as u64, bytes);
            let written = page(offset_of!(kvm_run, exit_reason), &reason.to_le_bytes())
                .and_then(|()| page(offset_of!(kvm_run, __bindgen_anon_1), &words));
            written.map_or(Answer::Errno(ENOTTY), |()| Answer::Done)
        })?;
        ran.costs_one(&sound, &[Crash], &[why])
    })
}

/// A thread that does not come back out of KVM_RUN, whatever signal it gets.
fn stuck() -> Row {
    let how = "KVM_RUN does not return, and no signal but SIGKILL wakes it";
    let seen = "one cell is `error`: its VMM was killed";
    Row::new(Group::Run, "run-stuck", ["a vCPU's thread is stuck in KVM_RUN", how, seen], || {
        let arguments = [&["--timeout", "1"], &quiet(&[])[..]].concat();
        let during = |_: &Call, cells| if cells == 1 { Answer::Never } else { Answer::GoOn };
        let ran = hit(&arguments, &[Trap::Kvm(RUN)], during)?;
        ran.costs_one(&program::sound(&quiet(&[]))?, &[Error], &["was killed"])
    })
}

/// Interruptions: so many in a row do no harm, and without an end they are a time-out.
fn storm(errno: i32) -> [Row; 2] {
    let name = name(errno);
    let (fault, how) = (format!("{name}, 2,000 times in a row"), "KVM_RUN is not done");
    let id = format!("run-{name}-storm");
    let passes = Row::new(Group::Run, &id, [&fault, how, "nothing: all cells are as they were"], move || {
        let arguments = quiet(&[]);
        let mut left = 2_000;
        let ran = hit(&arguments, &[Trap::Kvm(RUN)], move |_, _| {
            left -= i32::from(left > 0);
            if left > 0 { Answer::Errno(errno) } else { Answer::GoOn }
        })?;
        ran.unchanged(&program::sound(&arguments)?).map(|()| "all cells are as they were".to_owned())
    });
    let seen = "one cell is `timeout`";
    let endless =
        Row::new(Group::Run, &format!("run-{name}-endless"), [&format!("{name} for ever"), how, seen], move || {
            let arguments = [&["--timeout", "1"], &quiet(&[])[..]].concat();
            let during = move |_: &Call, cells| if cells == 1 { Answer::Errno(errno) } else { Answer::GoOn };
            let ran = hit(&arguments, &[Trap::Kvm(RUN)], during)?;
            ran.costs_one(&program::sound(&quiet(&[]))?, &[Timeout], &["the time was up"])
        });
    [passes, endless]
}

/// What asks KVM what it can do, before the first cell: each call fails, one at a time.
fn probing() -> Row {
    let seen = "the run does not begin and says why (exit code 3), or it is as without the fault; never is another policy, \
                or a cell skipped in silence";
    let texts = ["each ioctl that asks KVM what it can do fails with ENOMEM", "one call in each run", seen];
    Row::new(Group::Ioctl, "ioctl-probing", texts, || {
        let arguments = ["--witness", "none", "boot/hello", "mc/fatal", "mmio/readonly-user"];
        let sound = program::sound(&arguments)?;
        let traps: Vec<Trap> = PROBING.into_iter().map(Trap::Kvm).chain([SYNC]).collect();
        let (mut same, mut said) = (0, 0);
        for nth in 0.. {
            let (mut count, mut begun) = (0, false);
            let hit = Arc::new(Mutex::new(None));
            let keep = hit.clone();
            let ran = program::run(&arguments, &traps, move |call| {
                begun |= call.trap == SYNC;
                count += usize::from(call.trap != SYNC);
                if begun || count != nth + 1 || call.trap == SYNC {
                    return Answer::GoOn;
                }
                *keep.lock().expect("nobody panics with it") = Some(*call);
                Answer::Errno(ENOMEM)
            })?;
            let Some(call) = hit.lock().expect("nobody panics with it").take() else { break };
            if ran.code == Some(3) && ran.said.contains("KVM") && ran.cells.is_empty() {
                said += 1;
            } else {
                let of = |miss| Miss::Wrong(format!("call {nth}, {:?} {:#x?}: {miss:?}", call.trap, &call.args[1..3]));
                ran.unchanged(&sound).map_err(of)?;
                same += 1;
            }
        }
        Ok(format!("{said} calls are said to have failed, {same} change nothing"))
    })
}

/// The ioctls that [`probing`] is about: what a KVM is asked, and what the first guest takes, which shows that it runs one.
const PROBING: [u8; 18] =
    [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x41, 0x46, 0x47, 0x82, 0x83, 0x84, 0x88, 0x90, 0x91, 0x9d, 0xab, 0xe0];

/// KVM_GET_REGS, of which the VMM wants RIP alone, and that of a guest that does not end.
fn no_rip() -> Row {
    let seen = "that cell is `timeout` all the same, without RIP; all others are as they were";
    let texts = ["KVM_GET_REGS fails with ENOMEM, EFAULT", "each call, in a run with `hostile/loop`", seen];
    Row::new(Group::Ioctl, "ioctl-KVM_GET_REGS", texts, || {
        let good = ["--witness", "none", "--suite", "hostile", "boot/hello", "pat-msr/bytes"];
        let mut sound = program::sound(&good)?;
        sound.insert("hostile/loop".to_owned(), (Timeout, "the time was up".to_owned()));
        let arguments = [&["--timeout", "1", "hostile/loop"], &good[..]].concat();
        for errno in [ENOMEM, EFAULT] {
            program::run(&arguments, &[Trap::Kvm(0x81)], move |_| Answer::Errno(errno))?.unchanged(&sound)?;
        }
        Ok("timeout: the time was up".to_owned())
    })
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let storms = [EINTR, EAGAIN].into_iter().flat_map(storm);
    let exits = EXITS.iter().map(exit);
    IOCTLS.iter().map(ioctl).chain([no_rip(), probing()]).chain(exits).chain(storms).chain([stuck()]).collect()
}
