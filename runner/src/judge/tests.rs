//! The judge against hand-written logs.

mod candidates;
mod host;
mod registers;
mod support;
mod timed;
mod verdicts;
mod witness;
