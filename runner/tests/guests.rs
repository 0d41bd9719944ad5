//! What every guest binary must be: free of SSE, small, bootable by PVH, and with tests that are listed.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic};
use kvm_memtype::guests;
use object::{Object, ObjectSection, SectionKind};
use std::collections::HashSet;

/// The most that a guest may weigh, in bytes.
const LARGEST: usize = 48 << 10;

/// What guests may use: the integer instructions of x86-64, system instructions, and the cache-control instructions
/// that tests are about. A KVM that emulates CPL 0 does not know much more, and the guests save no vector or x87 state.
const ALLOWED: [CpuidFeature; 16] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::MSR,
    CpuidFeature::TSC,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::CLFSH,
    CpuidFeature::CLFLUSHOPT,
    CpuidFeature::CLWB,
    CpuidFeature::WBNOINVD,
];

/// What probes are made of besides: fences, which use no vector register, and the load that shows WC, which uses one at
/// CPL 3 where the CPU has it.
const OF_PROBES: [Mnemonic; 3] = [Mnemonic::Lfence, Mnemonic::Mfence, Mnemonic::Movntdqa];

/// The guest that is a hypervisor. It runs where no other hypervisor is.
const HYPERVISOR: &str = "ept";
/// The guest that is a process of Linux.
const PROCESS: &str = "linux";

/// The guest that does all that it should not, VMCALL among it.
const HOSTILE: &str = "hostile";

/// What a guest may use besides.
fn more(family: &str) -> &'static [CpuidFeature] {
    match family {
        HYPERVISOR => &[CpuidFeature::VMX, CpuidFeature::INVEPT],
        PROCESS => &[CpuidFeature::SYSCALL],
        HOSTILE => &[CpuidFeature::VMX],
        _ => &[],
    }
}

/// Instructions of a section of a guest that use something else.
fn forbidden(family: &str, code: &[u8], base: u64) -> Vec<String> {
    let allowed = |instruction: &Instruction| {
        let all = ALLOWED.iter().chain(more(family));
        OF_PROBES.contains(&instruction.mnemonic())
            || instruction.cpuid_features().iter().all(|feature| all.clone().any(|allowed| allowed == feature))
    };
    Decoder::with_ip(64, code, base, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| !allowed(instruction))
        .map(|instruction| format!("{:#x}: {instruction}", instruction.ip()))
        .collect()
}

#[test]
fn no_guest_has_sse_in_it() {
    for guest in guests::all() {
        let file = object::File::parse(guest.elf).expect("an ELF file");
        let texts: Vec<_> = file.sections().filter(|section| section.kind() == SectionKind::Text).collect();
        assert!(!texts.is_empty(), "{} has no code", guest.family);
        for text in texts {
            let found = forbidden(guest.family, text.data().expect("the section's bytes"), text.address());
            assert!(found.is_empty(), "{}: {}", guest.family, found.join("; "));
        }
    }
}

#[test]
fn the_search_for_sse_finds_it() {
    // xorps xmm0, xmm0; movd mm0, eax; fld1; popcnt eax, eax
    for code in [&b"\x0f\x57\xc0"[..], b"\x0f\x6e\xc0", b"\xd9\xe8", b"\xf3\x0f\xb8\xc0"] {
        assert_eq!(forbidden(HYPERVISOR, code, 0).len(), 1);
    }
    // vmxoff; syscall
    for (code, family) in [(&b"\x0f\x01\xc4"[..], HYPERVISOR), (b"\x0f\x05", PROCESS)] {
        assert_eq!((forbidden("boot", code, 0).len(), forbidden(family, code, 0).len()), (1, 0));
    }
    assert!(forbidden("boot", b"\x48\x89\xc8\x0f\x30\xf3\xa4", 0).is_empty());
}

#[test]
fn every_guest_is_small() {
    for guest in guests::all() {
        assert!(guest.elf.len() < LARGEST, "{} has {} bytes", guest.family, guest.elf.len());
    }
}

#[test]
fn every_guest_has_one_pvh_note() {
    const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    for guest in guests::all() {
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(guest.elf).expect("an ELF file");
        let mut notes = Vec::new();
        for header in file.elf_program_headers() {
            use object::read::elf::ProgramHeader;
            let Some(mut all) = header.notes(file.endian(), guest.elf).expect("readable notes") else { continue };
            while let Some(note) = all.next().expect("a readable note") {
                notes.push((note.name().to_owned(), note.n_type(file.endian()).0));
            }
        }
        assert_eq!(notes, [(b"Xen".to_vec(), XEN_ELFNOTE_PHYS32_ENTRY)], "{}", guest.family);
    }
}

#[test]
fn every_test_is_listed_once_with_a_summary() {
    let tests = guests::tests().expect("every guest lists its tests");
    let names: HashSet<_> = tests.iter().map(|test| (&test.family, &test.name)).collect();
    assert_eq!(names.len(), tests.len(), "a test is listed twice");
    for test in &tests {
        assert!(!test.summary.is_empty(), "{}/{} has no summary", test.family, test.name);
    }
    let families: HashSet<_> = tests.iter().map(|test| test.family.as_str()).collect();
    let all: HashSet<_> = guests::all().map(|guest| guest.family).collect();
    assert_eq!(families, all);
}
