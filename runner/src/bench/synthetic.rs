//! A run of very many cells, made of recorded ones under new ids, and what reading, judging and showing it costs.

use crate::machine::Line;
use crate::report::{self, HtmlError, HtmlSide};
use crate::results::{self, CellOutcome, CellResult, Header, ResultsError, Run};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use wire::frame::checksum;

/// The most points of a cell that is taken: cells that sweep a register are rare where there are very many.
pub const MOST_POINTS: u64 = 100;

/// Recorded cells, of runs on one host.
#[derive(Debug)]
pub struct Recorded {
    header: Header,
    /// Each with the run id that its guest was given.
    cells: Vec<(CellResult, u64)>,
}

/// A run was made, and measured.
#[derive(Debug)]
pub struct ReportCost {
    /// Bytes of its observations.
    pub observations: u64,
    /// Bytes of the report.
    pub html: u64,
    /// Seconds that a plain parser of JSON took for the observations, on one thread, keeping nothing.
    pub floor: f64,
    /// Seconds from the runs to the report, judging included.
    pub seconds: f64,
    /// The most memory that was in use meanwhile, in bytes; nothing where the kernel does not say.
    pub peak: Option<u64>,
}

impl Recorded {
    /// The cells of these runs that are small enough.
    ///
    /// # Errors
    /// A run cannot be read.
    pub fn read(dirs: &[PathBuf]) -> Result<Recorded, ResultsError> {
        let runs = dirs.iter().map(|dir| Run::read(dir)).collect::<Result<Vec<_>, _>>()?;
        let (mut planned, mut cells, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for run in &runs {
            let ids = report::Cells::new(&run.header);
            for result in &run.results {
                let plan = run.header.cells.iter().find(|cell| cell.id == result.cell);
                // Suites have cells in common.
                let is_new = seen.insert(result.cell.clone());
                if let Some(cell) = plan.filter(|cell| is_new && cell.points <= MOST_POINTS) {
                    planned.push(cell.clone());
                    cells.push((result.clone(), ids.run_id(&result.cell).unwrap_or_default()));
                }
            }
        }
        let none = || ResultsError::NoRun("these runs have no cell that is small enough".to_owned());
        let first = runs.into_iter().next().filter(|_| !cells.is_empty()).ok_or_else(none)?;
        Ok(Recorded { header: Header { cells: planned, ..first.header }, cells })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.cells.len()
    }

    /// Writes the observations of a run of `count` cells into `dir`: those that were recorded, over and over, each time in VM
    /// configurations of other names.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn multiply(&self, count: usize, dir: &Path) -> io::Result<()> {
        let at = |n: usize| (&self.header.cells[n % self.count()], &self.cells[n % self.count()], n / self.count());
        let id = |cell: &str, copy: usize| {
            let (test, vm) = cell.split_once('@').unwrap_or((cell, "default"));
            format!("{test}@{vm}.{copy}")
        };
        let mut header = Header { cells: Vec::with_capacity(count), ..self.header.clone() };
        for n in 0..count {
            let (cell, _, copy) = at(n);
            header.cells.push(results::PlannedCell { id: id(&cell.id, copy), ..cell.clone() });
        }
        let mut file = BufWriter::new(File::create(dir.join("observations.jsonl"))?);
        file.write_all(&results::first_line(&header)?)?;
        for n in 0..count {
            let (_, (result, before), copy) = at(n);
            let mut result = CellResult { cell: id(&result.cell, copy), ..result.clone() };
            if let CellOutcome::Observed(observed) = &mut result.outcome {
                let after = header.run.wrapping_add(n as u64);
                observed.log.iter_mut().for_each(|line| readdress(line, *before, after));
            }
            serde_json::to_writer(&mut file, &result)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// Makes a guest's line of run `before` one of run `after`: as the guest would have sent it then. One that is garbled stays so.
fn readdress(line: &mut Line, before: u64, after: u64) {
    let Line::Guest(text) = line else { return };
    let Some((body, sum)) = text.rsplit_once('*') else { return };
    if *sum != *format!("{:04x}", checksum(before, body)) {
        return;
    }
    let body = match body.strip_prefix("0 kmt") {
        Some(_) => body.replacen(&format!(" {before:x} "), &format!(" {after:x} "), 1),
        None => body.to_owned(),
    };
    *text = format!("{body}*{:04x}", checksum(after, &body));
}

/// Measures the run in `dir`, and leaves its report there.
///
/// # Errors
/// The run cannot be read, or the report not be written.
pub fn measure(side: HtmlSide, dir: &Path) -> Result<ReportCost, HtmlError> {
    let path = dir.join("observations.jsonl");
    let start = Instant::now();
    let mut lines = BufReader::new(File::open(&path)?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let value: serde_json::Value = serde_json::from_slice(&line).map_err(io::Error::from)?;
        std::hint::black_box(&value);
        line.clear();
    }
    drop((line, lines));
    let floor = start.elapsed().as_secs_f64();
    let report = dir.join("report.html");
    // The kernel counts the peak anew from here.
    let counts = fs::write("/proc/self/clear_refs", "5").is_ok();
    let start = Instant::now();
    let mut out = BufWriter::new(File::create(&report)?);
    report::html(&mut out, &[], &[side], &[])?;
    out.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = counts.then(peak).flatten();
    let size = |path: &Path| fs::metadata(path).map(|it| it.len());
    Ok(ReportCost { observations: size(&path)?, html: size(&report)?, floor, seconds, peak })
}

/// The most memory of this process that was resident, in bytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
