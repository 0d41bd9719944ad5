//! Debian packages: which there are, by a private apt that leaves the machine's own as it is.

mod private;
mod resolve;
mod sources;

pub use private::{Apt, AptError, HELPER};
pub use resolve::{Package, Resolved, named, newest};
pub use sources::{Archive, NoArchive};
