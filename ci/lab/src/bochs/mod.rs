//! Our Bochs: built from the recipe in ci/bochs, once for each content of it.

mod build;
mod recipe;
mod source;
mod tools;

use crate::cache::{self, Draft};
use build::BuildError;
use recipe::Recipe;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
pub use tools::TOOLS;

/// Name of the directory of builds in the cache.
const BUILDS: &str = "bochs";
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
    let builds = root.join(BUILDS);
    let dir = place(root, &recipe);
    fs::create_dir_all(&builds)?;
    // One at a time: another process that wants the same waits for it.
    let _lock = cache::locked(&builds.join("lock"))?;
    if !dir.is_dir() {
        tools::complete()?;
        let tarball = source::tarball(&recipe, root, source, say)?;
        let draft = Draft::new(&builds)?;
        say("building Bochs, which takes a minute or two and is done once");
        build::build(&recipe, &tarball, &draft.path(), &builds.join("build.log"))?;
        let done = draft.path().join("done");
        fs::create_dir(&done)?;
        fs::rename(build::program(&draft.path()), done.join(PROGRAM))?;
        fs::rename(done, &dir)?;
    }
    let program = dir.join(PROGRAM);
    point_to(&kvm_memtype::machine::bochs::built(root), &program)?;
    Ok(program)
}

/// Whether our Bochs is in the cache, so that nothing needs to be built.
pub fn is_built(root: &Path) -> bool {
    place(root, &Recipe::load()).join(PROGRAM).is_file()
}

/// The directory of a recipe's build.
fn place(root: &Path, recipe: &Recipe) -> PathBuf {
    root.join(BUILDS).join(&recipe.key()[..16])
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
    fn the_link_follows_the_last_build() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        for name in ["one", "two"] {
            point_to(&link, &dir.path().join(name)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), dir.path().join(name));
        }
    }
}
