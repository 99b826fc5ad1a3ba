//! Making a layer: files in, a deterministic tar out.
//!
//! Files come one by one, from a guest that may be hostile or from a tree made on the host, and leave
//! in the order they came, which has to be that of a sorted walk. So one set of files has one
//! archive, and a path is checked against the one before it only. Times later than the build's epoch
//! become the epoch.

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind, Metadata};
use crate::error::Kind;
use crate::path::{self, BadPath, Quoted};
use crate::tar::Writer;
use crate::tree::{Content, Extent, NodeId, Tree, Walk};
use crate::whiteout;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::Arc;

/// Fills a buffer from a source of a tree, by its index, from an offset. A source that ends before is
/// an error.
pub type ReadAt<'a> = dyn FnMut(u32, u64, &mut [u8]) -> io::Result<()> + 'a;

/// A file of a layer, or that there is one no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerItem {
    /// A file. Of a hard link's metadata nothing is used.
    Entry(Entry),
    /// A directory that hides what the layers below have in it.
    OpaqueDirectory {
        /// As of [`Entry::path`].
        path: Vec<u8>,
        /// Owner, mode, times, attributes.
        metadata: Metadata,
    },
    /// The file or directory of the layers below is gone.
    Whiteout {
        /// As of [`Entry::path`].
        path: Vec<u8>,
    },
}

impl LayerItem {
    /// The path the item is about.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Entry(Entry { path, .. })
            | Self::OpaqueDirectory { path, .. }
            | Self::Whiteout { path } => path,
        }
    }

    /// Names of extended attributes.
    fn xattrs(&self) -> impl Iterator<Item = &Vec<u8>> {
        let metadata = match self {
            Self::Entry(Entry { metadata, .. }) | Self::OpaqueDirectory { metadata, .. } => Some(metadata),
            Self::Whiteout { .. } => None,
        };
        metadata.into_iter().flat_map(|metadata| metadata.xattrs.keys())
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.kind == EntryKind::Directory,
            Self::OpaqueDirectory { .. } => true,
            Self::Whiteout { .. } => false,
        }
    }
}

/// An item that cannot be in a layer, or not there.
#[derive(Debug)]
pub(crate) struct LayerError {
    path: Vec<u8>,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the path {0}")]
    Path(BadPath),
    #[error("the name {} starts with `.wh.`, by which a layer marks deleted files", Quoted(.0))]
    Reserved(Vec<u8>),
    #[error("it comes after {}, but files have to be sorted", Quoted(.0))]
    Order(Vec<u8>),
    #[error("{} is no directory", Quoted(.0))]
    Parent(Vec<u8>),
    #[error("the root cannot be deleted")]
    RootWhiteout,
    #[error("a hard link to {}, which is no earlier file of the layer", Quoted(.0))]
    LinkTarget(Vec<u8>),
    #[error("the extended attribute {} is overlayfs's own", Quoted(.0))]
    OverlayXattr(Vec<u8>),
    #[error("a device 0:0, by which overlayfs marks deleted files")]
    OverlayWhiteout,
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be in a layer: {}", Quoted(&self.path), self.problem)
    }
}

impl std::error::Error for LayerError {}

/// Writes a layer's tar.
///
/// Memory grows with the number of files, as a hard link can name any of them, but by some tens of
/// bytes each.
#[derive(Debug)]
pub struct LayerWriter<W> {
    archive: Writer<W>,
    epoch: i64,
    /// The latest item's path, and whether it was a directory.
    latest: Option<(Vec<u8>, bool)>,
    linkable: Linkable,
    entry_count: u64,
}

impl<W: Write> LayerWriter<W> {
    /// A layer without files yet, in which no time is later than `epoch` (seconds since 1970).
    pub fn new(out: W, epoch: i64) -> Self {
        Self { archive: Writer::new(out), epoch, latest: None, linkable: Linkable::default(), entry_count: 0 }
    }

    /// Begins an item. Exactly the size of a [`EntryKind::File`] has to follow as data.
    ///
    /// # Errors
    /// When the item does not come after the previous one in a sorted walk, lies below a file, has a
    /// path that is none or is reserved for whiteouts, is a hard link to what is no earlier file; when
    /// the previous item lacks data; or writing fails.
    pub fn begin(&mut self, item: LayerItem) -> Result<(), Error> {
        self.check(&item).map_err(|problem| LayerError { path: item.path().to_vec(), problem })?;
        self.latest = Some((item.path().to_vec(), item.is_directory()));
        self.entry_count += 1;
        match item {
            LayerItem::Entry(entry) => self.begin_entry(entry),
            LayerItem::OpaqueDirectory { path, metadata } => {
                let marker = marker(whiteout::path_of_opaque(&path));
                self.begin_entry(Entry { path, metadata, kind: EntryKind::Directory })?;
                self.archive.begin(&marker)
            }
            LayerItem::Whiteout { path } => {
                let path = whiteout::path_hiding(&path).expect("not the root, as was checked");
                self.archive.begin(&marker(path))
            }
        }
    }

    /// The next bytes of the file begun last.
    ///
    /// # Errors
    /// When there are more than its size, or writing fails.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.archive.data(bytes)
    }

    /// The next bytes of the file begun last, all of them zero.
    ///
    /// # Errors
    /// When there are more than its size, or writing fails.
    pub fn zeroes(&mut self, count: u64) -> Result<(), Error> {
        self.archive.zeroes(count)
    }

    /// Writes all files of a tree but its root, with the data that `read` gives.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), or when `read` fails.
    pub fn write_tree(&mut self, tree: &Tree, read: &mut ReadAt) -> Result<(), Error> {
        self.write_items(items(tree), read)
    }

    /// Writes items with the data that `read` gives.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), or when `read` fails.
    pub fn write_items<'a>(
        &mut self,
        items: impl IntoIterator<Item = TreeItem<'a>>,
        read: &mut ReadAt,
    ) -> Result<(), Error> {
        let mut buffer = copy_buffer();
        for TreeItem { item, size, extents } in items {
            let path = item.path().to_vec();
            self.begin(item)?;
            write_data(&mut self.archive, &path, (size, extents), &mut buffer, read)?;
        }
        Ok(())
    }

    /// Items begun so far.
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// Ends the layer and gives back what it was written to, which is not flushed.
    ///
    /// # Errors
    /// When the last item lacks data, or writing fails.
    pub fn finish(self) -> Result<W, Error> {
        self.archive.finish()
    }

    fn begin_entry(&mut self, mut entry: Entry) -> Result<(), Error> {
        if let EntryKind::HardLink { target } = &entry.kind {
            let metadata = self.linkable.find(target).ok_or_else(|| LayerError {
                path: entry.path.clone(),
                problem: Problem::LinkTarget(target.clone()),
            })?;
            // Docker and containerd set a link's owner, mode and attributes too: it has to repeat the
            // file's, or a set-user-ID bit or a capability is lost.
            entry.metadata = Metadata::clone(&metadata);
        } else {
            entry.metadata.mtime = entry.metadata.mtime.min(self.epoch);
            if entry.kind != EntryKind::Directory {
                self.linkable.remember(&entry.path, &entry.metadata);
            }
        }
        self.archive.begin(&entry)
    }

    fn check(&self, item: &LayerItem) -> Result<(), Problem> {
        let path = item.path();
        path::check(path, |_| 0).map_err(Problem::Path)?;
        if let Some(name) = path::components(path).find(|name| whiteout::is_reserved(name)) {
            return Err(Problem::Reserved(name.to_vec()));
        }
        self.check_order(path)?;
        if let Some(name) = item.xattrs().find(|name| whiteout::is_overlay_xattr(name)) {
            return Err(Problem::OverlayXattr(name.clone()));
        }
        match item {
            LayerItem::Whiteout { path } if path.is_empty() => Err(Problem::RootWhiteout),
            LayerItem::Entry(entry) if entry.kind == (EntryKind::CharacterDevice { major: 0, minor: 0 }) => {
                Err(Problem::OverlayWhiteout)
            }
            _ => Ok(()),
        }
    }

    /// In sorted order, what is below a file would come directly after it.
    fn check_order(&self, path: &[u8]) -> Result<(), Problem> {
        let Some((latest, is_directory)) = &self.latest else {
            return Ok(());
        };
        if path::walk_order(latest, path).is_ge() {
            return Err(Problem::Order(latest.clone()));
        }
        if !is_directory && path::is_below(path, latest) {
            return Err(Problem::Parent(latest.clone()));
        }
        Ok(())
    }
}

impl From<LayerError> for Error {
    fn from(error: LayerError) -> Self {
        Kind::Layer(Box::new(error)).into()
    }
}

/// Bytes copied at a time.
const COPY_SIZE: usize = 256 * 1024;

/// For [`write_data`].
pub(crate) fn copy_buffer() -> Vec<u8> {
    vec![0; COPY_SIZE]
}

/// Writes the data of the file of a path, which was begun, from its size and extents.
pub(crate) fn write_data<W: Write>(
    archive: &mut Writer<W>,
    path: &[u8],
    (size, extents): (u64, &[Extent]),
    buffer: &mut [u8],
    read: &mut ReadAt,
) -> Result<(), Error> {
    let mut position = 0;
    for extent in extents {
        archive.zeroes(extent.file_offset.saturating_sub(position))?;
        copy_extent(archive, extent, buffer, read).map_err(|error| with_path(error, path))?;
        position = extent.file_offset + extent.length;
    }
    archive.zeroes(size.saturating_sub(position))
}

fn copy_extent<W: Write>(
    archive: &mut Writer<W>,
    extent: &Extent,
    buffer: &mut [u8],
    read: &mut ReadAt,
) -> Result<(), CopyError> {
    let mut done = 0;
    while done < extent.length {
        let length = usize::try_from(extent.length - done).unwrap_or(usize::MAX).min(buffer.len());
        let piece = &mut buffer[..length];
        read(extent.source, extent.source_offset + done, piece).map_err(CopyError::Read)?;
        archive.data(piece).map_err(CopyError::Write)?;
        done += length as u64;
    }
    Ok(())
}

enum CopyError {
    Read(io::Error),
    Write(Error),
}

fn with_path(error: CopyError, path: &[u8]) -> Error {
    match error {
        CopyError::Read(error) => Error::from_io(error, || format!("read the data of {}", Quoted(path))),
        CopyError::Write(error) => error,
    }
}

/// The empty file that marks a deletion. Nobody looks at its metadata.
fn marker(path: Vec<u8>) -> Entry {
    let metadata = Metadata { mode: 0o600, ..Metadata::default() };
    Entry { path, metadata, kind: EntryKind::File { size: 0 } }
}

/// The files that a hard link may name, and their metadata, which few files have to themselves.
#[derive(Debug, Default)]
struct Linkable {
    /// By a hash of the path. Paths that collide would only let a guest link to a file that its own
    /// layer does not have.
    by_path: HashMap<u64, Arc<Metadata>>,
    distinct: HashSet<Arc<Metadata>>,
}

impl Linkable {
    fn remember(&mut self, path: &[u8], metadata: &Metadata) {
        let metadata = match self.distinct.get(metadata) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(metadata.clone());
                self.distinct.insert(Arc::clone(&new));
                new
            }
        };
        self.by_path.insert(Self::hash(path), metadata);
    }

    fn find(&self, path: &[u8]) -> Option<Arc<Metadata>> {
        self.by_path.get(&Self::hash(path)).cloned()
    }

    fn hash(path: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        hasher.finish()
    }
}

/// A file of a tree on its way into a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeItem<'a> {
    /// What becomes of its path; of [`items`] never a whiteout, as a tree has none.
    pub item: LayerItem,
    /// Of a regular file that is no hard link, its bytes when read, else zero.
    pub size: u64,
    /// Where these are; what no extent covers is zero.
    pub extents: &'a [Extent],
}

/// Every file of a tree but the root, in the order of a layer. The first name of a file that has
/// several comes as the file, the others as hard links to that name.
pub fn items(tree: &Tree) -> Items<'_> {
    let mut walk = tree.walk();
    walk.next();
    Items { tree, walk, link_counts: tree.link_counts(), first_names: HashMap::new() }
}

/// The iterator of [`items`].
#[derive(Debug)]
pub struct Items<'a> {
    tree: &'a Tree,
    walk: Walk<'a>,
    link_counts: Vec<u32>,
    first_names: HashMap<NodeId, Vec<u8>>,
}

impl<'a> Iterator for Items<'a> {
    type Item = TreeItem<'a>;

    fn next(&mut self) -> Option<TreeItem<'a>> {
        let (path, id) = self.walk.next()?;
        let node = self.tree.node(id);
        let linked_to = self.first_names.get(&id).cloned();
        if linked_to.is_none() && !self.tree.is_directory(id) && self.link_counts[id.index()] > 1 {
            self.first_names.insert(id, path.clone());
        }
        let (kind, size, extents) = match linked_to {
            Some(target) => (EntryKind::HardLink { target }, 0, &[][..]),
            None => (node.content.kind(), node.content.size(), node.content.extents()),
        };
        let item = LayerItem::Entry(Entry { path, metadata: node.metadata.clone(), kind });
        Some(TreeItem { item, size, extents })
    }
}

impl Content {
    /// As an archive has it.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Directory(_) => EntryKind::Directory,
            Self::File { size, .. } => EntryKind::File { size: *size },
            Self::Symlink(target) => EntryKind::Symlink { target: target.clone() },
            Self::CharacterDevice { major, minor } => {
                EntryKind::CharacterDevice { major: *major, minor: *minor }
            }
            Self::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
            Self::Fifo => EntryKind::Fifo,
        }
    }

    /// A regular file's bytes when read; zero for anything else.
    pub fn size(&self) -> u64 {
        if let Self::File { size, .. } = self { *size } else { 0 }
    }

    /// Where a regular file's bytes are; none for anything else.
    pub fn extents(&self) -> &[Extent] {
        if let Self::File { extents, .. } = self { extents } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Reader;
    use crate::tree::{Node, test_tree};

    const EPOCH: i64 = 1_000;

    fn entry(path: &str, kind: EntryKind) -> LayerItem {
        let metadata = Metadata { mode: 0o644, mtime: 5, ..Metadata::default() };
        LayerItem::Entry(Entry { path: path.as_bytes().to_vec(), metadata, kind })
    }

    fn file(path: &str) -> LayerItem {
        entry(path, EntryKind::File { size: 0 })
    }

    fn directory(path: &str) -> LayerItem {
        entry(path, EntryKind::Directory)
    }

    fn opaque(path: &str) -> LayerItem {
        LayerItem::OpaqueDirectory { path: path.as_bytes().to_vec(), metadata: Metadata::default() }
    }

    fn whiteout(path: &str) -> LayerItem {
        LayerItem::Whiteout { path: path.as_bytes().to_vec() }
    }

    fn link(path: &str, target: &str) -> LayerItem {
        entry(path, EntryKind::HardLink { target: target.as_bytes().to_vec() })
    }

    fn layer(items: Vec<LayerItem>) -> Result<Vec<u8>, Error> {
        let mut layer = LayerWriter::new(Vec::new(), EPOCH);
        for item in items {
            layer.begin(item)?;
        }
        layer.finish()
    }

    fn entries(layer: &[u8]) -> Vec<Entry> {
        Reader::new(layer).entries().map(|found| found.unwrap().entry).collect()
    }

    #[test]
    fn whiteouts_and_opaque_directories_are_written_in_the_dialect_of_images() {
        let items = vec![opaque("a"), file("a/b"), whiteout("a/gone"), whiteout("b"), directory("b-c")];
        let bytes = layer(items).unwrap();
        let names: Vec<_> = entries(&bytes).into_iter().map(|e| String::from_utf8(e.path).unwrap()).collect();
        assert_eq!(names, ["a", "a/.wh..wh..opq", "a/b", "a/.wh.gone", ".wh.b", "b-c"]);
        let marker = &entries(&bytes)[3];
        assert_eq!((marker.metadata.mode, marker.metadata.mtime), (0o600, 0));
        assert_eq!(marker.kind, EntryKind::File { size: 0 });
    }

    #[test]
    fn times_end_at_the_epoch() {
        let with_mtime = |path: &str, mtime| {
            let metadata = Metadata { mtime, ..Metadata::default() };
            LayerItem::Entry(Entry { path: path.as_bytes().to_vec(), metadata, kind: EntryKind::Fifo })
        };
        let bytes =
            layer(vec![with_mtime("a", -1), with_mtime("b", EPOCH), with_mtime("c", EPOCH + 1)]).unwrap();
        let times: Vec<_> = entries(&bytes).into_iter().map(|entry| entry.metadata.mtime).collect();
        assert_eq!(times, [-1, EPOCH, EPOCH]);
    }

    #[test]
    fn a_hard_link_repeats_the_metadata_of_its_file() {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: 9,
            xattrs: [(b"security.capability".to_vec(), b"x".to_vec())].into(),
        };
        let kind = EntryKind::File { size: 0 };
        let original = LayerItem::Entry(Entry { path: b"a".to_vec(), metadata: metadata.clone(), kind });
        let bytes = layer(vec![original, link("b", "a")]).unwrap();
        let kind = EntryKind::HardLink { target: b"a".to_vec() };
        assert_eq!(entries(&bytes)[1], Entry { path: b"b".to_vec(), metadata, kind });
    }

    #[test]
    fn what_a_hostile_guest_may_send_is_refused() {
        let long = "n".repeat(256);
        let device = EntryKind::CharacterDevice { major: 0, minor: 0 };
        let mut overlay = opaque("a");
        if let LayerItem::OpaqueDirectory { metadata, .. } = &mut overlay {
            metadata.xattrs.insert(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec());
        }
        let cases: [(Vec<LayerItem>, &str); 20] = [
            (vec![file("/a")], "\"/a\" cannot be in a layer: the path has an empty or `.` component"),
            (vec![file("a/./b")], "\"a/./b\" cannot be in a layer: the path has an empty or `.` component"),
            (vec![file("a/../b")], "\"a/../b\" cannot be in a layer: the path has a `..` component"),
            (vec![file("a\0b")], "\"a\\0b\" cannot be in a layer: the path has a NUL byte"),
            (vec![whiteout(&long)], "cannot be in a layer: the path has a component longer than 255 bytes"),
            (vec![file(&"a/".repeat(2049))], "cannot be in a layer: the path has an empty or `.` component"),
            (
                vec![file(&["a/"; 2049].concat()[..4097])],
                "cannot be in a layer: the path is longer than 4096 bytes",
            ),
            (
                vec![file("a/.wh.b")],
                "\"a/.wh.b\" cannot be in a layer: the name \".wh.b\" starts with `.wh.`, by which a layer marks deleted files",
            ),
            (
                vec![directory(".wh..wh..opq")],
                "the name \".wh..wh..opq\" starts with `.wh.`, by which a layer marks deleted files",
            ),
            (vec![whiteout("")], "\"\" cannot be in a layer: the root cannot be deleted"),
            (vec![file("")], "tar entry \"\": only a directory can be the root"),
            (
                vec![file("b"), file("a")],
                "\"a\" cannot be in a layer: it comes after \"b\", but files have to be sorted",
            ),
            (
                vec![file("a"), file("a")],
                "\"a\" cannot be in a layer: it comes after \"a\", but files have to be sorted",
            ),
            (
                vec![file("a-b"), file("a/b")],
                "\"a/b\" cannot be in a layer: it comes after \"a-b\", but files have to be sorted",
            ),
            (vec![file("a"), file("a/b")], "\"a/b\" cannot be in a layer: \"a\" is no directory"),
            (
                vec![whiteout("a"), directory("a/b/c")],
                "\"a/b/c\" cannot be in a layer: \"a\" is no directory",
            ),
            (
                vec![directory("a"), link("b", "a")],
                "\"b\" cannot be in a layer: a hard link to \"a\", which is no earlier file of the layer",
            ),
            (
                vec![link("a", "/etc/passwd")],
                "\"a\" cannot be in a layer: a hard link to \"/etc/passwd\", which is no earlier file of the layer",
            ),
            (
                vec![entry("a", device)],
                "\"a\" cannot be in a layer: a device 0:0, by which overlayfs marks deleted files",
            ),
            (
                vec![overlay],
                "\"a\" cannot be in a layer: the extended attribute \"trusted.overlay.redirect\" is overlayfs's own",
            ),
        ];
        for (items, message) in cases {
            let error = layer(items).unwrap_err().to_string();
            assert!(error.ends_with(message), "{error}");
        }
    }

    #[test]
    fn a_file_without_all_its_data_is_noticed() {
        let mut layer = LayerWriter::new(Vec::new(), EPOCH);
        layer.begin(entry("a", EntryKind::File { size: 3 })).unwrap();
        layer.zeroes(1).unwrap();
        let error = layer.begin(file("b")).unwrap_err().to_string();
        assert_eq!(error, "tar entry \"a\": 2 of the announced 3 bytes of data are missing");
    }

    #[test]
    fn a_tree_is_written_with_its_hard_links_and_holes() {
        let mut tree = test_tree::of(&[("d/first", "7"), ("d/link", "-> first"), ("other", "= d/first")]);
        let id = tree.lookup(b"d/first").unwrap();
        let extents = vec![
            Extent { file_offset: 2, length: 3, source: 1, source_offset: 10 },
            Extent { file_offset: 6, length: 1, source: 0, source_offset: 0 },
        ];
        let metadata = tree.node(id).metadata.clone();
        *tree.node_mut(id) = Node { metadata, content: Content::File { size: 8, extents } };
        let sources = [b"z".to_vec(), b"0123456789abcdef".to_vec()];
        let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
            let start = offset as usize;
            buffer.copy_from_slice(&sources[source as usize][start..start + buffer.len()]);
            Ok(())
        };
        let mut layer = LayerWriter::new(Vec::new(), EPOCH);
        layer.write_tree(&tree, &mut read).unwrap();
        assert_eq!(layer.entry_count(), 4);
        let bytes = layer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]);
        assert_eq!(reader.next_entry().unwrap().unwrap().entry.path, b"d");
        assert_eq!(reader.next_entry().unwrap().unwrap().entry.path, b"d/first");
        let mut data = Vec::new();
        io::Read::read_to_end(&mut reader, &mut data).unwrap();
        assert_eq!(data, b"\0\0abc\0z\0");
        assert_eq!(reader.next_entry().unwrap().unwrap().entry.path, b"d/link");
        let linked = reader.next_entry().unwrap().unwrap().entry;
        assert_eq!((linked.path, linked.metadata.uid), (b"other".to_vec(), 7));
        assert_eq!(linked.kind, EntryKind::HardLink { target: b"d/first".to_vec() });
    }

    #[test]
    fn data_that_cannot_be_read_is_an_error_naming_the_file() {
        let mut tree = test_tree::of(&[("a", "1")]);
        let extents = vec![Extent { file_offset: 0, length: 1, source: 0, source_offset: 0 }];
        let id = tree.lookup(b"a").unwrap();
        tree.node_mut(id).content = Content::File { size: 1, extents };
        let mut read = |_, _, _: &mut [u8]| Err(io::ErrorKind::NotFound.into());
        let error = LayerWriter::new(Vec::new(), EPOCH).write_tree(&tree, &mut read).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the data of \"a\"");
        assert!(error.is_io());
    }
}
