//! Programs that the lab runs to their end: each in a process group of its own, and killed when the lab dies.

use kvm_memtype::machine::process::{self, Cause, Event, Open, Stream};
use std::io;
use std::ops::ControlFlow;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program, and keeps all that it writes.
///
/// # Errors
/// It cannot be run.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = each(command, |stream, bytes| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr | Stream::Pipe => stderr.extend_from_slice(bytes),
    })?;
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Output { status, stdout, stderr })
}

/// Runs a program, and hands on what it writes as it comes.
///
/// # Errors
/// It cannot be run.
pub fn each(command: &mut Command, mut on_output: impl FnMut(Stream, &[u8])) -> io::Result<ExitStatus> {
    let cause = process::run(command, Open::default(), Duration::MAX, |event| {
        if let Event::Output(stream, bytes) = event {
            on_output(stream, bytes);
        }
        ControlFlow::<()>::Continue(())
    })?;
    match cause {
        Cause::Exited(status) => Ok(status),
        Cause::Timeout | Cause::Stopped(()) => Err(io::Error::other("it was stopped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_status_come_back() {
        let output = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(super::output(&mut Command::new("/nowhere/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
