//! From diffs to modules in the cache.

use super::make::{self, KVM, Vendor};
use super::tree::Tree;
use super::{Diff, PatchError};
use crate::apt::Package;
use crate::cache::{self, Draft};
use crate::fetch::Fetch;
use crate::kernel::Spec;
use crate::unpack::module;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// A patched KVM, as it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The diffs, in the order in which they were applied.
    pub diffs: Vec<Applied>,
    /// The packages that it was built of, the source first.
    pub packages: Vec<Package>,
    /// Version of the compiler.
    pub compiler: String,
}

/// A diff that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
}

/// A patched KVM in the cache.
#[derive(Debug, Clone)]
pub struct Built {
    /// What it is.
    pub record: Record,
    dir: PathBuf,
}

impl Built {
    /// The file of a module, if it is one of those that are built.
    pub fn module(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join(format!("{name}.ko"))).filter(|path| path.is_file())
    }
}

/// Builds the KVM of a kernel's release.
pub struct Builder<'a> {
    /// Where packages come from.
    pub fetch: &'a Fetch<'a>,
    /// The kernel.
    pub spec: &'a Spec,
    /// Its release.
    pub release: &'a str,
    /// Whether for AMD.
    pub amd: bool,
}

impl Builder<'_> {
    /// The modules with these diffs applied in their order; without any they are built as they are.
    ///
    /// # Errors
    /// The packages cannot be had, a diff does not fit, or the modules do not build.
    pub fn build(&self, diffs: &[Diff]) -> Result<Built, PatchError> {
        let build = self.spec.build.as_ref().ok_or_else(|| PatchError::NoBuild(self.spec.id.clone()))?;
        for diff in diffs {
            match diff.stray() {
                Some(file) => return Err(PatchError::Stray { diff: diff.name.clone(), file: file.to_owned() }),
                None if diff.files().is_empty() => return Err(PatchError::Empty(diff.name.clone())),
                None => {}
            }
        }
        let vendor = if self.amd { Vendor::Amd } else { Vendor::Intel };
        let tree = Tree::new(self.fetch, self.spec, build, self.release)?;
        let [_, last] = vendor.modules();
        let parts = [tree.identity.as_str(), last].into_iter().chain(diffs.iter().map(|diff| diff.text.as_str()));
        let key = &cache::digest(parts)[..16];
        let names = diffs.iter().map(|diff| diff.name.as_str()).collect::<Vec<_>>().join("+");
        let patched = self.fetch.root.join("patched");
        let dir = patched.join(key);
        cache::make(&dir, |kept| -> Result<(), PatchError> {
            let what = if names.is_empty() { "the unpatched KVM" } else { names.as_str() };
            (self.fetch.say)(&format!("building {what} for {}", self.release));
            let draft = Draft::new(&patched)?;
            let copy = draft.path().join("tree");
            tree.copy(&copy)?;
            diffs.iter().try_for_each(|diff| make::apply(&copy, diff, &tree.source()))?;
            make::make(&copy, build, vendor, what, &patched.join(format!("{key}.log")))?;
            for name in vendor.modules() {
                let path = copy.join(KVM).join(format!("{name}.ko"));
                let file = fs::read(&path).map_err(|source| PatchError::Read { path: path.clone(), source })?;
                fs::write(kept.join(format!("{name}.ko")), module::light(&file)?)?;
            }
            Ok(())
        })?;
        let applied = |diff: &Diff| Applied { name: diff.name.clone(), sha256: cache::digest_of_text(&diff.text) };
        let diffs = diffs.iter().map(applied).collect();
        Ok(Built { record: Record { diffs, packages: tree.packages, compiler: tree.compiler }, dir })
    }
}
