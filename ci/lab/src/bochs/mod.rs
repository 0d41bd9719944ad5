//! Our Bochs: built from the recipe in ci/bochs, once for each content of it.

mod build;
mod recipe;
mod source;
mod tools;

use build::BuildError;
use recipe::Recipe;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
pub use tools::TOOLS;

/// Name of the directory of builds in the cache.
const BUILDS: &str = "bochs";
/// How the names of builds that are not done begin.
const DRAFT: &str = ".draft-";
/// Name of the program in the directory of a build.
const PROGRAM: &str = "bochs";

/// Our Bochs in the cache, which is built if it is not there. `source` is the tarball, else it is fetched. `say` is told
/// what takes time.
///
/// The runner finds the program, too: it is the one that was asked for last.
///
/// # Errors
/// It cannot be built.
pub fn program(root: &Path, source: Option<&Path>, say: &dyn Fn(&str)) -> Result<PathBuf, BuildError> {
    let recipe = Recipe::load();
    let compiler = tools::compiler()?;
    let builds = root.join(BUILDS);
    let dir = builds.join(&recipe.key(&compiler)[..16]);
    fs::create_dir_all(&builds)?;
    // One at a time: another process that wants the same waits for it.
    let lock = File::create(builds.join("lock"))?;
    lock.lock()?;
    if !dir.is_dir() {
        tools::complete()?;
        sweep(&builds)?;
        let tarball = source::tarball(&recipe, root, source, say)?;
        let draft = tempfile::Builder::new().prefix(DRAFT).tempdir_in(&builds)?;
        say("building Bochs, which takes a minute or two and is done once");
        build::build(&recipe, &tarball, draft.path(), &builds.join("build.log"))?;
        let done = draft.path().join("done");
        fs::create_dir(&done)?;
        fs::rename(build::program(draft.path()), done.join(PROGRAM))?;
        fs::rename(done, &dir)?;
    }
    let program = dir.join(PROGRAM);
    point_to(&kvm_memtype::machine::bochs::built(root), &program)?;
    Ok(program)
}

/// Removes what builds left behind that were killed. The caller holds the lock, so none is at work.
fn sweep(builds: &Path) -> io::Result<()> {
    for entry in fs::read_dir(builds)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the link `link` point to `program`, at once.
fn point_to(link: &Path, program: &Path) -> io::Result<()> {
    let draft = link.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::os::unix::fs::symlink(std::path::absolute(program)?, &draft)?,
    }
    fs::rename(draft, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_left_goes_and_what_is_done_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".draft-x/source")).unwrap();
        fs::create_dir(dir.path().join("0123456789abcdef")).unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["0123456789abcdef"]);
    }

    #[test]
    fn the_link_follows_the_last_build() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        for name in ["one", "two"] {
            point_to(&link, &dir.path().join(name)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), dir.path().join(name));
        }
    }
}
