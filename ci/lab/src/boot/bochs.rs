//! Bochs: an emulated VMX machine.

use super::{Boot, Ending, MEMORY, Watch};
use kvm_memtype::execute::chain;
use kvm_memtype::machine::bochs::{Bochs, Config, Heard, Mtrrs, Pvh};
use kvm_memtype::machine::{MachineError, memfd};
use std::time::Duration;

/// Ticks to a second of the machine's time. Timers fire in that time: the more ticks, the fewer of them for an
/// instruction, but the longer what waits for time to pass.
const IPS: u32 = 50_000_000;

/// The CPU model of the emulated machine, unless another is asked for.
pub fn cpu() -> String {
    Config::default().cpu
}

/// Boots a kernel and watches it to its end.
///
/// # Errors
/// It cannot be booted in so much memory, or Bochs cannot be run.
pub fn run(bochs: &Bochs, boot: &Boot<'_>, mut watch: Watch<'_>) -> Result<Ending, MachineError> {
    let config = Config {
        cpu: boot.cpu.to_owned(),
        ips: IPS,
        megs: MEMORY,
        // Linux reads MSRs of a real Haswell that Bochs does not have.
        ignore_bad_msrs: true,
        // Its framebuffer is the MMIO of the host that VMs can be given.
        more: vec!["pci: slot1=pcivga".to_owned()],
        ..Config::default()
    };
    let failed = |what: &str, why: String| MachineError { what: format!("{what}: {why}"), source: None };
    let pvh = Pvh {
        elf: boot.vmlinux,
        command_line: boot.cmdline,
        initrd: Some(boot.initrd),
        megs: MEMORY,
        mtrrs: Mtrrs::Firmware,
    };
    let disk = pvh.disk().map_err(|error| failed("the kernel", chain(&error)))?;
    let mut file = memfd::with(&[]).map_err(|error| failed("the boot disk", chain(&error)))?;
    disk.write(&mut file).map_err(|error| failed("the boot disk", chain(&error)))?;
    let ended = bochs.run(&config, &file, Duration::MAX, |heard| match heard {
        Heard::Serial(bytes) => watch.console(bytes),
        Heard::Debug(bytes) => watch.mailbox(bytes),
        Heard::Silence => watch.silence(),
    })?;
    watch.end(ended.cause, ended.reason().unwrap_or(&ended.message)).map_err(|error| failed("results", chain(&error)))
}
