//! Taking kernels apart: packages, compressed files, boot images, modules.

pub mod bzimage;
pub mod compression;
pub mod deb;
pub mod module;
