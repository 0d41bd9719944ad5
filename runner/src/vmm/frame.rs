//! Frames on the socket between runner and VMM: a length, a kind, and that many bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes before a frame's content: the length of that as a little-endian u32, and the kind.
const HEAD: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// VMM: confined, and ready for a job. JSON of [`InForce`](super::InForce).
    Ready = 1,
    /// VMM: this thread runs a vCPU from now on. An i32. It goes on after [`Kind::Heard`].
    Thread,
    /// VMM: what is new of SPTEs? Answered by [`Kind::Heard`].
    Sptes,
    /// VMM: something is missing of what was witnessed. Text.
    Gap,
    /// VMM: KVM's statistics. JSON.
    Stats,
    /// VMM: how the job went. JSON of [`Answer`](super::job::Answer). Nothing comes after it.
    Done,
    /// VMM: the filter of system calls has refused one. Its number and its second argument, two u64.
    Refused,
    /// Runner: the job, see [`job`](super::job).
    Job,
    /// Runner: how many changes of SPTEs there are, as a u32; the VMM leaves so many places for them in its log.
    Heard,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Ready,
        Kind::Thread,
        Kind::Sptes,
        Kind::Gap,
        Kind::Stats,
        Kind::Done,
        Kind::Refused,
        Kind::Job,
        Kind::Heard,
    ];

    fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why no frame came.
#[derive(Debug)]
pub enum Trouble {
    /// The time is up.
    Late,
    /// The other end is closed, between two frames or within one.
    Gone,
    /// What came is no frame, or one that is too long.
    Babble(String),
    /// The system refuses.
    Io(io::Error),
}

/// Writes one frame.
///
/// # Errors
/// The other end is closed, or takes nothing for as long as the socket's timeout.
pub fn write(mut to: &UnixStream, kind: Kind, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    // At once, so that it wakes the other end once.
    to.write_all(&[&length.to_le_bytes()[..], &[kind as u8], content].concat())
}

/// Reads one frame, until `deadline` if there is one. `most` says how long a frame of each kind may be: none, where it must
/// not come.
///
/// # Errors
/// None came, or none that is one.
pub fn read(
    from: &UnixStream,
    deadline: Option<Instant>,
    most: impl Fn(Kind) -> Option<usize>,
) -> Result<(Kind, Vec<u8>), Trouble> {
    let mut head = [0; HEAD];
    fill(from, deadline, &mut head)?;
    let [length @ .., byte] = head;
    let length = u32::from_le_bytes(length) as usize;
    let Some((kind, most)) = Kind::of(byte).and_then(|kind| Some((kind, most(kind)?))) else {
        return Err(Trouble::Babble(format!("a frame of kind {byte} at the wrong time")));
    };
    if length > most {
        return Err(Trouble::Babble(format!("{length} bytes of {kind:?}, where {most} are the most")));
    }
    // It grows as bytes come, not as they are promised.
    let (mut content, mut piece) = (Vec::new(), vec![0; length.min(1 << 16)]);
    while content.len() < length {
        let room = piece.len().min(length - content.len());
        fill(from, deadline, &mut piece[..room])?;
        content.extend_from_slice(&piece[..room]);
    }
    Ok((kind, content))
}

fn fill(mut from: &UnixStream, deadline: Option<Instant>, mut buffer: &mut [u8]) -> Result<(), Trouble> {
    while !buffer.is_empty() {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Late);
            }
            // A timeout of less than a tick would be none.
            from.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(Trouble::Io)?;
        }
        match from.read(buffer) {
            Ok(0) => return Err(Trouble::Gone),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset) => return Err(Trouble::Gone),
            Err(error) => return Err(Trouble::Io(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(50))
    }

    #[test]
    fn frames_come_back_whole_and_in_order() {
        let (a, b) = UnixStream::pair().unwrap();
        let large = vec![7; 70_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write(&a, Kind::Gap, b"a gap").unwrap();
                write(&a, Kind::Sptes, b"").unwrap();
                write(&a, Kind::Done, &large).unwrap();
            });
            let any = |_| Some(1 << 20);
            assert_eq!(read(&b, None, any).unwrap(), (Kind::Gap, b"a gap".to_vec()));
            assert_eq!(read(&b, soon(), any).unwrap(), (Kind::Sptes, vec![]));
            assert_eq!(read(&b, None, any).unwrap(), (Kind::Done, large.clone()));
        });
        drop(a);
        assert!(matches!(read(&b, soon(), |_| Some(9)), Err(Trouble::Gone)));
    }

    #[test]
    fn silence_and_drips_end_at_the_deadline() {
        let (a, b) = UnixStream::pair().unwrap();
        assert!(matches!(read(&b, soon(), |_| Some(9)), Err(Trouble::Late)));
        (&a).write_all(&[3, 0, 0, 0, Kind::Gap as u8, b'x']).unwrap();
        assert!(matches!(read(&b, soon(), |_| Some(9)), Err(Trouble::Late)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_babble(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (a, b) = UnixStream::pair().unwrap();
            (&a).write_all(&bytes).unwrap();
            drop(a);
            let most = |kind| (kind != Kind::Job).then_some(16);
            while let Ok((kind, content)) = read(&b, None, most) {
                prop_assert!(kind != Kind::Job && content.len() <= 16);
            }
        }
    }
}
