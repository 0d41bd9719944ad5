//! The judge against hand-written logs.

mod candidates;
mod coherence;
mod host;
mod registers;
mod support;
mod timed;
mod verdicts;
mod witness;
