//! A history as a file: TOML with an operation a line.

use crate::config::{self, ConfigError, Source};
use crate::model::OpWords;
use serde::Deserialize;
use std::fmt::Write;
use toml::Spanned;
use wire::history::{Op, encode};

/// The test that does a history.
pub const TEST: &str = "interpreter/history";
/// The most vCPUs that the guest runs.
const MOST_CPUS: u8 = 8;
/// The most operations: what a boot module has room for beside the guest is more.
const MOST_OPS: usize = 4096;

/// What a VM and its vCPUs do, one operation after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Id of the VM configuration.
    pub vm: String,
    /// vCPUs, all of which run from the start.
    pub cpus: u8,
    /// What they do.
    pub ops: Vec<Op>,
}

/// What is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    summary: String,
    vm: Spanned<String>,
    vcpus: Spanned<u8>,
    operations: Spanned<Vec<Spanned<String>>>,
}

impl History {
    /// Reads a file; also gives its summary.
    ///
    /// # Errors
    /// The first mistake in it, with its place. `vms` are the ids of all VM configurations.
    pub fn read(source: &Source, vms: &[&str]) -> Result<(History, String), ConfigError> {
        let File { summary, vm, vcpus, operations } = config::parse(source)?;
        if !vms.contains(&vm.get_ref().as_str()) {
            let known = vms.iter().copied();
            return Err(ConfigError::unknown(source, vm.span(), "VM configuration", vm.get_ref(), known));
        }
        let cpus = *vcpus.get_ref();
        if !(1..=MOST_CPUS).contains(&cpus) {
            return Err(ConfigError::at(source, vcpus.span(), format!("a history has 1 to {MOST_CPUS} vCPUs")));
        }
        if operations.get_ref().len() > MOST_OPS {
            return Err(ConfigError::at(source, operations.span(), format!("more than {MOST_OPS} operations")));
        }
        let op = |text: &Spanned<String>| {
            let op: Op = text
                .get_ref()
                .parse()
                .map_err(|error| ConfigError::at(source, text.span(), format!("no operation: {error}")))?;
            if op.cpu() < cpus {
                return Ok(op);
            }
            Err(ConfigError::at(source, text.span(), format!("it names vCPU {}, of {cpus}", op.cpu())))
        };
        let ops = operations.get_ref().iter().map(op).collect::<Result<_, _>>()?;
        Ok((History { vm: vm.into_inner(), cpus, ops }, summary))
    }

    /// As a file, with a summary, and what each operation does as a comment.
    pub fn write(&self, summary: &str) -> String {
        let mut text = String::from("# A history. This runs it again: kvm-memtype fuzz --replay FILE\n");
        let head = [("summary", summary), ("vm", &self.vm)];
        for (name, value) in head {
            let _ = writeln!(text, "{name} = {}", toml::Value::from(value));
        }
        let _ = writeln!(text, "vcpus = {}\noperations = [", self.cpus);
        for &op in &self.ops {
            let _ = writeln!(text, "    \"{op}\", # {}", OpWords(op));
        }
        text.push_str("]\n");
        text
    }

    /// As the guest finds it in memory.
    pub fn module(&self) -> Vec<u8> {
        encode(self.cpus, &self.ops)
    }

    /// The least number of points that it makes: two CPUID leaves, the first mark, and one for each operation.
    pub fn points(&self) -> u64 {
        3 + self.ops.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::step::Step;

    fn read(text: &str) -> Result<(History, String), String> {
        let source = Source { name: "x.toml".to_owned(), text: text.to_owned() };
        History::read(&source, &["default", "non-coherent-dma"]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_history_reads_back() {
        let ops = vec![
            Op::Wrmsr { cpu: 1, index: 0x2ff, value: 0xc06 },
            Op::MovCr0 { cpu: 0, bits: 1 << 30 },
            Op::Store { cpu: 0, gpa: 0xd000_0000, pat_entry: 3 },
            Op::Host(Step::PlugDma),
        ];
        let history = History { vm: "non-coherent-dma".to_owned(), cpus: 2, ops };
        let text = history.write("a \"quoted\" thing");
        assert!(text.contains("# vCPU 1: WRMSR 0x2ff IA32_MTRR_DEF_TYPE"), "{text}");
        assert_eq!(read(&text), Ok((history, "a \"quoted\" thing".to_owned())));
    }

    #[test]
    fn a_mistake_is_placed() {
        let file = "summary = ''\nvm = 'default'\nvcpus = 1\noperations = [\n    'store 0 d0000000 0',\n]\n";
        assert!(read(file).is_ok());
        for (from, to, said) in [
            (
                "vm = 'default'",
                "vm = 'defalt'",
                "x.toml:2:6: unknown VM configuration `defalt`, did you mean `default`?",
            ),
            ("vcpus = 1", "vcpus = 9", "x.toml:3:9: a history has 1 to 8 vCPUs"),
            ("vcpus = 1", "vcpus = 0", "x.toml:3:9: a history has 1 to 8 vCPUs"),
            ("store 0", "stroe 0", "x.toml:5:5: no operation: \"stroe\" is not a step"),
            ("store 0", "store 1", "x.toml:5:5: it names vCPU 1, of 1"),
            ("d0000000 0'", "d0000000 8'", "x.toml:5:5: no operation: "),
            ("vcpus", "vcpu", "x.toml:3:1: unknown field `vcpu`, did you mean `vcpus`?"),
        ] {
            let error = read(&file.replace(from, to)).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
