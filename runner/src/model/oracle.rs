//! What policies predict, over all that decides about a page, against the rules in other words: plain code, one function a
//! question, written from what the kernels do and not from the tables of policies.

use super::leaf::{LeafType, frame};
use super::point::{Action, Effect, Why};
use super::policy::{Policies, Policy, ZapEvent};
use super::{Event, Replay};
use crate::config::Set;
use crate::host::facts::{Fact, Facts};
use wire::host::HostRecord;
use wire::layout::{CR0_CD, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0, WINDOW};
use wire::memtype::EptType;
use wire::memtype::MemType::{self, *};
use wire::outcome::Outcome;
use wire::probe::Times;
use wire::record::{Access, Record, Timed};
use wire::register::{Place, Register};
use wire::step::{SlotApi, SlotMemory, Status, Step};

/// How a host does paging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paging {
    Ept,
    VmxShadow,
    Npt,
    SvmShadow,
}

/// All that decides about a page.
#[derive(Debug, Clone, Copy)]
struct Case {
    paging: Paging,
    non_coherent: bool,
    ignore_guest_pat: bool,
    cd_nw_cleared: bool,
    self_snoop: bool,
    host_mmio: bool,
    cd: bool,
    /// The MTRR type of the page; nothing where MTRRs are disabled.
    mtrr: Option<MemType>,
    /// CPUID shows MTRRs. They are hidden only where they are disabled.
    cpuid_mtrr: bool,
    pat: MemType,
}

/// Bits 6:3 of the EPT leaf: memory type in 5:3, ignore-PAT in 6.
fn ept_leaf(policy: &str, case: Case) -> u64 {
    let Case { non_coherent, ignore_guest_pat, cd_nw_cleared, self_snoop, .. } = case;
    if case.host_mmio {
        return 0x00;
    }
    match policy {
        "kvm-pre-6.7" | "kvm-6.7" => match () {
            () if !non_coherent => 0x70,
            () if case.cd && !cd_nw_cleared => 0x40,
            () if case.cd && policy == "kvm-pre-6.7" => 0x70,
            () if case.cd => 0x30,
            // The lookup: MTRRs that are disabled make all UC, but WB where firmware cannot know of them.
            () => (case.mtrr.unwrap_or(if case.cpuid_mtrr { Uc } else { Wb }) as u64) << 3,
        },
        "kvm-6.11-rc" => {
            if self_snoop || non_coherent {
                0x30
            } else {
                0x70
            }
        }
        "kvm-6.11" => {
            if non_coherent {
                0x30
            } else {
                0x70
            }
        }
        "kvm-6.16" => {
            if non_coherent || !ignore_guest_pat {
                0x30
            } else {
                0x70
            }
        }
        other => panic!("the oracle knows no policy {other}"),
    }
}

/// SDM, effective page-level memory types, column by column of the PAT.
fn intel(below: MemType, pat: MemType) -> MemType {
    match pat {
        Uc => Uc,
        Wc => Wc,
        UcMinus => {
            if matches!(below, Wc | Wp) {
                Wc
            } else {
                Uc
            }
        }
        Wt => {
            if matches!(below, Uc | Wc) {
                Uc
            } else {
                Wt
            }
        }
        Wp => {
            if matches!(below, Uc | Wc) {
                Uc
            } else {
                Wp
            }
        }
        Wb => below,
    }
}

/// APM, a guest's PAT type over the WB of KVM's nested leaves, and the host's MTRRs: WB behind RAM, UC behind a BAR. What
/// asks the caches (CD, WC+) looks like what does not.
fn amd(host_mmio: bool, pat: MemType) -> MemType {
    match pat {
        Wc => Wc,
        _ if host_mmio => Uc,
        UcMinus => Uc,
        other => other,
    }
}

/// The effective type; nothing where nothing can be said.
fn effective(policy: &str, case: Case) -> Option<MemType> {
    let host = if case.host_mmio { Uc } else { Wb };
    let cd_is_the_cpus = matches!(case.paging, Paging::Npt | Paging::SvmShadow) && case.cd && !case.cd_nw_cleared;
    match case.paging {
        _ if policy == "kvm-pvm" => (!cd_is_the_cpus).then_some(host),
        _ if cd_is_the_cpus => None,
        Paging::Ept => {
            let leaf = ept_leaf(policy, case);
            let below = MemType::from_bits((leaf >> 3 & 7) as u8).expect("a memory type");
            Some(if leaf & 0x40 != 0 { below } else { intel(below, case.pat) })
        }
        // Leaves select entry 0 of the PAT, which no case changes from WB.
        Paging::VmxShadow | Paging::SvmShadow => Some(host),
        Paging::Npt => Some(amd(case.host_mmio, case.pat)),
    }
}

fn facts(case: Case) -> Facts {
    let vendor = match case.paging {
        Paging::Ept | Paging::VmxShadow => "kvm_intel",
        Paging::Npt | Paging::SvmShadow => "kvm_amd",
    };
    let tdp = matches!(case.paging, Paging::Ept | Paging::Npt);
    let facts = [
        ("machine", Fact::Text("kvm".into())),
        ("kvm-vendor", Fact::Text(vendor.into())),
        ("tdp", Fact::Bool(tdp)),
        ("tdp-mmu", Fact::Bool(tdp)),
        ("self-snoop", Fact::Bool(case.self_snoop)),
        ("non-coherent-dma", Fact::Bool(case.non_coherent)),
        ("ignore-guest-pat", Fact::Bool(case.ignore_guest_pat)),
        ("cd-nw-cleared", Fact::Bool(case.cd_nw_cleared)),
        ("cpuid-mtrr", Fact::Bool(case.cpuid_mtrr)),
        ("maxphyaddr", Fact::Int(39)),
    ];
    facts.into_iter().collect()
}

/// The entry of the PAT through which the page is accessed.
const ENTRY: u8 = 5;
const RESET_PAT: u64 = 0x0007_0406_0007_0406;

/// What a policy knows after a guest set up MTRRs, the PAT and CD as the case has them, and then touched the page.
fn played(policy: &Policy, case: Case) -> Replay<'_> {
    let mut replay = Replay::new(policy, &facts(case), false);
    let mut take = |event: Event<'_>| replay.take(event, &mut Vec::new());
    let mut reset = |register, value| take(Event::Host(&HostRecord::Reset { at: Place::boot(register), value }));
    reset(Register::Cr0, 0x6000_0010);
    reset(Register::Msr(PAT), RESET_PAT);
    let mtrrs = FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE]);
    mtrrs.for_each(|index| reset(Register::Msr(index), 0));
    take(Event::Begin);
    let step = match case.host_mmio {
        true => Step::SetMmioSlot { slot: 1, gpa: WINDOW },
        false => {
            Step::SetSlot { api: SlotApi::V1, slot: 1, flags: 0, gpa: WINDOW, pages: 1, memory: SlotMemory::Small }
        }
    };
    take(Event::Host(&HostRecord::Step { step, status: Status::Done, value: 0 }));
    let mut write = |register, value| {
        take(Event::Write { at: Place::boot(register), value, outcome: Outcome::ACCEPTED });
    };
    // A range of one page, and another default type around it.
    let (memtype, enabled) = case.mtrr.map_or((Wb, 0), |memtype| (memtype, 0x800));
    let around = if memtype == Wb { Wt } else { Wb };
    write(Register::Msr(MTRR_PHYSBASE0), WINDOW | memtype as u64);
    write(Register::Msr(MTRR_PHYSBASE0 + 1), 0x7f_ffff_f800);
    write(Register::Msr(MTRR_DEF_TYPE), enabled | around as u64);
    let entry = 8 * u64::from(ENTRY);
    write(Register::Msr(PAT), RESET_PAT & !(0xff << entry) | (case.pat as u64) << entry);
    write(Register::Cr0, if case.cd { START_CR0 | CR0_CD } else { START_CR0 });
    let access = Access { cpu: 0, write: true, width: 8, cpl: 0, gpa: WINDOW, value: 0, fault: None };
    take(Event::Guest(&Record::Access(access)));
    replay
}

/// The effective type of the page that is predicted.
fn effective_by(replay: &Replay<'_>) -> Result<MemType, Why> {
    let timed = Timed { cpu: 0, cpl: 3, gpa: WINDOW, pat_entry: Some(ENTRY), nested: None, times: Times::NONE };
    replay.effective(&timed).map(|prediction| match prediction.expected {
        Effect::Type(memtype) => memtype,
        other => panic!("{other:?} is no effective type"),
    })
}

/// Every combination there is.
fn cases() -> impl Iterator<Item = Case> {
    let pagings = [Paging::Ept, Paging::VmxShadow, Paging::Npt, Paging::SvmShadow];
    let enabled = MemType::OF_MTRR.map(|memtype| (Some(memtype), true));
    let mtrrs = [(None, true), (None, false)].into_iter().chain(enabled);
    let types = mtrrs.flat_map(|mtrr| MemType::ALL.map(|pat| (mtrr, pat)));
    let places = types.flat_map(move |(mtrr, pat)| pagings.map(|paging| (paging, mtrr, pat)));
    places.flat_map(|(paging, (mtrr, cpuid_mtrr), pat)| {
        (0..1 << 6).map(move |bits: u32| {
            let bit = |n: u32| bits >> n & 1 != 0;
            Case {
                paging,
                non_coherent: bit(0),
                ignore_guest_pat: bit(1),
                cd_nw_cleared: bit(2),
                self_snoop: bit(3),
                host_mmio: bit(4),
                cd: bit(5),
                mtrr,
                cpuid_mtrr,
                pat,
            }
        })
    })
}

fn policies() -> Policies {
    let set = Set::load(None).unwrap();
    Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap()
}

#[test]
fn every_policy_is_the_kernels_over_all_cases() {
    let policies = policies();
    let (mut count, mut open) = (0, 0);
    for case in cases() {
        for policy in ["kvm-pre-6.7", "kvm-6.7", "kvm-6.11-rc", "kvm-6.11", "kvm-6.16", "kvm-pvm"] {
            let replay = played(policies.get(policy).unwrap(), case);
            let leaf = replay.leaves.of(frame(WINDOW)).map(|(leaf, _)| leaf);
            let wanted = match case.paging {
                Paging::Ept if policy != "kvm-pvm" => {
                    LeafType::Ept(EptType::of_leaf(ept_leaf(policy, case)).expect("a memory type"))
                }
                _ => LeafType::Pat(0),
            };
            assert_eq!(leaf, Some(Ok(wanted)), "{policy}: {case:?}");
            let (seen, wanted) = (effective_by(&replay), effective(policy, case));
            assert_eq!(seen.ok(), wanted, "{policy}: {case:?}: {seen:?}");
            open += u32::from(wanted.is_none());
            count += 1;
        }
    }
    // Policies x paging x MTRR types, disabled and hidden x PAT x six conditions; open is CD that reaches a CPU of AMD.
    assert_eq!((count, open), (6 * 4 * 7 * 6 * 64, 6 * 2 * 7 * 6 * 16));
}

/// Without EPT and NPT every leaf selects entry 0 of the PAT: under VMX of the guest's own, under SVM of the host's.
#[test]
fn shadow_paging_has_one_type_for_all_memory() {
    let policies = policies();
    for (paging, wanted) in [(Paging::VmxShadow, Uc), (Paging::SvmShadow, Wb)] {
        let plain = |case: &Case| case.paging == paging && !case.host_mmio && !case.cd && case.pat == Wb;
        let mut replay = played(policies.get("kvm-6.11").unwrap(), cases().find(plain).unwrap());
        assert_eq!(effective_by(&replay), Ok(Wb));
        let uc_in_entry_0 = Event::Write { at: Place::msr(PAT), value: RESET_PAT & !0xff, outcome: Outcome::ACCEPTED };
        replay.take(uc_in_entry_0, &mut Vec::new());
        assert_eq!(effective_by(&replay), Ok(wanted), "{paging:?}");
    }
}

/// Whether something that happens zaps the leaf of the page; nothing where nobody would see it.
fn zapped(policy: &str, case: Case, event: ZapEvent) -> Option<bool> {
    let (ept, npt) = (case.paging == Paging::Ept, case.paging == Paging::Npt);
    if !ept && !npt {
        return None;
    }
    // Where MTRRs and CR0.CD are honoured at all: up to 6.6 nobody asked whether it is EPT.
    let honoured = match policy {
        "kvm-pre-6.7" => case.non_coherent,
        "kvm-6.7" => case.non_coherent && ept,
        _ => false,
    };
    Some(match event {
        ZapEvent::RangeMtrr => honoured && case.mtrr.is_some(),
        ZapEvent::DefType => honoured,
        ZapEvent::MovCd => honoured && !case.cd_nw_cleared,
        ZapEvent::Pat | ZapEvent::SetSregsCd | ZapEvent::DisableQuirks | ZapEvent::SlotType => false,
        ZapEvent::PlugDma | ZapEvent::UnplugDma => match policy {
            "kvm-pre-6.7" => false,
            "kvm-6.11-rc" => ept && !case.self_snoop,
            "kvm-6.16" => ept && case.ignore_guest_pat,
            _ => ept,
        },
    })
}

/// What a policy predicts of it, with the one leaf that is there.
fn zapped_by(policy: &Policy, case: Case, event: ZapEvent) -> Option<bool> {
    let mut replay = played(policy, case);
    let done = |step| HostRecord::Step { step, status: Status::Done, value: 0 };
    let mark = done(Step::Mark);
    let made = HostRecord::Spte { gfn: frame(WINDOW), level: 1, old: 0, new: 0x1_0a2b_3007 };
    let step = match event {
        ZapEvent::PlugDma => Some(Step::PlugDma),
        ZapEvent::UnplugDma => Some(Step::UnplugDma),
        ZapEvent::SetSregsCd => Some(Step::SetCr0 { cpu: 0, value: START_CR0 | CR0_CD }),
        ZapEvent::DisableQuirks => Some(Step::DisableQuirks { quirks: 0 }),
        _ => None,
    };
    let written = match event {
        ZapEvent::RangeMtrr => Some((Register::Msr(MTRR_PHYSBASE0), WINDOW)),
        ZapEvent::DefType => Some((Register::Msr(MTRR_DEF_TYPE), case.mtrr.map_or(0, |_| 0x800))),
        ZapEvent::Pat => Some((Register::Msr(PAT), RESET_PAT)),
        ZapEvent::MovCd => Some((Register::Cr0, START_CR0 | CR0_CD)),
        _ => None,
    };
    let mut decisions = Vec::new();
    replay.take(Event::Host(&made), &mut decisions);
    replay.take(Event::Host(&mark), &mut decisions);
    if let Some(step) = step {
        replay.take(Event::Host(&done(step)), &mut decisions);
    }
    if let Some((register, value)) = written {
        let at = Place::boot(register);
        replay.take(Event::Write { at, value, outcome: Outcome::ACCEPTED }, &mut decisions);
    }
    decisions.clear();
    replay.take(Event::Host(&mark), &mut decisions);
    let zaps = decisions.iter().filter(|decision| decision.action == Action::Zap(event));
    let due = zaps.map(|decision| match decision.predicted.ok()?.expected {
        Effect::Zapped { leaves, of: 1 } => Some(leaves == 1),
        other => panic!("{other:?} of one leaf"),
    });
    due.collect::<Option<Vec<_>>>().map(|due| due.contains(&true))
}

#[test]
fn every_policy_zaps_as_the_kernel_does() {
    let policies = policies();
    let events = [
        ZapEvent::RangeMtrr,
        ZapEvent::DefType,
        ZapEvent::Pat,
        ZapEvent::MovCd,
        ZapEvent::SetSregsCd,
        ZapEvent::DisableQuirks,
        ZapEvent::PlugDma,
        ZapEvent::UnplugDma,
    ];
    let (mut due, mut open) = (0, 0);
    // CD is toggled, and neither the PAT nor which type it is matters.
    let bears = |case: &Case| !case.cd && !case.host_mmio && case.pat == Wb && matches!(case.mtrr, None | Some(Wt));
    for case in cases().filter(bears) {
        for event in events {
            if event == ZapEvent::PlugDma && case.non_coherent || event == ZapEvent::UnplugDma && !case.non_coherent {
                continue;
            }
            for policy in ["kvm-pre-6.7", "kvm-6.7", "kvm-6.11-rc", "kvm-6.11", "kvm-6.16"] {
                let (seen, wanted) =
                    (zapped_by(policies.get(policy).unwrap(), case, event), zapped(policy, case, event));
                assert_eq!(seen, wanted, "{policy}: {event}: {case:?}");
                due += u32::from(wanted == Some(true));
                open += u32::from(wanted.is_none());
            }
        }
    }
    assert!(due > 100 && open > 100, "{due} {open}");
}
