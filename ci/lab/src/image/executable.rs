//! A program's file, cut to the part that is loaded: symbols and debug information weigh more than all the rest.

use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

/// The file without what is behind its last segment, and without section headers. What is no such ELF file stays as it
/// is.
pub fn loaded_part(file: &[u8]) -> Vec<u8> {
    let Some(end) = end(file) else { return file.to_vec() };
    let mut cut = file[..end].to_vec();
    // e_shoff, then e_shnum and e_shstrndx.
    cut[0x28..0x30].fill(0);
    cut[0x3c..0x40].fill(0);
    cut
}

/// Where the last segment ends in the file.
fn end(file: &[u8]) -> Option<usize> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, file).ok()?;
    let end =
        segments.iter().map(|segment| segment.file_range(endian)).map(|(at, size)| at.saturating_add(size)).max()?;
    usize::try_from(end).ok().filter(|&end| (0x40..=file.len()).contains(&end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn what_is_left_of_a_program_still_runs() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let cut = loaded_part(&file);
        assert!(cut.len() < file.len());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut");
        std::fs::write(&path, cut).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&path).arg("--list").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("what_is_left_of_a_program_still_runs"));
    }

    #[test]
    fn what_is_no_program_stays() {
        for file in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(loaded_part(file), file);
        }
    }
}
