//! Files out of Debian packages, without installing them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Calls `each` with path, without leading `./`, and content of each regular file in a package that `wanted` picks.
///
/// # Errors
/// dpkg-deb cannot be run or fails, the package is damaged, or what `each` says.
pub fn files<E: From<io::Error>>(
    deb: &Path,
    wanted: impl Fn(&Path) -> bool,
    mut each: impl FnMut(&Path, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut child = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("dpkg-deb has no output"))?;
    let mut archive = tar::Archive::new(stdout);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.strip_prefix(".").map_or_else(|_| PathBuf::new(), Path::to_owned);
        if entry.header().entry_type().is_file() && wanted(&path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            each(&path, &content)?;
        }
    }
    // The archive ends before its padding does; without a reader dpkg-deb would complain.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    match child.wait()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("dpkg-deb ended with {status}")).into()),
    }
}
