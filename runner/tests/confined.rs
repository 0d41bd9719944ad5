//! VMMs that end as no VMM does, from outside: each costs its own cell.

mod common;

use common::{confined, elf, job, kvm, skip};
use kvm_memtype::machine::{End, Job, Limits, Machine};
use kvm_memtype::plan::vm::VmConfig;
use kvm_memtype::vmm::Confined;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Children of a process, by /proc.
fn children(of: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Children of all threads of this process: zygotes.
fn zygotes() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |task: PathBuf| fs::read_to_string(task.join("children")).unwrap_or_default();
    let all: String = tasks.map(|task| of(task.unwrap().path()) + " ").collect();
    all.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn kill(id: u32) {
    // SAFETY: the call takes numbers; the process is a descendant of this one.
    unsafe { libc::kill(id as i32, libc::SIGKILL) };
}

/// Whether a process has a vCPU. Only root can see that of a VMM.
fn runs_a_guest(id: u32) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    let places = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    places.into_iter().any(|place| place.to_string_lossy().starts_with("anon_inode:kvm-vcpu"))
}

/// The machine, or a skip.
fn machine() -> Option<Confined> {
    // SAFETY: the call takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        skip("only root sees which VMM has a vCPU");
        return None;
    }
    kvm().map(confined)
}

/// A test must not take another's processes for its own.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_vmm_that_is_killed_costs_its_own_cell() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(machine) = machine() else { return };
    let (vm, halts, loops) = (VmConfig::default(), elf(b"\xf4"), elf(b"\xeb\xfe"));
    let limits = Limits { timeout: Duration::from_secs(60), output: 1 << 13 };
    let ends = |elf: &[u8]| machine.run(&Job { limits, ..job(elf, &vm) });

    let zygote = zygotes()[0];
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| ends(&loops));
        loop {
            if let Some(&child) = children(zygote).iter().find(|&&child| runs_a_guest(child)) {
                break kill(child);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        run.join().unwrap().unwrap_err().to_string()
    });
    assert!(error.contains("ended before it was done: signal: 9 (SIGKILL)"), "{error}");
    assert_eq!(ends(&halts).unwrap().end, End::Halt);

    // One that waits for its job.
    children(zygote).into_iter().for_each(kill);
    let _ = ends(&halts);
    assert_eq!(ends(&halts).unwrap().end, End::Halt);

    // The process that makes them, and with it the one that waits.
    kill(zygote);
    let error = ends(&halts).unwrap_err().to_string();
    assert!(error.contains("the process that made it is gone, too") || error.contains("SIGKILL"), "{error}");
    assert_eq!(ends(&halts).unwrap().end, End::Halt);
    assert_ne!(zygotes(), [zygote]);

    let after = zygotes();
    drop(machine);
    assert!(after.iter().all(|id| !fs::exists(format!("/proc/{id}")).unwrap()), "{after:?}");
}

/// A VMM that is stopped makes no progress, like one that the kernel holds in KVM_RUN.
#[test]
fn a_vmm_that_overstays_is_killed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(machine) = machine() else { return };
    let (vm, loops) = (VmConfig::default(), elf(b"\xeb\xfe"));
    let limits = Limits { timeout: Duration::from_secs(1), output: 1 << 13 };
    let before: Vec<u32> = zygotes();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| machine.run(&Job { limits, ..job(&loops, &vm) }));
        'found: loop {
            for zygote in &before {
                if let Some(&child) = children(*zygote).iter().find(|&&child| runs_a_guest(child)) {
                    // SAFETY: as above.
                    unsafe { libc::kill(child as i32, libc::SIGSTOP) };
                    break 'found;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        run.join().unwrap().unwrap_err().to_string()
    });
    assert!(
        error.contains("was not done 10 s and a tenth after the time of its guest was up, and was killed"),
        "{error}"
    );
}
