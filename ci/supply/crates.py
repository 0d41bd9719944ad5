"""The crates that the program is made of, from `cargo metadata` and the lock files: the runner's, the guests' and the ROM's."""

import json
import os
import pathlib
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFESTS = ["Cargo.toml", "tests-guest/Cargo.toml", "rom/Cargo.toml"]
# The packages that go into the release: the runner, the guests and the ROM in it.
ROOTS = {"Cargo.toml": "kvm-memtype", "tests-guest/Cargo.toml": "guest", "rom/Cargo.toml": "rom"}
TARGET = "x86_64-unknown-linux-gnu"


def metadata(manifest):
    """What cargo says of the crates of a manifest for the target, by what the lock file pins."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--quiet", "--locked", "--format-version", "1"]
    command += ["--filter-platform", TARGET, "--manifest-path", str(ROOT / manifest)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def checksums(manifest):
    """SHA-256 of each crate's archive by name and version."""
    lock = tomllib.loads((ROOT / manifest).with_name("Cargo.lock").read_text())
    return {(crate["name"], crate["version"]): crate.get("checksum") for crate in lock["package"]}


def linked(manifest):
    """The crates that are linked into the release, as packages by id, and the ids on which each depends."""
    said = metadata(manifest)
    packages = {package["id"]: package for package in said["packages"]}
    nodes = {node["id"]: node for node in said["resolve"]["nodes"]}
    normal = lambda dep: any(kind["kind"] is None for kind in dep["dep_kinds"])
    proc_macro = lambda id: any("proc-macro" in target["kind"] for target in packages[id]["targets"])
    edges = {
        id: [dep["pkg"] for dep in node["deps"] if normal(dep) and not proc_macro(dep["pkg"])]
        for id, node in nodes.items()
    }
    root = next(id for id, package in packages.items() if package["name"] == ROOTS[manifest] and not package["source"])
    found, todo = set(), [root]
    while todo:
        id = todo.pop()
        if id not in found:
            found.add(id)
            todo += edges[id]
    return root, {id: packages[id] for id in found}, {id: sorted(set(edges[id])) for id in found}
