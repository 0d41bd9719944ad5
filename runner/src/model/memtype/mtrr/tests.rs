//! MTRR lookup against cases that the manual and kernel sources decide, and by properties.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;

const MAXPHYADDR: u8 = 40;
const GIB: u64 = 1 << 30;

/// IA32_MTRR_DEF_TYPE, then pairs of base and mask, the rest as after a reset.
fn msrs(def_type: u64, pairs: &[(u64, u64)]) -> Msrs {
    let mut msrs: Msrs = FIXED_MTRRS.into_iter().map(|msr| (msr, 0)).collect();
    msrs.set(MTRR_DEF_TYPE, def_type);
    for n in 0..VARIABLE_MTRRS {
        let (base, mask) = pairs.get(n as usize).copied().unwrap_or_default();
        msrs.set(MTRR_PHYSBASE0 + 2 * n, base);
        msrs.set(MTRR_PHYSBASE0 + 2 * n + 1, mask);
    }
    msrs
}

/// The pair for `size` bytes, a power of two, at `base`.
fn pair(base: u64, size: u64, memtype: MemType) -> (u64, u64) {
    (base | memtype as u64, !(size - 1) & ((1 << MAXPHYADDR) - 1) | VALID)
}

fn both(msrs: &Msrs, gpa: u64) -> (Result<MemType, NoType>, Result<MemType, NoType>) {
    let mtrrs = Mtrrs { msrs, maxphyaddr: MAXPHYADDR, in_cpuid: true };
    (mtrrs.memtype(gpa, Lookup::Sdm), mtrrs.memtype(gpa, Lookup::KvmPre611))
}

/// Both rules on enabled MTRRs of default type UC.
fn ranges(pairs: &[(u64, u64)], gpa: u64) -> (Result<MemType, NoType>, Result<MemType, NoType>) {
    both(&msrs(ENABLED, pairs), gpa)
}

use MemType::{Uc, Wb, Wc, Wp, Wt};

#[test]
fn disabled_mtrrs_make_all_uc_unless_kvm_shows_none() {
    let msrs = msrs(Wb as u64, &[pair(0, GIB, Wt)]);
    assert_eq!(both(&msrs, 0x1000), (Ok(Uc), Ok(Uc)));
    let hidden = Mtrrs { msrs: &msrs, maxphyaddr: MAXPHYADDR, in_cpuid: false };
    assert_eq!(hidden.memtype(0x1000, Lookup::Sdm), Ok(Uc));
    assert_eq!(hidden.memtype(0x1000, Lookup::KvmPre611), Ok(Wb));
}

#[test]
fn each_fixed_range_has_its_byte() {
    let mut all = msrs(ENABLED | FIXED_ENABLED | Wb as u64, &[pair(0, GIB, Wc)]);
    // First and last page of the first and last range of each size.
    let places = [
        (0x250, 0, [0x0, 0xf000]),
        (0x250, 7, [0x7_0000, 0x7_f000]),
        (0x258, 0, [0x8_0000, 0x8_3000]),
        (0x259, 7, [0xb_c000, 0xb_f000]),
        (0x268, 0, [0xc_0000, 0xc_0fff]),
        (0x26c, 3, [0xe_3000, 0xe_3fff]),
        (0x26f, 7, [0xf_f000, 0xf_ffff]),
    ];
    for (msr, byte, gpas) in places {
        all.set(msr, (Wp as u64) << (8 * byte));
        for gpa in gpas {
            assert_eq!(both(&all, gpa), (Ok(Wp), Ok(Wp)), "{gpa:#x}");
        }
        all.set(msr, !((0xff & !(Uc as u64)) << (8 * byte)) & 0x0606_0606_0606_0606);
        for gpa in gpas {
            assert_eq!(both(&all, gpa), (Ok(Uc), Ok(Uc)), "{gpa:#x}");
        }
    }
    assert_eq!(both(&all, 0x10_0000), (Ok(Wc), Ok(Wc)), "1 MiB is above them");
    all.set(MTRR_DEF_TYPE, ENABLED | Wb as u64);
    assert_eq!(both(&all, 0x1000), (Ok(Wc), Ok(Wc)), "without FE they count for nothing");
}

#[test]
fn overlaps_are_as_each_of_them_says() {
    let over = |low: MemType, high: MemType| ranges(&[pair(0, 4 * GIB, low), pair(3 * GIB, GIB, high)], 3 * GIB);
    assert_eq!(over(Wb, Wb), (Ok(Wb), Ok(Wb)));
    assert_eq!(over(Wb, Wt), (Ok(Wt), Ok(Wt)));
    assert_eq!(over(Uc, Wb), (Ok(Uc), Ok(Uc)));
    assert_eq!(over(Wb, Uc), (Ok(Uc), Ok(Wb)), "KVM meets the higher base first");
    assert_eq!(over(Wc, Wb), (Err(NoType::Overlap(Wc, Wb)), Ok(Wb)));
    assert_eq!(over(Wt, Wp), (Err(NoType::Overlap(Wt, Wp)), Ok(Wb)));
    let same_base = [pair(GIB, GIB, Uc), pair(GIB, GIB, Wc)];
    assert_eq!(ranges(&same_base, GIB), (Ok(Uc), Ok(Uc)), "the type takes part in the order");
    assert_eq!(ranges(&same_base, 2 * GIB), (Ok(Uc), Ok(Uc)), "the default type");
}

#[test]
fn kvm_takes_every_range_as_one_run_of_addresses() {
    // Every other GiB of the first four.
    let discontiguous = [(GIB | Wt as u64, 0xfd << 32 | 0xffu64 << 32 | GIB | VALID)];
    assert_eq!(ranges(&discontiguous, GIB), (Ok(Wt), Ok(Wt)));
    assert_eq!(ranges(&discontiguous, 3 * GIB), (Ok(Wt), Ok(Wt)));
    assert_eq!(ranges(&discontiguous, 2 * GIB), (Ok(Uc), Ok(Wt)));
    // A mask that was written for 36 bits: by the manual the range repeats, in KVM it does not end.
    let short = [(GIB | Wt as u64, 0xf_c000_0000 | VALID)];
    assert_eq!(ranges(&short, 2 * GIB), (Ok(Uc), Ok(Wt)));
    assert_eq!(ranges(&short, 1 << 36 | GIB), (Ok(Wt), Ok(Wt)));
    assert_eq!(ranges(&short, 0), (Ok(Uc), Ok(Uc)), "it starts at its base in both");
    let unaligned = [(GIB | 0x20_0000 | Wt as u64, pair(0, GIB, Wt).1)];
    assert_eq!(ranges(&unaligned, GIB), (Ok(Wt), Ok(Uc)));
    assert_eq!(ranges(&unaligned, GIB | 0x20_0000), (Ok(Wt), Ok(Wt)));
}

#[test]
fn what_is_not_known_or_reserved_is_named() {
    let mut all = msrs(ENABLED | FIXED_ENABLED | 7, &[(2, pair(0, GIB, Uc).1)]);
    assert_eq!(ranges(&[(7, VALID)], GIB).0, Err(NoType::Reserved(0x200)));
    assert_eq!(both(&all, GIB).0, Err(NoType::Reserved(0x200)));
    all.set(0x201, 0);
    assert_eq!(both(&all, GIB).1, Err(NoType::Reserved(0x2ff)));
    all.forget(0x250);
    assert_eq!(both(&all, 0).0.unwrap_err().to_string(), "it is not known what MSR 0x250 holds");
    all.forget(0x20f);
    assert_eq!(both(&all, GIB).0, Err(NoType::Unknown(0x20f)));
    all.set(MTRR_DEF_TYPE, 0);
    assert_eq!(both(&all, GIB).0, Ok(Uc), "disabled MTRRs need not be known");
}

proptest! {
    /// Ranges that do not overlap, aligned and with whole masks, are where both rules agree.
    #[test]
    fn both_agree_on_ranges_of_their_own(
        types in prop::collection::vec(select(&MemType::OF_MTRR), 8),
        default in select(&MemType::OF_MTRR),
        gpa in 0..12 * GIB,
    ) {
        let pairs: Vec<_> =
            types.iter().enumerate().map(|(n, &memtype)| pair((n as u64 + 1) * GIB, GIB, memtype)).collect();
        let expected = (gpa / GIB).checked_sub(1).and_then(|n| types.get(n as usize)).copied().unwrap_or(default);
        let msrs = msrs(ENABLED | default as u64, &pairs);
        prop_assert_eq!(both(&msrs, gpa), (Ok(expected), Ok(expected)));
    }

    /// By the manual nothing depends on which pair a range stands in; in KVM it does not either.
    #[test]
    fn the_order_of_the_pairs_does_not_matter(
        ranges in prop::collection::vec((0..16u64, 0..4u32, select(&MemType::OF_MTRR)), 1..=8),
        gpa in 0..16 * GIB,
    ) {
        let mut pairs: Vec<_> = ranges.iter()
            .map(|&(n, log, memtype)| pair((n << log) % 16 * GIB, GIB << log, memtype)).collect();
        let one = both(&msrs(ENABLED, &pairs), gpa);
        pairs.reverse();
        let other = both(&msrs(ENABLED, &pairs), gpa);
        prop_assert_eq!(one.0.is_err(), other.0.is_err());
        prop_assert!(one.0.is_err() || one.0 == other.0);
        prop_assert_eq!(one.1, other.1);
    }

    /// Where a large page is said to be of one type, every page of it is.
    #[test]
    fn a_uniform_page_has_one_type(
        ranges in prop::collection::vec((0..64u64, 0..12u32, 0..3u64, select(&MemType::OF_MTRR)), 1..=8),
        flags in select(&[0, ENABLED, ENABLED | FIXED_ENABLED]),
        at in 0..64u64,
    ) {
        const PAGE_SIZE: u64 = 0x1000;
        const SIZE: u64 = 32 * PAGE_SIZE;
        let pairs: Vec<_> = ranges.iter().map(|&(n, log, hole, memtype)| {
            let (base, mask) = pair((n * PAGE_SIZE) << 3, PAGE_SIZE << log, memtype);
            (base, mask & !(hole * PAGE_SIZE))
        }).collect();
        let (all, gpa) = (msrs(flags | Wb as u64, &pairs), at * SIZE);
        let mtrrs = Mtrrs { msrs: &all, maxphyaddr: MAXPHYADDR, in_cpuid: true };
        if mtrrs.is_uniform(gpa, SIZE).unwrap() {
            for page in (gpa..gpa + SIZE).step_by(PAGE_SIZE as usize) {
                prop_assert_eq!(both(&all, page), both(&all, gpa));
            }
        }
        prop_assert_eq!(mtrrs.is_uniform(gpa + PAGE_SIZE, SIZE), Ok(flags == 0));
    }

    /// UC wins over everything by the manual, and no guest can make either lookup fail in another way than by name.
    #[test]
    fn any_values_have_an_answer(values in prop::collection::vec(any::<u64>(), 16), def_type: u64, gpa: u64) {
        let pairs: Vec<_> = values.chunks(2).map(|pair| (pair[0] & !0xff | 6, pair[1])).collect();
        let mut pairs_with_uc = pairs.clone();
        let all = msrs(def_type | ENABLED, &pairs);
        let _ = both(&all, gpa);
        pairs_with_uc[0] = (gpa & PAGE, VALID | PAGE);
        if gpa >= FIXED_END {
            prop_assert_eq!(both(&msrs(def_type | ENABLED, &pairs_with_uc), gpa).0, Ok(Uc));
        }
    }
}

#[test]
fn a_fixed_range_mtrr_covers_what_it_holds_the_types_of() {
    for index in FIXED_MTRRS {
        let (first, last) = covered_by_fixed(index).unwrap();
        assert_eq!((fixed_range(first), fixed_range(last)), ((index, 0), (index, 7)));
    }
    assert_eq!(covered_by_fixed(MTRR_PHYSBASE0), None);
}

#[test]
fn where_kvms_lookup_errs_is_told() {
    let fault = |pairs: &[(u64, u64)], gpa| {
        let msrs = msrs(ENABLED | Wb as u64, pairs);
        let mtrrs = Mtrrs { msrs: &msrs, maxphyaddr: MAXPHYADDR, in_cpuid: true };
        assert_ne!(mtrrs.memtype(gpa, Lookup::Sdm), mtrrs.memtype(gpa, Lookup::KvmPre611), "{gpa:#x}");
        mtrrs.fault(gpa).unwrap()
    };
    let (base, mask) = pair(GIB, 0x1000, Uc);
    assert_eq!(fault(&[(base, mask & 0xffff_ffff)], 3 * GIB), LookupFault::ShortMask);
    assert_eq!(fault(&[(base, mask & !(1 << 14))], GIB + 0x1000), LookupFault::DiscontiguousMask);
    let (base, mask) = pair(GIB + 0x4000, 0x8000, Uc);
    assert_eq!(fault(&[(base, mask)], GIB), LookupFault::UnalignedBase);
    assert_eq!(fault(&[pair(GIB, GIB, Wb), pair(GIB + 0x4000, 0x1000, Uc)], GIB + 0x4000), LookupFault::UcAbove);
}
