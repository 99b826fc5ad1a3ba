//! The cases of `tests/whiteouts`, applied by the kernel's own overlayfs: the same trees as kiln and umoci show, which the tests of
//! `host/image` compare.

use kiln_tests::{Debian, Engine, Room, on_every_engine, repository, tool_output};
use serde_json::Value;
use std::{collections::BTreeSet, fs, fs::File, path::Path};

on_every_engine!(overlayfs_shows_the_same_trees);

/// Unpacks each layer of each case into a directory of its own, mounts them over one another, and archives what is seen.
/// tar complains of whiteouts that readdir(3) still shows where no layer lies below.
const SCRIPT: &str = r#"
set -e
mkdir /w
mount -t tmpfs -o size=256m tmpfs /w
cd /w
mkdir empty cases merged
tar -xpf - -C cases --xattrs --xattrs-include='trusted.*' 2>/dev/null
cd cases
for n in *; do
    lower=/w/empty
    for layer in 0 1 2 3 4 5 6; do
        if [ -d $n/$layer ]; then lower=/w/cases/$n/$layer:$lower; fi
    done
    mkdir /w/merged/$n
    mount -t overlay -o ro,lowerdir=$lower overlay /w/merged/$n
done
tar -cf - -C /w/merged . 2>/dev/null || true
"#;

/// As the scripts of `tests/whiteouts` are called.
fn python(script: &str, arguments: &[&Path]) -> Vec<u8> {
    let script = repository().join("tests/whiteouts").join(script);
    tool_output("python3", &[&[script.as_path()], arguments].concat())
}

/// The bytes of `%XX`.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().expect("there is a first").as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// What a tree shows, however its paths are spelled.
fn shown(tree: &Value) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let entries = tree.as_array().expect("a list").iter();
    let show = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let is_link = text("type").ends_with("link");
        let mode = if is_link { "" } else { text("mode") };
        let rest = format!("{} {mode} {} {} ", text("type"), text("contents"), text("device"));
        (decoded(text("path")), [rest.into_bytes(), decoded(text("target"))].concat())
    };
    entries.map(show).collect()
}

fn overlayfs_shows_the_same_trees(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let cases_path = repository().join("tests/whiteouts/cases.json");
    let (layers, merged) = (room.path("overlay.tar"), room.path("merged.tar"));
    python("overlay.py", &[&cases_path, &layers]);
    let base = debian.image();
    let run = room
        .kiln()
        .args(["run", "-i", "--base"])
        .arg(&base)
        .engine(engine)
        .args(["--", "/bin/sh", "-c", SCRIPT]);
    let outcome = run.stdin(File::open(&layers).expect("it was written")).run().succeeds();
    fs::write(&merged, outcome.stdout).expect("a file can be written");
    let found: Value =
        serde_json::from_slice(&python("listing.py", &[Path::new("--cases"), &merged])).expect("JSON");
    let cases: Value = serde_json::from_slice(&fs::read(&cases_path).expect("it is there")).expect("JSON");
    let (found, cases) = (found.as_array().expect("a list"), cases.as_array().expect("a list"));
    assert!(cases.len() >= 40 && found.len() == cases.len(), "{} of {} cases", found.len(), cases.len());
    for (case, found) in cases.iter().zip(found) {
        let same = shown(&case["tree"]) == shown(found);
        let differs = case["differs"]["overlayfs"].is_string();
        assert_eq!(same, !differs, "{}:\nwanted {:#}\nfound {found:#}", case["name"], case["tree"]);
    }
}
