//! Variants of a kernel: patches of its KVM, words for its command line, parameters of its modules, another CPU.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A kernel's name, patches, and how it is started: `6.12+mine,clearcpuid=ss,kvm_intel.ept=0,cpu=corei7_skylake_x`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variant {
    /// Id of the kernel.
    pub kernel: String,
    /// Names of patches of its KVM, in the order in which they are applied.
    pub patches: Vec<String>,
    /// Words for the kernel's command line.
    pub cmdline: Vec<String>,
    /// Parameters of modules: module with `_` for `-`, and what it is given, `name=value`.
    pub params: Vec<(String, String)>,
    /// The CPU model of the emulator.
    pub cpu: Option<String>,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let mut names = words.next().unwrap_or_default().split('+').map(str::to_owned);
        let kernel = names.next().unwrap_or_default();
        let mut variant = Variant { kernel, patches: names.collect(), ..Variant::default() };
        if variant.patches.iter().any(String::is_empty) {
            return Err(format!("`{text}` has a `+` without the name of a patch behind it, as in `6.1+PATCH`"));
        }
        if variant.kernel.is_empty() {
            return Err(format!("`{text}` does not begin with the name of a kernel, as in `6.12,clearcpuid=ss`"));
        }
        words.try_for_each(|word| variant.add(word, true))?;
        Ok(variant)
    }
}

impl Variant {
    /// A kernel of one's own, by the name of its file or tree.
    pub fn local(path: &Path) -> Variant {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let good = |c: char| if c.is_ascii_alphanumeric() || "-+._".contains(c) { c } else { '-' };
        Variant { kernel: name.chars().map(good).collect(), ..Variant::default() }
    }

    /// Adds a word: the CPU model, a parameter of a module, or else a word for the command line. A parameter is
    /// `module.name=value`, with any module where `any` is set and otherwise with one of KVM: the command line has
    /// words of that form for what is built in.
    ///
    /// # Errors
    /// The word is empty, has characters that no directory's name should have, or is half a parameter.
    pub fn add(&mut self, word: &str, any: bool) -> Result<(), String> {
        let good = |byte: u8| byte.is_ascii_graphic() && !b"/,'\"\\".contains(&byte);
        if word.is_empty() || !word.bytes().all(good) {
            return Err(format!("`{word}` is no word for a kernel: it is empty or has spaces, quotes or slashes"));
        }
        match word.split_once('=') {
            Some(("cpu", model)) => self.cpu = Some(model.to_owned()),
            Some((key, _)) if key.contains('.') && (any || is_kvm(key)) => self.params.push(param(word)?),
            _ => self.cmdline.push(word.to_owned()),
        }
        Ok(())
    }
}

/// Reads `kvm_intel.ept=0`.
///
/// # Errors
/// It looks otherwise.
pub fn param(word: &str) -> Result<(String, String), String> {
    let parts = word.split_once('.').filter(|(module, value)| {
        !module.is_empty() && value.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty())
    });
    let (module, value) = parts.ok_or_else(|| format!("`{word}` is no parameter such as `kvm_intel.ept=0`"))?;
    Ok((module.replace('-', "_"), value.to_owned()))
}

/// Whether a parameter of that name is one of KVM's modules, which the kernel's command line does not reach.
fn is_kvm(key: &str) -> bool {
    let module = key.split('.').next().unwrap_or_default().replace('-', "_");
    ["kvm", "kvm_intel", "kvm_amd"].contains(&module.as_str())
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kernel)?;
        self.patches.iter().try_for_each(|patch| write!(f, "+{patch}"))?;
        self.cmdline.iter().try_for_each(|word| write!(f, ",{word}"))?;
        self.params.iter().try_for_each(|(module, value)| write!(f, ",{module}.{value}"))?;
        self.cpu.iter().try_for_each(|cpu| write!(f, ",cpu={cpu}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let text = "6.12,clearcpuid=ss,nosmep,kvm_intel.ept=0,kvm.ignore_msrs=1,cpu=corei7_skylake_x";
        let variant: Variant = text.parse().unwrap();
        assert_eq!((variant.kernel.as_str(), variant.to_string().as_str()), ("6.12", text));
        assert_eq!(variant.cmdline, ["clearcpuid=ss", "nosmep"]);
        let [(module, value), _] = &variant.params[..] else { panic!("{variant:?}") };
        assert_eq!((module.as_str(), value.as_str()), ("kvm_intel", "ept=0"));
        assert_eq!("6.1,kvm-intel.ept=0".parse::<Variant>().unwrap().to_string(), "6.1,kvm_intel.ept=0");
        let mut variant: Variant = "6.1,kvm_intl.x=1".parse().unwrap();
        assert_eq!(variant.params, [("kvm_intl".to_owned(), "x=1".to_owned())]);
        variant.add("rcupdate.x=1", false).unwrap();
        variant.add("kvm-intel.ept=0", false).unwrap();
        assert_eq!((variant.cmdline.len(), variant.params.len()), (1, 2));
    }

    #[test]
    fn patches_stand_behind_the_kernel() {
        let variant: Variant = "6.1+one+two,nosmep".parse().unwrap();
        assert_eq!((variant.kernel.as_str(), variant.to_string().as_str()), ("6.1", "6.1+one+two,nosmep"));
        assert_eq!(variant.patches, ["one", "two"]);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "+one", "6.1+", "6.1++two", ",ept=0", "6.1,", "6.1,a/b", "6.1,a b", "6.1,a\"b"] {
            assert!(text.parse::<Variant>().is_err(), "{text}");
        }
        for word in ["ept=0", ".ept=0", "kvm_intel.ept", "kvm_intel.=0", "kvm_intel.ept="] {
            assert!(param(word).is_err(), "{word}");
        }
    }
}
