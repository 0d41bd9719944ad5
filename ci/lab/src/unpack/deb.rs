//! Files out of Debian packages, without installing them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use tar::Entry;

/// Why a package cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The program is missing.
    #[error(
        "dpkg-deb cannot be run: packages can only be unpacked where Debian's dpkg is; give a kernel by --bzimage instead"
    )]
    Program(#[source] io::Error),
    /// The package is none, or cut short.
    #[error("{} is damaged: dpkg-deb ended with {status}; remove the file, and it is fetched again", path.display())]
    Damaged {
        /// The package.
        path: PathBuf,
        /// How dpkg-deb ended, after it said why on standard error.
        status: ExitStatus,
    },
    /// What is in it cannot be read.
    #[error("{} is damaged; remove the file, and it is fetched again", path.display())]
    Content {
        /// The package.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// Calls `each` with path, without leading `./`, and content of each regular file in a package that `wanted` picks.
///
/// # Errors
/// dpkg-deb cannot be run or fails, the package is damaged, or what `each` says.
pub fn files<E: From<DebError>>(
    deb: &Path,
    wanted: impl Fn(&Path) -> bool,
    mut take: impl FnMut(&Path, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut taken = Ok(());
    let walked = each(deb, |path, entry| {
        if taken.is_ok() && entry.header().entry_type().is_file() && wanted(path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            taken = take(path, &content);
        }
        Ok(())
    });
    taken?;
    Ok(walked?)
}

/// Calls `take` with path, without leading `./`, and entry of all that is in a package.
///
/// # Errors
/// dpkg-deb cannot be run or fails, the package is damaged, or what `take` says.
pub fn each(
    deb: &Path,
    take: impl FnMut(&Path, &mut Entry<'_, ChildStdout>) -> io::Result<()>,
) -> Result<(), DebError> {
    let mut dpkg = Command::new("dpkg-deb");
    let mut child = dpkg.arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn().map_err(DebError::Program)?;
    let read = child.stdout.take().map_or(Ok(()), |stdout| walk(stdout, take));
    let status = child.wait().map_err(DebError::Program)?;
    match read {
        // A damaged package ends its archive early, too: what dpkg-deb says of it comes first.
        _ if !status.success() => Err(DebError::Damaged { path: deb.to_owned(), status }),
        Err(source) => Err(DebError::Content { path: deb.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// Walks through an archive.
fn walk(
    stream: ChildStdout,
    mut take: impl FnMut(&Path, &mut Entry<'_, ChildStdout>) -> io::Result<()>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.strip_prefix(".").map_or_else(|_| PathBuf::new(), Path::to_owned);
        take(&path, &mut entry)?;
    }
    // The archive ends before its padding does; without a reader dpkg-deb would complain.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_package_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.deb");
        std::fs::write(&path, "no package").unwrap();
        match files(&path, |_| true, |_, _| Ok::<_, DebError>(())).unwrap_err() {
            DebError::Program(_) => crate::skip::skip("there is no dpkg-deb here"),
            error => assert!(error.to_string().contains("x.deb is damaged: dpkg-deb ended with"), "{error}"),
        }
    }
}
