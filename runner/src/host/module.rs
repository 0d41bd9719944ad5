//! KVM's modules: which vendor module is there, and the parameters of both.

use super::cpu::Cpu;
use super::sysfs::{names, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// KVM's modules as sysfs shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Modules {
    /// The vendor module; none where KVM is not there, or is only a core without one.
    pub vendor: Option<String>,
    /// Parameters as `module.name`, with their values as sysfs prints them.
    pub parameters: BTreeMap<String, String>,
    /// Build ids of loaded modules in hexadecimal, by name: two builds of one release differ in them. None of a module that is
    /// built in, and none without the right to read them.
    pub builds: BTreeMap<String, String>,
}

impl Modules {
    /// Looks under /sys/module.
    pub fn probe(cpu: &Cpu) -> Modules {
        Modules::in_dir(Path::new("/sys/module"), cpu)
    }

    fn in_dir(dir: &Path, cpu: &Cpu) -> Modules {
        // A loadable kvm lists the modules that use it; beside one that is built in, the vendor module is known by its
        // name.
        let mut candidates = names(&dir.join("kvm/holders"));
        candidates.extend(names(dir));
        candidates.retain(|name| name.starts_with("kvm_") && runs_on(name, cpu));
        let vendor = candidates.into_iter().next();
        let modules = ["kvm"].into_iter().chain(vendor.as_deref());
        let parameters = modules.clone().flat_map(|module| parameters(dir, module)).collect();
        let build = |module: &str| Some((module.to_owned(), build_id(dir, module)?));
        let builds = modules.filter_map(build).collect();
        Modules { vendor, parameters, builds }
    }

    /// Whether nothing is known of them.
    pub fn is_unknown(&self) -> bool {
        *self == Modules::default()
    }

    /// The value of a parameter, `module.name`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether a boolean parameter is on; `None` if it is not there.
    pub fn is_on(&self, name: &str) -> Option<bool> {
        self.parameter(name).map(|value| matches!(value, "Y" | "1"))
    }
}

/// A kernel can have the modules of other vendors built in; they are there and do nothing.
fn runs_on(module: &str, cpu: &Cpu) -> bool {
    match module {
        "kvm_intel" => cpu.vmx,
        "kvm_amd" => cpu.svm,
        _ => true,
    }
}

fn parameters(dir: &Path, module: &str) -> Vec<(String, String)> {
    let dir = dir.join(module).join("parameters");
    // Some parameters can only be written; those are left out.
    let value = |name: String| Some((format!("{module}.{name}"), text(&dir.join(&name))?));
    names(&dir).into_iter().filter_map(value).collect()
}

/// The build id in a module's ELF notes.
fn build_id(dir: &Path, module: &str) -> Option<String> {
    let note = fs::read(dir.join(module).join("notes/.note.gnu.build-id")).ok()?;
    // Elf64_Nhdr: sizes of name and description, and a type; the name, "GNU" and a zero, fills four bytes.
    let size = u32::from_le_bytes(note.get(4..8)?.try_into().ok()?) as usize;
    let id = note.get(16..)?.get(..size)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vmx: bool, svm: bool) -> Cpu {
        let (vendor, model) = (String::new(), String::new());
        Cpu { vendor, model, maxphyaddr: 46, self_snoop: true, vmx, svm, hypervisor: None, allowed: Vec::new() }
    }

    fn sysfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_module_that_the_cpu_can_run_is_the_vendors() {
        let files = [
            ("kvm/parameters/ignore_msrs", "N\n"),
            ("kvm_amd/parameters/npt", "1\n"),
            ("kvm_intel/parameters/ept", "Y\n"),
        ];
        let dir = sysfs(&files);
        let intel = Modules::in_dir(dir.path(), &cpu(true, false));
        assert_eq!(intel.vendor.as_deref(), Some("kvm_intel"));
        assert_eq!((intel.is_on("kvm.ignore_msrs"), intel.is_on("kvm_intel.ept")), (Some(false), Some(true)));
        assert_eq!(intel.is_on("kvm_amd.npt"), None);
        assert_eq!(Modules::in_dir(dir.path(), &cpu(false, true)).vendor.as_deref(), Some("kvm_amd"));
        assert_eq!(Modules::in_dir(dir.path(), &cpu(false, false)).vendor, None);
    }

    #[test]
    fn another_vendor_is_known_by_what_holds_kvm() {
        let dir = sysfs(&[("kvm/holders/kvmgt", ""), ("kvm/holders/kvm_other", "")]);
        assert_eq!(Modules::in_dir(dir.path(), &cpu(false, false)).vendor.as_deref(), Some("kvm_other"));
    }

    #[test]
    fn a_loaded_module_has_a_build_id() {
        let note = "\u{4}\0\0\0\u{3}\0\0\0\u{3}\0\0\0GNU\0\u{1}\u{7f}\u{a}";
        let files = [
            ("kvm/notes/.note.gnu.build-id", note),
            ("kvm_intel/notes/.note.gnu.build-id", &note[..18]),
            ("kvm_amd/notes/.note.gnu.build-id", note),
        ];
        let builds = Modules::in_dir(sysfs(&files).path(), &cpu(true, false)).builds;
        assert_eq!(builds, [("kvm".to_owned(), "017f0a".to_owned())].into());
    }

    #[test]
    fn without_kvm_there_is_nothing() {
        let dir = sysfs(&[]);
        assert_eq!(Modules::in_dir(dir.path(), &cpu(true, false)), Modules::default());
    }
}
