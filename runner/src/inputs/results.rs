//! What runs leave, of this build or another one, and whatever happened to it since.

use crate::report::CellVerdict;
use crate::results::{Intent, Run, Stream, first_line, verdict_lines};
use std::io::Cursor;
use std::path::Path;

/// Observations, whose header must write as it was read.
pub fn observations(data: &[u8]) -> bool {
    let path = Path::new("input");
    let of = || {
        let (header, stream) = Stream::of(path.into(), Box::new(Cursor::new(data.to_owned())))?;
        Run::of(path, header, stream)
    };
    let Ok(run) = of().map_err(|error| assert!(!error.to_string().is_empty())) else { return false };
    let line = first_line(&run.header).expect("JSON");
    let (again, _) = Stream::of(path.into(), Box::new(Cursor::new(line))).expect("what was written");
    assert_eq!(again, run.header);
    run.done();
    true
}

/// Verdicts, and else an intent.
pub fn verdicts(data: &[u8]) -> bool {
    verdict_lines::<CellVerdict>(Path::new("input"), data).is_ok() || serde_json::from_slice::<Intent>(data).is_ok()
}
