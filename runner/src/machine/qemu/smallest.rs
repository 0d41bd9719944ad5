//! The smallest guest: an ELF with a PVH note around a few bytes of 32-bit code. It tells whether a QEMU works here.

use wire::layout::IMAGE;

/// CPUID.1:EDX.MTRR as a guest sees it, written to the exit port: [`SHOWS_NO_MTRR`] or [`SHOWS_MTRR`].
pub const MTRR_BIT: [u8; 19] = [
    0xb8, 1, 0, 0, 0, // mov eax, 1
    0x0f, 0xa2, // cpuid
    0xc1, 0xea, 12, // shr edx, 12
    0x83, 0xe2, 1, // and edx, 1
    0x8d, 0x42, 0x20, // lea eax, [edx + 0x20]
    0xe7, 0xf4, // out 0xf4, eax
    0xf4, // hlt
];
/// Exit value of a guest that sees no MTRR.
pub const SHOWS_NO_MTRR: u32 = 0x20;
/// Exit value of a guest that sees MTRR.
pub const SHOWS_MTRR: u32 = 0x21;

/// An ELF64 whose PVH note enters `code`, loaded at [`IMAGE`], in 32-bit protected mode.
///
/// The note is XEN_ELFNOTE_PHYS32_ENTRY (`include/xen/interface/elfnote.h`), which QEMU asks of a PVH kernel.
pub fn elf(code: &[u8]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM_HEADER: u64 = 56;
    const NOTE: u64 = 20;
    const CODE: u64 = HEADER + 2 * PROGRAM_HEADER + NOTE;
    let program_header = |kind: u32, at: u64, address: u64, size: u64| {
        let words = [at, address, address, size, size, 4];
        [&kind.to_le_bytes()[..], &7u32.to_le_bytes(), words.map(u64::to_le_bytes).as_flattened()].concat()
    };
    let entry = IMAGE as u32;
    [
        // EI_CLASS 64 bits, EI_DATA little-endian, EI_VERSION 1; ET_EXEC, EM_X86_64, e_version 1.
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0"[..],
        [IMAGE, HEADER, 0].map(u64::to_le_bytes).as_flattened(), // e_entry, e_phoff, e_shoff
        &[0; 4],                                                 // e_flags
        [HEADER as u16, PROGRAM_HEADER as u16, 2, 64, 0, 0].map(u16::to_le_bytes).as_flattened(),
        &program_header(1, CODE, IMAGE, code.len() as u64), // PT_LOAD
        &program_header(4, CODE - NOTE, 0, NOTE),           // PT_NOTE
        [4, 4, 18].map(u32::to_le_bytes).as_flattened(),    // name size, entry size, XEN_ELFNOTE_PHYS32_ENTRY
        b"Xen\0",
        &entry.to_le_bytes(),
        code,
    ]
    .concat()
}
