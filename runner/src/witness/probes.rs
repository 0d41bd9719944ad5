//! Kprobes of this process on the function by which KVM zaps leaves for memory types: what of them is defined in
//! tracefs, and what their events tell.
//!
//! Zaps for MTRRs, CR0.CD and non-coherent DMA all go through that function. Those of memslots that go and of VMs that
//! end do not.

use super::line::Event;
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wire::host::HostRecord;

/// The function (`arch/x86/kvm/mmu/mmu.c`): struct kvm *, first GFN, and the GFN behind the last.
const FUNCTION: &str = "kvm_zap_gfn_range";
/// The file of tracefs that defines kprobes. One line adds or removes one.
const FILE: &str = "kprobe_events";
/// The group of a process is called this and its id.
const GROUP: &str = "kvm_memtype_";
/// And this, of those that are only tried.
const TRIED: &str = "_try";

/// The event of a call.
pub const ZAP: &str = "zap";
/// The event of its return.
pub const ZAPPED: &str = "zapped";

/// The kprobes of this process. They are removed when this goes; before that, nobody may use them.
#[derive(Debug)]
pub struct Probes {
    file: PathBuf,
    group: String,
}

impl Probes {
    /// Defines them.
    ///
    /// # Errors
    /// The kernel refuses, and why it may.
    pub fn new(tracefs: &Path) -> Result<Probes, String> {
        Probes::define(tracefs, format!("{GROUP}{}", std::process::id()))
    }

    fn define(tracefs: &Path, group: String) -> Result<Probes, String> {
        let probes = Probes { file: tracefs.join(FILE), group };
        let group = &probes.group;
        let call = format!("p:{group}/{ZAP} {FUNCTION} start=%si:x64 end=%dx:x64\n");
        for definition in [call, format!("r:{group}/{ZAPPED} {FUNCTION}\n")] {
            append(&probes.file, &definition).map_err(|error| refused(&probes.file, &definition, &error))?;
        }
        Ok(probes)
    }

    /// The events, as `group/name`.
    pub fn events(&self) -> [String; 2] {
        [ZAP, ZAPPED].map(|name| format!("{}/{name}", self.group))
    }

    /// The file, and what removes them if it is appended to it.
    pub fn removal(&self) -> (&Path, String) {
        (&self.file, removal(&self.group))
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        // If they are in use now, the guardian or the next run tries again.
        let _ = append(&self.file, &removal(&self.group));
    }
}

/// Whether they can be defined on this host: they are, and removed again. Names of all symbols would tell too, but take
/// an emulated machine many seconds to read.
///
/// # Errors
/// Why not, and what to do about it.
pub fn there(tracefs: &Path) -> Result<(), String> {
    if !tracefs.join(FILE).exists() {
        return Err(format!("{} has no {FILE}: it takes a kernel with CONFIG_KPROBE_EVENTS", tracefs.display()));
    }
    Probes::define(tracefs, format!("{GROUP}{}{TRIED}", std::process::id())).map(drop)
}

/// Removes the kprobes of processes that were killed.
pub fn remove_stale(tracefs: &Path) {
    let file = tracefs.join(FILE);
    for group in stale(&fs::read_to_string(&file).unwrap_or_default()) {
        // Those that somebody has enabled in his own instance are busy and stay.
        let _ = append(&file, &removal(&group));
    }
}

/// The groups in that list that are of processes that are gone.
fn stale(list: &str) -> Vec<String> {
    let mut groups = Vec::new();
    for line in list.lines() {
        let Some((group, _)) = line.split_once(':').and_then(|(_, rest)| rest.split_once('/')) else { continue };
        let id = group.strip_prefix(GROUP).map(|id| id.strip_suffix(TRIED).unwrap_or(id));
        let id = id.and_then(|id| id.parse::<u32>().ok());
        let gone = id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists());
        if gone && !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups
}

fn removal(group: &str) -> String {
    format!("-:{group}/{ZAP}\n-:{group}/{ZAPPED}\n")
}

/// Appends, since what is written over the file otherwise takes everybody's kprobes away.
fn append(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(file)?.write_all(text.as_bytes())
}

fn refused(file: &Path, definition: &str, error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOENT) if file.exists() => "; load KVM's modules, and if they are, the compiler has inlined it",
        Some(libc::EPERM | libc::EACCES) => "; it takes root, and a kernel that is not locked down",
        _ => "",
    };
    format!("cannot write {:?} to {}: {error}{why}", definition.trim_end(), file.display())
}

/// The calls of one cell that have not returned yet: first frame, frame behind the last, and ticks, by thread.
#[derive(Debug, Default)]
pub struct Zaps(HashMap<i32, (u64, u64, u64)>);

impl Zaps {
    /// Takes an event, and pushes the zap that it ends.
    pub fn take(&mut self, event: &Event<'_>, records: &mut Vec<HostRecord>) {
        let Some(now) = event.ticks() else { return };
        if event.name == ZAP {
            if let (Some(start), Some(end)) = (event.field("start"), event.field("end")) {
                self.0.insert(event.tid, (start, end, now));
            }
        } else if let Some((start, end, began)) = self.0.remove(&event.tid) {
            records.push(HostRecord::Zap { start, end, ticks: now.saturating_sub(began) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn zaps(lines: &[&str]) -> Vec<HostRecord> {
        let (mut zaps, mut records) = (Zaps::default(), Vec::new());
        for line in lines {
            let Line::Event(event) = Line::parse(line) else { panic!("{line}") };
            zaps.take(&event, &mut records);
        }
        records
    }

    #[test]
    fn a_call_and_its_return_are_a_zap() {
        // Two vCPUs; a return whose call was before tracing began; a call that has not returned.
        let told = zaps(&[
            " kvm-memtype-137 [000] ..... 16614889: zapped: (kvm_mtrr_set_msr+0x15f/0x2a0 [kvm] <- kvm_zap_gfn_range)",
            " kvm-memtype-137 [000] ..... 16614900: zap: (kvm_zap_gfn_range+0x0/0x3d0 [kvm]) start=0x0 end=0x10000000000000",
            " kvm-memtype-138 [001] d..1. 16614950: zap: (kvm_zap_gfn_range+0x0/0x3d0 [kvm]) start=0xc0000 end=0xd0000",
            " kvm-memtype-137 [000] ..... 16615000: zapped: (kvm_mtrr_set_msr+0x15f/0x2a0 [kvm] <- kvm_zap_gfn_range)",
            " kvm-memtype-138 [001] ..... 16614951: zapped: (kvm_mtrr_set_msr+0x15f/0x2a0 [kvm] <- kvm_zap_gfn_range)",
            " kvm-memtype-138 [001] d..1. 16614990: zap: (kvm_zap_gfn_range+0x0/0x3d0 [kvm]) start=0xc0000 end=0xd0000",
        ]);
        let zap = |start, end, ticks| HostRecord::Zap { start, end, ticks };
        assert_eq!(told, [zap(0, 1 << 52, 100), zap(0xc_0000, 0xd_0000, 1)]);
    }

    #[test]
    fn only_the_groups_of_the_dead_are_stale() {
        let mut child = Command::new("true").spawn().unwrap();
        let dead = format!("{GROUP}{}", child.id());
        child.wait().unwrap();
        let alive = format!("{GROUP}{}", std::process::id());
        let list = format!(
            "p:{dead}/zap {FUNCTION} start=%si:x64\nr64:{dead}{TRIED}/zapped {FUNCTION}\np:{alive}/zap {FUNCTION}\n\
             p:kprobes/other vfs_read\np:{GROUP}x/zap {FUNCTION}\nnonsense\n"
        );
        assert_eq!(stale(&list), [dead.clone(), dead + TRIED]);
    }

    #[test]
    fn what_is_no_tracefs_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = there(dir.path()).unwrap_err();
        assert!(error.contains("has no kprobe_events"), "{error}");
        let error = Probes::new(dir.path()).unwrap_err();
        assert!(error.contains("cannot write \"p:kvm_memtype_") && error.contains("No such file"), "{error}");
        fs::write(dir.path().join(FILE), "").unwrap();
        there(dir.path()).unwrap();
        let written = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert!(lines[0].starts_with("p:") && lines[1].starts_with("r:") && lines.len() == 4, "{written}");
        assert!(lines[2..].iter().all(|line| line.starts_with("-:kvm_memtype_")), "{written}");
    }

    proptest! {
        #[test]
        fn any_events_are_taken(events: Vec<(bool, i32, u64, String)>) {
            let (mut zaps, mut records) = (Zaps::default(), Vec::new());
            for (call, tid, time, text) in &events {
                let name = if *call { ZAP } else { ZAPPED };
                zaps.take(&Event { tid: *tid, time: &time.to_string(), name, text }, &mut records);
            }
            prop_assert!(records.len() <= events.iter().filter(|(call, ..)| !call).count());
        }

        #[test]
        fn each_call_that_returns_is_told_once(calls: Vec<(u32, u32, u32)>) {
            let (mut zaps, mut records) = (Zaps::default(), Vec::new());
            for &(start, end, ticks) in &calls {
                let text = format!("(kvm_zap_gfn_range+0x0/0x3d0 [kvm]) start={start:#x} end={end:#x}");
                zaps.take(&Event { tid: 1, time: "1000", name: ZAP, text: &text }, &mut records);
                let time = (1000 + u64::from(ticks)).to_string();
                zaps.take(&Event { tid: 1, time: &time, name: ZAPPED, text: "" }, &mut records);
            }
            let wanted: Vec<HostRecord> = calls
                .iter()
                .map(|&(start, end, ticks)| HostRecord::Zap { start: start.into(), end: end.into(), ticks: ticks.into() })
                .collect();
            prop_assert_eq!(records, wanted);
        }
    }
}
