//! The module `vfio_stub`: non-coherent DMA for a VM without any device.
//!
//! KVM's VFIO device (`virt/kvm/vfio.c`) finds the functions that it asks by `symbol_get`. This module has these
//! functions: every file is a VFIO file, and none enforces coherent DMA. So the VM gets non-coherent DMA
//! (`kvm_arch_register_noncoherent_dma`) by a file of any kind.
//!
//! The functions are a few instructions that use nothing of the kernel. What a module must have of its kernel, the size
//! of `struct module`, the version magic and the CRC of `module_layout`, is copied from that kernel's own `kvm.ko`; so
//! it needs neither headers nor a compiler, and fits each kernel.

use object::read::{self, Object as _, ObjectSection as _};
use object::write::{Object, Relocation, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationEncoding, RelocationFlags, RelocationKind, SectionKind,
    SymbolFlags, SymbolKind, SymbolScope,
};

/// Name of the module.
pub const NAME: &str = "vfio_stub";

/// Functions and their code, of the System V ABI; each begins with `endbr64`. In the order of their names, because the
/// kernel searches a module's table by bisection.
const FUNCTIONS: [(&str, &[u8]); 4] = [
    ("vfio_file_enforced_coherent", FALSE),
    ("vfio_file_is_group", TRUE),
    ("vfio_file_is_valid", TRUE),
    ("vfio_file_set_kvm", NOTHING),
];
/// `mov eax, 1; ret`
const TRUE: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa, 0xb8, 1, 0, 0, 0, 0xc3];
/// `xor eax, eax; ret`
const FALSE: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xc0, 0xc3];
/// `ret`
const NOTHING: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa, 0xc3];

const THIS_MODULE: &str = ".gnu.linkonce.this_module";
/// `MODULE_NAME_LEN`.
const NAME_SIZE: usize = 56;
/// `struct modversion_info`: a CRC of 8 bytes and a name.
const VERSION_SIZE: usize = 64;
/// Bytes of `struct kernel_symbol`: the symbol, its name and its namespace, each as the distance from there.
const ENTRY_SIZE: usize = 12;
/// `KSYM_FLAG_GPL_ONLY`.
const GPL_ONLY: u8 = 1;

/// Why the module cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StubError {
    /// The pattern is no module of a kind that is known here.
    #[error("no module vfio_stub can be made after kvm.ko: {0}")]
    Pattern(&'static str),
    /// The pattern is no object file.
    #[error("no module vfio_stub can be made after kvm.ko")]
    Read(#[from] read::Error),
    /// The module cannot be written.
    #[error("the module vfio_stub cannot be written")]
    Write(#[from] object::write::Error),
}

/// The module for the kernel that `kvm` belongs to.
///
/// # Errors
/// `kvm` is no such module.
pub fn module(kvm: &[u8]) -> Result<Vec<u8>, StubError> {
    let pattern = Pattern::read(kvm)?;
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let mut section = |name: &str, kind, bytes: &[u8], align| {
        let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        object.append_section_data(id, bytes, align);
        id
    };
    section(".modinfo", SectionKind::ReadOnlyData, &pattern.modinfo, 1);
    section(THIS_MODULE, SectionKind::Data, &pattern.this_module, 64);
    if let Some(version) = &pattern.module_layout {
        section("__versions", SectionKind::ReadOnlyData, version, 32);
    }
    let count = FUNCTIONS.len();
    let (table, extra) = match pattern.exports {
        Exports::Flags => ("__ksymtab", Some(("__kflagstab", vec![GPL_ONLY; count]))),
        // Nobody compares these CRCs: symbol_get looks for a name.
        Exports::Versions => ("__ksymtab_gpl", Some(("__kcrctab_gpl", vec![0; 4 * count]))),
        Exports::Plain => ("__ksymtab_gpl", None),
    };
    if let Some((name, bytes)) = extra {
        section(name, SectionKind::ReadOnlyData, &bytes, 4);
    }
    let text = section(".text", SectionKind::Text, &[], 16);
    let names = section("__ksymtab_strings", SectionKind::ReadOnlyData, &[0], 1);
    let table = section(table, SectionKind::ReadOnlyData, &vec![0; ENTRY_SIZE * count], 8);
    let names_symbol = object.section_symbol(names);
    for (index, (name, code)) in FUNCTIONS.into_iter().enumerate() {
        let value = object.append_section_data(text, code, 16);
        let function = object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
        let at = object.append_section_data(names, &[name.as_bytes(), b"\0"].concat(), 1);
        let entry = (ENTRY_SIZE * index) as u64;
        // The namespace is the empty name at the start of the strings.
        for (offset, symbol, addend) in [(0, function, 0), (4, names_symbol, at as i64), (8, names_symbol, 0)] {
            object.add_relocation(table, distance(entry + offset, symbol, addend))?;
        }
    }
    Ok(object.write()?)
}

/// R_X86_64_PC32.
fn distance(offset: u64, symbol: SymbolId, addend: i64) -> Relocation {
    let flags =
        RelocationFlags::Generic { kind: RelocationKind::Relative, encoding: RelocationEncoding::Generic, size: 32 };
    Relocation { offset, symbol, addend, flags }
}

/// How a kernel's modules export symbols.
enum Exports {
    /// With a table of flags.
    Flags,
    /// With a table of CRCs.
    Versions,
    /// With neither.
    Plain,
}

/// What is copied from another module of the same kernel.
struct Pattern {
    modinfo: Vec<u8>,
    this_module: Vec<u8>,
    module_layout: Option<Vec<u8>>,
    exports: Exports,
}

impl Pattern {
    fn read(kvm: &[u8]) -> Result<Pattern, StubError> {
        let file = read::File::parse(kvm)?;
        let data = |name: &str| file.section_by_name(name).map(|section| section.data()).transpose();
        let wanted = |name, what| data(name)?.ok_or(StubError::Pattern(what));
        let mut this_module = wanted(THIS_MODULE, "it has no struct module")?.to_vec();
        // All but the name is zero; init and exit are relocations, which are not copied.
        let name = this_module.iter().position(|&byte| byte != 0).filter(|at| this_module[*at..].starts_with(b"kvm\0"));
        let name = name.filter(|at| at + NAME_SIZE <= this_module.len());
        let name = name.ok_or(StubError::Pattern("the name in its struct module is not where it should be"))?;
        this_module[name..name + NAME.len()].copy_from_slice(NAME.as_bytes());

        let info = wanted(".modinfo", "it has no .modinfo")?;
        let magic = info.split(|&byte| byte == 0).find(|entry| entry.starts_with(b"vermagic="));
        let magic = magic.ok_or(StubError::Pattern("it has no version magic"))?;
        let about: [&[u8]; 5] = [magic, b"license=GPL", b"name=vfio_stub", b"retpoline=Y", b"depends="];
        let modinfo = about.map(|entry| [entry, b"\0"].concat()).concat();

        let version = |versions: &[u8]| {
            let is_layout = |version: &&[u8]| version[8..].starts_with(b"module_layout\0");
            versions.chunks_exact(VERSION_SIZE).find(is_layout).map(<[u8]>::to_vec)
        };
        let module_layout = data("__versions")?.and_then(version);
        let has = |name| file.section_by_name(name).is_some();
        let exports = match (has("__kflagstab"), has("__kcrctab_gpl")) {
            (true, _) => Exports::Flags,
            (false, true) => Exports::Versions,
            (false, false) => Exports::Plain,
        };
        Ok(Pattern { modinfo, this_module, module_layout, exports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{ObjectSymbol, RelocationTarget};

    /// A module as a kernel of 6.1 (`with_versions`) or of 7.2 has it.
    fn kvm(with_versions: bool) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let mut section = |name: &str, bytes: &[u8]| {
            let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), SectionKind::Data);
            object.append_section_data(id, bytes, 8);
        };
        section(".modinfo", b"license=GPL\0vermagic=6.1.0-56-amd64 SMP preempt mod_unload \0");
        let mut this_module = [0; 0x380];
        this_module[24..27].copy_from_slice(b"kvm");
        section(THIS_MODULE, &this_module);
        if with_versions {
            let mut versions = [0; 2 * VERSION_SIZE];
            versions[8..14].copy_from_slice(b"kfree\0");
            versions[VERSION_SIZE..VERSION_SIZE + 4].copy_from_slice(&[1, 2, 3, 4]);
            versions[VERSION_SIZE + 8..VERSION_SIZE + 22].copy_from_slice(b"module_layout\0");
            section("__versions", &versions);
            section("__kcrctab_gpl", &[0; 8]);
        } else {
            section("__kflagstab", &[1; 8]);
        }
        object.write().unwrap()
    }

    #[test]
    fn the_module_is_made_after_the_kernel_s_own() {
        for (with_versions, table, other) in
            [(true, "__ksymtab_gpl", "__kcrctab_gpl"), (false, "__ksymtab", "__kflagstab")]
        {
            let stub = module(&kvm(with_versions)).unwrap();
            let file = read::File::parse(stub.as_slice()).unwrap();
            let data = |name: &str| file.section_by_name(name).map(|section| section.data().unwrap().to_vec());
            let info = String::from_utf8(data(".modinfo").unwrap()).unwrap();
            assert!(info.starts_with("vermagic=6.1.0-56-amd64 SMP preempt mod_unload \0license=GPL\0"), "{info}");
            let this = data(THIS_MODULE).unwrap();
            assert_eq!((this.len(), &this[24..34]), (0x380, &b"vfio_stub\0"[..]));
            assert_eq!(
                data("__versions").map(|version| version[..4].to_vec()),
                with_versions.then(|| vec![1, 2, 3, 4])
            );
            assert_eq!(data(table).unwrap().len(), ENTRY_SIZE * FUNCTIONS.len());
            assert!(data(other).is_some());
        }
    }

    #[test]
    fn each_entry_of_the_table_is_a_function_and_its_name() {
        let stub = module(&kvm(false)).unwrap();
        let file = read::File::parse(stub.as_slice()).unwrap();
        let strings = file.section_by_name("__ksymtab_strings").unwrap().data().unwrap();
        let relocations: Vec<_> = file.section_by_name("__ksymtab").unwrap().relocations().collect();
        let mut names = Vec::new();
        for entry in relocations.chunks(3) {
            let RelocationTarget::Symbol(symbol) = entry[0].1.target() else { panic!("{entry:?}") };
            let name = file.symbol_by_index(symbol).unwrap().name().unwrap();
            let at = usize::try_from(entry[1].1.addend()).unwrap();
            assert!(strings[at..].starts_with(format!("{name}\0").as_bytes()));
            assert_eq!(strings[entry[2].1.addend() as usize], 0);
            names.push(name.to_owned());
        }
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), FUNCTIONS.len());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(module(b"hello").is_err());
        let empty = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little).write().unwrap();
        assert!(matches!(module(&empty), Err(StubError::Pattern(_))));
    }
}
