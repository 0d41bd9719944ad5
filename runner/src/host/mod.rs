//! The host: what was probed of it, and what that means.

pub mod affinity;
pub mod cpu;
pub mod device;
pub mod dma;
pub mod doctor;
pub mod facts;
pub mod hazard;
pub mod kvm;
pub mod limits;
pub mod linux;
pub mod mmio;
pub mod module;
pub mod pci;
pub mod probe;
pub mod quirks;
pub mod rights;
pub mod slot_type;
pub(crate) mod sysfs;

pub use probe::{CLOCK, EMULATOR, Host, probe, vm_facts};
