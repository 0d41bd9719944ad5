//! A boot disk for an ELF file with a PVH entry: a guest, or a Linux kernel with an initial RAM disk.

use super::disk::{Disk, LOWEST, Mtrrs, Segment};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use object::LittleEndian;
use object::elf::{FileHeader64, NoteType, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use vm_memory::ByteValued;

/// `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336e_c578;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (`include/xen/interface/elfnote.h`).
const PHYS32_ENTRY: NoteType = NoteType(18);
/// E820 types of RAM and of what is none.
const RAM: u32 = 1;
const RESERVED: u32 = 2;
const MIB: u64 = 1 << 20;
/// Most RAM in MiB: above are the test window, PCI, the APICs and the ROM.
const MOST_MIB: u32 = 3072;

/// What is booted.
#[derive(Debug, Clone, Copy)]
pub struct Pvh<'a> {
    /// The ELF file.
    pub elf: &'a [u8],
    /// Its command line.
    pub command_line: &'a str,
    /// The initial RAM disk, if any; it goes to the end of RAM.
    pub initrd: Option<&'a [u8]>,
    /// RAM in MiB, as [`Config::megs`](super::Config::megs).
    pub megs: u32,
    /// MTRRs at the entry.
    pub mtrrs: Mtrrs,
}

/// A file that cannot be booted.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a boot disk of it: {0}")]
pub struct PvhError(String);

impl<'a> Pvh<'a> {
    /// The boot disk. Its segments are parts of the files.
    ///
    /// # Errors
    /// No ELF64 file, no PVH entry, or too much for the RAM.
    pub fn disk(&self) -> Result<Disk<'a>, PvhError> {
        let ram = u64::from(self.megs) * MIB;
        if self.megs > MOST_MIB {
            return Err(PvhError(format!("{} MiB of RAM are more than {MOST_MIB}", self.megs)));
        }
        let Loaded { entry, mut segments, mut end } = load(self.elf)?;
        let mut module = None;
        if let Some(initrd) = self.initrd {
            let address = ram.saturating_sub(initrd.len() as u64) & !0xfff;
            if end > address {
                return Err(PvhError(format!("{} MiB of RAM are too few for it and the initial RAM disk", self.megs)));
            }
            end = address + initrd.len() as u64;
            segments.push(Segment { address: address as u32, bytes: initrd.into() });
            module = Some(hvm_modlist_entry { paddr: address, size: initrd.len() as u64, ..Default::default() });
        }
        if end > ram {
            return Err(PvhError(format!("it ends at {end:#x}, behind {} MiB of RAM", self.megs)));
        }
        let start_info = start_info(ram, module, self.command_line);
        segments.push(Segment { address: LOWEST, bytes: start_info.into() });
        Ok(Disk { entry, start_info: LOWEST, mtrrs: self.mtrrs, segments })
    }
}

/// What an ELF file says of its place.
struct Loaded<'a> {
    /// The PVH entry.
    entry: u32,
    /// What is in the file.
    segments: Vec<Segment<'a>>,
    /// End of the memory that the segments take, with what is behind their bytes.
    end: u64,
}

/// The PVH entry and what is to be loaded of an ELF file. Memory behind a segment is zero at the start, as .bss wants
/// it.
fn load(elf: &[u8]) -> Result<Loaded<'_>, PvhError> {
    let wrong = |error: object::Error| PvhError(error.to_string());
    let endian = LittleEndian;
    let headers = FileHeader64::parse(elf).and_then(|header| header.program_headers(endian, elf)).map_err(wrong)?;
    let (mut entry, mut segments, mut end) = (None, Vec::new(), 0);
    for header in headers {
        if let Some(mut notes) = header.notes(endian, elf).map_err(wrong)? {
            while let Some(note) = notes.next().map_err(wrong)? {
                if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
                    entry = note.desc().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
                }
            }
        }
        if header.p_type(endian) == PT_LOAD {
            // A file may say anything; what overflows is behind all RAM.
            end = end.max(header.p_paddr(endian).saturating_add(header.p_memsz(endian).max(header.p_filesz(endian))));
        }
        if header.p_type(endian) == PT_LOAD && header.p_filesz(endian) != 0 {
            let bytes = header.data(endian, elf).map_err(|()| PvhError("a segment is not in the file".to_owned()))?;
            let address = header.p_paddr(endian);
            let address = address.try_into().map_err(|_| PvhError(format!("a segment is at {address:#x}")))?;
            segments.push(Segment { address, bytes: bytes.into() });
        }
    }
    let entry = entry.ok_or_else(|| PvhError("it has no PVH entry (XEN_ELFNOTE_PHYS32_ENTRY)".to_owned()))?;
    Ok(Loaded { entry, segments, end })
}

/// `hvm_start_info` and what belongs to it, to be loaded at [`LOWEST`].
fn start_info(ram: u64, module: Option<hvm_modlist_entry>, command_line: &str) -> Vec<u8> {
    let range = |addr, size, type_| hvm_memmap_table_entry { addr, size, type_, reserved: 0 };
    let map = [range(0, 0xa_0000, RAM), range(0xa_0000, 0x6_0000, RESERVED), range(MIB, ram - MIB, RAM)];
    let map_at = u64::from(LOWEST) + size_of::<hvm_start_info>() as u64;
    let module_at = map_at + size_of_val(&map) as u64;
    let command_line_at = module_at + size_of::<hvm_modlist_entry>() as u64;
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        nr_modules: u32::from(module.is_some()),
        modlist_paddr: module.map_or(0, |_| module_at),
        cmdline_paddr: command_line_at,
        memmap_paddr: map_at,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let map: Vec<u8> = map.iter().flat_map(|range| range.as_slice().to_vec()).collect();
    let module = module.unwrap_or_default();
    [info.as_slice(), &map, module.as_slice(), command_line.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::smallest::elf;
    use wire::layout::IMAGE;

    fn pvh<'a>(elf: &'a [u8], initrd: Option<&'a [u8]>) -> Pvh<'a> {
        Pvh { elf, command_line: "run=1", initrd, megs: 4, mtrrs: Mtrrs::Reset }
    }

    #[test]
    fn a_guest_is_loaded_where_it_is_linked_and_told_its_words() {
        let file = elf(&[0xf4; 3]);
        let disk = pvh(&file, Some(&[7; 5000])).disk().unwrap();
        assert_eq!((disk.entry, disk.start_info), (IMAGE as u32, LOWEST));
        let [guest, initrd, info] = &disk.segments[..] else { panic!("{disk:?}") };
        assert_eq!((guest.address, &guest.bytes[..]), (IMAGE as u32, &[0xf4; 3][..]));
        assert_eq!((initrd.address, initrd.bytes.len()), (0x3f_e000, 5000));
        let at = |offset: usize| u64::from_le_bytes(info.bytes[offset..offset + 8].try_into().unwrap());
        assert_eq!(at(0) as u32, START_MAGIC);
        let (module, command_line) = ((at(16) - u64::from(LOWEST)) as usize, (at(24) - u64::from(LOWEST)) as usize);
        assert_eq!((at(module), at(module + 8)), (0x3f_e000, 5000));
        assert_eq!(&info.bytes[command_line..], b"run=1\0");
    }

    #[test]
    fn what_cannot_be_booted_says_why() {
        let said = |elf: &[u8], initrd| pvh(elf, initrd).disk().unwrap_err().to_string();
        assert!(said(b"no ELF", None).starts_with("cannot make a boot disk of it: "));
        let mut file = elf(&[0xf4]);
        let at = file.windows(4).position(|window| window == b"Xen\0").unwrap();
        file[at] = b'x';
        assert!(said(&file, None).ends_with("it has no PVH entry (XEN_ELFNOTE_PHYS32_ENTRY)"));
        assert!(
            said(&elf(&[0xf4]), Some(&[0; 3 << 20]))
                .ends_with("4 MiB of RAM are too few for it and the initial RAM disk")
        );
        // p_memsz of the first program header: what is zero at the start takes RAM, too.
        let mut file = elf(&[0xf4]);
        file[64 + 40..64 + 48].copy_from_slice(&(2u64 << 20).to_le_bytes());
        assert!(pvh(&file, None).disk().is_ok());
        assert!(said(&file, Some(&[0; 2 << 20])).ends_with("too few for it and the initial RAM disk"));
        file[64 + 40..64 + 48].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(said(&file, None).ends_with("it ends at 0xffffffffffffffff, behind 4 MiB of RAM"));
        assert!(said(&elf(&[0; 4 << 20]), None).ends_with("it ends at 0x500000, behind 4 MiB of RAM"));
    }
}
