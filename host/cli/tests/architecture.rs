//! The house rules that Cargo and the compiler do not know: which crate may know which, what the
//! pure ones may not touch, where `unsafe` is, how files are named.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may know whom. One direction only: what is named on the right knows nothing of the left.
const ARROWS: [(&str, &[&str]); 16] = [
    ("kiln-protocol", &[]),
    ("kiln-image", &[]),
    ("kiln-devices", &[]),
    ("kiln-disk", &["kiln-image"]),
    ("kiln-store", &["kiln-disk", "kiln-image"]),
    ("kiln-registry", &["kiln-image"]),
    ("kiln-transport", &["kiln-image", "kiln-registry", "kiln-store"]),
    ("kiln-toolbox", &["kiln-image", "kiln-store"]),
    ("kiln-inspect", &["kiln-image"]),
    ("kiln-attest", &["kiln-image"]),
    ("kiln-jail", &[]),
    ("kiln-vmm", &["kiln-devices", "kiln-jail"]),
    ("kiln-engine", &["kiln-devices", "kiln-jail", "kiln-vmm"]),
    (
        "kiln-builder",
        &[
            "kiln-attest",
            "kiln-devices",
            "kiln-disk",
            "kiln-engine",
            "kiln-image",
            "kiln-protocol",
            "kiln-store",
            "kiln-transport",
        ],
    ),
    (
        "kiln-cli",
        &[
            "kiln-builder",
            "kiln-disk",
            "kiln-engine",
            "kiln-image",
            "kiln-inspect",
            "kiln-protocol",
            "kiln-registry",
            "kiln-store",
            "kiln-toolbox",
            "kiln-transport",
        ],
    ),
    ("kiln-agent", &["kiln-protocol"]),
];

/// What a crate may not reach, by whatever way.
const OUT_OF_REACH: [(&str, &[&str]); 5] = [
    // Formats: a function from bytes to bytes has nothing to ask of the system.
    ("kiln-image", &["kiln-engine", "kiln-devices", "kiln-store", "rustix", "tempfile", "tar"]),
    ("kiln-disk", &["kiln-engine", "kiln-devices", "kiln-store", "rustix", "tempfile"]),
    ("kiln-protocol", &["libc", "rustix"]),
    // Devices serve any machine.
    ("kiln-devices", &["kvm-ioctls", "kvm-bindings", "vhost", "vhost-user-backend"]),
    // It is alone in the guest, and small.
    ("kiln-agent", &["serde_json", "kvm-ioctls", "vhost"]),
];

/// Crates that only compute: no files, network, clock, environment or processes.
const PURE: [&str; 5] =
    ["host/attest/src", "host/disk/src", "host/image/src", "host/inspect/src", "host/protocol/src"];
const IMPURE: [&str; 6] = ["std::fs", "std::net", "std::env", "std::process", "std::time", "std::os"];

/// The only files with `unsafe`, and why.
const UNSAFE: [(&str, &str); 9] = [
    ("guest/agent/src/sys.rs", "system calls without a safe wrapper"),
    ("host/devices/src/iovec.rs", "guest memory by pointer, as no reference to it may exist"),
    ("host/engine/src/qemu/tsc.rs", "one instruction"),
    ("host/engine/src/tie.rs", "what a child does before it becomes QEMU or the VMM"),
    ("host/jail/src/sys.rs", "system calls without a safe wrapper, and a signal handler"),
    ("host/vmm/src/failure/exit_data.rs", "kvm_run is a union"),
    ("host/vmm/src/inherited.rs", "numbers become owned descriptors"),
    ("host/vmm/src/probe/guest.rs", "the tiny guest's assembly"),
    ("host/vmm/src/vm.rs", "KVM is told addresses"),
];

/// Other platforms' crates need not be on this disk.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A file longer than this does two things.
const LINES_MAX: usize = 800;

/// Names of files that say nothing of what is in them.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "manager", "helpers", "misc"];

#[test]
fn crates_know_who_they_may_know() {
    let packages = Packages::read();
    for (name, allowed) in ARROWS {
        let known = packages.dependencies[name].iter().filter(|other| other.starts_with("kiln-"));
        let known: BTreeSet<&str> = known.map(String::as_str).collect();
        assert_eq!(known, allowed.iter().copied().collect(), "{name}");
    }
    for (name, forbidden) in OUT_OF_REACH {
        let reached = packages.reached_by(name);
        let wrong: Vec<_> = forbidden.iter().filter(|other| reached.contains(**other)).collect();
        assert!(wrong.is_empty(), "{name} reaches {wrong:?}");
    }
}

#[test]
fn pure_crates_ask_nothing_of_the_system() {
    for file in sources().iter().filter(|file| PURE.iter().any(|crate_| file.path.starts_with(crate_))) {
        let used: Vec<_> = IMPURE.iter().filter(|module| file.code().contains(**module)).collect();
        assert!(used.is_empty(), "{} uses {used:?}", file.path.display());
    }
}

#[test]
fn unsafe_is_where_it_is_allowed_only() {
    let allowing = sources().into_iter().filter(|file| file.code().contains("unsafe_code"));
    let allowing: BTreeSet<_> = allowing.map(|file| file.path).collect();
    assert_eq!(allowing, UNSAFE.iter().map(|(path, _)| PathBuf::from(path)).collect());
}

#[test]
fn files_are_short_and_named_after_what_is_in_them() {
    for file in sources() {
        let lines = file.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.path.display());
        let name = file.path.file_stem().unwrap().to_str().unwrap();
        assert!(!name.split('_').any(|word| EMPTY_NAMES.contains(&word)), "{}", file.path.display());
    }
}

/// Documents that say which test shows what, and how many tests they name at least.
const DOCUMENTS: [(&str, usize); 3] =
    [("docs/threat-model.md", 20), ("docs/images.md", 80), ("docs/disks.md", 25)];

#[test]
fn tests_that_documents_name_exist() {
    let texts: Vec<_> = sources_in(&["guest", "host", "tests"]).into_iter().map(|file| file.text).collect();
    let exists = |name: &str| texts.iter().any(|text| text.contains(&format!("fn {name}(")));
    for (path, at_least) in DOCUMENTS {
        let document = std::fs::read_to_string(repository().join(path)).unwrap();
        let quoted = document.split('`').skip(1).step_by(2);
        let is_test = |text: &&str| {
            text.matches('_').count() >= 2
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let named: BTreeSet<_> = quoted
            .filter(is_test)
            .filter(|text| !["no_new_privs", "metadata_csum_seed"].contains(text))
            .collect();
        assert!(named.len() >= at_least, "{path} names only {} tests", named.len());
        let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{path}: no such tests: {missing:?}");
    }
}

/// The packages of the workspace and of all it needs.
struct Packages {
    /// Without those of tests.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Packages {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", PLATFORM])
            .current_dir(repository())
            .output()
            .expect("this test needs cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let names: BTreeMap<&str, &str> = array(&metadata["packages"])
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let mut dependencies = BTreeMap::<_, BTreeSet<String>>::new();
        for node in array(&metadata["resolve"]["nodes"]) {
            let needed = array(&node["deps"]).filter(|dependency| is_for_more_than_tests(dependency));
            let needed = needed.map(|dependency| names[text(&dependency["pkg"])].to_owned());
            // Several versions of a crate count as one.
            dependencies.entry(names[text(&node["id"])].to_owned()).or_default().extend(needed);
        }
        Self { dependencies }
    }

    fn reached_by(&self, name: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut pending = vec![name.to_owned()];
        while let Some(name) = pending.pop() {
            for needed in &self.dependencies[&name] {
                if reached.insert(needed.clone()) {
                    pending.push(needed.clone());
                }
            }
        }
        reached
    }
}

fn is_for_more_than_tests(dependency: &Value) -> bool {
    array(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("cargo metadata has a list here").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has a string here")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A source file of the product.
struct Source {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Without tests.
    fn code(&self) -> &str {
        let is_test = self.path.file_stem().is_some_and(|name| name == "tests");
        if is_test { "" } else { self.text.split("#[cfg(test)]").next().unwrap_or_default() }
    }
}

fn sources() -> Vec<Source> {
    sources_in(&["guest", "host"])
}

fn sources_in(rooms: &[&str]) -> Vec<Source> {
    let repository = repository();
    let mut sources = Vec::new();
    let mut pending: Vec<_> = rooms.iter().map(|room| repository.join(room)).collect();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let relative = path.strip_prefix(&repository).unwrap().to_owned();
                // This file says what the others must not.
                if relative != Path::new("host/cli/tests/architecture.rs") {
                    sources.push(Source { path: relative, text });
                }
            }
        }
    }
    assert!(sources.len() > 100, "only {} files found", sources.len());
    sources
}
