//! The VM-execution, VM-exit and VM-entry controls, as far as this CPU has them. SDM Vol. 3D, "VMX Capability Reporting
//! Facility".

use super::vmcs::{Field, write};
use crate::msr;

/// Capability MSRs: the low half is what must be set, the high half what may be.
const PIN: u32 = 0x481;
const PROCESSOR: u32 = 0x482;
const EXIT: u32 = 0x483;
const ENTRY: u32 = 0x484;
const SECONDARY: u32 = 0x48b;
/// IA32_VMX_EPT_VPID_CAP.
const EPT_CAP: u32 = 0x48c;

/// "Activate secondary controls".
const ACTIVATE_SECONDARY: u32 = 1 << 31;
/// "Enable EPT" and "unrestricted guest".
const ENABLE_EPT: u32 = 1 << 1;
const UNRESTRICTED: u32 = 1 << 7;
/// VM exit: "host address-space size". VM entry: "IA-32e mode guest".
const LONG_MODE: u32 = 1 << 9;
/// In EPT_CAP: tables of four levels, tables in WB memory, pages of 2 MiB, INVEPT, and its type "all contexts".
const EPT_WANTED: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 20 | 1 << 26;

/// The controls of a guest.
pub struct Controls {
    pin: u32,
    processor: u32,
    secondary: u32,
    exit: u32,
    entry: u32,
    /// Guests may run with paging off.
    pub unrestricted: bool,
}

impl Controls {
    /// Those of a guest under EPT.
    ///
    /// # Errors
    /// What this CPU cannot do.
    pub fn of_this_cpu() -> Result<Controls, &'static str> {
        let processor = supported(PROCESSOR, ACTIVATE_SECONDARY).ok_or("VMX without secondary controls")?;
        let secondary = supported(SECONDARY, ENABLE_EPT).ok_or("VMX without EPT")?;
        if msr::rdmsr(EPT_CAP) & EPT_WANTED != EPT_WANTED {
            return Err("EPT without WB tables of four levels, pages of 2 MiB, or INVEPT of all contexts");
        }
        Ok(Controls {
            pin: supported(PIN, 0).ok_or("pin-based controls that contradict themselves")?,
            processor,
            secondary,
            exit: supported(EXIT, LONG_MODE).ok_or("VMX without a 64-bit host")?,
            entry: supported(ENTRY, LONG_MODE).ok_or("VMX without 64-bit guests")?,
            unrestricted: supported(SECONDARY, ENABLE_EPT | UNRESTRICTED).is_some(),
        })
    }

    /// Writes them to the current VMCS, for a guest in 64-bit mode or with paging off.
    pub fn write(&self, paged: bool, ept_pointer: u64) {
        let (entry, mode) = if paged { (self.entry, 0) } else { (self.entry & !LONG_MODE, UNRESTRICTED) };
        for (field, value) in [
            (Field::PinControls, self.pin),
            (Field::ProcessorControls, self.processor),
            (Field::SecondaryControls, self.secondary | mode),
            (Field::ExitControls, self.exit),
            (Field::EntryControls, entry),
            // Every exception leaves, and is then no VMCALL.
            (Field::ExceptionBitmap, u32::MAX),
            (Field::PageFaultMask, 0),
            (Field::PageFaultMatch, 0),
            (Field::Cr3TargetCount, 0),
            (Field::ExitMsrStoreCount, 0),
            (Field::ExitMsrLoadCount, 0),
            (Field::EntryMsrLoadCount, 0),
            (Field::EntryInterruption, 0),
        ] {
            write(field, value.into());
        }
        write(Field::EptPointer, ept_pointer);
        // The guest sees and sets CR0 and CR4 as they are.
        write(Field::Cr0Mask, 0);
        write(Field::Cr4Mask, 0);
        write(Field::VmcsLinkPointer, u64::MAX);
    }
}

/// `wanted` with all that must be set besides, if all of it may be.
fn supported(capability: u32, wanted: u32) -> Option<u32> {
    let allowed = msr::rdmsr(capability);
    let all = wanted | allowed as u32;
    (all & !((allowed >> 32) as u32) == 0).then_some(all)
}
