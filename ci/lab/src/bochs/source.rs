//! The source's tarball: a file that somebody has, or one fetched from the machine's own Debian mirror.

use super::build::BuildError;
use super::recipe::Recipe;
use crate::apt::{self, Archive};
use crate::cache::{self, Draft};
use crate::child;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tarball, with the content that the recipe pins: the one at `given`, else the one in the cache, where it is fetched
/// to if it is not there.
///
/// # Errors
/// It cannot be had, or has another content.
pub fn tarball(recipe: &Recipe, root: &Path, given: Option<&Path>, say: &dyn Fn(&str)) -> Result<PathBuf, BuildError> {
    let wanted = &recipe.source.sha256;
    let check = |path: &Path| {
        let found =
            cache::digest_of_file(path).map_err(|source| BuildError::Source { path: path.to_owned(), source })?;
        match found == *wanted {
            true => Ok(path.to_owned()),
            false => Err(BuildError::Digest { path: path.to_owned(), found, wanted: wanted.clone() }),
        }
    };
    if let Some(given) = given {
        return check(given);
    }
    let sources = root.join("sources");
    let path = sources.join(wanted);
    if path.is_file() {
        return check(&path);
    }
    let url = format!("{}/{}", Archive::of_this_machine()?.main, recipe.source.path);
    say(&format!("fetching {url}"));
    let draft = Draft::new(&sources)?;
    let file = draft.path().join("file");
    let failed = |said: String| BuildError::Fetch { url: url.clone(), said };
    let mut helper = Command::new(apt::HELPER);
    helper.args(["-o", "APT::Sandbox::User=root", "download-file", &url]);
    helper.args([file.as_os_str(), format!("SHA256:{wanted}").as_ref()]).env("LC_ALL", "C");
    let output = child::output(&mut helper).map_err(|error| failed(format!("{}: {error}", apt::HELPER)))?;
    if !output.status.success() {
        return Err(failed(output.stderr.trim().replace('\n', "; ")));
    }
    check(&file)?;
    fs::rename(file, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bochs.tar.xz");
        fs::write(&path, "abc").unwrap();
        let said = |path: &Path| tarball(&Recipe::load(), dir.path(), Some(path), &|_| ()).unwrap_err().to_string();
        assert!(said(&path).contains("has SHA-256 ba7816bf"), "{}", said(&path));
        assert!(said(Path::new("/nowhere/bochs.tar.xz")).starts_with("/nowhere/bochs.tar.xz"));
    }
}
