//! Family `mc`: machine checks that the VMM injects.
//!
//! What: has the VMM set up MC banks and inject errors of each severity (KVM_X86_SETUP_MCE, KVM_X86_SET_MCE), at CPL0
//! and CPL3, with CR4.MCE clear and with MCIP set, and reports #MC and what the banks hold.
//!
//! Why: a wrong memory type can end as a machine check, so it must be certain that one that comes is delivered, is told
//! from others and is not lost.
//!
//! Source: SDM Vol. 3B, "Machine-Check Architecture"; KVM's `arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_setup_mce`,
//! `kvm_vcpu_ioctl_x86_set_mce`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::mce::{self, CTL_P, EN, MCIP, PCC, RIPV, SER_P, UC, VAL};
use guest::msr;
use wire::needs::Needs;
use wire::register::Place;
use wire::step::{MceEvent, Step};

guest::family!();

const MC: Needs = Needs::STEPS.and(Needs::MCE);
/// An error after which nothing can be trusted.
const FATAL: u64 = VAL | UC | EN | PCC;
/// An uncorrected error that needs no action.
const UCNA: u64 = VAL | UC | EN;
/// An error that was corrected.
const CORRECTED: u64 = VAL | EN;

guest::test!(
    "setup",
    "Sets up numbers of banks and capabilities, valid and invalid, and reads MCG_CAP after each.",
    MC,
    points = 38,
    |out| {
        // Bits above the number of banks: MCG_CTL_P, EXT_P, CMCI_P, TES_P, EXT_CNT, SER_P, EMC_P, ELOG_P, LMCE_P,
        // SEAM_NR.
        let caps = [0, CTL_P, 1 << 9, 1 << 10, 1 << 11, 0xff << 16, SER_P, 1 << 25, 1 << 26, 1 << 27, 1 << 12, 1 << 63];
        let banks = [0, 1, 9, 31, 32, 33, 0xff];
        for mcg_cap in banks.map(|banks| CTL_P | SER_P | banks).into_iter().chain(caps.map(|cap| cap | 32)) {
            ring(Step::SetupMce { cpu: 0, mcg_cap });
            out.reads(Place::msr(msr::MCG_CAP)).push(msr::try_rdmsr(msr::MCG_CAP));
        }
    }
);

guest::test!(
    "initial",
    "Reads the machine-check registers as made, and after the set-up of 32 banks.",
    MC,
    points = 264,
    |out| {
        for round in 0..2 {
            if round == 1 {
                mce::set_up(out, 32);
            }
            let mut runs = out.reads(Place::msr(msr::MCG_CAP));
            (msr::MCG_CAP..=msr::MCG_CTL).for_each(|index| runs.push(msr::try_rdmsr(index)));
            drop(runs);
            let mut runs = out.reads(Place::msr(mce::bank_ctl(0)));
            (mce::bank_ctl(0)..mce::bank_ctl(32)).for_each(|index| runs.push(msr::try_rdmsr(index)));
        }
    }
);

guest::test!("fatal", "A fatal error at CPL0, in the first, a middle and the last bank.", MC, points = 23, |out| {
    mce::set_up(out, 32);
    for bank in [0, 17, 31] {
        mce::inject(out, 0, mce::event(bank, FATAL, MCIP | RIPV));
        mce::write(out, msr::MCG_STATUS, 0);
    }
});

guest::test!("fatal-user", "A fatal error at CPL3.", MC, points = 8, |out| {
    mce::set_up(out, 32);
    mce::inject(out, 3, mce::event(5, FATAL, MCIP | RIPV));
});

guest::test!("corrected", "A corrected error, twice in the same bank, and one in another.", MC, points = 20, |out| {
    mce::set_up(out, 32);
    for bank in [3, 3, 4] {
        mce::inject(out, 0, mce::event(bank, CORRECTED, 0));
    }
});

guest::test!(
    "overwrite",
    "An uncorrected error after a corrected one, and a corrected one after that, in one bank.",
    MC,
    points = 21,
    |out| {
        mce::set_up(out, 32);
        mce::inject(out, 0, mce::event(3, CORRECTED | 1, 0));
        mce::inject(out, 0, mce::event(3, FATAL | 2, MCIP | RIPV));
        mce::write(out, msr::MCG_STATUS, 0);
        mce::inject(out, 0, mce::event(3, CORRECTED | 3, 0));
    }
);

guest::test!("ucna", "Uncorrected errors that need no action.", MC, points = 20, |out| {
    mce::set_up(out, 32);
    for bank in [6, 6, 7] {
        mce::inject(out, 0, mce::event(bank, UCNA, 0));
    }
});

guest::test!(
    "refused",
    "Events that are none: a bank that is not there, a status without VAL.",
    MC,
    points = 26,
    |out| {
        mce::set_up(out, 10);
        for event in [
            mce::event(10, FATAL, MCIP | RIPV),
            mce::event(31, CORRECTED, 0),
            mce::event(2, FATAL & !VAL, MCIP | RIPV),
            MceEvent { bank: 2, status: 0, addr: 0, misc: 0, mcg_status: 0 },
        ] {
            mce::inject(out, 0, event);
        }
    }
);

guest::test!(
    "bank-disabled",
    "A fatal and a corrected error in a bank whose MCi_CTL is not all ones.",
    MC,
    points = 15,
    |out| {
        mce::set_up(out, 32);
        mce::write(out, mce::bank_ctl(8), 0);
        mce::inject(out, 0, mce::event(8, FATAL, MCIP | RIPV));
        mce::inject(out, 0, mce::event(8, CORRECTED, 0));
    }
);

guest::test!("all-disabled", "A fatal error while MCG_CTL is not all ones.", MC, points = 9, |out| {
    mce::set_up(out, 32);
    mce::write(out, msr::MCG_CTL, 0);
    mce::inject(out, 0, mce::event(9, FATAL, MCIP | RIPV));
});

guest::test!("write", "Writes to the global registers and to each register of a bank.", MC, points = 20, |out| {
    mce::set_up(out, 32);
    for value in [0, 1, u64::MAX] {
        for index in (msr::MCG_STATUS..=msr::MCG_CTL).chain(mce::bank_ctl(1)..mce::bank_ctl(2)) {
            mce::write(out, index, value);
        }
    }
});

// Each of the following ends the VM where KVM does what the architecture says: a machine check that cannot be delivered
// shuts the processor down. So each is a test of its own, and reports what it can before.

guest::test!("mce-off", "A fatal error while CR4.MCE is 0.", MC, points = 4, |out| {
    mce::set_up(out, 32);
    mce::switch(out, false);
    mce::inject(out, 0, mce::event(1, FATAL, MCIP | RIPV));
});

guest::test!("in-progress", "A fatal error while MCG_STATUS.MCIP is still set by the guest.", MC, points = 4, |out| {
    mce::set_up(out, 32);
    mce::write(out, msr::MCG_STATUS, MCIP);
    mce::inject(out, 0, mce::event(1, FATAL, MCIP | RIPV));
});

guest::test!(
    "second",
    "A second fatal error before the handler of the first cleared MCG_STATUS.MCIP.",
    MC,
    points = 9,
    |out| {
        mce::set_up(out, 32);
        mce::inject(out, 0, mce::event(1, FATAL, MCIP | RIPV));
        mce::inject(out, 0, mce::event(2, FATAL, MCIP | RIPV));
    }
);
