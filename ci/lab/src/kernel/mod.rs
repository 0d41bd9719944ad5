//! Kernels: the files that name them, the short names of their variants, and kernels of one's own.

mod local;
mod name;
mod spec;

pub use local::{Local, LocalError, is_builtin_list, module_name};
pub use name::{Variant, param};
pub use spec::{Build, Kernels, Spec};

/// The modules that make /dev/kvm on Intel, in the order in which they are loaded.
pub const MODULES: [&str; 3] = ["irqbypass", "kvm", "kvm-intel"];
/// The modules that make /dev/kvm on AMD. A kernel without SEV has no use for `ccp`.
pub const MODULES_AMD: [&str; 4] = ["irqbypass", "ccp", "kvm", "kvm-amd"];
