//! Modules made light: without debug and type information, which a kernel would read and check when it loads them.

use super::compression;
use object::build::elf::Builder;
use std::io;

/// Sections that go: types for BPF, and debug information.
const HEAVY: [&[u8]; 2] = [b".BTF", b".debug_"];

/// A module's file as it is put into the image: decompressed, and without the sections that nothing needs.
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
    builder.delete_orphans();
    let mut light = Vec::new();
    builder.write(&mut light).map_err(io::Error::other)?;
    Ok(light)
}
