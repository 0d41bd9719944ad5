//! Bochs as a machine: a PC in software, without KVM, that has memory types and VMX.
//!
//! A ROM of our own loads a guest from a boot disk and enters it by PVH, so that nothing runs before it. The same ROM
//! and disk boot Linux kernels for the lab: [`Pvh`] makes a [`Disk`], [`Bochs::run`] boots it in the PC that [`Config`]
//! describes.

mod config;
pub mod disk;
mod machine;
mod process;
mod program;
mod pvh;

pub use config::Config;
pub use disk::{Disk, Mtrrs, Segment};
pub use machine::BochsMachine;
pub use process::{Ended, Heard};
pub use program::{Bochs, CACHE, VARIABLE, built, cache};
pub use pvh::{Pvh, PvhError};
