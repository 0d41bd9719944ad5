//! Modules made light: a kernel in an emulator spends seconds on what no test needs.

use super::compression;
use object::build::Id;
use object::build::elf::{Builder, SectionData};
use object::elf::{STT_FUNC, STT_NOTYPE, STT_OBJECT};
use object::{Object, ObjectSection};
use std::collections::HashSet;
use std::io;

/// Sections that go: types for BPF, which the kernel would check, and debug information.
const HEAVY: [&[u8]; 2] = [b".BTF", b".debug_"];
/// What the names of the paddings before functions begin with.
const PADDING: &[u8] = b"__pfx_";

/// A module's file as it is put into the image: decompressed, without heavy sections, and without symbols that neither
/// a relocation nor a stack trace needs. For each function that it could trace, the kernel looks through all symbols.
///
/// # Errors
/// It is damaged, or no ELF file.
pub fn light(file: &[u8]) -> io::Result<Vec<u8>> {
    let plain = if compression::is_compressed(file) { compression::decompress(file)? } else { file.to_vec() };
    let mut builder = Builder::read(plain.as_slice()).map_err(io::Error::other)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        let name = name.strip_prefix(b".rela").unwrap_or(name);
        section.delete = HEAVY.iter().any(|heavy| name.starts_with(heavy));
    }
    let mut used = HashSet::new();
    for section in builder.sections.iter().filter(|section| !section.delete) {
        if let SectionData::Relocation(relocations) = &section.data {
            used.extend(relocations.iter().filter_map(|relocation| relocation.symbol).map(|symbol| symbol.index()));
        }
    }
    for symbol in &mut builder.symbols {
        let useless = match symbol.st_type() {
            STT_NOTYPE | STT_OBJECT => symbol.section.is_some(),
            STT_FUNC => symbol.name.starts_with(PADDING),
            _ => false,
        };
        symbol.delete = useless && !used.contains(&symbol.id().index());
    }
    let mut light = Vec::new();
    builder.write(&mut light).map_err(io::Error::other)?;
    Ok(light)
}

/// Names of the modules that a module wants loaded before it, as `-` spells them: `depends=` in its `.modinfo`.
///
/// # Errors
/// It is damaged, or no ELF file.
pub fn depends(file: &[u8]) -> io::Result<Vec<String>> {
    let plain = if compression::is_compressed(file) { compression::decompress(file)? } else { file.to_vec() };
    let object = object::File::parse(plain.as_slice()).map_err(io::Error::other)?;
    let info = match object.section_by_name(".modinfo") {
        Some(section) => section.data().map_err(io::Error::other)?,
        None => &[],
    };
    let list = info.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    Ok(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('_', "-")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::ObjectSymbol;
    use std::process::Command;

    /// An object file as a compiler makes modules of, with debug information and a section `.BTF`.
    const SOURCE: &str = r#"
        int other(void);
        static int helper(void) { return other() + 1; }
        int function(void) { return helper(); }
        __asm__(".text\n__pfx_function: nop\n.type __pfx_function, @function\nunused: nop\n");
        __asm__(".pushsection .modinfo,\"a\"\n.asciz \"license=GPL\"\n.asciz \"depends=kvm,kvm_x\"\n.popsection\n");
        __asm__(".pushsection .BTF,\"\"\n.long 1\n.popsection\n");
    "#;

    #[test]
    fn what_is_needed_stays_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (source, object) = (dir.path().join("a.c"), dir.path().join("a.o"));
        std::fs::write(&source, SOURCE).unwrap();
        let compiled = Command::new("cc").args(["-g", "-O0", "-c", "-o"]).arg(&object).arg(&source).status();
        let Ok(status) = compiled else { return crate::skip::skip("there is no C compiler here") };
        assert!(status.success());
        let file = std::fs::read(&object).unwrap();
        let light = light(&file).unwrap();
        assert_eq!(depends(&file).unwrap(), ["kvm", "kvm-x"]);
        assert_eq!(depends(&light).unwrap(), ["kvm", "kvm-x"]);
        let parsed = object::File::parse(light.as_slice()).unwrap();
        let symbols: Vec<_> = parsed.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect();
        for (name, stays) in
            [("function", true), ("helper", true), ("other", true), ("__pfx_function", false), ("unused", false)]
        {
            assert_eq!(symbols.iter().any(|symbol| symbol == name), stays, "{name} in {symbols:?}");
        }
        let sections: Vec<_> = parsed.sections().filter_map(|section| section.name().ok()).collect();
        assert!(sections.contains(&".text"), "{sections:?}");
        assert!(!sections.iter().any(|name| name.contains("BTF") || name.contains("debug")), "{sections:?}");
        assert!(light.len() < file.len());
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(super::light(b"hello").is_err());
        assert!(super::light(b"\x7fELF\x02\x01\x01").is_err());
        assert!(super::depends(b"hello").is_err());
    }
}
