//! Memory types as manuals and kernels compute them: what MTRRs say of a page, and what comes of that with a page's PAT.
//!
//! Pure functions of register values. Which of them applies to a VM is for a policy to say.

pub mod apm;
mod caching;
mod effective;
mod msrs;
mod mtrr;

pub use caching::{Caching, CpuKind};
pub use effective::{combine, under_ept, without_ept};
pub use msrs::Msrs;
pub use mtrr::{Lookup, LookupFault, Mtrrs, NoType, covered_by_fixed};
