//! The host: what was probed of it, and what that means.

pub mod facts;
