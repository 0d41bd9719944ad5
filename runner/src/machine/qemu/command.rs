//! QEMU's command line for a job.

use super::Accel;
use crate::plan::vm::VmConfig;
use wire::layout::EXIT_PORT;

/// MAXPHYADDR that TCG shows unless told otherwise (`target/i386/cpu.h`, `TCG_PHYS_ADDR_BITS`).
pub const TCG_MAXPHYADDR: u8 = 40;

/// What of the command line depends on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// CPU model.
    pub cpu: &'static str,
    /// Firmware file among QEMU's own; its default if there is none.
    pub firmware: Option<&'static str>,
}

/// What differs from job to job on QEMU's command line.
#[derive(Debug)]
pub struct Guest<'a> {
    /// The guest's command line.
    pub append: &'a str,
    /// Number of vCPUs.
    pub cpus: u8,
    /// The VM's configuration.
    pub vm: &'a VmConfig,
}

/// The arguments that boot `guest`, the ELF at path `kernel`, on `platform`, with the serial line on standard output.
pub fn arguments(accel: Accel, platform: Platform, kernel: &str, guest: &Guest<'_>) -> Vec<String> {
    let accel_name = match accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    // A chardev without signals: an interrupt is for the runner to handle, not for QEMU.
    format!(
        "-machine q35 -accel {accel_name} -nodefaults -no-user-config -display none -no-reboot \
         -chardev stdio,id=serial,signal=off -serial chardev:serial \
         -device isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4 -m 64 -smp"
    )
    .split(' ')
    .map(str::to_owned)
    .chain([guest.cpus.to_string(), "-cpu".into(), cpu(accel, platform.cpu, guest.vm)])
    .chain(platform.firmware.into_iter().flat_map(|firmware| ["-bios".to_owned(), firmware.to_owned()]))
    .chain(["-kernel".into(), kernel.into(), "-append".into(), guest.append.into()])
    .collect()
}

fn cpu(accel: Accel, model: &str, vm: &VmConfig) -> String {
    let mtrr = if vm.cpuid_mtrr { "" } else { ",-mtrr" };
    let self_snoop = if vm.cpuid_self_snoop { "" } else { ",-ss" };
    let bits = match (vm.maxphyaddr, accel) {
        (Some(bits), _) => format!(",phys-bits={bits},host-phys-bits=off"),
        (None, Accel::Kvm) => ",host-phys-bits=on".to_owned(),
        (None, Accel::Tcg) => format!(",phys-bits={TCG_MAXPHYADDR}"),
    };
    format!("{model}{mtrr}{self_snoop}{bits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(accel: Accel, maxphyaddr: Option<u8>, cpuid_mtrr: bool) -> String {
        let vm = VmConfig { maxphyaddr, cpuid_mtrr, ..VmConfig::default() };
        let guest = Guest { append: "run=5eed test=a", cpus: 2, vm: &vm };
        arguments(accel, Platform { cpu: "model", firmware: Some("f") }, "/k", &guest).join("|")
    }

    #[test]
    fn the_guest_is_named_with_its_words() {
        let line = line(Accel::Tcg, None, true);
        assert!(line.starts_with("-machine|q35|-accel|tcg|"), "{line}");
        assert!(
            line.ends_with("|-m|64|-smp|2|-cpu|model,phys-bits=40|-bios|f|-kernel|/k|-append|run=5eed test=a"),
            "{line}"
        );
        assert!(line.contains("|isa-debug-exit,iobase=0xf4,iosize=4|"), "{line}");
    }

    #[test]
    fn the_configuration_is_the_cpus() {
        assert!(line(Accel::Kvm, None, true).contains("|model,host-phys-bits=on|"));
        assert!(line(Accel::Kvm, Some(36), false).contains("|model,-mtrr,phys-bits=36,host-phys-bits=off|"));
        let vm = VmConfig { cpuid_self_snoop: false, ..VmConfig::default() };
        assert_eq!(cpu(Accel::Kvm, "model", &vm), "model,-ss,host-phys-bits=on");
    }
}
