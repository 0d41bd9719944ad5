//! Tests of the fleet's file and of the jobs made of it.

use super::*;

const FILE: &str = r#"
program = "https://store.example/kvm-memtype"
suites = ["default", "memtype"]
shards = 2
after = ["tar cz default memtype | base64"]

[[device-types.server.actions]]
deploy = { to = "tftp", os = "debian", kernel = { url = "@image@" } }
[[device-types.server.actions]]
boot = { method = "ipxe", commands = "nfs", prompts = ["root@"], parameters = { kernel = "-kernel {kernel}" } }

[kernels."6.1"]
image = "https://store.example/6.1/vmlinuz"

[kernels."6.12"]
image = "https://store.example/6.12/vmlinuz"

[hosts.xeon-1]
device-type = "server"
tags = ["xeon-1"]
arguments = ["--dma", "vfio-group=/dev/vfio/12", "it's"]

[hosts.xeon-2]
device-type = "server"
kernels = ["6.12"]
"#;

fn read(text: &str) -> Result<Fleet, String> {
    let source = Source { name: "fleet.toml".to_owned(), text: text.to_owned() };
    Fleet::read(&source, &["default", "memtype"]).map_err(|error| error.to_string())
}

#[test]
fn each_host_kernel_and_shard_has_a_job() {
    let jobs: Vec<_> = read(FILE).unwrap().jobs().collect();
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let xeon_1 = ["xeon-1-6.1-1of2", "xeon-1-6.1-2of2", "xeon-1-6.12-1of2", "xeon-1-6.12-2of2"];
    assert_eq!(names, [&xeon_1[..], &["xeon-2-6.12-1of2", "xeon-2-6.12-2of2"]].concat());
    let job = jobs[1].definition.to_string();
    for part in [
        "device_type: server\n",
        "job_name: \"kvm-memtype xeon-1-6.1-2of2\"\n",
        "tags:\n  - \"xeon-1\"\n",
        "url: \"https://store.example/6.1/vmlinuz\"\n",
        "kernel: \"-kernel {kernel}\"\n",
        "prompts:\n        - \"root@\"\n",
        "--suite memtype --shard 2/2 --dma vfio-group=/dev/vfio/12",
        "report latest --format lava",
        "- \"tar cz default memtype | base64\"\n",
    ] {
        assert!(job.contains(part), "{part} is not in\n{job}");
    }
    assert!(!jobs[4].definition.to_string().contains("tags"));
}

#[test]
fn one_shard_is_the_whole() {
    let jobs: Vec<_> = read(&FILE.replace("shards = 2", "")).unwrap().jobs().collect();
    assert_eq!(jobs[0].name, "xeon-1-6.1");
    assert!(!jobs[0].definition.to_string().contains("--shard"));
}

#[test]
fn mistakes_are_shown_with_their_place() {
    for (from, to, said) in [
        ("\"memtype\"]", "\"memtyp\"]", "unknown suite `memtyp`, did you mean `memtype`?"),
        ("device-type = \"server\"\nkernels", "device-type = \"serer\"\nkernels", "unknown device type `serer`"),
        ("kernels = [\"6.12\"]", "kernels = [\"6.13\"]", "unknown kernel `6.13`"),
        ("@image@", "@imge@", "kernel 6.1: it has no `imge` for \"@imge@\", did you mean `image`?"),
        ("shards = 2", "shards = 0", "shards are 1 to 10000"),
        ("os = \"debian\"", "os = 1.5", "LAVA takes no float, write 1.5 as a string"),
        ("[hosts.xeon-1]", "[hosts.\"a/b\"]", "`a/b` becomes part of a file's name"),
        ("suites = [\"default\", \"memtype\"]", "suites = []", "it has no suites"),
        ("after =", "aftr =", "unknown field `aftr`, did you mean `after`?"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let error = read(&FILE.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("fleet.toml:") && error.contains(said), "{error}");
    }
}
