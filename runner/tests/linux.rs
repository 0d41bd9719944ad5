//! Kernels that are not ours in the embedded VMM: a Linux that boots to its init, where there is one, and kernels of a few
//! bytes that take the place of one that dies.

mod common;

use common::{elf, job, kvm, skip};
use kvm_memtype::host;
use kvm_memtype::host::device::{Devices, Named};
use kvm_memtype::machine::{End, Job, Limits, Line, Machine, Observed, bochs};
use kvm_memtype::plan::vm::VmConfig;
use snapbox::cmd::cargo_bin;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use wire::host::HostRecord;
use wire::layout::{MTRR_DEF_TYPE, MTRR_PHYSBASE0};
use wire::needs::Needs;
use wire::step::{Status, Step};

/// In 32-bit mode: mov dx, 0x2f8; mov al, 'h'; out dx, al; the same with 'i', 13 and 10
const SAYS_HI: &[u8] = b"\x66\xba\xf8\x02\xb0h\xee\xb0i\xee\xb0\x0d\xee\xb0\x0a\xee";
/// ud2, for which there is no handler.
const DIES: &[u8] = b"\x0f\x0b";
/// mov eax, 16; mov dx, 0xf4; out dx, eax
const ENDS: &[u8] = b"\xb8\x10\0\0\0\x66\xba\xf4\0\xef";

/// A file that is taken for a kernel.
fn kernel(code: &[&[u8]]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmlinux");
    fs::write(&path, [elf(&code.concat()), b"Linux version 0.1-few-bytes (nobody)\0".to_vec()].concat()).unwrap();
    (dir, path)
}

/// A boot of that code on two vCPUs.
fn boot(code: &[&[u8]]) -> Option<Observed> {
    let machine = kvm()?;
    let (_dir, linux) = kernel(code);
    let devices = Devices::open(&Named { linux: Some(linux), ..Named::default() }).unwrap();
    let machine = machine.with_devices(devices).unwrap();
    let needs = Needs::LINUX.and(Needs::APIC).and(Needs::cpus(2));
    let vm = VmConfig::default();
    assert_eq!(machine.lacks(needs, &vm), None);
    let limits = Limits { output: 1 << 16, ..job(&[], &vm).limits };
    Some(machine.run(&Job { needs, limits, ..job(b"an init", &vm) }).expect("the host runs the kernel"))
}

/// What replied to such steps, in order.
fn replies(observed: &Observed, wanted: impl Fn(Step) -> bool) -> Vec<u64> {
    let value = |line: &Line| match line {
        Line::Host(HostRecord::Step { step, status: Status::Done, value }) if wanted(*step) => Some(*value),
        _ => None,
    };
    observed.log.iter().filter_map(value).collect()
}

#[test]
fn a_boot_lies_between_two_clocks_and_mtrrs_are_firmware_s() {
    let Some(observed) = boot(&[SAYS_HI, ENDS]) else { return };
    assert_eq!(observed.end, End::Exit(16));
    let at = |wanted: &dyn Fn(&Line) -> bool| observed.log.iter().position(wanted).unwrap();
    let hi = at(&|line| *line == Line::Console("hi".to_owned()));
    let kernel = at(&|line| matches!(line, Line::Host(HostRecord::Kernel { entry: 0x10_0000, memory: 0x800_0000 })));
    let is_clock = |line: &Line| matches!(line, Line::Host(HostRecord::Step { step: Step::Clock { .. }, .. }));
    let last = observed.log.iter().rposition(is_clock).unwrap();
    assert!(kernel < at(&is_clock) && at(&is_clock) < hi && hi < last, "{:?}", observed.log);
    let times = replies(&observed, |step| matches!(step, Step::Clock { .. }));
    assert!(times.len() == 2 && times[0] <= times[1], "{times:?}");
    for cpu in 0..2 {
        let get = |index| replies(&observed, |step| step == Step::GetMsr { cpu, index });
        assert_eq!((get(MTRR_DEF_TYPE), get(MTRR_PHYSBASE0)), (vec![0xc06], vec![0xc000_0000]));
    }
}

#[test]
fn a_kernel_that_dies_leaves_what_it_printed() {
    let Some(observed) = boot(&[SAYS_HI, DIES]) else { return };
    assert_eq!(observed.end, End::Shutdown);
    assert!(observed.log.contains(&Line::Console("hi".to_owned())));
    assert_eq!(replies(&observed, |step| matches!(step, Step::Clock { .. })).len(), 1);
}

fn kvm_memtype(results: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("kvm-memtype"));
    command.arg("--results").arg(results).args(arguments).output().unwrap()
}

fn run(results: &Path, linux: Option<&Path>, cell: &str) -> (Option<i32>, String) {
    let linux = linux.map(|path| ["--linux", path.to_str().unwrap()]);
    let suite = ["run", "--machine", "kvm", "--suite", "zaps"];
    let arguments: Vec<&str> = suite.into_iter().chain(linux.into_iter().flatten()).chain([cell]).collect();
    let output = kvm_memtype(results, &arguments);
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_dead_kernel_is_a_crash_and_has_no_row() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let (_dir, linux) = kernel(&[SAYS_HI, DIES]);
    let (code, said) = run(results.path(), Some(&linux), "linux/boot-2");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("triple fault (KVM_EXIT_SHUTDOWN); Linux printed last: hi\n"), "{said}");
    assert!(said.contains("; Linux 0.1-few-bytes at "), "{said}");
    assert_eq!(kvm_memtype(results.path(), &["report", "--zaps"]).status.code(), Some(2));
}

#[test]
fn without_a_kernel_the_cell_says_what_it_wants() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let (_, said) = run(results.path(), None, "linux/boot-2");
    assert!(
        said.contains("1 cell: 1 skip") && said.contains("it boots a Linux kernel: name a vmlinux to --linux"),
        "{said}"
    );
    let (code, said) = run(results.path(), Some(Path::new("/dev/null")), "linux/boot-2");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot boot /dev/null: it is no vmlinux, which is an ELF file"), "{said}");
}

/// A kernel that the lab has fetched.
fn fetched() -> Option<PathBuf> {
    let kernels = fs::read_dir(bochs::cache()?.join("kernels")).ok()?;
    kernels.flatten().map(|entry| entry.path().join("vmlinux")).find(|path| path.exists())
}

#[test]
fn linux_boots_to_its_init_and_has_a_row() {
    if kvm().is_none() {
        return;
    }
    if host::probe().facts("kvm").get("kvm-vendor").is_some_and(|vendor| vendor.to_string() == "kvm_pvm") {
        return skip("kvm_pvm emulates what runs at CPL0, and its emulator knows neither CMPXCHG16B nor INT3");
    }
    let Some(linux) = fetched() else { return skip("no kernel was fetched: `lab fetch` gets some") };
    let results = tempfile::tempdir().unwrap();
    let (code, said) = run(results.path(), Some(&linux), "linux/boot-2");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 cell: 1 pass"), "{said}");
    let table = String::from_utf8(kvm_memtype(results.path(), &["report", "--zaps"]).stdout).unwrap();
    assert!(table.contains("| linux, a real boot | default | 128 MiB | 2 | "), "{table}");
}
