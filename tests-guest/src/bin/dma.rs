//! Family `dma`: non-coherent DMA that comes and goes.
//!
//! What: asks the VMM to add a file behind which DMA is not coherent to KVM's VFIO device and to take it away, each
//! twice, and reports the replies.
//!
//! Why: whether a VM has non-coherent DMA decides in KVM whether guest memory types count, so the plug must work, and a
//! second one of the same file must be refused.
//!
//! Source: `virt/kvm/vfio.c:kvm_vfio_file_add`, `kvm_vfio_file_del` and `kvm_vfio_update_coherency`;
//! `arch/x86/kvm/x86.c:kvm_arch_register_noncoherent_dma`.

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
