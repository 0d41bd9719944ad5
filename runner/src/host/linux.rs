//! A Linux kernel to boot, as its user named it.

use super::device::DeviceError;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// What each kernel says of itself first (`init/version.c:linux_banner`).
const BANNER: &[u8] = b"Linux version ";
/// Where a bzImage has "HdrS" (Documentation/arch/x86/boot.rst).
const BZIMAGE: (usize, &[u8]) = (0x202, b"HdrS");

/// A kernel.
pub struct Linux {
    /// Its file.
    path: PathBuf,
    /// An ELF file.
    pub vmlinux: Vec<u8>,
    /// `uname -r`.
    release: String,
}

impl Linux {
    /// One that another process has read: its file, what is in it, and its release.
    pub fn handed(path: PathBuf, vmlinux: Vec<u8>, release: String) -> Linux {
        Linux { path, vmlinux, release }
    }

    /// Its file and its release.
    pub fn named(&self) -> (&Path, &str) {
        (&self.path, &self.release)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is no vmlinux.
    pub fn open(path: &Path) -> Result<Linux, DeviceError> {
        let cannot = format!("cannot boot {}", path.display());
        let vmlinux = fs::read(path).map_err(|error| DeviceError::io(cannot, error))?;
        Linux::of(path, vmlinux)
    }

    /// What a file at `path`, as people are told, has in it.
    ///
    /// # Errors
    /// It is no vmlinux.
    pub fn of(path: &Path, vmlinux: Vec<u8>) -> Result<Linux, DeviceError> {
        let cannot = format!("cannot boot {}", path.display());
        let strange = |why: &str| DeviceError::new(format!("{cannot}: {why}"));
        if vmlinux.get(BZIMAGE.0..BZIMAGE.0 + BZIMAGE.1.len()) == Some(BZIMAGE.1) {
            return Err(strange("it is a compressed bzImage: scripts/extract-vmlinux of Linux takes the vmlinux out"));
        }
        if !vmlinux.starts_with(b"\x7fELF") {
            return Err(strange("it is no vmlinux, which is an ELF file"));
        }
        let release = release(&vmlinux).ok_or_else(|| strange("it does not say which version of Linux it is"))?;
        Ok(Linux { path: path.to_owned(), vmlinux, release })
    }
}

#[cfg(test)]
impl Linux {
    /// One that is nowhere.
    pub fn unnamed(vmlinux: Vec<u8>) -> Linux {
        Linux { path: "memory".into(), vmlinux, release: "0".to_owned() }
    }
}

/// Its file and what it is.
impl fmt::Display for Linux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {} at {}", self.release, self.path.display())
    }
}

impl fmt::Debug for Linux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The word behind the banner. The format strings of a kernel have one too, with no version behind it.
fn release(vmlinux: &[u8]) -> Option<String> {
    let banners = vmlinux.windows(BANNER.len()).zip(BANNER.len()..).filter(|(bytes, _)| *bytes == BANNER);
    let mut words = banners.filter_map(|(_, end)| vmlinux[end..].split(|&byte| byte <= b' ').next());
    let word = words.find(|word| word.first().is_some_and(u8::is_ascii_digit))?;
    Some(String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(content: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmlinux");
        fs::write(&path, content).unwrap();
        let said = Linux::open(&path).map(|linux| linux.to_string()).map_err(|error| error.to_string());
        let place = path.display().to_string();
        said.map(|it| it.replace(&place, "FILE")).map_err(|it| it.replace(&place, "FILE"))
    }

    #[test]
    fn a_kernel_says_its_version() {
        let text = b"\x7fELF..Linux version %s\0..Linux version 6.1.0-56-amd64 (somebody)\0";
        assert_eq!(open(text), Ok("Linux 6.1.0-56-amd64 at FILE".to_owned()));
    }

    #[test]
    fn what_is_no_vmlinux_is_told_what_to_do() {
        let mut bzimage = vec![0; 0x210];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        assert!(open(&bzimage).unwrap_err().starts_with("cannot boot FILE: it is a compressed bzImage: "));
        assert!(open(b"hello").unwrap_err().ends_with("it is no vmlinux, which is an ELF file"));
        assert!(open(b"\x7fELF").unwrap_err().ends_with("which version of Linux it is"));
        let gone = Linux::open(Path::new("/nowhere/vmlinux")).unwrap_err();
        assert_eq!(gone.to_string(), "cannot boot /nowhere/vmlinux");
    }
}
