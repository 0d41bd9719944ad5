//! What a host can tell about memory types, what limits it, and what to do about that.

mod answer;
mod devices;
mod render;
mod report;
mod sections;
#[cfg(test)]
mod tests;
mod warning;

pub use answer::{Answer, Can};
pub use report::{Emulators, Report, Section, examine};
pub use warning::Warning;
