//! The tree in which a kernel's KVM is built: headers, programs, and of the source what makes the modules.

use super::PatchError;
use super::make::{self, KVM, Vendor};
use crate::apt::Package;
use crate::cache;
use crate::child;
use crate::fetch::Fetch;
use crate::kernel::{Build, Spec};
use crate::unpack::deb;
use liblzma::read::XzDecoder;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Archive, Entry};

/// Changes when what is in a tree changes.
const TREE: &str = "1";
/// What of the source is taken.
const SOURCE: [&str; 2] = [KVM, "virt"];
/// Programs of the build that are linked against the libraries of their own Debian.
const LINKED: [&str; 2] = ["tools/objtool/objtool.real-x86", "scripts/mod/modpost.real-lsb-64"];
/// The loader of such a program.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What of the build holds the tree's path.
const PATHS: [&str; 3] = [".cmd", ".mod", ".order"];

/// A tree in the cache, with the modules built once without a patch.
#[derive(Debug)]
pub struct Tree {
    /// Where it is.
    dir: PathBuf,
    /// What it was made of.
    pub packages: Vec<Package>,
    /// Version of the compiler.
    pub compiler: String,
    /// What it is, in hexadecimal.
    pub identity: String,
}

impl Tree {
    /// The tree of a kernel's release. One that is not in the cache takes a minute or two on two CPUs.
    ///
    /// # Errors
    /// Its packages cannot be had, or it does not build.
    pub fn new(fetch: &Fetch<'_>, spec: &Spec, build: &Build, release: &str) -> Result<Tree, PatchError> {
        make::complete()?;
        let compiler = make::compiler()?;
        let parts = fetch.build_packages(spec, build, release)?;
        let packages: Vec<Package> = parts.iter().flatten().cloned().collect();
        let variables = make::variables(build);
        let identity = [TREE, release, &compiler].into_iter();
        let identity = identity.chain(packages.iter().map(|package| package.sha256.as_str()));
        let identity = cache::digest(identity.chain(variables.iter().map(String::as_str)));
        let (trees, locks) = (fetch.root.join("trees"), fetch.root.join("locks"));
        fs::create_dir_all(&locks)?;
        fs::create_dir_all(&trees)?;
        // It takes long, so nobody else makes the same meanwhile.
        let _lock = cache::locked(&locks.join(format!("tree-{}", &identity[..16])))?;
        let dir = trees.join(&identity[..16]);
        cache::make(&dir, |draft| -> Result<(), PatchError> {
            let debs: Vec<Vec<PathBuf>> = parts
                .iter()
                .map(|part| part.iter().map(|package| fetch.deb(spec, package)).collect())
                .collect::<Result<_, _>>()?;
            (fetch.say)(&format!("unpacking the source of {release}"));
            let tree = draft.join("tree");
            debs[1].iter().try_for_each(|deb| headers(deb, &tree))?;
            debs[0].iter().try_for_each(|deb| source(deb, &tree))?;
            debs[2].iter().try_for_each(|deb| libraries(deb, &tree.join("lib-of-tools")))?;
            if !debs[2].is_empty() {
                LINKED.iter().try_for_each(|program| link(&tree.join(program)))?;
            }
            (fetch.say)(&format!("building the KVM of {release} without a patch"));
            let log = trees.join(format!("{}.log", &identity[..16]));
            make::make(&tree, build, Vendor::Intel, &format!("the KVM of {release}, without a patch,"), &log)?;
            // The files of the build name it.
            Ok(fs::write(draft.join("built-in"), fs::canonicalize(&tree)?.as_os_str().as_encoded_bytes())?)
        })?;
        Ok(Tree { dir, packages, compiler, identity })
    }

    /// Name and version of the source's package.
    pub fn source(&self) -> String {
        self.packages.first().map(|package| format!("{} {}", package.name, package.version)).unwrap_or_default()
    }

    /// Makes a tree of one's own in a directory that is not there, in which only what changes is built again. Files that
    /// no build and no diff writes in place are shared.
    ///
    /// # Errors
    /// The system refuses.
    pub fn copy(&self, to: &Path) -> Result<(), PatchError> {
        let tree = self.dir.join("tree");
        cp(&["-al"], &tree, to)?;
        for part in SOURCE {
            fs::remove_dir_all(to.join(part))?;
            cp(&["-a"], &tree.join(part), &to.join(part))?;
        }
        let (from, path) = (fs::read(self.dir.join("built-in"))?, fs::canonicalize(to)?);
        let (from, path) = (String::from_utf8_lossy(&from).into_owned(), path.display().to_string());
        Ok(SOURCE.iter().try_for_each(|part| moved(&to.join(part), &from, &path))?)
    }
}

fn cp(options: &[&str], from: &Path, to: &Path) -> Result<(), PatchError> {
    let program = |source| PatchError::Program { program: "cp", source };
    let output = child::output(Command::new("cp").args(options).arg("-T").arg(from).arg(to)).map_err(program)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(program(io::Error::other(output.stderr.trim().to_owned()))),
    }
}

/// Has the files of a build name another tree. They stay as old as they are, or all would be built again.
fn moved(dir: &Path, from: &str, to: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (entry, path) = (entry.as_ref().map(fs::DirEntry::file_type), entry.as_ref().map(fs::DirEntry::path));
        let (Ok(kind), Ok(path)) = (entry, path) else { continue };
        if kind?.is_dir() {
            moved(&path, from, to)?;
        } else if PATHS.iter().any(|end| path.as_os_str().as_encoded_bytes().ends_with(end.as_bytes())) {
            let time = fs::metadata(&path)?.modified()?;
            fs::write(&path, fs::read_to_string(&path)?.replace(from, to))?;
            File::options().append(true).open(&path)?.set_times(FileTimes::new().set_modified(time))?;
        }
    }
    Ok(())
}

/// Puts the content of a package of headers or programs together in one tree: Debian spreads it over directories that
/// link to one another.
fn headers(deb: &Path, tree: &Path) -> Result<(), PatchError> {
    Ok(deb::each(deb, |path, entry| {
        let place = ["usr/src", "usr/lib"].iter().find_map(|parent| path.strip_prefix(parent).ok());
        let mut parts = place.unwrap_or(Path::new("")).components();
        let name = parts.next().map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let rest = parts.as_path();
        let is_part = name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
        // The common headers have the real one.
        let is_stub = rest == Path::new("Makefile") && !name.ends_with("-common");
        let is_link = entry.header().entry_type().is_symlink() && rest.components().count() == 1;
        match is_part && !is_stub && !is_link && rest.components().count() > 0 {
            true => unpack(entry, &tree.join(rest)),
            false => Ok(()),
        }
    })?)
}

/// Puts what is needed of a package of the source, which holds a tarball, into the tree.
fn source(deb: &Path, tree: &Path) -> Result<(), PatchError> {
    Ok(deb::each(deb, |path, entry| {
        if !path.as_os_str().as_encoded_bytes().ends_with(b".tar.xz") {
            return Ok(());
        }
        for file in Archive::new(XzDecoder::new(entry)).entries()? {
            let mut file = file?;
            let path: PathBuf = file.path()?.components().skip(1).collect();
            if SOURCE.iter().any(|part| path.starts_with(part)) {
                unpack(&mut file, &tree.join(path))?;
            }
        }
        Ok(())
    })?)
}

/// Puts the shared libraries of a package, and the loader, into a directory.
fn libraries(deb: &Path, dir: &Path) -> Result<(), PatchError> {
    Ok(deb::each(deb, |path, entry| match path.parent() {
        Some(parent) if parent.ends_with("lib/x86_64-linux-gnu") => {
            unpack(entry, &dir.join(path.file_name().unwrap_or_default()))
        }
        _ => Ok(()),
    })?)
}

/// Has a program run with the libraries of its own Debian, wherever the tree is.
fn link(program: &Path) -> io::Result<()> {
    let mut elf = program.as_os_str().to_owned();
    elf.push(".elf");
    fs::rename(program, &elf)?;
    let lib = "lib=$(dirname \"$0\")/../../lib-of-tools";
    fs::write(
        program,
        format!("#!/bin/sh\n{lib}\nexec \"$lib/{LOADER}\" --library-path \"$lib\" \"$0.elf\" \"$@\"\n"),
    )?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
}

/// Unpacks a file or a link.
fn unpack(entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
    let kind = entry.header().entry_type();
    if kind.is_file() || kind.is_symlink() {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        entry.unpack(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_build_name_the_tree_they_are_in_and_stay_as_old_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmx/.vmx.o.cmd");
        fs::create_dir(dir.path().join("vmx")).unwrap();
        fs::write(&path, "gcc -o /old/tree/vmx.o\n").unwrap();
        fs::write(dir.path().join("x.c"), "/old/tree").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().append(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        moved(dir.path(), "/old/tree", "/new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "gcc -o /new/vmx.o\n");
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read_to_string(dir.path().join("x.c")).unwrap(), "/old/tree");
    }
}
