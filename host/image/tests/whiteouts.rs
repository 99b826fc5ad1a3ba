//! The cases of `tests/whiteouts`: kiln's merge and umoci's unpacking show the same trees.

use kiln_image::difference::{Mtimes, difference, same_bytes};
use kiln_image::layer::LayerWriter;
use kiln_image::path::{join, split_name};
use kiln_image::tar::Reader;
use kiln_image::tree::{Content, Node, NodeId, Tree};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a path of a case or a tree is, but for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    kind: String,
    /// Of a symbolic link none counts.
    mode: Option<u32>,
    /// Contents, target or device number.
    value: Vec<u8>,
    /// The first name of the file.
    first_name: Vec<u8>,
}

type Listing = BTreeMap<Vec<u8>, Shown>;

fn cases_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/whiteouts")
}

fn cases() -> Vec<Value> {
    let text = fs::read_to_string(cases_directory().join("cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The layers of all cases, written by the script that others use too.
fn write_layers(directory: &Path) {
    let script = cases_directory().join("layers.py");
    let cases = cases_directory().join("cases.json");
    let mut python = Command::new("python3");
    python.arg(script).arg(cases).arg(directory);
    assert!(python.status().expect("python3 is needed for this test").success());
}

/// %XX is a byte.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

fn expected(case: &Value) -> Listing {
    let mut listing = Listing::new();
    for entry in case["tree"].as_array().unwrap() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let path = decoded(text("path"));
        let shown = match text("type") {
            "hardlink" => listing[&decoded(text("target"))].clone(),
            kind => Shown {
                kind: kind.to_owned(),
                mode: (kind != "symlink").then(|| u32::from_str_radix(text("mode"), 8).unwrap()),
                value: decoded(&[text("contents"), text("target"), text("device")].concat()),
                first_name: path.clone(),
            },
        };
        listing.insert(path, shown);
    }
    listing
}

fn layers(directory: &Path, case: &Value) -> Vec<Vec<u8>> {
    let count = case["layers"].as_array().unwrap().len();
    let read = |index| fs::read(directory.join(format!("layer-{index}.tar"))).unwrap();
    (0..count).map(read).collect()
}

fn merged(layers: &[Vec<u8>]) -> Result<Tree, String> {
    let mut tree = Tree::new();
    for (source, layer) in (0..).zip(layers) {
        let applied = tree.apply_layer(source, Reader::new(&layer[..]).entries());
        applied.map_err(|error| error.to_string())?;
    }
    Ok(tree)
}

/// The layer that makes one tree the other, both being of these layers.
fn written_difference(lower: &Tree, upper: &Tree, layers: &[Vec<u8>]) -> Vec<u8> {
    let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&layers[source as usize][start..start + buffer.len()]);
        Ok(())
    };
    let mut same = |lower: &Node, upper: &Node| same_bytes(lower, upper, &mut read);
    let items = difference(lower, upper, Mtimes::Compared, &mut same).unwrap();
    let mut layer = LayerWriter::new(Vec::new(), i64::MAX);
    layer.write_items(items, &mut read).unwrap();
    layer.finish().unwrap()
}

fn listed(tree: &Tree, layers: &[Vec<u8>]) -> Listing {
    let mut first_names: HashMap<NodeId, Vec<u8>> = HashMap::new();
    let line = |(path, id): (Vec<u8>, NodeId)| {
        let first_name = first_names.entry(id).or_insert_with(|| path.clone()).clone();
        let node = tree.node(id);
        let (kind, value) = shown(&node.content, layers);
        let mode = (kind != "symlink").then_some(node.metadata.mode.into());
        (path, Shown { kind: kind.to_owned(), mode, value, first_name })
    };
    tree.walk().skip(1).map(line).collect()
}

fn shown(content: &Content, layers: &[Vec<u8>]) -> (&'static str, Vec<u8>) {
    match content {
        Content::Directory(_) => ("directory", Vec::new()),
        Content::File { extents, .. } => {
            let bytes = extents.iter().flat_map(|extent| {
                let start = usize::try_from(extent.source_offset).unwrap();
                let end = start + usize::try_from(extent.length).unwrap();
                layers[extent.source as usize][start..end].to_vec()
            });
            ("file", bytes.collect())
        }
        Content::Symlink(target) => ("symlink", target.clone()),
        Content::CharacterDevice { major, minor } => {
            ("character-device", format!("{major}:{minor}").into_bytes())
        }
        Content::BlockDevice { major, minor } => ("block-device", format!("{major}:{minor}").into_bytes()),
        Content::Fifo => ("fifo", Vec::new()),
    }
}

/// What umoci makes of the image, as an ordinary user.
fn unpacked(directory: &Path) -> Result<Listing, String> {
    let root = directory.join("umoci");
    let command = r#"umask 022; exec umoci raw unpack --rootless --image "$1/image:latest" "$1/umoci""#;
    let output = Command::new("sh").arg("-c").arg(command).arg("sh").arg(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(127), "this test needs umoci: {errors}");
    if !output.status.success() {
        return Err(errors.lines().last().unwrap_or_default().trim().to_owned());
    }
    let mut found = Vec::new();
    walk(&root, b"", &mut found);
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(on_disk(found))
}

/// Every path with where it is; directories are made accessible on the way, their modes noted before.
fn walk(directory: &Path, name: &[u8], found: &mut Vec<(Vec<Vec<u8>>, PathBuf, fs::Metadata)>) {
    for child in fs::read_dir(directory).unwrap() {
        let child = child.unwrap();
        let path = join(name, child.file_name().as_bytes());
        let metadata = fs::symlink_metadata(child.path()).unwrap();
        let names = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        if metadata.is_dir() {
            fs::set_permissions(child.path(), fs::Permissions::from_mode(0o700)).unwrap();
            walk(&child.path(), &path, found);
        }
        found.push((names, child.path(), metadata));
    }
}

fn on_disk(found: Vec<(Vec<Vec<u8>>, PathBuf, fs::Metadata)>) -> Listing {
    let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
    let lines = found.into_iter().map(|(names, path, metadata)| {
        let name = names.join(&b'/');
        let first_name = first_names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
        let kind = metadata.file_type();
        let mode = (!kind.is_symlink()).then_some(metadata.mode() & 0o7777);
        let (kind, value) = if kind.is_dir() {
            ("directory", Vec::new())
        } else if kind.is_symlink() {
            ("symlink", fs::read_link(&path).unwrap().into_os_string().into_vec())
        } else if kind.is_fifo() {
            ("fifo", Vec::new())
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            ("file", fs::read(&path).unwrap())
        };
        (name, Shown { kind: kind.to_owned(), mode, value, first_name })
    });
    lines.collect()
}

/// Without rights, umoci makes an empty file of a device.
fn without_devices(mut listing: Listing) -> Listing {
    for shown in listing.values_mut().filter(|shown| shown.kind.ends_with("-device")) {
        (shown.kind, shown.value) = ("file".to_owned(), Vec::new());
    }
    listing
}

fn each_case(mut check: impl FnMut(&Value, &Path) -> Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    write_layers(directory.path());
    let failures: Vec<String> = cases()
        .iter()
        .enumerate()
        .filter_map(|(number, case)| {
            let failure = check(case, &directory.path().join(number.to_string()))?;
            Some(format!("{}: {failure}", case["name"]))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn compare(got: &Result<Listing, String>, expected: &Listing) -> Option<String> {
    match got {
        Ok(got) if got == expected => None,
        Ok(got) => Some(format!("got {}\nexpected {}", lines(got), lines(expected))),
        Err(error) => Some(error.clone()),
    }
}

fn lines(listing: &Listing) -> String {
    let line = |(path, shown): (&Vec<u8>, &Shown)| {
        let Shown { kind, mode, value, first_name } = shown;
        let (path, value, first) = (path.escape_ascii(), value.escape_ascii(), first_name.escape_ascii());
        format!("{path} {kind} {:o} {value} ({first})", mode.unwrap_or_default())
    };
    listing.iter().map(line).collect::<Vec<_>>().join(", ")
}

#[test]
fn kiln_shows_the_trees_of_the_cases() {
    assert!(cases().len() >= 45);
    each_case(|case, directory| {
        let layers = layers(directory, case);
        compare(&merged(&layers).map(|tree| listed(&tree, &layers)), &expected(case))
    });
}

/// Everything but the last layer as one, and what that adds.
#[test]
fn umoci_shows_the_same_of_the_layers_that_kiln_makes() {
    each_case(|case, directory| {
        let layers = layers(directory, case);
        let (below, all) = (merged(&layers[..layers.len() - 1]).unwrap(), merged(&layers).unwrap());
        let image = directory.join("image");
        fs::remove_dir_all(&image).unwrap();
        let name = format!("{}:latest", image.display());
        umoci(&["init", "--layout", image.to_str().unwrap()]);
        umoci(&["new", "--image", &name]);
        for (lower, upper) in [(&Tree::new(), &below), (&below, &all)] {
            let tar = directory.join("difference.tar");
            fs::write(&tar, written_difference(lower, upper, &layers)).unwrap();
            umoci(&["raw", "add-layer", "--image", &name, tar.to_str().unwrap()]);
        }
        compare(&unpacked(directory), &without_devices(expected(case)))
    });
}

fn umoci(arguments: &[&str]) {
    let output = Command::new("umoci").args(arguments).output().expect("umoci is needed for this test");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn umoci_shows_the_same_but_for_the_cases_that_say_why_not() {
    each_case(|case, directory| {
        let failure = compare(&unpacked(directory), &without_devices(expected(case)));
        match (failure, case["differs"]["umoci"].as_str()) {
            (None, Some(_)) => Some("does not differ".to_owned()),
            (Some(_), Some(_)) => None,
            (failure, None) => failure,
        }
    });
}

#[test]
fn the_trees_of_the_cases_say_each_directory() {
    for case in cases() {
        let listing = expected(&case);
        for path in listing.keys() {
            let (parent, _) = split_name(path).unwrap();
            let is_directory = parent.is_empty() || listing[parent].kind == "directory";
            assert!(is_directory, "{}: {}", case["name"], path.escape_ascii());
        }
    }
}
