//! The smallest guest: an ELF file around a few bytes of code, for probes of machines, for benchmarks and for tests.

use wire::layout::IMAGE;

/// An ELF64 that loads `code` at [`IMAGE`]. Its entry is the first byte in 64-bit mode, its PVH note's the same byte in
/// 32-bit protected mode.
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
