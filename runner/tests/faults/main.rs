//! The table of faults: each row is injected, and what must be seen is seen. docs/robustness.md is made of the table.
//!
//! `SNAPSHOTS=overwrite cargo test --test faults` writes it anew. `KVM_MEMTYPE_FAULTS=PART` injects those alone whose name has
//! PART in it.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod guests;
mod host;
mod inject;
mod killed;
mod kvm;
mod program;
mod qemu;
mod table;

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, fs};
use table::{Miss, Row};

/// All rows, in the order of the document.
fn rows() -> Vec<Row> {
    guests::rows().into_iter().chain(kvm::rows()).chain(host::rows()).chain(killed::rows()).collect()
}

#[test]
fn each_fault_costs_its_own_cell_at_most() {
    if common::kvm().is_none() {
        return;
    }
    let (all, part) = (rows(), env::var("KVM_MEMTYPE_FAULTS").unwrap_or_default());
    let rows: Vec<&Row> = all.iter().filter(|row| row.id.contains(&part)).collect();
    let (next, wrong, skipped) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    // Beside the harness, which keeps to itself what tests print that pass.
    let say = |line: String| drop(writeln!(std::io::stderr(), "{line}"));
    let work = || {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let came = catch_unwind(AssertUnwindSafe(|| (row.check)()));
            let came = came.unwrap_or_else(|_| Err(Miss::Wrong("the check panicked".to_owned())));
            let took = started.elapsed().as_secs_f64();
            match came {
                Ok(seen) => say(format!("fault {}: {} ({}): {seen} ({took:.1} s)", row.id, row.fault, row.how)),
                Err(Miss::Skip(why)) => {
                    skipped.fetch_add(1, Ordering::Relaxed);
                    common::skip(&format!("fault {}: {why}", row.id));
                }
                Err(Miss::Wrong(what)) => wrong.lock().unwrap().push(format!("{}: {what}", row.id)),
            }
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().unwrap();
    let skipped = skipped.into_inner();
    let seen = rows.len() - skipped - wrong.len();
    say(format!("faults: {} rows, {seen} seen as they should be, {skipped} skipped", rows.len()));
    assert!(wrong.is_empty(), "{} faults cost more than they should:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_document_is_that_of_the_table() {
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "two rows have one name");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/robustness.md");
    let page = table::page(&rows);
    if env::var("SNAPSHOTS").is_ok_and(|what| what == "overwrite") {
        return fs::write(path, page).expect("the page");
    }
    let how = "SNAPSHOTS=overwrite cargo test --test faults";
    assert!(fs::read_to_string(path).is_ok_and(|found| found == page), "docs/robustness.md is stale; {how} writes it");
}
