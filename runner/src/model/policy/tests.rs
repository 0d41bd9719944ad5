//! The policies that the runner carries, and mistakes in policies.

use super::{Policies, Policy, ReadRule, RegisterRow, WriteRule};
use crate::config::{self, Set, Source};
use crate::host::facts::{Fact, Facts};
use proptest::prelude::*;
use wire::layout::{FIXED_MTRRS, MTRR_CAP, MTRR_DEF_TYPE, PAT};

fn carried() -> Policies {
    let set = Set::load(None).unwrap();
    Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap_or_else(|error| panic!("{error}"))
}

fn source(id: &str, text: &str) -> Source {
    Source { name: format!("configs/policies/{id}.toml"), text: text.into() }
}

fn mistake(text: &str) -> String {
    Policies::load(&[source("a", text)]).unwrap_err().to_string()
}

fn facts(facts: &[(&str, Fact)]) -> Facts {
    facts.iter().cloned().collect()
}

/// What tells one release's KVM from another's.
fn kvm(apic_bus_cycles: bool, memslots_v2: bool, offers_ignore_guest_pat: bool) -> Facts {
    facts(&[
        ("machine", Fact::Text("kvm".into())),
        ("apic-bus-cycles", Fact::Bool(apic_bus_cycles)),
        ("memslots-v2", Fact::Bool(memslots_v2)),
        ("offers-ignore-guest-pat", Fact::Bool(offers_ignore_guest_pat)),
    ])
}

#[test]
fn one_policy_governs_each_machine() {
    let policies = carried();
    let governs = |facts: &Facts| policies.governing(facts).unwrap().id.clone();
    assert_eq!(governs(&kvm(false, false, false)), "kvm-pre-6.7");
    assert_eq!(governs(&kvm(false, true, false)), "kvm-6.7");
    assert_eq!(governs(&kvm(true, true, false)), "kvm-6.11");
    assert_eq!(governs(&kvm(true, true, true)), "kvm-6.16");
    let of_vendor = |vendor: &str| {
        let mut facts = kvm(true, true, false);
        facts.set("kvm-vendor", Fact::Text(vendor.into()));
        governs(&facts)
    };
    assert_eq!(["kvm_intel", "kvm_amd", "kvm_pvm"].map(of_vendor), ["kvm-6.11", "kvm-6.11", "kvm-pvm"]);
    assert_eq!(governs(&facts(&[("machine", Fact::Text("qemu-tcg".into()))])), "architecture");
    assert!(policies.governing(&Facts::default()).is_err());
    assert_eq!(
        policies.get("kvm").unwrap_err().to_string(),
        "no policy `kvm`; there are architecture, kvm-6.11, kvm-6.11-rc, kvm-6.16, kvm-6.7, kvm-pre-6.7, kvm-pvm; \
         --config names a directory with others"
    );
}

#[test]
fn two_that_govern_are_an_error() {
    let text = "summary = 's'\nselect = [{ machine = 'kvm' }]\n";
    let policies = Policies::load(&[source("a", text), source("b", text)]).unwrap();
    let facts = kvm(true, true, false);
    assert!(policies.governing(&facts).unwrap_err().to_string().contains("the policies a and b both"));
    // Unless one is made from the other, at whatever distance.
    let based = |base: &str| format!("{text}base = '{base}'\n");
    let files = [source("a", text), source("b", &based("a")), source("c", &based("b"))];
    assert_eq!(Policies::load(&files).unwrap().governing(&facts).unwrap().id, "c");
    let files = [source("a", text), source("b", &based("a")), source("c", &based("a"))];
    let error = Policies::load(&files).unwrap().governing(&facts).unwrap_err().to_string();
    assert!(error.contains("the policies b and c both"), "{error}");
}

#[test]
fn a_mistake_is_placed() {
    for (text, said) in [
        ("summary = 's'\nselec = []\n", "a.toml:2:1: unknown field `selec`, did you mean `select`?"),
        (
            "summary = 's'\nselect = [{ machin = 'kvm' }]\n",
            "a.toml:2:13: unknown fact `machin`, did you mean `machine`?",
        ),
        ("summary = 's'\nbase = 'b'\n", "a.toml:2:8: unknown policy `b`, expected `a`"),
        ("summary = 's'\nbase = 'a'\n", "a.toml:2:8: the base `a` leads back to itself"),
    ] {
        assert!(mistake(text).contains(said), "{}", mistake(text));
    }
    let row = |row: &str| format!("summary = 's'\n[[register]]\nname = 'r'\nsource = 's'\nread = 'kept'\n{row}\n");
    for (text, said) in [
        ("msrs = ['0x1']\nwrite = { checked = { reserved = ['9-8'] } }", ":7:34: `9-8` is no range of bits"),
        ("msrs = ['1']\nwrite = 'gp'", ":6:8: `1` is no range of MSRs"),
        ("msrs = ['0x1']\nwrite = 'pg'", ":7:9: unknown variant `pg`, expected one of `checked`, `gp`"),
        ("msrs = ['0x1']\nwrite = { checked = { bytes = [8], types = [0] } }", "row `r`: a register has bytes 0 to 7"),
        ("msrs = ['0x1']\nwrite = { checked = { bytes = [7] } }", "row `r`: `bytes` and `types` need each other"),
    ] {
        assert!(mistake(&row(text)).contains(said), "{}", mistake(&row(text)));
    }
}

#[test]
fn the_own_rows_come_before_those_of_the_base() {
    let policies = carried();
    let first = |id: &str| {
        let rows = &policies.get(id).unwrap().registers;
        rows.iter().find(|row| row.msrs.iter().any(|msrs| msrs.has(0x201))).unwrap().stores_bits_above_maxphyaddr
    };
    assert_eq!(["kvm-pre-6.7", "kvm-6.7", "kvm-6.11"].map(first), [true, true, false]);
}

/// Rows that always apply, of one file, must not speak of the same MSR, and one that needs facts must come before one
/// that does not: else the later can never win.
#[test]
fn no_row_is_in_the_shadow_of_another() {
    for source in Set::load(None).unwrap().sources("policies").map(|(_, source)| source) {
        let rows = config::parse::<Policy>(source).unwrap().registers;
        for (n, row) in rows.iter().enumerate() {
            let shadows = |earlier: &&RegisterRow| {
                (earlier.when.is_always() || earlier.when == row.when)
                    && row.msrs.iter().flat_map(|msrs| msrs.iter()).any(|msr| earlier.msrs.iter().any(|it| it.has(msr)))
            };
            let shadow = rows[..n].iter().find(shadows).map(|earlier| &earlier.name);
            assert_eq!(shadow, None, "{}: row {}", source.name, row.name);
        }
    }
}

#[test]
fn all_msrs_of_the_tests_are_spoken_of_and_every_row_has_a_source() {
    for policy in carried().iter() {
        let spoken = |index| policy.registers.iter().any(|row| row.msrs.iter().any(|msrs| msrs.has(index)));
        let mut msrs = (0x200..=0x2ff).filter(|index| !(0x280..=0x29f).contains(index)).chain([MTRR_CAP]);
        let silent = msrs.find(|&index| !spoken(index));
        assert_eq!(silent, None, "{}", policy.id);
        assert!(policy.registers.iter().all(|row| !row.name.is_empty() && !row.source.is_empty()));
        assert!(policy.instructions.iter().all(|row| !row.source.is_empty()));
        assert!(policy.memslot_flags.iter().all(|row| !row.source.is_empty()));
        let all = wire::insn::Insn::ALL;
        assert!(
            all.iter()
                .all(|insn| policy.instructions.iter().any(|row| row.instructions.iter().any(|it| it.0 == *insn)))
        );
    }
}

/// Whether a policy takes `value` for an MSR on a guest with MAXPHYADDR `maxphyaddr`.
fn takes(policy: &Policy, index: u32, value: u64, maxphyaddr: u8) -> bool {
    let row = policy.registers.iter().find(|row| row.when.is_always() && row.msrs.iter().any(|msrs| msrs.has(index)));
    let (fate, _) = row.unwrap().fate(value, Some(maxphyaddr)).unwrap();
    fate == crate::model::register::Fate::Taken(value)
}

proptest! {
    /// The rules in other words: mtrr.c:kvm_mtrr_valid and x86.h:kvm_pat_valid.
    #[test]
    fn the_tables_say_what_the_kernel_does(
        nth in 0usize..29, value: u64, type_bytes in proptest::array::uniform8(0u8..9), plain: bool,
        maxphyaddr in 36u8..=52,
    ) {
        let index = FIXED_MTRRS.into_iter().chain(0x200..0x210).chain([MTRR_DEF_TYPE, PAT]).nth(nth).unwrap();
        let value = if plain { u64::from_le_bytes(type_bytes) } else { value };
        let value = match index {
            0x200..0x210 if plain => value & 0xff | 0x800 | value & (u64::MAX >> (64 - maxphyaddr)) & !0xfff,
            MTRR_DEF_TYPE if plain => value & 0xfff,
            _ => value,
        };
        let is_type = |byte: u8| [0, 1, 4, 5, 6].contains(&byte);
        let bytes = value.to_le_bytes();
        let fits = value >> maxphyaddr == 0;
        let wanted = match index {
            PAT => bytes.iter().all(|&byte| is_type(byte) || byte == 7),
            MTRR_DEF_TYPE => value & !0xcff == 0 && is_type(bytes[0]),
            0x200..0x210 if index & 1 == 0 => is_type(bytes[0]) && value & 0xf00 == 0 && fits,
            0x200..0x210 => value & 0x7ff == 0 && fits,
            _ => bytes.iter().all(|&byte| is_type(byte)),
        };
        for policy in carried().iter() {
            prop_assert_eq!(takes(policy, index, value, maxphyaddr), wanted, "{} {:#x} {:#x}", policy.id, index, value);
        }
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = Policies::load(&[source("a", &text)]);
    }
}

#[test]
fn what_is_never_read_is_never_written() {
    for policy in carried().iter() {
        for row in policy.registers.iter().filter(|row| row.read == ReadRule::Gp) {
            assert!(row.write == WriteRule::Gp && row.reset.is_none(), "{} {}", policy.id, row.name);
        }
    }
}
