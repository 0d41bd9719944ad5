//! The machine as Bochs' configuration file (bochsrc) says it.

use std::fmt::Write;

/// What of the machine is chosen. The rest is the same for all: an i440FX PC without BIOS, whose serial line, debug
/// port, disk and ROM are files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// CPU model, as `bochs --help cpu` lists them.
    pub cpu: String,
    /// CPU features to leave out, as Bochs names them: `mtrr`, `vmx`, `ss`.
    pub exclude: Vec<String>,
    /// Number of processors.
    pub cpus: u8,
    /// Instructions (ticks) to a second of the devices' time, at least 1000000. A low figure makes the serial line and
    /// the timers quick, and the time stamp counter slow against them.
    pub ips: u32,
    /// RAM in MiB.
    pub megs: u32,
    /// Whether accesses to MSRs that are not there are ignored; else they raise #GP, as the SDM says.
    pub ignore_bad_msrs: bool,
    /// More lines of the file, such as devices.
    pub more: Vec<String>,
}

impl Default for Config {
    /// A bare guest's machine: one Haswell, which has VMX with EPT, and 64 MiB.
    fn default() -> Self {
        Config {
            cpu: "corei7_haswell_4770".to_owned(),
            exclude: Vec::new(),
            cpus: 1,
            ips: 1_000_000,
            megs: 64,
            ignore_bad_msrs: false,
            more: Vec::new(),
        }
    }
}

/// Paths of what Bochs opens.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub rom: String,
    pub disk: String,
    pub serial: String,
}

impl Config {
    /// The text of the file. `display` is the value of `display_library`.
    pub(super) fn text(&self, paths: &Paths, display: &str) -> String {
        let Paths { rom, disk, serial } = paths;
        let Config { cpu, exclude, cpus, ips, megs, ignore_bad_msrs, more } = self;
        let mut text = format!(
            "megs: {megs}\n\
             romimage: file={rom}\n\
             vgaromimage: file=/dev/null\n\
             cpu: model={cpu}, count={cpus}, ips={ips}, reset_on_triple_fault=1, ignore_bad_msrs={}\n\
             clock: sync=none, time0=1700000000\n\
             boot: disk\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=disk, path={disk}, mode=flat, cylinders=0\n\
             com1: enabled=1, mode=file, dev={serial}\n\
             port_e9_hack: enabled=1\n\
             log: /dev/null\n\
             panic: action=fatal\n\
             error: action=report\n\
             info: action=report\n\
             debug: action=ignore\n\
             pci: enabled=1, chipset=i440fx\n\
             display_library: {display}\n",
            u8::from(*ignore_bad_msrs)
        );
        if !exclude.is_empty() {
            let _ = writeln!(text, "cpu: exclude_features=\"{}\"", exclude.join(", "));
        }
        for line in more {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
