//! Family `dma`: non-coherent DMA that comes and goes.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use wire::needs::Needs;
use wire::step::Step;

guest::family!();

guest::test!(
    "plug",
    "A file that makes DMA non-coherent is added to KVM's VFIO device and taken away, each of it twice.",
    Needs::STEPS.and(Needs::DMA),
    points = 8,
    |_| {
        for _ in 0..2 {
            for step in [Step::PlugDma, Step::PlugDma, Step::UnplugDma, Step::UnplugDma] {
                ring(step);
            }
        }
    }
);
