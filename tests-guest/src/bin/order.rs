//! Family `order`: the litmus test of message passing. A vCPU stores to one line and then to another, again and again,
//! and a second vCPU loads them the other way round, both at CPL3 on a page of each memory type: whether the data is
//! ever older than the flag.
//!
//! What: a vCPU stores to data and then to a flag, a second one loads flag and then data, again and again, on pages of
//! each memory type, with and without fences, and counts how often the data is older than the flag.
//!
//! Why: WC stores may pass each other and those of the other types may not, so this tells WC from UC where times do
//! not, by what a driver would see.
//!
//! Source: SDM Vol. 3A, "Memory Ordering in P6 and More Recent Processor Families" and "Buffering of Write Combining
//! Memory Locations".

#![no_std]
#![no_main]

use guest::alias::{self, ENTRIES, Page};
use guest::order::Passing;
use guest::report::Out;
use guest::smp::Cpu;
use wire::needs::Needs;
use wire::record::Start;

guest::family!();

const TWO: Needs = Needs::cpus(2).and(Needs::PARALLEL);

guest::test!(
    "fenced",
    "With MFENCE between the stores and between the loads, by each type.",
    TWO.and(Needs::APIC),
    points = 78,
    |out| {
        let writer = Cpu::start(out, 1, Start::Sipi);
        alias::prepare(out, &[&writer]);
        each_type(out, alias::ram(), &writer, true);
    }
);

guest::test!("plain", "Without fences, by each type.", TWO.and(Needs::APIC), points = 78, |out| {
    let writer = Cpu::start(out, 1, Start::Sipi);
    alias::prepare(out, &[&writer]);
    each_type(out, alias::ram(), &writer, false);
});

guest::test!("slot", "The same on a page of a memslot.", TWO.and(Needs::STEPS).and(Needs::SLOTS), points = 81, |out| {
    let writer = Cpu::start(out, 1, Start::Direct);
    alias::prepare(out, &[&writer]);
    let page = alias::slot(out);
    each_type(out, page, &writer, false);
});

fn each_type(out: &mut Out, page: Page, writer: &Cpu, fenced: bool) {
    let mut passing = Passing::new(page, writer);
    ENTRIES.into_iter().for_each(|entry| passing.pass(out, entry, fenced));
}
