//! What the kernel's log and its taint have to say against a cell.

use super::deviation::Deviation;
use crate::witness::Witnessed;

/// What the kernel writes when something is wrong with it; each stands at the beginning of a word (`kernel/panic.c`,
/// `lib/bug.c`, `arch/x86/kernel/traps.c`, `arch/x86/mm/extable.c`, `kernel/watchdog.c`, `kernel/rcu/tree_stall.h`,
/// `kernel/hung_task.c`, `lib/ubsan.c`, `arch/x86/kernel/cpu/mce/core.c`). Not each line with `mce:` is of a machine
/// check: it also says what a CPU has when that comes online.
const SIGNS: [&str; 14] = [
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops:",
    "general protection fault",
    "unchecked MSR access error",
    "Kernel panic",
    "hard LOCKUP",
    "detected stall",
    "blocked for more than",
    "UBSAN:",
    "[Hardware Error]",
    "mce: Uncorrected hardware memory error",
    "mce: CPUs not responding to MCE broadcast",
];
/// The letter of the taint that a WARN leaves.
const WARNED: char = 'W';
/// The letters of taint bits that stand for such a thing: a bad page, death, a soft lockup, a machine check, a warning.
const LETTERS: [char; 5] = ['B', 'D', 'L', 'M', WARNED];

/// Whether a line of the kernel's log says that something is wrong with the kernel.
pub fn is_finding(line: &str) -> bool {
    // That is a process of user space that died.
    let of_a_process = line.starts_with("traps: ");
    let says = |sign: &str| {
        line.match_indices(sign).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric()))
    };
    !of_a_process && SIGNS.iter().any(|sign| says(sign))
}

/// What the kernel has to say against a cell.
#[derive(Debug, Default)]
pub struct Findings<'a> {
    /// Lines of the log that nothing excuses; or, where no line tells, the taint.
    pub bare: Vec<String>,
    /// The deviations that excuse the others, by id.
    pub shown: Vec<&'a str>,
}

/// Weighs what was witnessed against the deviations that apply.
pub fn findings<'a>(witnessed: &Witnessed, applying: &[&'a Deviation]) -> Findings<'a> {
    let mut findings = Findings::default();
    for line in witnessed.kernel_log.iter().filter(|line| is_finding(line)) {
        match applying.iter().find(|deviation| deviation.excuses_kernel_log(line)) {
            Some(deviation) => findings.shown.push(deviation.id()),
            None => findings.bare.push(line.clone()),
        }
    }
    if findings.bare.is_empty() {
        // A line that is excused explains the taint of a warning, and no other.
        let explained = |taint: &str| !findings.shown.is_empty() && taint.starts_with(WARNED);
        let taint = witnessed.taint.iter().filter(|taint| taint.starts_with(LETTERS) && !explained(taint));
        findings.bare = taint.map(|taint| format!("newly tainted: {taint}")).collect();
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_from_what_is_said() {
        for line in [
            "WARNING: CPU: 0 PID: 97 at arch/x86/kvm/mmu/mmu.c:6090 kvm_zap_gfn_range+0x2c9/0x2d0 [kvm]",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kvm-memtype:97]",
            "kernel BUG at arch/x86/kvm/mmu/mmu.c:1000!",
            "Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP",
            "unchecked MSR access error: WRMSR to 0x277 (tried to write 0x0202020202020202)",
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
            "INFO: task kvm-memtype:97 blocked for more than 120 seconds.",
            "mce: [Hardware Error]: Machine check events logged",
            "[Hardware Error]: CPU 0: Machine Check: 0 Bank 4: be00000000800400",
            "mce: Uncorrected hardware memory error in user-access at 1234000",
            "mce: CPUs not responding to MCE broadcast (may include false positives): 1",
        ] {
            assert!(is_finding(line), "{line}");
        }
        for line in [
            "",
            "kvm: DEBUG: nothing",
            "[Firmware Bug]: TSC_DEADLINE disabled due to Errata",
            "traps: a.out[97] general protection fault ip:401000 sp:7ffd error:0 in a.out[401000+1000]",
            "irqbypass: module verification failed: signature and/or required key missing - tainting kernel",
            "Modules linked in: kvm_intel kvm irqbypass",
            "mce: CPU0: Thermal monitoring enabled (TM1)",
        ] {
            assert!(!is_finding(line), "{line}");
        }
    }
}
