//! `selftest`: plants faults in the suite, and shows that each is noticed.

use super::args::{Format, Selftest};
use super::out::stdout;
use super::{Done, Failure};
use crate::machine::kvm::KvmMachine;
use crate::report::{Outcome, counted, print_planted, print_planted_sum};
use crate::selftest::{self, Grounds, Row};
use std::io::{self, Write};

/// Plants and prints.
pub fn selftest(args: &Selftest) -> Done {
    let machine = KvmMachine::open().map_err(|reason| reason.to_string());
    let mut grounds = Grounds::new(machine).map_err(Failure::Broken)?;
    let mut out = stdout();
    if args.format == Format::Human {
        let faults = counted(selftest::faults().len() as u64, "fault");
        writeln!(out, "{faults} are planted one by one, each in a cell that passes without it:\n")?;
    }
    let each = |row: &Row| match args.format {
        Format::Human => print_planted(&mut out, row),
        Format::Json => writeln!(out, "{}", serde_json::to_string(row).map_err(io::Error::from)?),
    };
    let rows = selftest::run(&mut grounds, each)?;
    if args.format == Format::Human {
        print_planted_sum(&mut out, &rows)?;
    }
    let missed = rows.iter().any(|row| row.outcome == selftest::Outcome::Missed);
    Ok(if missed { Outcome::Surprise } else { Outcome::AsExpected })
}
