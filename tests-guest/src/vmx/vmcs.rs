//! Fields of the VMCS. SDM Vol. 3D, "Field Encoding in VMCS".

use core::arch::asm;

/// A field, by its encoding; the names are the SDM's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Field {
    EptPointer = 0x201a,
    VmcsLinkPointer = 0x2800,
    GuestDebugctl = 0x2802,
    PinControls = 0x4000,
    ProcessorControls = 0x4002,
    ExceptionBitmap = 0x4004,
    PageFaultMask = 0x4006,
    PageFaultMatch = 0x4008,
    Cr3TargetCount = 0x400a,
    ExitControls = 0x400c,
    ExitMsrStoreCount = 0x400e,
    ExitMsrLoadCount = 0x4010,
    EntryControls = 0x4012,
    EntryMsrLoadCount = 0x4014,
    EntryInterruption = 0x4016,
    SecondaryControls = 0x401e,
    ExitReason = 0x4402,
    GuestInterruptibility = 0x4824,
    GuestActivity = 0x4826,
    GuestSysenterCs = 0x482a,
    HostSysenterCs = 0x4c00,
    Cr0Mask = 0x6000,
    Cr4Mask = 0x6002,
    GuestCr0 = 0x6800,
    GuestCr3 = 0x6802,
    GuestCr4 = 0x6804,
    GuestGdtrBase = 0x6816,
    GuestIdtrBase = 0x6818,
    GuestDr7 = 0x681a,
    GuestRsp = 0x681c,
    GuestRip = 0x681e,
    GuestRflags = 0x6820,
    GuestPendingDebug = 0x6822,
    GuestSysenterEsp = 0x6824,
    GuestSysenterEip = 0x6826,
    GuestGdtrLimit = 0x4810,
    GuestIdtrLimit = 0x4812,
    HostCr0 = 0x6c00,
    HostCr3 = 0x6c02,
    HostCr4 = 0x6c04,
    HostFsBase = 0x6c06,
    HostGsBase = 0x6c08,
    HostTrBase = 0x6c0a,
    HostGdtrBase = 0x6c0c,
    HostIdtrBase = 0x6c0e,
    HostSysenterEsp = 0x6c10,
    HostSysenterEip = 0x6c12,
}

/// Writes a field of the current VMCS.
pub fn write(field: Field, value: u64) {
    write_encoded(field as u32, value);
}

/// The same by the encoding, for fields of which there is one a segment register.
pub fn write_encoded(encoding: u32, value: u64) {
    let failed: u8;
    // SAFETY: a VMCS is current. What is wrong with a value shows when it is used.
    unsafe {
        asm!("vmwrite {}, {}", "setbe {}", in(reg) u64::from(encoding), in(reg) value, out(reg_byte) failed,
            options(nostack));
    }
    assert!(failed == 0, "VMWRITE failed: this CPU lacks a field of the VMCS");
}

/// Reads a field of the current VMCS.
pub fn read(field: Field) -> u64 {
    let (value, failed): (u64, u8);
    // SAFETY: a VMCS is current.
    unsafe {
        asm!("vmread {}, {}", "setbe {}", out(reg) value, in(reg) field as u64, out(reg_byte) failed, options(nostack));
    }
    assert!(failed == 0, "VMREAD failed: this CPU lacks a field of the VMCS");
    value
}
