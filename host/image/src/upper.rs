//! A directory or archive that is a layer already, in either dialect of whiteouts, as a layer of an
//! image.
//!
//! overlayfs's upper directory, say, or the files of another builder's layer: what stands for a deletion
//! is still a file there, `.wh.NAME` or a device 0:0, and attributes of overlayfs's are on the files. Here
//! they become what [`LayerWriter`](crate::layer::LayerWriter) writes in the dialect of images.

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind};
use crate::error::Kind;
use crate::layer::{self, LayerItem, TreeItem};
use crate::path::{self, Quoted};
use crate::tree::{Content, Tree};
use crate::whiteout::{self, Change};
use std::collections::BTreeSet;

/// The items of a tree in which deletions are files, in the order of a layer. Such a tree is read from a
/// directory, or from an archive with [`Tree::from_layer_archive`]. The root is among them only where it
/// is opaque.
///
/// # Errors
/// When a whiteout does not say of what, or a file is only a reference to one elsewhere, by overlayfs's
/// attributes `redirect` and `metacopy`.
pub fn items(tree: &Tree) -> Result<Vec<TreeItem<'_>>, Error> {
    let mut hidden = Hidden::default();
    let mut present = Vec::new();
    for item in layer::items(tree) {
        if let LayerItem::Entry(entry) = &item.item
            && hidden.is_present(tree, entry)?
        {
            present.push(item);
        }
    }
    if hidden.opaque.contains(&b""[..]) {
        present.insert(0, root(tree));
    }
    Ok(hidden.with(present))
}

fn root(tree: &Tree) -> TreeItem<'static> {
    let metadata = tree.node(Tree::ROOT).metadata.clone();
    let item = LayerItem::Entry(Entry { path: Vec::new(), metadata, kind: EntryKind::Directory });
    TreeItem { item, size: 0, extents: &[] }
}

#[derive(Default)]
struct Hidden {
    names: BTreeSet<Vec<u8>>,
    /// Directories whose contents below are hidden.
    opaque: BTreeSet<Vec<u8>>,
}

impl Hidden {
    /// Whether an entry is a file, and not a note of what is hidden, which is taken.
    fn is_present(&mut self, tree: &Tree, entry: &Entry) -> Result<bool, Error> {
        if let Some(name) = whiteout::overlay_reference(&entry.metadata.xattrs) {
            let why = "the extended attribute says that the file is elsewhere in overlayfs's directories";
            let why = format!("{}: {}: {why}", Quoted(&entry.path), Quoted(name));
            return Err(Kind::Unsupported(why).into());
        }
        // The kernel makes one device and gives it many names.
        let linked = Entry { kind: kind_of_link(tree, entry), ..entry.clone() };
        match whiteout::change(&linked) {
            Change::Present => return Ok(true),
            Change::PresentOpaque => {
                self.opaque.insert(entry.path.clone());
                return Ok(true);
            }
            Change::Opaque { directory } => drop(self.opaque.insert(directory.to_vec())),
            Change::Whiteout { directory, name } => drop(self.names.insert(path::join(directory, name))),
            Change::Ignored => {}
            Change::Malformed => {
                let what = Quoted(&entry.path).to_string();
                return Err(Kind::corrupt(what, "a whiteout that does not say of what").into());
            }
        }
        Ok(false)
    }

    /// The items, with whiteouts and opaque directories among them.
    fn with(mut self, present: Vec<TreeItem<'_>>) -> Vec<TreeItem<'_>> {
        let mut items = Vec::with_capacity(present.len() + self.names.len());
        for mut item in present {
            let is_recreated = self.names.remove(item.item.path());
            if let LayerItem::Entry(entry) = &mut item.item {
                entry.metadata.xattrs.retain(|name, _| !whiteout::is_overlay_xattr(name));
                // Whatever is no directory hides all that was there.
                let hides = is_recreated || self.opaque.contains(&entry.path);
                if hides && entry.kind == EntryKind::Directory {
                    let Entry { path, metadata, .. } = entry.clone();
                    item.item = LayerItem::OpaqueDirectory { path, metadata };
                }
            }
            items.push(item);
        }
        let whiteout = |path| TreeItem { item: LayerItem::Whiteout { path }, size: 0, extents: &[] };
        items.extend(self.names.into_iter().map(whiteout));
        items.sort_by(|left, right| path::walk_order(left.item.path(), right.item.path()));
        items
    }
}

/// What the entry is if it is no link, else what it links to.
fn kind_of_link(tree: &Tree, entry: &Entry) -> EntryKind {
    match tree.lookup(&entry.path).map(|id| &tree.node(id).content) {
        Some(content @ (Content::CharacterDevice { .. } | Content::File { .. })) => content.kind(),
        _ => entry.kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;
    use crate::layer::LayerWriter;
    use crate::tar::{Reader, Writer};
    use crate::tree::test_tree::{self, listing};

    fn entry(path: &str, kind: EntryKind, xattr: &str) -> Entry {
        let xattrs =
            xattr.split_once('=').map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let metadata =
            Metadata { mode: 0o755, uid: 5, xattrs: xattrs.into_iter().collect(), ..Metadata::default() };
        Entry { path: path.as_bytes().to_vec(), metadata, kind }
    }

    fn archive(entries: &[Entry]) -> Vec<u8> {
        let mut archive = Writer::new(Vec::new());
        entries.iter().for_each(|entry| archive.begin(entry).unwrap());
        archive.finish().unwrap()
    }

    const DEVICE: EntryKind = EntryKind::CharacterDevice { major: 0, minor: 0 };
    const EMPTY: EntryKind = EntryKind::File { size: 0 };

    fn link(target: &str) -> EntryKind {
        EntryKind::HardLink { target: target.as_bytes().to_vec() }
    }

    /// Names in the layer that is written, and what it makes of a base. The archive itself has to make
    /// the same.
    fn rewritten(entries: &[Entry]) -> (Vec<String>, Vec<String>) {
        let bytes = archive(entries);
        let tree = Tree::from_layer_archive(0, Reader::new(&bytes[..]).entries()).unwrap();
        let mut layer = LayerWriter::new(Vec::new(), i64::MAX);
        layer.write_items(items(&tree).unwrap(), &mut |_, _, _: &mut [u8]| Ok(())).unwrap();
        let layer = layer.finish().unwrap();
        let name = |path: Vec<u8>| String::from_utf8(path).unwrap();
        let names = Reader::new(&layer[..]).entries().map(|found| name(found.unwrap().entry.path)).collect();
        let base = test_tree::of(&[("a/x", "1"), ("a/y", "1"), ("b/x", "1"), ("c", "1")]);
        let (mut merged, mut directly) = (base.clone(), base);
        merged.apply_layer(1, Reader::new(&layer[..]).entries()).unwrap();
        directly.apply_layer(1, Reader::new(&bytes[..]).entries()).unwrap();
        assert_eq!(listing(&merged), listing(&directly));
        (names, listing(&merged))
    }

    #[test]
    fn both_dialects_become_the_one_of_images() {
        let directory = EntryKind::Directory;
        let cases: [(&[Entry], &[&str], &[&str]); 8] = [
            (
                &[entry(".wh..wh..opq", EMPTY, ""), entry("n", EMPTY, "")],
                &["", ".wh..wh..opq", "n"],
                &["n 5"],
            ),
            (
                &[entry("a", directory.clone(), ""), entry("a/x", DEVICE, "")],
                &["a", "a/.wh.x"],
                &["a/ 5", "a/y 1", "b/ 0", "b/x 1", "c 1"],
            ),
            (
                &[entry("a/x", DEVICE, ""), entry("a/y", link("a/x"), ""), entry("c", link("a/x"), "")],
                &["a", "a/.wh.x", "a/.wh.y", ".wh.c"],
                &["a/ 0", "b/ 0", "b/x 1"],
            ),
            (
                &[
                    entry("a", directory.clone(), "user.overlay.opaque=y"),
                    entry("a/z", EMPTY, "user.overlay.origin=?"),
                ],
                &["a", "a/.wh..wh..opq", "a/z"],
                &["a/ 5", "a/z 5", "b/ 0", "b/x 1", "c 1"],
            ),
            (
                &[
                    entry("a", directory.clone(), "user.overlay.opaque=x"),
                    entry("a/x", EMPTY, "user.overlay.whiteout=y"),
                ],
                &["a", "a/.wh.x"],
                &["a/ 5", "a/y 1", "b/ 0", "b/x 1", "c 1"],
            ),
            (
                &[
                    entry("a", directory.clone(), ""),
                    entry(".wh.a", EMPTY, ""),
                    entry(".wh.c", link(".wh.a"), ""),
                ],
                &["a", "a/.wh..wh..opq", ".wh.c"],
                &["a/ 5", "b/ 0", "b/x 1"],
            ),
            (
                &[entry(".wh.a", EMPTY, ""), entry("a", EMPTY, ""), entry("b/.wh..wh..opq", EMPTY, "")],
                &["a", "b", "b/.wh..wh..opq"],
                &["a 5", "b/ 0", "c 1"],
            ),
            (
                &[
                    entry(".wh..wh.plnk", directory, ""),
                    entry(".wh..wh.plnk/1", EMPTY, ""),
                    entry("c", EMPTY, ""),
                ],
                &["c"],
                &["a/ 0", "a/x 1", "a/y 1", "b/ 0", "b/x 1", "c 5"],
            ),
        ];
        for (entries, names, files) in cases {
            let rewritten = rewritten(entries);
            assert_eq!(
                (&rewritten.0[..], &rewritten.1[..]),
                (
                    &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..],
                    &files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>()[..]
                )
            );
        }
    }

    #[test]
    fn what_cannot_be_a_layer_is_refused() {
        for (entry, message) in [
            (
                entry("a", EntryKind::Directory, "trusted.overlay.redirect=/b"),
                "\"a\": \"trusted.overlay.redirect\": the extended attribute says that the file is elsewhere in overlayfs's directories",
            ),
            (entry("a/.wh.", EMPTY, ""), "\"a/.wh.\" is corrupt: a whiteout that does not say of what"),
        ] {
            let tree = Tree::from_layer_archive(0, Reader::new(&archive(&[entry])[..]).entries()).unwrap();
            assert_eq!(items(&tree).unwrap_err().to_string(), message);
        }
    }
}
