//! Family `alias`: one page of RAM mapped twice, through two entries of the PAT, or by guest and host. Stores by the one
//! mapping, loads by the other, at CPL3, with and without fences and flushes: whether a load ever gives what was there
//! before, and that no machine check comes of it.
//!
//! What: maps one page of RAM twice, with two types of the PAT, or by guest and host; stores by the one mapping and
//! loads by the other, on one vCPU and on two, without a fence and with MFENCE, CLFLUSH and WBINVD, and counts loads
//! that give what was there before.
//!
//! Why: guests with a device mapped WC by one driver and WB by another live from such pages being coherent, or from
//! flushes that make them so, and it must not end as a machine check. What the host reads of a memslot that the guest
//! wrote is what a live migration would send.
//!
//! Source: SDM Vol. 3A, "Programming the PAT" (aliases of one physical page); Vol. 2 CPUID, flag SS (self snoop); KVM's
//! `arch/x86/kvm/x86.c:kvm_emulate_wbinvd`, `kvm_arch_has_noncoherent_dma`.

#![no_std]
#![no_main]

use guest::alias::{self, ENTRIES, Page};
use guest::report::Out;
use guest::smp::Cpu;
use wire::coherence::Between;
use wire::needs::Needs;
use wire::record::Start;

guest::family!();

const TWO: Needs = Needs::cpus(2);
const SLOT: Needs = Needs::STEPS.and(Needs::SLOTS);

guest::test!(
    "same-type",
    "Two mappings of one type, on one vCPU, without a fence and with MFENCE.",
    Needs::NONE,
    points = 49,
    |out| {
        alias::prepare(out, &[]);
        let page = alias::ram();
        for entry in ENTRIES {
            for between in [Between::Nothing, Between::Fence] {
                alias::here(out, page, entry, entry, between);
            }
        }
    }
);

guest::test!(
    "flushed",
    "Two mappings of each two types, on one vCPU, with MFENCE and CLFLUSH.",
    Needs::NONE,
    points = 73,
    |out| {
        alias::prepare(out, &[]);
        let page = alias::ram();
        each_pair(|store, load| alias::here(out, page, store, load, Between::Clflush));
    }
);

guest::test!(
    "pairs",
    "Two mappings of each two types, on one vCPU, without a fence and with MFENCE.",
    Needs::NONE,
    points = 109,
    |out| {
        alias::prepare(out, &[]);
        unflushed(out, alias::ram());
    }
);

guest::test!("slot-pairs", "The same of a page of a memslot.", SLOT, points = 112, |out| {
    alias::prepare(out, &[]);
    let page = alias::slot(out);
    unflushed(out, page);
});

guest::test!(
    "cpus-flushed",
    "Stores on one vCPU and loads on another, by WB and a mapping of each type, both ways, with MFENCE and CLFLUSH.",
    TWO.and(Needs::APIC),
    points = 83,
    |out| {
        let other = Cpu::start(out, 1, Start::Sipi);
        alias::prepare(out, &[&other]);
        let page = alias::ram();
        across(out, page, &other, Between::Clflush);
    }
);

guest::test!("cpus", "The same with MFENCE alone.", TWO.and(Needs::APIC), points = 83, |out| {
    let other = Cpu::start(out, 1, Start::Sipi);
    alias::prepare(out, &[&other]);
    let page = alias::ram();
    across(out, page, &other, Between::Fence);
});

guest::test!("slot-cpus", "The same of a page of a memslot.", TWO.and(SLOT), points = 86, |out| {
    let other = Cpu::start(out, 1, Start::Direct);
    alias::prepare(out, &[&other]);
    let page = alias::slot(out);
    across(out, page, &other, Between::Fence);
});

guest::test!(
    "host-flushed",
    "A page of a memslot, by each type and by the host's own mapping, both ways, with CLFLUSH by the guest and by the host.",
    SLOT,
    points = 352,
    |out| with_host(out, &[Between::Clflush, Between::HostClflush])
);

guest::test!("host", "The same without CLFLUSH.", SLOT, points = 196, |out| with_host(out, &[Between::Fence]));

guest::test!("invd", "Stores by each type, INVD, and loads by the same mapping.", Needs::NONE, points = 43, |out| {
    alias::prepare(out, &[]);
    let page = alias::ram();
    ENTRIES.into_iter().for_each(|entry| alias::around(out, page, entry, Between::Invd));
});

guest::test!("wbinvd", "Stores by each type, WBINVD, and loads by the host.", SLOT, points = 142, |out| {
    alias::prepare(out, &[]);
    let page = alias::slot(out);
    ENTRIES.into_iter().for_each(|entry| alias::to_host(out, page, entry, Between::Wbinvd));
});

/// Does `work` with each two entries, of which the first is for stores; they may be the same.
fn each_pair(mut work: impl FnMut(u8, u8)) {
    for store in ENTRIES {
        ENTRIES.into_iter().for_each(|load| work(store, load));
    }
}

/// Each type against WB, which is the first entry, and that against itself.
fn across(out: &mut Out, page: Page, other: &Cpu, between: Between) {
    for (n, entry) in ENTRIES.into_iter().enumerate() {
        alias::across(out, page, other, ENTRIES[0], entry, between);
        if n > 0 {
            alias::across(out, page, other, entry, ENTRIES[0], between);
        }
    }
}

fn unflushed(out: &mut Out, page: Page) {
    for between in [Between::Nothing, Between::Fence] {
        each_pair(|store, load| alias::here(out, page, store, load, between));
    }
}

fn with_host(out: &mut Out, betweens: &[Between]) {
    alias::prepare(out, &[]);
    let page = alias::slot(out);
    for &between in betweens {
        for entry in ENTRIES {
            alias::to_host(out, page, entry, between);
            alias::from_host(out, page, entry, between);
        }
    }
}
