//! Any bytes as a layer's tar, laid over a small tree.
//!
//! Reading gives entries or an error and the same ones again; an error leaves the tree as it was. What is accepted has paths
//! inside the root only, and survives being written as a layer and read again.

use kiln_image::layer::LayerWriter;
use kiln_image::path;
use kiln_image::tar::Reader;
use kiln_image::tree::{Content, Tree};
use std::io::Cursor;

/// Plays an input.
pub fn play(input: &[u8]) {
    let below = below();
    let mut tree = below.clone();
    let applied = apply(&mut tree, input);
    let mut again = below.clone();
    assert_eq!(
        apply(&mut again, input).map_err(|e| e.to_string()),
        applied.as_ref().map_err(|e| e.to_string()).copied()
    );
    assert_eq!(listing(&tree), listing(&again));
    if applied.is_err() {
        assert_eq!(listing(&tree), listing(&below), "an error has left something");
        return;
    }
    for (path, _) in tree.walk() {
        let is_inside = path::components(&path).all(|name| !name.is_empty() && name != b"." && name != b"..");
        assert!(is_inside && !path.contains(&0), "{path:?}");
    }
    write_and_read(input);
}

/// A directory, a file, a link out.
fn below() -> Tree {
    let mut writer = kiln_image::tar::Writer::new(Vec::new());
    use kiln_image::entry::{Entry, Kind, Metadata};
    for (path, kind) in [
        ("d", Kind::Directory),
        ("d/f", Kind::File { size: 0 }),
        ("l", Kind::Symlink { target: b"/d".to_vec() }),
    ] {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        writer.begin(&Entry { path: path.into(), metadata, kind }).expect("a plain entry");
    }
    let tar = writer.finish().expect("in memory");
    let mut tree = Tree::new();
    apply(&mut tree, &tar).expect("a plain layer");
    tree
}

fn apply(tree: &mut Tree, tar: &[u8]) -> Result<(), kiln_image::Error> {
    let mut reader = Reader::seekable(Cursor::new(tar))?;
    tree.apply_layer(0, reader.entries())
}

fn listing(tree: &Tree) -> Vec<String> {
    tree.walk().map(|(path, id)| format!("{path:?} {:?}", shown(tree, id))).collect()
}

fn shown(tree: &Tree, id: kiln_image::tree::NodeId) -> String {
    let node = tree.node(id);
    match &node.content {
        Content::Directory(children) => format!("{:?} {} names", node.metadata, children.len()),
        other => format!("{:?} {other:?}", node.metadata),
    }
}

/// The input's own files, without those below, as kiln writes them and as it reads them then.
fn write_and_read(input: &[u8]) {
    let mut own = Tree::new();
    if apply(&mut own, input).is_err() {
        // It has links to files below.
        return;
    }
    let mut read = |_: u32, offset: u64, buffer: &mut [u8]| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(input.len());
        let available = &input[start..];
        if available.len() < buffer.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer.copy_from_slice(&available[..buffer.len()]);
        Ok(())
    };
    // A file of many holes costs nothing in the tree and all its zeroes in a layer.
    let bytes: u64 = own.walk().map(|(_, id)| size(&own, id)).fold(0, u64::saturating_add);
    if bytes > 1 << 20 {
        return;
    }
    let mut writer = LayerWriter::new(Vec::new(), i64::MAX);
    if writer.write_tree(&own, &mut read).is_err() {
        // Names that are reserved for whiteouts, attributes of overlayfs, numbers that no archive holds.
        return;
    }
    let written = writer.finish().expect("in memory");
    let mut back = Tree::new();
    apply(&mut back, &written).expect("what kiln writes, it reads");
    let names = |tree: &Tree| tree.walk().map(|(path, id)| (path, tree.is_directory(id))).collect::<Vec<_>>();
    assert_eq!(names(&back), names(&own));
}

fn size(tree: &Tree, id: kiln_image::tree::NodeId) -> u64 {
    match &tree.node(id).content {
        Content::File { size, .. } => *size,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use std::path::Path;
    use std::process::Command;

    /// The layers of `tests/whiteouts`, and what GNU tar makes.
    #[test]
    fn real_layers_are_laid_over() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../whiteouts");
        let directory = std::env::temp_dir().join(format!("kiln-fuzz-layers-{}", std::process::id()));
        let script = cases.join("layers.py");
        let status =
            Command::new("python3").arg(script).arg(cases.join("cases.json")).arg(&directory).status();
        assert!(status.expect("python3 is needed for this test").success());
        let mut count = 0;
        for case in std::fs::read_dir(&directory).unwrap() {
            for file in std::fs::read_dir(case.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_some_and(|ending| ending == "tar") {
                    let tar = std::fs::read(&file).unwrap();
                    seed::keep("layer", &tar);
                    play(&tar);
                    count += 1;
                }
            }
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(count > 100, "only {count} layers");
    }
}
