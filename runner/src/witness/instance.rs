//! An instance of tracefs of our own, so that nobody else's tracing is touched: made, read, and removed, also when this
//! process is killed.

use super::guardian::Guardian;
use super::probes::Probes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where tracefs is, by itself and under debugfs.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The instance of a process is called this and its id.
const NAME: &str = "kvm-memtype-";
/// The most bytes of text that are read at a time: a host whose events come faster than they are read has no end of
/// them.
const MOST_BYTES: usize = 64 << 20;

/// Where tracefs is mounted and can be written to.
///
/// # Errors
/// Why not, and what to do about it.
pub fn find() -> Result<PathBuf, String> {
    let mounted = |dir: &&&str| Path::new(**dir).join("instances").is_dir();
    let Some(dir) = MOUNTS.iter().find(mounted) else {
        return Err(format!("no tracefs at {}: as root, mount -t tracefs tracefs {0}", MOUNTS[0]));
    };
    let path = Path::new(dir);
    // Root may write there unless a sandbox has it read-only.
    let path_c = std::ffi::CString::new(format!("{dir}/instances")).unwrap_or_default();
    // SAFETY: the path is a string that ends with a zero byte and lives through the call.
    if unsafe { libc::faccessat(libc::AT_FDCWD, path_c.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) } != 0 {
        let error = io::Error::last_os_error();
        let advice = match error.raw_os_error() {
            Some(libc::EROFS) => format!("as root, mount -o remount,rw {dir}"),
            _ => "run as root".to_owned(),
        };
        return Err(format!("{dir}/instances cannot be written to ({error}): {advice}"));
    }
    Ok(path.to_owned())
}

/// Removes what killed runs have left under `tracefs`, and says how many.
pub fn remove_stale(tracefs: &Path) -> usize {
    let entries = fs::read_dir(tracefs.join("instances")).into_iter().flatten().flatten();
    let stale = entries.filter(|entry| {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
        id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists())
    });
    // One that is in use after all, by a process of another PID namespace, is busy and stays.
    stale.filter(|entry| fs::remove_dir(entry.path()).is_ok()).count()
}

/// An instance. It goes when this value or this process does.
#[derive(Debug)]
pub struct Instance {
    // Closed before the directory is removed: an instance that is being read cannot be.
    pipe: Option<File>,
    dir: PathBuf,
    /// The text of a line that is not whole yet.
    rest: Vec<u8>,
    _guardian: Guardian,
}

impl Instance {
    /// Makes the instance of this process, with nothing enabled in it. With kprobes, which are gone too where this process is
    /// killed, its clock is the time-stamp counter.
    ///
    /// # Errors
    /// What was tried, and what the system says.
    pub fn new(tracefs: &Path, probes: Option<&Probes>) -> Result<Instance, String> {
        let dir = tracefs.join("instances").join(format!("{NAME}{}", std::process::id()));
        let failed = |what: &str, path: &Path, error: io::Error| format!("cannot {what} {}: {error}", path.display());
        match fs::create_dir(&dir) {
            // Of a killed process that had our number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_dir(&dir)
                    .and_then(|()| fs::create_dir(&dir))
                    .map_err(|error| failed("make", &dir, error))?;
            }
            result => result.map_err(|error| failed("make", &dir, error))?,
        }
        // Before the pipe is opened: a child that has it open keeps the instance alive.
        let guardian = Guardian::of(&dir, probes.map(Probes::removal)).map_err(|error| {
            let _ = fs::remove_dir(&dir);
            format!("cannot watch over {}: {error}", dir.display())
        })?;
        let mut instance = Instance { pipe: None, dir, rest: Vec::new(), _guardian: guardian };
        // Other clocks of CPUs can disagree, and with them the order of events. Before the pipe is opened: it prints times as they
        // are by the clock of that moment.
        instance.write("trace_clock", if probes.is_some() { "x86-tsc" } else { "mono" })?;
        let path = instance.dir.join("trace_pipe");
        let pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        instance.pipe = Some(pipe.map_err(|error| failed("open", &path, error))?);
        Ok(instance)
    }

    /// Whether an event is there, by `group/name`.
    pub fn has(&self, event: &str) -> bool {
        self.dir.join("events").join(event).is_dir()
    }

    /// Records an event from now on, where `filter` holds (`Documentation/trace/events.rst`), if there is one.
    ///
    /// # Errors
    /// The event or the filter is refused.
    pub fn enable(&self, event: &str, filter: Option<&str>) -> Result<(), String> {
        if let Some(filter) = filter {
            self.filter(event, filter)?;
        }
        self.write(&format!("events/{event}/enable"), "1")
    }

    /// Records an event from now on only where `filter` holds.
    ///
    /// # Errors
    /// The filter is refused.
    pub fn filter(&self, event: &str, filter: &str) -> Result<(), String> {
        self.write(&format!("events/{event}/filter"), filter)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), String> {
        let path = self.dir.join(file);
        // No file is made: what is not there is no tracefs.
        let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|error| format!("cannot write {value:?} to {}: {error}", path.display()))
    }

    /// Calls `each` for each line that has come since the last time, and says whether those were all: it stops where
    /// there is no end of them.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn drain(&mut self, each: impl FnMut(&str)) -> io::Result<bool> {
        self.pipe.as_mut().map_or(Ok(true), |pipe| drain(pipe, MOST_BYTES, &mut self.rest, each))
    }
}

/// Reads `pipe` up to its end for now, or `most` bytes and little more, and takes the whole lines out of what came.
/// Whether the end was met.
fn drain(pipe: &mut impl Read, most: usize, rest: &mut Vec<u8>, mut each: impl FnMut(&str)) -> io::Result<bool> {
    // The kernel gives a page at most.
    let (mut bytes, mut total) = ([0; 4096], 0);
    while total < most {
        match pipe.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(count) => {
                total += count;
                rest.extend(&bytes[..count]);
                take_lines(rest, &mut each);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Takes the whole lines out of `text`.
pub fn take_lines(text: &mut Vec<u8>, mut each: impl FnMut(&str)) {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |feed| feed + 1);
    let lines = text[..whole].split_inclusive(|&byte| byte == b'\n');
    lines.for_each(|line| each(String::from_utf8_lossy(&line[..line.len() - 1]).as_ref()));
    text.drain(..whole);
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.pipe = None;
        // If it cannot be removed now, the guardian or the next run tries again.
        let _ = fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    fn tracefs(instances: &[String]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("instances")).unwrap();
        instances.iter().for_each(|name| fs::create_dir(dir.path().join("instances").join(name)).unwrap());
        dir
    }

    fn names(tracefs: &tempfile::TempDir) -> BTreeSet<String> {
        let entries = fs::read_dir(tracefs.path().join("instances")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn only_the_instances_of_the_dead_are_removed() {
        let mut child = Command::new("true").spawn().unwrap();
        let dead = format!("{NAME}{}", child.id());
        child.wait().unwrap();
        let alive =
            [format!("{NAME}{}", std::process::id()), format!("{NAME}x"), "kvm-memtype".to_owned(), "1".to_owned()];
        let tracefs = tracefs(&[&alive[..], &[dead]].concat());
        assert_eq!(remove_stale(tracefs.path()), 1);
        assert_eq!(names(&tracefs), alive.into());
        assert_eq!(remove_stale(Path::new("/nowhere")), 0);
    }

    #[test]
    fn what_is_no_tracefs_is_left_as_it_was() {
        let tracefs = tracefs(&[]);
        let error = Instance::new(tracefs.path(), None).unwrap_err();
        assert!(error.starts_with("cannot write \"mono\"") && error.contains("trace_clock: No such file"), "{error}");
        assert_eq!(names(&tracefs), BTreeSet::new());
        let error = Instance::new(Path::new("/nowhere"), None).unwrap_err();
        assert!(error.starts_with("cannot make /nowhere/instances/kvm-memtype-"), "{error}");
    }

    /// On a host where it can be done: with root's rights and tracefs mounted.
    #[test]
    fn a_real_instance_goes_with_its_value() {
        let tracefs = match find() {
            Ok(tracefs) => tracefs,
            Err(why) => return crate::skip::skip(&why),
        };
        let mut instance = Instance::new(&tracefs, None).unwrap();
        let dir = instance.dir.clone();
        assert!(instance.has("sched/sched_switch") && !instance.has("sched/nothing"));
        assert!(instance.enable("sched/nothing", None).is_err());
        instance.enable("sched/sched_switch", Some("prev_pid > 0")).unwrap();
        instance.filter("sched/sched_switch", "common_pid < 0").unwrap();
        instance.filter("sched/sched_switch", "common_pid == 1 || common_pid == 2").unwrap();
        std::thread::yield_now();
        assert!(instance.drain(|_| {}).unwrap());
        drop(instance);
        assert!(!dir.exists());
    }

    #[test]
    fn a_trace_without_an_end_is_left() {
        let (mut rest, mut lines) = (Vec::new(), 0);
        let line = |_: &str| lines += 1;
        assert!(!drain(&mut io::repeat(b'\n'), 8192, &mut rest, line).unwrap());
        assert_eq!(lines, 8192);
        assert!(drain(&mut &b"a\nb"[..], 8192, &mut rest, |line| assert_eq!(line, "a")).unwrap());
        assert_eq!(rest, b"b");
    }

    proptest! {
        #[test]
        fn lines_are_whole_however_the_text_comes(lines: Vec<Vec<u8>>, cuts: Vec<u8>) {
            let lossy = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
            let mut lines = lines;
            lines.iter_mut().for_each(|line| line.retain(|&byte| byte != b'\n'));
            let mut text = lines.join(&b'\n');
            let rest = lines.pop();
            let (mut found, mut buffer) = (Vec::new(), Vec::new());
            for cut in cuts {
                buffer.extend(text.drain(..text.len().min(cut.into())));
                take_lines(&mut buffer, |line| found.push(line.to_owned()));
            }
            buffer.extend(text);
            take_lines(&mut buffer, |line| found.push(line.to_owned()));
            prop_assert_eq!(found, lines.iter().map(|line| lossy(line)).collect::<Vec<_>>());
            prop_assert_eq!(buffer, rest.unwrap_or_default());
        }
    }
}
