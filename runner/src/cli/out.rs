//! Standard output that may lose its reader.

use std::io::{self, Write};

/// Standard output, with colours where somebody sees them. When whoever read it has gone, the rest is dropped in
/// silence: a run goes on, keeps its results and ends with the exit code that it would have had.
pub fn stdout() -> UntilGone<impl Write> {
    UntilGone { out: anstream::stdout(), gone: false }
}

/// A writer that drops what comes after a broken pipe.
#[derive(Debug)]
pub struct UntilGone<W> {
    out: W,
    gone: bool,
}

impl<W: Write> UntilGone<W> {
    fn unless_gone<T>(&mut self, nothing: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.gone {
            return Ok(nothing);
        }
        match write(&mut self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(nothing)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for UntilGone<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_gone(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_gone((), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes, then its reader has gone.
    struct Three(Vec<u8>);

    impl Write for Three {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match 3 - self.0.len() {
                0 => Err(io::ErrorKind::BrokenPipe.into()),
                left => self.0.write(&bytes[..left.min(bytes.len())]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_comes_after_the_reader_has_gone_is_dropped() {
        let mut out = UntilGone { out: Three(Vec::new()), gone: false };
        out.write_all(b"hello").unwrap();
        out.write_all(b"again").unwrap();
        out.flush().unwrap();
        assert_eq!(out.out.0, b"hel");
    }
}
