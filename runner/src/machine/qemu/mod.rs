//! QEMU as a machine, with KVM or with its own emulation (TCG).
//!
//! QEMU boots the same guests by PVH. It has no doorbell, so tests with host steps are not for it; what it adds is
//! another VMM on the same KVM, and, with TCG, a negative control that validates next to nothing.

mod command;
pub(crate) mod ending;
mod machine;
mod program;
#[cfg(test)]
mod tests;

pub use command::TCG_MAXPHYADDR;
pub use machine::Qemu;
pub use program::{find, version};

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// /dev/kvm.
    Kvm,
    /// The Tiny Code Generator: emulation in software.
    Tcg,
}

impl Accel {
    /// The machine's name, as given to `--machine`.
    pub const fn machine(self) -> &'static str {
        match self {
            Accel::Kvm => "qemu-kvm",
            Accel::Tcg => "qemu-tcg",
        }
    }
}
