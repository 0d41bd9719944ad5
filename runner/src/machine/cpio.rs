//! Archives in the "newc" form, which the kernel unpacks as its first root file system: Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst.

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;
const CHARACTER: u32 = 0o020_600;

/// An archive that is being made. Names are paths without leading slash; a directory comes before what is in it.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, REGULAR | permissions, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) {
        self.entry(name, SYMLINK, (0, 0), to.as_bytes());
    }

    /// Adds the device node of the console, 5:1.
    pub fn console(&mut self, name: &str) {
        self.entry(name, CHARACTER, (5, 1), &[]);
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, size, device, its own device number, length of the name, no checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn archive() -> Vec<u8> {
        let mut cpio = Cpio::default();
        cpio.directory("bin");
        cpio.file("bin/hello", 0o755, b"hello");
        cpio.link("init", "bin/hello");
        cpio.finish()
    }

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let bytes = archive();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let head = "070701\
            00000002000081ed00000000000000000000000100000000\
            0000000500000000000000000000000000000000\
            0000000a00000000bin/hello\0";
        let at = text.find(head).unwrap_or_else(|| panic!("{text:?}"));
        // Head and name take 120 bytes, so the content needs no padding before it.
        assert_eq!(&text[at + head.len()..at + head.len() + 8], "hello\0\0\0");
        assert!(text.contains("init\0\0bin/hello\0\0\0"), "{text:?}");
    }

    #[test]
    fn the_system_s_cpio_reads_it() {
        let child = Command::new("cpio").args(["-it", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else { return crate::skip::skip("there is no cpio here") };
        child.stdin.take().unwrap().write_all(&archive()).unwrap();
        assert_eq!(String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout), "bin\nbin/hello\ninit\n");
    }
}
