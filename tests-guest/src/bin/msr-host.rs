//! Family `msr-host`: the registers of memory types through the VMM's ioctls, and whether guest and host agree.
//!
//! What: reads and writes MTRRs, the PAT and CR0 by the VMM's ioctls (KVM_SET_MSRS, KVM_SET_SREGS, KVM_SET_ONE_REG) and
//! by the guest, in turn, and saves the state of one vCPU and restores it on another.
//!
//! Why: live migration and every VMM go this way. A value that the host may set and the guest may not, or one that
//! reads otherwise by the other path, is a guest that differs after it was moved.
//!
//! Source: KVM's `arch/x86/kvm/x86.c:kvm_set_msr_common`, `kvm_get_msr_common`, `__set_sregs_common`;
//! `arch/x86/kvm/mtrr.c:kvm_mtrr_valid`; `Documentation/virt/kvm/api.rst`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::{self, Guard, RANGE_MTRRS, registers};
use guest::host::Path;
use guest::report::Out;
use guest::smp::Cpu;
use guest::values::{ENABLED, FIXED_TYPES, PAT_TYPES, VALID, own};
use guest::{cpu, cr0, msr, sweep};
use wire::layout::{
    CR0_CD, CR0_NW, FIXED_MTRRS, MTRR_CAP, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0, VARIABLE_MTRRS,
};
use wire::needs::Needs;
use wire::outcome::ReadOutcome;
use wire::record::{Series, Start};
use wire::register::{Place, Register};
use wire::step::Step;

guest::family!();

/// A vCPU that has not run.
const OTHER: u8 = 1;
const TWO: Needs = Needs::STEPS.and(Needs::cpus(2));
const ONE_REG: Needs = Needs::STEPS.and(Needs::ONE_REG);

/// Bytes that tell validity checks apart: all types and not-types below 9, single bits, and a few more.
const BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0xf, 0x10, 0x20, 0x40, 0x46, 0x80, 0xff];

/// `base` with each of [`BYTES`] in byte `byte`.
fn in_byte(base: u64, byte: u8) -> impl Iterator<Item = u64> {
    BYTES.into_iter().map(move |value| base & !(0xff << (8 * byte)) | u64::from(value) << (8 * byte))
}

// Where the subject is entry 0 of the PAT, the guest's own code, stack and page walks have the type under test on a KVM
// that honours the PAT. Entry 0 is WB in all else.
guest::test!("pat-types", "The VMM sets all 256 values in one byte of the PAT.", Needs::STEPS, points = 512, |_| {
    Path::Msrs.sweep(0, PAT, Series::byte(PAT_TYPES, 0), 256);
});
guest::test!(
    "pat-bytes",
    "The VMM sets 16 values in each byte of the PAT; the guest reads too.",
    Needs::STEPS,
    points = 384,
    |out| {
        pat_bytes(out, Path::Msrs);
    }
);
guest::test!("one-reg-pat", "The same through KVM_SET_ONE_REG.", ONE_REG, points = 384, |out| {
    pat_bytes(out, Path::OneReg);
});

fn pat_bytes(out: &mut Out, path: Path) {
    (0..8).for_each(|byte| path.agree(out, PAT, in_byte(PAT_TYPES, byte)));
}

guest::test!(
    "def-type",
    "The VMM sets types and flips each bit of MTRRdefType; the guest reads too.",
    Needs::STEPS,
    points = 352,
    |out| {
        def_type(out, Path::Msrs);
    }
);
guest::test!("one-reg-def-type", "The same through KVM_SET_ONE_REG.", ONE_REG, points = 352, |out| {
    def_type(out, Path::OneReg);
});

fn def_type(out: &mut Out, path: Path) {
    for base in [0, ENABLED] {
        path.agree(out, MTRR_DEF_TYPE, in_byte(base, 0));
        path.sweep(0, MTRR_DEF_TYPE, Series::Flip { base, first: 0 }, 64);
    }
}

guest::test!("def-type-types", "The VMM sets all 256 types in MTRRdefType.", Needs::STEPS, points = 512, |_| {
    Path::Msrs.sweep(0, MTRR_DEF_TYPE, Series::byte(ENABLED, 0), 256);
});

guest::test!(
    "fixed",
    "The VMM sets 16 values in each byte of each fixed-range MTRR.",
    Needs::STEPS,
    points = 2882,
    |out| {
        fixed(out, Path::Msrs);
    }
);
guest::test!("one-reg-fixed", "The same through KVM_SET_ONE_REG.", ONE_REG, points = 2882, |out| {
    fixed(out, Path::OneReg);
});

fn fixed(out: &mut Out, path: Path) {
    for index in FIXED_MTRRS {
        for value in (0..8).flat_map(|byte| in_byte(FIXED_TYPES, byte)) {
            path.set(0, index, value);
            path.get(0, index);
        }
        path.agree(out, index, [FIXED_TYPES, FIXED_TYPES.swap_bytes()].into_iter());
    }
}

guest::test!("base", "The VMM sets types and flips each bit of each PHYSBASE.", Needs::STEPS, points = 1330, |out| {
    base(out, Path::Msrs);
});
guest::test!("one-reg-base", "The same through KVM_SET_ONE_REG.", ONE_REG, points = 1330, |out| {
    base(out, Path::OneReg);
});

fn base(out: &mut Out, path: Path) {
    cpu::report_mtrrs_and_width(out);
    for index in (0..VARIABLE_MTRRS).map(|pair| MTRR_PHYSBASE0 + 2 * pair) {
        in_byte(0x8000_0000, 0).for_each(|value| {
            path.set(0, index, value);
            path.get(0, index);
        });
        path.sweep(0, index, Series::Flip { base: 0x8000_0006, first: 0 }, 64);
        path.agree(out, index, [0x8000_0006, 0x4000_0001].into_iter());
    }
}

guest::test!(
    "mask",
    "The VMM flips each bit of each PHYSMASK, and sets masks with holes.",
    Needs::STEPS,
    points = 2122,
    |out| {
        mask(out, Path::Msrs);
    }
);
guest::test!("one-reg-mask", "The same through KVM_SET_ONE_REG.", ONE_REG, points = 2122, |out| {
    mask(out, Path::OneReg);
});

fn mask(out: &mut Out, path: Path) {
    cpu::report_mtrrs_and_width(out);
    for index in (0..VARIABLE_MTRRS).map(|pair| MTRR_PHYSBASE0 + 2 * pair + 1) {
        for base in [0, 0xf000_0000 | VALID] {
            path.sweep(0, index, Series::Flip { base, first: 0 }, 64);
        }
        path.agree(out, index, [0xf_f000_0000 | VALID, 0xa_5a5a_5000 | VALID, 0].into_iter());
    }
}

guest::test!("cap", "The VMM gets MTRRcap and tries to set it.", Needs::STEPS, points = 13, |out| {
    Path::Msrs.get(0, MTRR_CAP);
    let cap = msr::try_rdmsr(MTRR_CAP).unwrap_or(0);
    Path::Msrs.agree(out, MTRR_CAP, [0, cap, cap ^ 1, 1 << 63].into_iter());
});

guest::test!(
    "guest-to-host",
    "The guest writes valid and invalid values; the VMM gets each.",
    Needs::STEPS,
    points = 124,
    |out| {
        let _guard = Guard::new();
        let mut write = |index, value| {
            sweep::msr_once(out, index, value);
            Path::Msrs.get(0, index);
        };
        for value in [PAT_TYPES, PAT_TYPES | 2 << 32, PAT_TYPES.swap_bytes()] {
            write(PAT, value);
        }
        for value in [ENABLED, 0xc02, 0x801, 0x1c06, 6] {
            write(MTRR_DEF_TYPE, value);
        }
        for index in FIXED_MTRRS {
            write(index, FIXED_TYPES.rotate_left(8 * (index & 3)));
            write(index, FIXED_TYPES | 7);
        }
        for pair in 0..VARIABLE_MTRRS {
            let index = MTRR_PHYSBASE0 + 2 * pair;
            write(index, u64::from(pair + 1) << 24 | 6);
            write(index, 0x106);
            write(index + 1, 0xf_ff00_0000 | VALID);
            write(index + 1, 0x400);
        }
    }
);

guest::test!(
    "cr0",
    "The VMM sets CD, NW and upper bits in the CR0 of a vCPU that has not run.",
    TWO,
    points = 148,
    |_| {
        let set = |value| {
            ring(Step::SetCr0 { cpu: OTHER, value });
            ring(Step::GetCr0 { cpu: OTHER });
        };
        // As it was made, out of protected mode, and as a vCPU in 64-bit mode has it.
        for base in [0x10, START_CR0] {
            for combination in [0, CR0_NW, CR0_CD, CR0_CD | CR0_NW] {
                set(base | combination);
            }
            for bit in 32..64 {
                set(base | 1 << bit);
            }
            set(base);
        }
    }
);

guest::test!(
    "save-restore",
    "Saves the state of one vCPU, restores it on another, and gets and reads it all there.",
    TWO,
    points = 61,
    |out| {
        let _guard = Guard::new();
        for index in RANGE_MTRRS {
            sweep::msr_once(out, index, own(index, 0));
        }
        sweep::msr_once(out, PAT, PAT_TYPES);
        sweep::msr_once(out, MTRR_DEF_TYPE, ENABLED);
        sweep::cr0_once(out, cr0::read() | CR0_CD);
        ring(Step::CopyState { from: 0, to: OTHER });
        registers().for_each(|index| Path::Msrs.get(OTHER, index));
        ring(Step::GetCr0 { cpu: OTHER });
    }
);

guest::test!(
    "restore-run",
    "Restores the state of one vCPU on another, which then runs and reads it itself.",
    TWO,
    points = 60,
    |out| {
        let _guard = Guard::new();
        for index in RANGE_MTRRS {
            sweep::msr_once(out, index, own(index, 1));
        }
        sweep::msr_once(out, PAT, PAT_TYPES.swap_bytes());
        sweep::msr_once(out, MTRR_DEF_TYPE, ENABLED);
        ring(Step::CopyState { from: 0, to: OTHER });
        let other = Cpu::start(out, OTHER, Start::Direct);
        let mut found: [ReadOutcome; guard::COUNT] = [Ok(0); _];
        other.run(|| found.iter_mut().zip(registers()).for_each(|(slot, index)| *slot = msr::try_rdmsr(index)));
        for (outcome, index) in found.into_iter().zip(registers()) {
            out.reads(Place { cpu: OTHER, register: Register::Msr(index) }).push(outcome);
        }
    }
);

guest::test!(
    "index-list",
    "Whether KVM_GET_MSR_INDEX_LIST names the MTRRs, the PAT and, as controls, TSC and EFER.",
    Needs::STEPS,
    points = 32,
    |_| {
        /// IA32_TIME_STAMP_COUNTER, which every KVM lists.
        const TSC: u32 = 0x10;
        /// IA32_EFER, which none lists: KVM_GET_SREGS has it.
        const EFER: u32 = 0xc000_0080;
        for index in registers().chain([MTRR_CAP, TSC, EFER]) {
            ring(Step::ListsMsr { index });
        }
    }
);

guest::test!(
    "mask-grows",
    "The VMM sets masks on a vCPU with MAXPHYADDR 36, and gets them when it has 46.",
    TWO,
    points = 11,
    |_| {
        const MASKS: [u64; 3] = [0xf_f000_0000 | VALID, 0x8_0000_0000 | VALID, 0xf_ffff_f000];
        ring(Step::SetMaxphyaddr { cpu: OTHER, bits: 36 });
        let masks = || MASKS.into_iter().zip((MTRR_PHYSBASE0 + 1..).step_by(2));
        for (value, index) in masks() {
            Path::Msrs.set(OTHER, index, value);
            Path::Msrs.get(OTHER, index);
        }
        ring(Step::SetMaxphyaddr { cpu: OTHER, bits: 46 });
        masks().for_each(|(_, index)| Path::Msrs.get(OTHER, index));
    }
);
