//! The faults that are planted.

use super::log;
use super::plant::{Fault, Place, Plant};
use crate::judge::Verdict::{Crash, Error, Fail, Inconclusive, Xpass};
use crate::machine::kvm::Lie;
use wire::layout::PAT;

/// The recorded cells: pages of each entry of the PAT under non-coherent DMA; a device plugged in; EPT leaves of each type.
const PAGES: &str = "memtype/pat@non-coherent-dma";
const PLUG: &str = "memtype/plug";
const BARE: &str = "ept/unpaged";

/// A deviation that excuses what does not happen.
const TOO_WIDE: &str = r#"
[[deviation]]
id = "planted"
reason = "planted by selftest: it hides whatever IA32_MTRR_DEF_TYPE does"
source = "selftest"
when = [{ machine = "kvm" }]
tests = ["mtrr-msr/def-type"]
points = [{ registers = ["0x2ff"], expected = "refused", seen = "accepted" }]
"#;

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        what: "policies take UC-, a type of the PAT only, for one of MTRRs",
        place: Place::Model,
        cell: "mtrr-msr/def-type",
        plant: Plant::Policies { from: "types = [0, 1, 4, 5, 6] }", to: "types = [0, 1, 4, 5, 6, 7] }" },
        verdict: Fail,
        word: "IA32_MTRR_DEF_TYPE",
    },
    Fault {
        what: "a policy has IPAT in leaves under non-coherent DMA",
        place: Place::Model,
        cell: PAGES,
        plant: Plant::Policies {
            from: "non-coherent-dma = true\nleaf = \"WB\"",
            to: "non-coherent-dma = true\nleaf = \"WB+IPAT\"",
        },
        verdict: Fail,
        word: "WB+IPAT",
    },
    Fault {
        what: "the policy of another KVM governs, by which a device zaps nothing",
        place: Place::Model,
        cell: PLUG,
        plant: Plant::Governs("kvm-pre-6.7"),
        verdict: Fail,
        word: "zap",
    },
    Fault {
        what: "the architecture's table for pages without EPT stands in for that with it",
        place: Place::Model,
        cell: BARE,
        plant: Plant::Policies {
            from: "nested = true\nby = \"nested-ept\"",
            to: "nested = true\nby = { mtrr-pat = \"sdm\" }",
        },
        verdict: Fail,
        word: "EPT",
    },
    Fault {
        what: "a deviation excuses what does not happen",
        place: Place::Model,
        cell: "mtrr-msr/def-type",
        plant: Plant::Deviation(TOO_WIDE),
        verdict: Xpass,
        word: "planted",
    },
    Fault {
        what: "WRMSR does nothing: each in the guest is made NOP",
        place: Place::Guest,
        cell: "mtrr-msr/program",
        plant: Plant::Elf(no_wrmsr),
        verdict: Fail,
        word: "MTRR",
    },
    Fault {
        what: "the word that starts its report is garbled in the guest",
        place: Place::Guest,
        cell: "boot/hello",
        plant: Plant::Elf(no_protocol),
        verdict: Error,
        word: "no start line",
    },
    Fault {
        what: "a report of another run",
        place: Place::Guest,
        cell: "boot/hello",
        plant: Plant::Log(log::stale),
        verdict: Error,
        word: "a report of run",
    },
    Fault {
        what: "a value is another one in a record, with a right checksum",
        place: Place::Guest,
        cell: "pat-msr/reset",
        plant: Plant::Log(log::value),
        verdict: Fail,
        word: "PAT",
    },
    Fault {
        what: "a bit of a record is garbled",
        place: Place::Guest,
        cell: "mtrr-msr/def-type",
        plant: Plant::Log(log::garbled),
        verdict: Error,
        word: "checksum",
    },
    Fault {
        what: "a record is lost",
        place: Place::Guest,
        cell: "mtrr-msr/def-type",
        plant: Plant::Log(log::lost),
        verdict: Error,
        word: "was due",
    },
    Fault {
        what: "a record comes twice",
        place: Place::Guest,
        cell: "mtrr-msr/def-type",
        plant: Plant::Log(log::twice),
        verdict: Error,
        word: "came again",
    },
    Fault {
        what: "the report stops, and the guest says that it is done",
        place: Place::Guest,
        cell: "mtrr-msr/def-type",
        plant: Plant::Log(log::torn),
        verdict: Error,
        word: "without an end",
    },
    Fault {
        what: "a sweep is left out, and all lines are counted right",
        place: Place::Guest,
        cell: "mtrr-msr/def-type",
        plant: Plant::Log(log::short),
        verdict: Error,
        word: "points",
    },
    Fault {
        what: "KVM lies: RDMSR of IA32_PAT gives PA4 and PA5 swapped",
        place: Place::Vmm,
        cell: "pat-msr/reset",
        plant: Plant::Kvm(Lie { index: PAT, value: 0x0007_0604_0007_0406 }),
        verdict: Fail,
        word: "0x7060400070406",
    },
    Fault {
        what: "what KVM_GET_MSRS gave is another value in the log",
        place: Place::Vmm,
        cell: "msr-host/def-type",
        plant: Plant::Log(log::step_value),
        verdict: Fail,
        word: "IA32_MTRR_DEF_TYPE",
    },
    Fault {
        what: "KVM_SET_MSRS and the KVM_GET_MSRS after it are told in the other order",
        place: Place::Vmm,
        cell: "msr-host/def-type",
        plant: Plant::Log(log::steps_swapped),
        verdict: Fail,
        word: "IA32_MTRR_DEF_TYPE",
    },
    Fault {
        what: "the VMM does not say that it plugged a device in",
        place: Place::Vmm,
        cell: PLUG,
        plant: Plant::Log(log::step_lost),
        verdict: Error,
        word: "points",
    },
    Fault {
        what: "the VMM says twice that it plugged a device in",
        place: Place::Vmm,
        cell: PLUG,
        plant: Plant::Log(log::step_twice),
        verdict: Fail,
        word: "plug",
    },
    Fault {
        what: "the VMM says two steps too late that it plugged a device in",
        place: Place::Vmm,
        cell: PLUG,
        plant: Plant::Log(log::step_late),
        verdict: Fail,
        word: "0xd0000",
    },
    Fault {
        what: "the VMM takes the guest's end for a triple fault",
        place: Place::Vmm,
        cell: "boot/hello",
        plant: Plant::Log(log::ending),
        verdict: Crash,
        word: "triple fault",
    },
    Fault {
        what: "a leaf SPTE of type WB is told as UC",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::leaf_type),
        verdict: Fail,
        word: "0xd0000",
    },
    Fault {
        what: "a leaf SPTE without IPAT is told with it",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::leaf_ipat),
        verdict: Fail,
        word: "IPAT",
    },
    Fault {
        what: "no SPTE is told at all",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::blind),
        verdict: Inconclusive,
        word: "no SPTE that maps it was seen",
    },
    Fault {
        what: "leaves that were zapped are not told",
        place: Place::Witness,
        cell: PLUG,
        plant: Plant::Log(log::zaps_unseen),
        verdict: Fail,
        word: "zap",
    },
    Fault {
        what: "trace events were lost",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::gap),
        verdict: Inconclusive,
        word: "lost",
    },
    Fault {
        what: "the kernel warned in the midst of a cell",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::warning),
        verdict: Fail,
        word: "WARNING",
    },
    Fault {
        what: "a WB page takes the time of a UC one",
        place: Place::Witness,
        cell: PAGES,
        plant: Plant::Log(log::time),
        verdict: Fail,
        word: "0xd0000000",
    },
    Fault {
        what: "a page under an EPT leaf of UC takes the time of one under WB",
        place: Place::Witness,
        cell: BARE,
        plant: Plant::Log(log::nested_time),
        verdict: Fail,
        word: "UC",
    },
    Fault {
        what: "the page by which WB is told was not cached",
        place: Place::Witness,
        cell: BARE,
        plant: Plant::Log(log::reference),
        verdict: Inconclusive,
        word: "a load takes",
    },
    Fault {
        what: "no page was timed by which times can be read",
        place: Place::Witness,
        cell: BARE,
        plant: Plant::Log(log::uncalibrated),
        verdict: Inconclusive,
        word: "no page of this vCPU was timed",
    },
];

/// Makes each WRMSR two NOPs: the guest reports writes that it never made.
fn no_wrmsr(elf: &mut [u8]) -> bool {
    let mut patched = false;
    for at in 0..elf.len().saturating_sub(1) {
        if elf[at..at + 2] == [0x0f, 0x30] {
            elf[at..at + 2].fill(0x90);
            patched = true;
        }
    }
    patched
}

/// Flips a bit in the first word of the protocol, which is a string in the guest.
fn no_protocol(elf: &mut [u8]) -> bool {
    let word = wire::frame::VERSION.as_bytes();
    let at = elf.windows(word.len()).position(|window| window == word);
    at.map(|at| elf[at] ^= 1).is_some()
}
