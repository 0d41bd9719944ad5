//! Configuration files: reading them, and errors that say where a mistake is and what was probably meant.
//!
//! [`Set`] finds the files, [`parse`] reads one. What only makes sense together with something else, such as a name
//! that must exist, is kept as a [`toml::Spanned`] and complained about with [`ConfigError::unknown`] or
//! [`ConfigError::at`].

mod error;
pub mod names;
mod set;
mod source;

pub use error::ConfigError;
pub use set::{KINDS, Set, embedded};
pub use source::{Source, parse};
