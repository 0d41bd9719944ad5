//! A tiny process that removes a directory of tracefs, and kprobes, when the runner is gone, however it went.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How often it tries to remove the directory, a hundredth of a second apart: the files of a killed process close one
/// after the other, and an instance that is being read is busy.
const TRIES: u32 = 500;
/// How often its end is looked for, a millisecond apart.
const REAP_TRIES: u32 = 500;
/// The most files that are closed one by one: a process may have them by the million.
const MOST_FILES: libc::rlim_t = 1 << 20;

/// The runner's end of the pipe that tells the guardian that the runner lives. Where it is dropped, the guardian ends,
/// and is reaped.
#[derive(Debug)]
pub struct Guardian {
    alive: Option<File>,
    process: libc::pid_t,
}

impl Guardian {
    /// Starts one for an empty directory. When that is gone, it appends a text to a file, if one is given.
    ///
    /// # Errors
    /// No pipe or no process can be made.
    pub fn of(dir: &Path, last: Option<(&Path, String)>) -> io::Result<Guardian> {
        let path = CString::new(dir.as_os_str().as_bytes())?;
        let last = last.map(|(file, text)| CString::new(file.as_os_str().as_bytes()).map(|file| (file, text)));
        let last = last.transpose()?;
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two numbers that the call writes.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both are open files that nobody else owns.
        let (watched, alive) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        // SAFETY: the child calls nothing but functions that are safe after fork in a process with threads: `guard`
        // makes system calls only and never returns.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => guard(watched.as_raw_fd(), &path, last.as_ref()),
            process => Ok(Guardian { alive: Some(alive), process }),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.alive = None;
        // It ends at once where the directory is gone. One that has still to try is left to whom orphans are left to:
        // nobody shall wait for it.
        for _ in 0..REAP_TRIES {
            // SAFETY: waits for a child of ours, which nobody else waits for, and wants no status.
            if unsafe { libc::waitpid(self.process, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The child: waits until the other end of the pipe closes, removes the directory, if it is still there, and appends the last
/// text to its file.
fn guard(watched: i32, dir: &CString, last: Option<&(CString, String)>) -> ! {
    // SAFETY: system calls with numbers, and pointers to values that live through them; none of them allocates or takes
    // a lock.
    unsafe {
        // What ends the runner, from the terminal or by its name, shall not end the guardian first.
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"kmt-guardian".as_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_IGN);
        }
        // It must hold nothing else: not the pipe's other end, not the results' lock, not somebody's standard output.
        libc::dup2(watched, 0);
        if libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0u32) != 0 {
            // Linux before 5.9, or a sandbox that does not know it.
            close_one_by_one();
        }
        let mut byte = 0u8;
        while libc::read(0, (&raw mut byte).cast(), 1) == -1 && *libc::__errno_location() == libc::EINTR {}
        for _ in 0..TRIES {
            if libc::rmdir(dir.as_ptr()) == 0 || *libc::__errno_location() != libc::EBUSY {
                break;
            }
            libc::poll(std::ptr::null_mut(), 0, 10);
        }
        if let Some((file, text)) = last {
            // If it fails, somebody else has done it, or the next run will.
            let file = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_APPEND);
            libc::write(file, text.as_ptr().cast(), text.len());
        }
        libc::_exit(0)
    }
}

/// Closes all files but number 0.
///
/// # Safety
/// Nobody else may own them: this is for a child that shares nothing with its parent.
unsafe fn close_one_by_one() {
    let mut limit = libc::rlimit { rlim_cur: MOST_FILES, rlim_max: 0 };
    // SAFETY: the structure is the one that the call fills; the files are the caller's, who says that nobody uses them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for number in 1..limit.rlim_cur.min(MOST_FILES) {
            libc::close(number as i32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    /// Waits until the guardian has removed the directory.
    fn wait(dir: &Path) {
        let late = Instant::now() + Duration::from_secs(30);
        while dir.exists() {
            assert!(Instant::now() < late, "{} is still there", dir.display());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_directory_goes_when_its_process_is_killed() {
        const VICTIM: &str = "KVM_MEMTYPE_TEST_VICTIM";
        // The same test plays the process that is killed.
        if let Some(dir) = std::env::var_os(VICTIM) {
            let dir = PathBuf::from(dir);
            let _guardian = Guardian::of(&dir, Some((&dir.with_extension("last"), "gone\n".into()))).unwrap();
            println!("\nguarded");
            loop {
                std::thread::park();
            }
        }
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("instance");
        std::fs::create_dir(&dir).unwrap();
        let last = dir.with_extension("last");
        std::fs::write(&last, "there\n").unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "witness::guardian::tests::a_directory_goes_when_its_process_is_killed"])
            .env(VICTIM, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "guarded"));
        assert!(dir.exists());
        victim.kill().unwrap();
        victim.wait().unwrap();
        wait(&dir);
        while std::fs::read_to_string(&last).unwrap() != "there\ngone\n" {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_guardian_is_reaped() {
        let root = tempfile::tempdir().unwrap();
        let guardian = Guardian::of(&root.path().join("gone"), None).unwrap();
        let process = guardian.process;
        drop(guardian);
        // SAFETY: asks about a child, and wants no status.
        let waited = unsafe { libc::waitpid(process, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!((waited, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECHILD)));
    }

    #[test]
    fn files_are_closed_one_by_one_where_they_must_be() {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two numbers.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the child calls nothing but system calls, and ends.
        let child = match unsafe { libc::fork() } {
            // SAFETY: as above; nothing is shared with the parent.
            0 => unsafe {
                close_one_by_one();
                let closed = ends.iter().all(|&end| libc::fcntl(end, libc::F_GETFD) == -1);
                libc::_exit(i32::from(!closed))
            },
            child => child,
        };
        let mut status = -1;
        // SAFETY: waits for the child; both ends are ours.
        unsafe {
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            let _ = ends.map(|end| libc::close(end));
        }
        assert_eq!(status, 0);
    }

    #[test]
    fn a_directory_that_is_busy_or_gone_is_no_trouble() {
        let root = tempfile::tempdir().unwrap();
        let (left, gone) = (root.path().join("left"), root.path().join("gone"));
        std::fs::create_dir(&left).unwrap();
        let guardians = [&left, &gone].map(|dir| Guardian::of(dir, None).unwrap());
        drop(guardians);
        wait(&left);
        assert!(Guardian::of(Path::new("a\0b"), None).is_err());
    }
}
