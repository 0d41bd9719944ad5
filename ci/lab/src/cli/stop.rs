//! Being told to stop.

use super::Failure;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by SIGINT, SIGTERM or SIGHUP: machines are stopped, and what came so far stays. The second of them ends the
/// process at once, and the machines with it.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Begins to listen for signals.
///
/// # Errors
/// The system refuses.
pub fn listen() -> Result<(), Failure> {
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(3);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Broken(format!("cannot handle signals: {error}")))
}
