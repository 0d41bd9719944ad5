//! The VFIO ioctls on groups, by their names in `include/uapi/linux/vfio.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

/// `struct vfio_group_status`.
#[repr(C)]
#[derive(Debug, Default)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

/// VFIO_GROUP_FLAGS_VIABLE: no device of the group has a driver that is not VFIO's.
const VIABLE: u32 = 1 << 0;

/// The ioctl numbers.
mod number {
    use vmm_sys_util::ioctl_io_nr;

    const VFIO_TYPE: u32 = b';' as u32;
    ioctl_io_nr!(VFIO_GROUP_GET_STATUS, VFIO_TYPE, 103);
    ioctl_io_nr!(VFIO_GROUP_SET_CONTAINER, VFIO_TYPE, 104);
}

use number::{VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER};

/// Whether a group can be used: VFIO_GROUP_GET_STATUS.
///
/// # Errors
/// What the ioctl says.
pub fn is_viable(group: &File) -> io::Result<bool> {
    let mut status = GroupStatus { argsz: size_of::<GroupStatus>() as u32, flags: 0 };
    // SAFETY: the ioctl reads and writes one `vfio_group_status` at the address that it is given.
    done(unsafe { ioctl_with_mut_ref(group, VFIO_GROUP_GET_STATUS(), &mut status) })?;
    Ok(status.flags & VIABLE != 0)
}

/// Attaches a group to a container: VFIO_GROUP_SET_CONTAINER.
///
/// # Errors
/// What the ioctl says.
pub fn set_container(group: &File, container: &File) -> io::Result<()> {
    let fd: RawFd = container.as_raw_fd();
    // SAFETY: the ioctl reads one `__s32` from the address that it is given.
    done(unsafe { ioctl_with_ref(group, VFIO_GROUP_SET_CONTAINER(), &fd) })
}

fn done(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
