//! The judge against hand-written logs.

mod host;
mod registers;
mod support;
mod timed;
mod verdicts;
mod witness;
