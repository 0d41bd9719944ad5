//! The file of a fleet: hosts, kernels, how the one gets the other, and what is run.

use super::yaml::Yaml;
use crate::config::{self, ConfigError, Source, names};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// A fleet, read and found to fit together.
#[derive(Debug)]
pub struct Fleet {
    /// Where hosts fetch the program from.
    pub(super) program: String,
    pub(super) suites: Vec<String>,
    /// Jobs for each host and kernel that share its cells.
    pub(super) shards: u32,
    /// Minutes that a job may take.
    pub(super) minutes: u32,
    /// Commands that end a job, such as one that sends the results somewhere.
    pub(super) after: Vec<String>,
    pub(super) hosts: BTreeMap<String, Host>,
}

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its device type in LAVA.
    pub device_type: String,
    /// Tags of LAVA that pick it.
    pub tags: Vec<String>,
    /// Arguments of `kvm-memtype run` there.
    pub arguments: Vec<String>,
    /// The kernels that it boots, in the order of its list.
    pub kernels: Vec<Kernel>,
}

/// A kernel on a host, as LAVA gets it there.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its name.
    pub name: String,
    /// LAVA's actions that boot it, in their order.
    pub actions: Vec<Yaml>,
    /// The job's context, an empty map if there is none.
    pub context: Yaml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    program: String,
    suites: Vec<Spanned<String>>,
    #[serde(default = "one")]
    shards: Spanned<u32>,
    #[serde(default = "hour")]
    minutes: Spanned<u32>,
    #[serde(default)]
    after: Vec<String>,
    device_types: BTreeMap<String, DeviceType>,
    kernels: BTreeMap<String, BTreeMap<String, String>>,
    hosts: BTreeMap<String, HostTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceType {
    actions: Vec<Spanned<toml::Table>>,
    context: Option<Spanned<toml::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HostTable {
    device_type: Spanned<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    arguments: Vec<String>,
    kernels: Option<Vec<Spanned<String>>>,
}

fn one() -> Spanned<u32> {
    Spanned::new(0..0, 1)
}

fn hour() -> Spanned<u32> {
    Spanned::new(0..0, 60)
}

impl Fleet {
    /// Reads a fleet. `suites` are those that there are.
    ///
    /// # Errors
    /// The first mistake in it: a name of nothing, a placeholder that a kernel does not fill, a value that YAML has no
    /// word for here.
    pub fn read(source: &Source, suites: &[&str]) -> Result<Fleet, ConfigError> {
        let file: File = config::parse(source)?;
        for suite in &file.suites {
            known(source, suite, "suite", suites.iter().copied())?;
        }
        for (number, what) in [(&file.shards, "shards"), (&file.minutes, "minutes")] {
            if !(1..=10_000).contains(number.get_ref()) {
                return Err(ConfigError::at(source, number.span(), format!("{what} are 1 to 10000")));
            }
        }
        for (what, none) in [("suites", file.suites.is_empty()), ("hosts", file.hosts.is_empty())] {
            if none {
                return Err(ConfigError::file(source, format!("it has no {what}")));
            }
        }
        let names = file.hosts.keys().chain(file.kernels.keys());
        if let Some(bad) = names.into_iter().find(|name| !is_name(name)) {
            let what = format!("`{bad}` becomes part of a file's name: letters, digits, `.`, `_`, `-` and `+` only");
            return Err(ConfigError::file(source, what));
        }
        let hosts = file.hosts.iter().map(|(name, host)| Ok((name.clone(), resolve(source, &file, host)?)));
        let hosts = hosts.collect::<Result<_, ConfigError>>()?;
        Ok(Fleet {
            program: file.program,
            suites: file.suites.into_iter().map(Spanned::into_inner).collect(),
            shards: file.shards.into_inner(),
            minutes: file.minutes.into_inner(),
            after: file.after,
            hosts,
        })
    }
}

/// Whether a name may stand in a file's name.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

fn known<'a>(
    source: &Source,
    name: &Spanned<String>,
    kind: &str,
    valid: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), ConfigError> {
    let found = name.get_ref();
    match valid.clone().any(|valid| valid == found) {
        true => Ok(()),
        false => Err(ConfigError::unknown(source, name.span(), kind, found, valid)),
    }
}

/// A host with all that its type and its kernels say.
fn resolve(source: &Source, file: &File, host: &HostTable) -> Result<Host, ConfigError> {
    known(source, &host.device_type, "device type", file.device_types.keys().map(String::as_str))?;
    let device_type = &file.device_types[host.device_type.get_ref()];
    let names: Vec<&String> = match &host.kernels {
        None => file.kernels.keys().collect(),
        Some(names) => names.iter().map(Spanned::get_ref).collect(),
    };
    for name in host.kernels.iter().flatten() {
        known(source, name, "kernel", file.kernels.keys().map(String::as_str))?;
    }
    let kernel = |name: &&String| {
        let values = &file.kernels[*name];
        let filled = |table: &Spanned<toml::Table>| {
            let value = toml::Value::Table(table.get_ref().clone());
            fill(&value, values).map_err(|what| ConfigError::at(source, table.span(), format!("kernel {name}: {what}")))
        };
        Ok(Kernel {
            name: (*name).clone(),
            actions: device_type.actions.iter().map(filled).collect::<Result<_, _>>()?,
            context: device_type.context.as_ref().map_or(Ok(Yaml::Map(Vec::new())), filled)?,
        })
    };
    Ok(Host {
        device_type: host.device_type.get_ref().clone(),
        tags: host.tags.clone(),
        arguments: host.arguments.clone(),
        kernels: names.iter().map(kernel).collect::<Result<_, ConfigError>>()?,
    })
}

/// A value with each `@name@` in its strings replaced by what a kernel has of that name; or what is wrong. Braces are LAVA's
/// own placeholders.
fn fill(value: &toml::Value, kernel: &BTreeMap<String, String>) -> Result<Yaml, String> {
    Ok(match value {
        toml::Value::String(text) => Yaml::Text(filled(text, kernel)?),
        toml::Value::Integer(number) => Yaml::Number(*number),
        toml::Value::Boolean(flag) => Yaml::Flag(*flag),
        toml::Value::Array(items) => Yaml::List(items.iter().map(|item| fill(item, kernel)).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => {
            let pair = |(key, value): (&String, _)| Ok::<_, String>((key.clone(), fill(value, kernel)?));
            Yaml::Map(table.iter().map(pair).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("LAVA takes no {}, write {other} as a string", other.type_str())),
    })
}

fn filled(text: &str, kernel: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('@') {
        out += before;
        match after.split_once('@').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                let hint = || names::hint(name, kernel.keys().map(String::as_str));
                out += kernel.get(name).ok_or_else(|| format!("it has no `{name}` for {text:?}{}", hint()))?;
                rest = after;
            }
            None => {
                out.push('@');
                rest = after;
            }
        }
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests;
