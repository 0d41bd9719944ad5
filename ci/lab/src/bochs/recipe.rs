//! The recipe: everything that a build depends on, as it was when the lab was built.

use crate::cache;
use serde::Deserialize;

const RECIPE: &str = include_str!("../../../bochs/recipe.toml");

/// Changes when the steps of the build, which are code, make another program of the same recipe.
const STEPS: &str = "1";

/// The patch.
pub const PATCH: &str = include_str!("../../../bochs/memtypes.patch");

/// Name of the instrumentation, which is that of its directory and of its model of time.
pub const CLOCK: &str = "memtime";

/// Files of the instrumentation, by name; among them the table of costs.
pub const INSTRUMENTATION: [(&str, &str); 3] = [
    ("costs.h", include_str!("../../../bochs/memtime/costs.h")),
    ("instrument.h", include_str!("../../../bochs/memtime/instrument.h")),
    ("instrument.cc", include_str!("../../../bochs/memtime/instrument.cc")),
];

/// What `ci/bochs/recipe.toml` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The source.
    pub source: Source,
    /// How it is built.
    pub build: Build,
}

/// The source's tarball.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Path below the base of a Debian mirror.
    pub path: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Options of the build.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Flags of both compilers.
    pub flags: String,
    /// Arguments of `configure`.
    pub configure: Vec<String>,
}

impl Recipe {
    /// The recipe that is compiled in.
    ///
    /// # Panics
    /// It is no recipe, which a test rules out.
    pub fn load() -> Recipe {
        toml::from_str(RECIPE).expect("ci/bochs/recipe.toml is a recipe")
    }

    /// What a build depends on, as a digest: equal keys are equal programs, as far as the recipe decides. The compiler is
    /// not in it: a host without one takes a build that is there.
    pub fn key(&self) -> String {
        let Recipe { source, build } = self;
        let mut texts = vec![STEPS.to_owned(), source.sha256.clone(), PATCH.to_owned(), build.flags.clone()];
        texts.extend(build.configure.clone());
        texts.extend(INSTRUMENTATION.map(|(_, text)| text.to_owned()));
        cache::digest(texts.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_is_a_recipe() {
        let recipe = Recipe::load();
        assert_eq!(recipe.source.sha256.len(), 64);
        assert!(recipe.build.configure.contains(&format!("--enable-instrumentation=instrument/{CLOCK}")));
    }

    #[test]
    fn the_instrumentation_names_itself() {
        let (_, header) = INSTRUMENTATION.iter().find(|(name, _)| *name == "instrument.h").unwrap();
        assert!(header.contains(&format!("\n#define MEMTIME_CLOCK \"{CLOCK}\"\n")), "{header}");
    }

    #[test]
    fn all_that_matters_is_in_the_key() {
        let recipe = Recipe::load();
        assert_eq!(recipe.key(), Recipe::load().key());
        let changes: [fn(&mut Recipe); 3] = [
            |recipe| recipe.source.sha256.push('0'),
            |recipe| recipe.build.flags.push_str(" -g"),
            |recipe| drop(recipe.build.configure.pop()),
        ];
        for change in changes {
            let mut other = recipe.clone();
            change(&mut other);
            assert_ne!(other.key(), recipe.key(), "{other:?}");
        }
    }
}
