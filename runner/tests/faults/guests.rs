//! Hostile guests: suite `hostile`, in which each stands between good cells.

use crate::inject::Answer;
use crate::program::{self, Cells, Ran};
use crate::table::{Group, Miss, Row};
use kvm_memtype::judge::Verdict::{self, Crash, Error, Inconclusive, Pass, Timeout};
use std::sync::OnceLock;

/// A guest, what it does, which verdicts it may get, and a part of the reason.
type Guest = (Group, &'static str, &'static str, &'static [Verdict], &'static str);

const TIME: &str = "the time was up; the boot vCPU was at RIP 0x";
const GARBLED: &str = "garbled, or a line of another run: checksum should be ";
const FLOOD: &str = "flood: the log grew beyond its limit";

use Group::{Death, Device, Flood, Hang, Report};

const GUESTS: [Guest; 39] = [
    (Hang, "loop", "it loops for ever, interrupts unmasked", &[Timeout], TIME),
    (Hang, "loop-masked", "it loops for ever, interrupts masked", &[Timeout], TIME),
    (Hang, "loop-2", "both of its vCPUs loop for ever", &[Timeout], TIME),
    (Hang, "pause", "it executes PAUSE for ever", &[Timeout], TIME),
    (Hang, "vmcall", "it executes VMCALL for ever", &[Timeout], TIME),
    (Hang, "halt", "it halts, interrupts masked", &[Crash], "the guest halted with nothing to wake it (KVM_EXIT_HLT)"),
    (
        Hang,
        "halt-unmasked",
        "it halts, interrupts unmasked",
        &[Crash],
        "the guest halted with nothing to wake it (KVM_EXIT_HLT)",
    ),
    (Hang, "halt-apic", "it halts in the kernel, with a local APIC to which nothing comes", &[Timeout], TIME),
    (Death, "triple-fault", "a triple fault", &[Crash], "the VM shut down on a triple fault (KVM_EXIT_SHUTDOWN)"),
    (
        Death,
        "exception",
        "an exception that nobody waits for",
        &[Crash],
        "exception 6 with error code 0x0 at CPL 0, RIP 0x",
    ),
    (Death, "give-up", "it gives up, with a reason", &[Crash], "the guest gave up: of its own will"),
    (Death, "exit-value", "it ends with a value that says nothing", &[Crash], "the guest exited with 0x77"),
    (Flood, "mc-storm", "machine checks for ever, by host steps", &[Error, Timeout], ""),
    (Flood, "flood-bytes", "bytes for the serial port for ever", &[Error, Timeout], ""),
    (Flood, "flood-lines", "64 KiB for the port for lines, for ever", &[Error], FLOOD),
    (Flood, "claimed-line", "a line that says it has 4 GiB", &[Error], FLOOD),
    (Flood, "huge-line", "a line of 512 KiB", &[Error], GARBLED),
    (Report, "partial", "it ends in the middle of a record", &[Error], GARBLED),
    (Report, "no-end", "it stops without an end", &[Error], "the report stops before line 2, without an end"),
    (Report, "corrupted", "one bit of a record is wrong", &[Error], GARBLED),
    (Report, "unknown", "a record of a kind that there is not", &[Error], "\"zz\" is not a kind of record"),
    (Report, "replayed", "the records of another run", &[Error], GARBLED),
    (Report, "duplicated", "a record comes twice", &[Error], "line 1 came again"),
    (Report, "lost", "a record does not come", &[Error], "line 2 came where line 1 was due"),
    (Report, "too-few", "fewer records than the end says", &[Error], "the end counts 5 records, 1 came"),
    (Report, "too-many", "more records than the end says", &[Error], "the end counts 0 records, 1 came"),
    (Report, "after-end", "something comes after the end", &[Error], "something follows the end: "),
    (Report, "few-points", "fewer points than the test makes", &[Error], "the test makes at least 9 points, 1 came"),
    (Report, "forged", "a line that only the VMM may record", &[Error], GARBLED),
    (Report, "no-text", "each byte that there is", &[Error], GARBLED),
    (Report, "other-test", "it says that it runs another test", &[Error], "line 0 came again"),
    (Device, "ports", "it writes to each port that does nothing, and reads it", &[Pass], ""),
    (Device, "own-ports", "it reads from the ports of the VMM", &[Pass], ""),
    (
        Device,
        "unbacked",
        "it writes and reads where neither RAM nor a slot is",
        &[Inconclusive],
        "the access is outside the test window",
    ),
    (Device, "line-outside", "it leaves a line where no RAM is", &[Crash], "the guest left a line outside RAM"),
    (Device, "line-across", "it leaves a line beyond the end of RAM", &[Crash], "the guest left a line outside RAM"),
    (
        Device,
        "doorbell-outside",
        "it rings the doorbell with a step where no RAM is",
        &[Crash],
        "the guest rang the doorbell with a block outside RAM",
    ),
    (
        Device,
        "doorbell-garbage",
        "it rings the doorbell with what is no step",
        &[Crash],
        "the guest rang the doorbell with a block that is no step",
    ),
    (Device, "doorbell-edge", "it rings the doorbell with a step whose reply is beyond RAM", &[Pass], ""),
];

/// The good cells of the suite.
const GOOD: &str = "smoke";

/// The rows, and one about the good cells between them.
pub fn rows() -> Vec<Row> {
    let one = |&(group, test, fault, verdicts, why): &Guest| {
        let words: Vec<String> = verdicts.iter().map(|verdict| format!("`{verdict}`")).collect();
        let why_said = if why.is_empty() { String::new() } else { format!(": {}", why.trim_end()) };
        let seen = words.join(" or ") + &why_said;
        let how = format!("`hostile/{test}`");
        Row::new(group, &format!("guest-{test}"), [fault, &how, &seen], move || {
            let ran = suite(verdicts.contains(&Timeout))?;
            let cell = format!("hostile/{test}");
            let (verdict, reason) = ran.cells.get(&cell).ok_or_else(|| Miss::Wrong(format!("{cell} was not run")))?;
            if *verdict == Verdict::Skip {
                return Err(Miss::Skip(reason.clone()));
            }
            if !verdicts.contains(verdict) || !reason.contains(why) {
                return Err(Miss::Wrong(format!("{verdict}: {reason}")));
            }
            Ok(format!("{verdict}: {}", reason.chars().take(100).collect::<String>()))
        })
    };
    let between = Row::new(
        Device,
        "guest-neighbours",
        [
            "all of the above in one run, with good cells between them",
            "suite `hostile`",
            "each good cell is as in suite `smoke`, and there is a result for each",
        ],
        || {
            let good = program::sound(&["--suite", GOOD])?;
            for hangs in [true, false] {
                let found: Cells =
                    suite(hangs)?.cells.iter().filter(|(cell, _)| good.contains_key(*cell)).map(own).collect();
                if found != good {
                    return Err(Miss::Wrong(format!("{found:?}, not {good:?}")));
                }
            }
            Ok(format!("{} good cells as they were", good.len()))
        },
    );
    GUESTS.iter().map(one).chain([between]).collect()
}

fn own((cell, is): (&String, &(Verdict, String))) -> (String, (Verdict, String)) {
    (cell.clone(), is.clone())
}

/// The hostile guests that do not end, with a short time for each, or those that do; and the good cells. Run once.
fn suite(hangs: bool) -> Result<&'static Ran, Miss> {
    static RUNS: [OnceLock<Result<Ran, String>>; 2] = [OnceLock::new(), OnceLock::new()];
    let ran = RUNS[usize::from(hangs)].get_or_init(|| {
        let those = |(_, test, _, verdicts, _): &&Guest| verdicts.contains(&Timeout) == hangs && !test.is_empty();
        let hostile = GUESTS.iter().filter(those).map(|(_, test, ..)| format!("hostile/{test}"));
        let good = program::sound(&["--suite", GOOD]).map_err(|miss| format!("{miss:?}"))?;
        let filters: Vec<String> = hostile.chain(good.into_keys()).collect();
        let time = if hangs { "2" } else { "60" };
        let options = ["--suite", "hostile", "--jobs", "2", "--timeout", time].into_iter();
        let arguments: Vec<&str> = options.chain(filters.iter().map(String::as_str)).collect();
        let ran = program::run(&arguments, &[], |_| Answer::GoOn).map_err(|miss| format!("{miss:?}"))?;
        if ran.cells.len() != filters.len() {
            return Err(format!("{} of {} cells: {}", ran.cells.len(), filters.len(), ran.said));
        }
        Ok(ran)
    });
    ran.as_ref().map_err(|what| Miss::Wrong(what.clone()))
}
