//! What of the confinement is in force, for people: asked of the kernel about a VMM that is really there.

use super::{Confined, PROGRAM};
use crate::execute::chain;
use crate::host::sysfs;
use crate::machine::MachineError;
use crate::machine::kvm::KvmMachine;
use std::fs;
use std::path::Path;

/// Limits that a VMM has, as /proc/PID/limits calls them. That of CPU time comes with the job.
const LIMITS: [&str; 6] = [
    "Max address space",
    "Max file size",
    "Max open files",
    "Max processes",
    "Max core file size",
    "Max locked memory",
];

/// Starts a VMM and says what the kernel says of it, in rows of a name and a value; why it cannot, where none can be had.
pub fn rows() -> Vec<(String, String)> {
    let shown = || -> Result<_, MachineError> {
        let machine = KvmMachine::open().map_err(|trouble| MachineError { what: trouble.to_string(), source: None })?;
        let machine = Confined::new(machine, PROGRAM)?;
        let mut rows = machine.shown(of_process)?;
        rows.insert(2, ("Landlock", landlock(&machine.in_force().landlock)));
        Ok(rows)
    };
    let mut rows =
        shown().unwrap_or_else(|error| vec![("VMM of machine kvm", format!("not known: {}", chain(&error)))]);
    rows.push((
        "QEMU and Bochs",
        "no new privileges, no core dumps, few open files, end with the runner; no more".to_owned(),
    ));
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn landlock(found: &Result<i32, String>) -> String {
    match found {
        Ok(abi) => format!("yes: ABI {abi}, no file, no TCP port, no process outside"),
        Err(why) => format!("no: {why}"),
    }
}

/// What /proc tells of a process.
fn of_process(id: libc::pid_t) -> Vec<(&'static str, String)> {
    let dir = format!("/proc/{id}");
    let status = fs::read_to_string(format!("{dir}/status")).unwrap_or_default();
    let limits = fs::read_to_string(format!("{dir}/limits")).unwrap_or_default();
    let mut rows = of_status(&status);
    rows.push(("open files", open_files(Path::new(&dir))));
    rows.push(("limits", of_limits(&limits)));
    rows
}

/// The rows of /proc/PID/status.
fn of_status(status: &str) -> Vec<(&'static str, String)> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map_or("?".to_owned(), |value| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let yes = |is: bool, what: String| format!("{}: {what}", if is { "yes" } else { "no" });
    let none = |set: &str| set != "?" && set.chars().all(|digit| digit == '0');
    let [new, seccomp, effective, bounding] = ["NoNewPrivs", "Seccomp", "CapEff", "CapBnd"].map(field);
    // One that cannot drop its bounding set has nothing that it could gain by it.
    let (users, groups) = (field("Uid"), field("Gid"));
    let own = users.split(' ').all(|user| user == "65534");
    vec![
        ("no new privileges", yes(new == "1", format!("NoNewPrivs {new}"))),
        (
            "filter of system calls",
            yes(seccomp == "2", format!("Seccomp {seccomp}, {} filters", field("Seccomp_filters"))),
        ),
        ("no capabilities", yes(none(&effective), format!("CapEff {effective}, CapBnd {bounding}"))),
        ("a user of its own", yes(own, format!("Uid {users}, Gid {groups}, Groups {:?}", field("Groups")))),
        ("threads", field("Threads")),
    ]
}

/// The descriptors that a process has open.
fn open_files(dir: &Path) -> String {
    let mut names = sysfs::names(&dir.join("fd"));
    names.sort_by_key(|name| name.parse::<u32>().unwrap_or(u32::MAX));
    let place = |name: &String| fs::read_link(dir.join("fd").join(name)).map(|place| place.display().to_string());
    let places: Vec<_> = names.iter().filter_map(|name| place(name).ok()).collect();
    if places.is_empty() { "only root can see them".to_owned() } else { places.join(", ") }
}

/// The rows of /proc/PID/limits that were set.
fn of_limits(limits: &str) -> String {
    let row = |name: &&str| {
        let soft = limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next())?;
        Some(format!("{} {soft}", name.trim_start_matches("Max ")))
    };
    LIMITS.iter().filter_map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_force_is_seen() {
        let confined = "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
                        Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t \nThreads:\t1\n";
        let yes = |status: &str| of_status(status).iter().filter(|(_, value)| value.starts_with("yes: ")).count();
        assert_eq!(yes(confined), 4);
        for (from, to) in
            [("Privs:\t1", "Privs:\t0"), ("Seccomp:\t2", "Seccomp:\t0"), ("Eff:\t0", "Eff:\t8"), ("\t65534", "\t0")]
        {
            assert_eq!(yes(&confined.replacen(from, to, 1)), 3, "{from}");
        }
        assert_eq!(yes(""), 0);
        // This process is not confined.
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(of_status(&own)[1].1.starts_with("no: Seccomp 0"), "{own}");
    }

    #[test]
    fn limits_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max file size             16777216             16777216             bytes     \n\
                      Max open files            256                  256                  files     \n";
        assert_eq!(of_limits(limits), "file size 16777216, open files 256");
    }
}
