//! A LAVA job: the actions that boot a kernel as the fleet's file says, then a test definition that fetches the program,
//! runs each suite, and tells LAVA of each cell.

use super::file::{Fleet, Host, Kernel};
use super::{Job, Yaml};

/// Minutes that LAVA waits for a prompt. While a test runs, silence is no failure.
const SILENT: i64 = 10;

/// The job for shard `shard` of a kernel on a host.
pub(super) fn job(fleet: &Fleet, name: &str, host: &Host, kernel: &Kernel, shard: u32) -> Job {
    let shards = fleet.shards;
    let of = if shards == 1 { String::new() } else { format!("-{shard}of{shards}") };
    let name = format!("{name}-{}{of}", kernel.name);
    let minutes = |minutes: i64| Yaml::map([("minutes", Yaml::Number(minutes))]);
    let timeouts = Yaml::map([
        ("job", minutes(fleet.minutes.into())),
        ("action", minutes(fleet.minutes.into())),
        ("connection", minutes(SILENT.min(fleet.minutes.into()))),
    ]);
    let test = Yaml::map([("definitions", Yaml::List(vec![definition(&steps(fleet, host, shard))]))]);
    let actions = kernel.actions.iter().cloned().chain([Yaml::map([("test", test)])]);
    let mut definition = Yaml::map([
        ("device_type", host.device_type.as_str().into()),
        ("job_name", format!("kvm-memtype {name}").into()),
        ("priority", "medium".into()),
        ("visibility", "public".into()),
        ("timeouts", timeouts),
    ]);
    if !host.tags.is_empty() {
        definition = definition.with("tags", Yaml::list(host.tags.iter().cloned()));
    }
    if kernel.context != Yaml::Map(Vec::new()) {
        definition = definition.with("context", kernel.context.clone());
    }
    Job { name, definition: definition.with("actions", Yaml::list(actions)) }
}

/// An inline test definition of these steps.
fn definition(steps: &[String]) -> Yaml {
    let metadata = Yaml::map([
        ("format", "Lava-Test Test Definition 1.0".into()),
        ("name", "kvm-memtype".into()),
        ("description", "Which memory types guests of this KVM get".into()),
    ]);
    let run = Yaml::map([("steps", Yaml::list(steps.iter().cloned()))]);
    Yaml::map([
        ("repository", Yaml::map([("metadata", metadata), ("run", run)])),
        ("from", "inline".into()),
        ("name", "kvm-memtype".into()),
        ("path", "inline/kvm-memtype.yaml".into()),
    ])
}

/// What a shell does on the host. `wget` is in every busybox, too.
fn steps(fleet: &Fleet, host: &Host, shard: u32) -> Vec<String> {
    let mut steps = vec![
        "export NO_COLOR=1".to_owned(),
        "mkdir -p /tmp/kvm-memtype && cd /tmp/kvm-memtype".to_owned(),
        format!("wget -O kvm-memtype {} && chmod 755 kvm-memtype", word(&fleet.program)),
        "lava-test-case doctor --shell ./kvm-memtype doctor".to_owned(),
    ];
    for suite in &fleet.suites {
        let mut run = format!("./kvm-memtype --results {suite} run --machine kvm --suite {suite}");
        if fleet.shards > 1 {
            run += &format!(" --shard {shard}/{}", fleet.shards);
        }
        for argument in &host.arguments {
            run = format!("{run} {}", word(argument));
        }
        // LAVA evaluates the words once more. The console is a terminal, and no place for a bar that moves.
        steps.push(format!("lava-test-case run-{suite} --shell {}", word(&format!("{run} 2>{suite}.stderr"))));
        steps.push(format!("cat {suite}.stderr"));
        // Its exit code says again what the cells say.
        steps.push(format!("./kvm-memtype --results {suite} report latest --format lava || true"));
    }
    steps.extend(fleet.after.iter().cloned());
    steps
}

/// A word of a shell.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
