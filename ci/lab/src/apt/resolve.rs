//! Which packages a kernel is today: the newest release of its series that the archive has.

use super::{Apt, AptError};
use crate::kernel::Spec;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::process::Command;

/// A package of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

/// A kernel's packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// What `uname -r` will say.
    pub release: String,
    /// The packages that hold the kernel and its modules.
    pub packages: Vec<Package>,
}

/// The newest release of a kernel.
///
/// # Errors
/// No package fits, or apt fails.
pub fn newest(apt: &Apt, spec: &Spec) -> Result<Resolved, AptError> {
    let image = spec.image();
    let names: Vec<String> = apt.names(&image.before)?.into_iter().filter(|name| image.star(name).is_some()).collect();
    let nothing = || {
        let suites = spec.suites.join(", ");
        AptError::Nothing(format!(
            "no package {} is in {suites}: Debian may have gone on to another series",
            image.with("*")
        ))
    };
    if names.is_empty() {
        return Err(nothing());
    }
    let mut best: Option<Package> = None;
    for package in packages(&apt.show(&names)?).into_values() {
        let newer = match &best {
            Some(best) => compare(&package.version, &best.version)? == Ordering::Greater,
            None => true,
        };
        if newer {
            best = Some(package);
        }
    }
    let star = best.as_ref().and_then(|package| image.star(&package.name)).ok_or_else(nothing)?;
    let release = spec.release.with(star);
    Ok(Resolved { packages: named(apt, &spec.packages(&release))?, release })
}

/// The packages of these names, in this order, as the archive has them.
///
/// # Errors
/// One is not there, or apt fails.
pub fn named(apt: &Apt, names: &[String]) -> Result<Vec<Package>, AptError> {
    select(&apt.show(names)?, names)
}

/// The packages of these names, in this order.
fn select(shown: &str, names: &[String]) -> Result<Vec<Package>, AptError> {
    let mut packages = packages(shown);
    let one = |name: &String| {
        packages.remove(name).ok_or_else(|| AptError::Nothing(format!("the archive has no package {name}")))
    };
    names.iter().map(one).collect()
}

/// The packages in what `apt-cache show` says, by name.
fn packages(shown: &str) -> BTreeMap<String, Package> {
    let package = |stanza| {
        let get = |name| field(stanza, name).map(str::to_owned);
        let package = Package { name: get("Package")?, version: get("Version")?, sha256: get("SHA256")? };
        Some((package.name.clone(), package))
    };
    shown.split("\n\n").filter_map(package).collect()
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Orders versions as Debian does.
fn compare(one: &str, other: &str) -> Result<Ordering, AptError> {
    let is = |relation| {
        let status = Command::new("dpkg").args(["--compare-versions", one, relation, other]).status();
        status.map(|status| status.success()).map_err(|source| AptError::Program { program: "dpkg", source })
    };
    Ok(if is("gt")? {
        Ordering::Greater
    } else if is("lt")? {
        Ordering::Less
    } else {
        Ordering::Equal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Package: linux-image-6.12.9+deb13-amd64-unsigned\nSource: linux\nVersion: 6.12.9-1\nSHA256: aa\n\
        Description: x\n Version: no\n\nPackage: linux-image-6.12.10+deb13-amd64-unsigned\nVersion: 6.12.10-1\nSHA256: bb\n";

    #[test]
    fn packages_are_read_and_missing_ones_named() {
        let names = ["linux-image-6.12.10+deb13-amd64-unsigned".to_owned()];
        let [package] = &select(SHOWN, &names).unwrap()[..] else { panic!() };
        assert_eq!((package.version.as_str(), package.sha256.as_str()), ("6.12.10-1", "bb"));
        let error = select(SHOWN, &["x".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "the archive has no package x");
    }

    #[test]
    fn versions_are_ordered_as_debian_does() {
        match compare("6.12.10-1", "6.12.9-1") {
            Ok(order) => assert_eq!(order, Ordering::Greater),
            Err(error) => crate::skip::skip(&error.to_string()),
        }
    }
}
