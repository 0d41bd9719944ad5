//! Files that go from process to process with a message (SCM_RIGHTS).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// The most files of one message.
const MOST: usize = 32;

/// Sends bytes, few enough to go at once, with files.
///
/// # Errors
/// What sendmsg says.
pub fn send(to: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let files: Vec<_> = files.iter().map(|file| file.as_raw_fd()).collect();
    match to.send_with_fds(&[bytes], &files).map_err(io::Error::from)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives the bytes of one [`send`] of that length, and its files.
///
/// # Errors
/// What recvmsg says; UnexpectedEof, where the other end is closed or sent something else.
pub fn receive<const N: usize>(from: &UnixStream) -> io::Result<([u8; N], Vec<OwnedFd>)> {
    let (mut bytes, mut files) = ([0; N], [0; MOST]);
    let mut parts = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: N }];
    // SAFETY: the one part is an array of bytes that outlives the call, and any bytes may be written there.
    let (read, count) = unsafe { from.recv_with_fds(&mut parts, &mut files) }.map_err(io::Error::from)?;
    // SAFETY: recvmsg has just made these descriptors, and nobody else knows them.
    let files = files[..count].iter().map(|&file| unsafe { OwnedFd::from_raw_fd(file) }).collect();
    if read == N { Ok((bytes, files)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
