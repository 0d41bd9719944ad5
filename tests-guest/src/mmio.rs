//! Loads and stores of exactly one, two, four or eight bytes by one MOV with a general register, at CPL0 or CPL3.
//!
//! An access to MMIO is decoded by the hypervisor: width and instruction must be certain, so no compiler chooses them.

use crate::report::Out;
use crate::smp::Cpu;
use crate::{attempt, user};
use wire::layout::in_window;
use wire::outcome::Fault;
use wire::record::Access;

/// Loads `width` bytes from `gpa`.
fn load(gpa: u64, width: u8) -> Result<u64, Fault> {
    let (mut byte, mut value) = (0u8, 0u64);
    // SAFETY: a load that may fault here; what lies there is bytes to whoever asks.
    let came = unsafe {
        match width {
            1 => attempt!("mov {v}, byte ptr [{gpa}]", v = inout(reg_byte) byte, gpa = in(reg) gpa, options(nostack)),
            2 => attempt!("mov {v:x}, word ptr [{gpa}]", v = inout(reg) value, gpa = in(reg) gpa, options(nostack)),
            4 => attempt!("mov {v:e}, dword ptr [{gpa}]", v = inout(reg) value, gpa = in(reg) gpa, options(nostack)),
            8 => attempt!("mov {v}, qword ptr [{gpa}]", v = inout(reg) value, gpa = in(reg) gpa, options(nostack)),
            _ => panic!("an access of a width that no MOV has"),
        }
    };
    came.fault().map_or(Ok(if width == 1 { byte.into() } else { value }), Err)
}

/// Stores the low `width` bytes of `value` at `gpa`.
///
/// # Safety
/// Nothing of the guest may lie there.
unsafe fn store(gpa: u64, width: u8, value: u64) -> Option<Fault> {
    // SAFETY: as the caller promises; may fault here.
    let came = unsafe {
        match width {
            1 => {
                attempt!("mov byte ptr [{gpa}], {v}", gpa = in(reg) gpa, v = in(reg_byte) value as u8, options(nostack))
            }
            2 => attempt!("mov word ptr [{gpa}], {v:x}", gpa = in(reg) gpa, v = in(reg) value, options(nostack)),
            4 => attempt!("mov dword ptr [{gpa}], {v:e}", gpa = in(reg) gpa, v = in(reg) value, options(nostack)),
            8 => attempt!("mov qword ptr [{gpa}], {v}", gpa = in(reg) gpa, v = in(reg) value, options(nostack)),
            _ => panic!("an access of a width that no MOV has"),
        }
    };
    came.fault()
}

/// Does `work` at privilege level 0 or 3.
fn at<R>(cpl: u8, work: impl FnOnce() -> R) -> R {
    if cpl == 0 { work() } else { user::run(work) }
}

/// Loads `width` bytes from `gpa` in the test window or the low window at `cpl`, and reports it. Gives what was
/// loaded; 0 after a fault.
pub fn read(out: &mut Out, cpl: u8, gpa: u64, width: u8) -> u64 {
    let (value, fault) = try_read(cpl, gpa, width);
    out.access(Access { cpu: 0, write: false, width, cpl, gpa, value, fault });
    value
}

/// The same on an application processor.
pub fn read_by(out: &mut Out, cpu: &Cpu, cpl: u8, gpa: u64, width: u8) {
    let (value, fault) = cpu.run(|| try_read(cpl, gpa, width));
    out.access(Access { cpu: cpu.index(), write: false, width, cpl, gpa, value, fault });
}

/// Loads on the vCPU that runs this. Gives what was loaded, and what came of it.
fn try_read(cpl: u8, gpa: u64, width: u8) -> (u64, Option<Fault>) {
    assert!(in_window(gpa, width.into()), "a load outside the windows of tests");
    at(cpl, || load(gpa, width)).map_or_else(|fault| (0, Some(fault)), |value| (value, None))
}

/// Stores the low `width` bytes of `value` at `gpa` in the test window or the low window at `cpl`, and reports it.
pub fn write(out: &mut Out, cpl: u8, gpa: u64, width: u8, value: u64) {
    let (value, fault) = try_write(cpl, gpa, width, value);
    out.access(Access { cpu: 0, write: true, width, cpl, gpa, value, fault });
}

/// The same on an application processor.
pub fn write_by(out: &mut Out, cpu: &Cpu, cpl: u8, gpa: u64, width: u8, value: u64) {
    let (value, fault) = cpu.run(|| try_write(cpl, gpa, width, value));
    out.access(Access { cpu: cpu.index(), write: true, width, cpl, gpa, value, fault });
}

/// Stores on the vCPU that runs this. Gives what was stored, and what came of it.
fn try_write(cpl: u8, gpa: u64, width: u8, value: u64) -> (u64, Option<Fault>) {
    assert!(in_window(gpa, width.into()), "a store outside the windows of tests");
    let value = value & (u64::MAX >> (64 - 8 * u32::from(width)));
    // SAFETY: only tests use the windows.
    (value, at(cpl, || unsafe { store(gpa, width, value) }))
}
