//! A tree as one archive of a root file system, as `docker export` gives it: no layer, so any name and
//! any device is just that.

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind};
use crate::layer::{self, LayerItem, ReadAt};
use crate::tar::Writer;
use crate::tree::Tree;
use std::io::Write;

/// Writes all files of a tree, the root directory as `./` first, the others in the order of a sorted
/// walk. Times later than `epoch`, in seconds since 1970, become it. Hard links repeat their file's
/// owner, mode and attributes. Gives back `out`, which is not flushed.
///
/// # Errors
/// When a file cannot be in an archive, `read` fails, or writing does.
pub fn write_root<W: Write>(out: W, tree: &Tree, epoch: i64, read: &mut ReadAt) -> Result<W, Error> {
    let mut archive = Writer::new(out);
    let root = tree.node(Tree::ROOT).metadata.clone();
    begin(&mut archive, Entry { path: Vec::new(), metadata: root, kind: EntryKind::Directory }, epoch)?;
    let mut buffer = layer::copy_buffer();
    for item in layer::items(tree) {
        if let LayerItem::Entry(entry) = item.item {
            let path = entry.path.clone();
            begin(&mut archive, entry, epoch)?;
            layer::write_data(&mut archive, &path, (item.size, item.extents), &mut buffer, read)?;
        }
    }
    archive.finish()
}

fn begin<W: Write>(archive: &mut Writer<W>, mut entry: Entry, epoch: i64) -> Result<(), Error> {
    entry.metadata.mtime = entry.metadata.mtime.min(epoch);
    archive.begin(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id_map::IdMap;
    use crate::tar::Reader;
    use crate::tree::test_tree::{self, listing};
    use crate::tree::{Content, Extent};

    fn write(tree: &Tree, epoch: i64) -> Vec<u8> {
        let mut read = |_, _, buffer: &mut [u8]| {
            buffer.fill(b'x');
            Ok(())
        };
        write_root(Vec::new(), tree, epoch, &mut read).unwrap()
    }

    fn small_tree() -> Tree {
        let mut tree =
            test_tree::of(&[("a/.wh.x", "1"), ("a/y", "= a/.wh.x"), ("dev/null", "1"), ("l", "-> a")]);
        let device = tree.lookup(b"dev/null").unwrap();
        tree.node_mut(device).content = Content::CharacterDevice { major: 0, minor: 0 };
        let file = tree.lookup(b"a/y").unwrap();
        let extents = vec![Extent { file_offset: 2, length: 1, source: 0, source_offset: 0 }];
        tree.node_mut(file).content = Content::File { size: 4, extents };
        tree.node_mut(file).metadata.mtime = 50;
        tree
    }

    #[test]
    fn every_name_comes_once_after_the_root() {
        let bytes = write(&small_tree(), 40);
        let entries: Vec<Entry> =
            Reader::new(&bytes[..]).entries().map(|found| found.unwrap().entry).collect();
        let names: Vec<_> = entries.iter().map(|entry| entry.path.escape_ascii().to_string()).collect();
        assert_eq!(names, ["", "a", "a/.wh.x", "a/y", "dev", "dev/null", "l"]);
        assert_eq!(entries[3].kind, EntryKind::HardLink { target: b"a/.wh.x".to_vec() });
        assert_eq!((entries[2].metadata.mtime, entries[3].metadata.uid), (40, 1));
        assert!(bytes.starts_with(b"./\0") && bytes.windows(4).any(|data| data == b"\0\0x\0"));
        assert_eq!(bytes, write(&small_tree(), 40));
    }

    #[test]
    fn what_is_written_is_the_tree_with_its_owners_mapped() {
        let mut tree = small_tree();
        tree.map_ids(&IdMap::parse("0:100:1,1:200:1").unwrap(), &IdMap::default());
        let bytes = write(&tree, i64::MAX);
        let again = Tree::from_archive(0, Reader::new(&bytes[..]).entries()).unwrap();
        assert_eq!(listing(&again), listing(&tree));
        assert_eq!(again.node(Tree::ROOT).metadata, tree.node(Tree::ROOT).metadata);
    }
}
