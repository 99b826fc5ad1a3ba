//! Laying layers over one another, as the
//! [OCI image format](https://github.com/opencontainers/image-spec/blob/main/layer.md) says.
//!
//! A layer is first made a tree of its own, in which the archive's order counts and the later entry
//! wins, and then laid over what is below, where order no longer matters: whiteouts and opaque
//! directories hide only what is below. Where the format leaves something open, this does what Docker
//! and containerd do on overlayfs, where a layer is unpacked alone and the kernel merges:
//! - a directory over a directory keeps what is in it and takes the new metadata; everything else
//!   replaces what was there, with all below it;
//! - a symbolic link is followed where an entry of the same layer lies below it, but replaced by a
//!   directory where the link is from a layer below;
//! - directories that a layer needs and does not have are made, if they are not below either.
//!
//! A layer is read from a stranger's archive, which a few bytes can make very long once unpacked: files,
//! and the bytes to describe them, are counted, and a layer with too many is refused.

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind, Metadata};
use crate::error::Kind;
use crate::path::{self, Quoted};
use crate::tar::ArchiveEntry;
use crate::tree::{Content, Extent, Node, NodeId, Tree};
use crate::whiteout::{self, Change};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A layer that is not one: in which entry, and why.
#[derive(Debug)]
pub(crate) struct MergeError {
    /// Index of the layer among the tree's sources.
    source: u32,
    path: Vec<u8>,
    problem: Problem,
}

/// Most files and directories of a layer, those that are only implied included. The largest images have
/// some hundred thousand. In memory each takes about 300 bytes.
pub const MAX_LAYER_FILES: usize = 1 << 21;

/// Most files and directories of all layers of a tree together.
pub const MAX_TREE_FILES: usize = 1 << 23;

/// Most bytes of paths, link targets, attributes and maps of holes of a layer.
pub const MAX_LAYER_METADATA: usize = 1 << 29;

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("more than {0} files in one layer")]
    TooManyFiles(usize),
    #[error("more than {0} files in all layers")]
    TooManyFilesInAll(usize),
    #[error("more than {0} bytes of paths, link targets and attributes in one layer")]
    TooMuchMetadata(usize),
    #[error("the extended attribute {}, by which overlayfs refers to files elsewhere, is not supported", Quoted(.0))]
    OverlayReference(Vec<u8>),
    #[error("{0}")]
    Links(Error),
    #[error("a whiteout that does not say of what")]
    Whiteout,
    #[error("a hard link to {}, which does not exist", Quoted(.0))]
    MissingTarget(Vec<u8>),
    #[error("a hard link to the directory {}", Quoted(.0))]
    DirectoryTarget(Vec<u8>),
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}, entry {}: {}", self.source, Quoted(&self.path), self.problem)
    }
}

impl std::error::Error for MergeError {}

impl MergeError {
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self.problem, Problem::OverlayReference(_))
    }
}

impl From<MergeError> for Error {
    fn from(error: MergeError) -> Self {
        Kind::Merge(Box::new(error)).into()
    }
}

impl Tree {
    /// Lays a layer over this tree: the entries of its archive, which becomes the source of this
    /// index. On error the tree is as it was.
    ///
    /// # Errors
    /// When an entry is an error, a whiteout has no name, a hard link's target is a directory or
    /// exists neither in the layer nor below, or symbolic links lead nowhere.
    pub fn apply_layer(
        &mut self,
        source: u32,
        entries: impl IntoIterator<Item = Result<ArchiveEntry, Error>>,
    ) -> Result<(), Error> {
        let mut layer = Layer::new(source);
        for entry in entries {
            layer.apply(in_layer(source, entry)?)?;
        }
        layer.lay_over(self)
    }

    /// The files of an archive that is no layer: names that would be whiteouts are kept.
    ///
    /// # Errors
    /// As [`apply_layer`](Self::apply_layer).
    pub fn from_archive(
        source: u32,
        entries: impl IntoIterator<Item = Result<ArchiveEntry, Error>>,
    ) -> Result<Self, Error> {
        let entries = entries.into_iter().map(|found| found.map(without_overlay_xattrs));
        Self::from_layer_archive(source, entries)
    }

    /// The files of an archive that is a layer, as they are: whiteouts are files, and overlayfs's
    /// attributes are kept. [`upper::items`](crate::upper::items) understands them.
    ///
    /// # Errors
    /// As [`apply_layer`](Self::apply_layer).
    pub fn from_layer_archive(
        source: u32,
        entries: impl IntoIterator<Item = Result<ArchiveEntry, Error>>,
    ) -> Result<Self, Error> {
        let mut layer = Layer::new(source);
        for entry in entries {
            layer.place(in_layer(source, entry)?)?;
        }
        let mut tree = Self::new();
        layer.lay_over(&mut tree)?;
        Ok(tree)
    }

    /// Forgets nodes that have lost their names, as layers that replace files leave them behind. Ids
    /// given out before become invalid.
    pub fn compact(&mut self) {
        let mut compacted = Self { nodes: Vec::new() };
        let mut new_ids = vec![None; self.node_count()];
        for (_, id) in self.walk() {
            if new_ids[id.index()].is_none() {
                new_ids[id.index()] = Some(compacted.insert(self.node(id).clone()));
            }
        }
        for node in &mut compacted.nodes {
            if let Content::Directory(children) = &mut node.content {
                for child in children.values_mut() {
                    *child = new_ids[child.index()].expect("the walk came here");
                }
            }
        }
        *self = compacted;
    }
}

fn in_layer<T>(layer: u32, result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|source| Kind::InLayer { layer, source: Box::new(source) }.into())
}

/// Metadata of a directory that a layer implies without saying more.
fn implied_directory() -> Node {
    let metadata = Metadata { mode: 0o755, ..Metadata::default() };
    Node { metadata, content: Content::Directory(Default::default()) }
}

/// A layer by itself.
struct Layer {
    source: u32,
    tree: Tree,
    /// Directories with metadata of their own; the others are implied.
    announced: HashSet<NodeId>,
    /// What it hides of the layers below, whatever its own entries are.
    hidden: Vec<Hidden>,
    /// Stand-ins for files of the layers below that have new names in this one.
    links_below: HashMap<NodeId, LinkBelow>,
    /// Entries that are whiteouts by what they are: overlayfs's.
    overlay_whiteouts: HashSet<Vec<u8>>,
    /// Bytes that describe its files, so far.
    metadata_size: usize,
    limits: Limits,
}

/// How much of a layer there can be in memory.
#[derive(Clone, Copy)]
struct Limits {
    files: usize,
    /// Of all layers.
    files_of_all: usize,
    /// In bytes.
    metadata: usize,
}

enum Hidden {
    /// A file or directory.
    Name { directory: Vec<u8>, name: Vec<u8> },
    /// All that is in a directory.
    Children { directory: Vec<u8> },
}

impl Hidden {
    fn hide(&self, below: &mut Tree) {
        let (Self::Name { directory, .. } | Self::Children { directory }) = self;
        let Some(children) = below.lookup(directory).and_then(|directory| below.children_mut(directory))
        else {
            return;
        };
        match self {
            Self::Name { name, .. } => drop(children.remove(name)),
            Self::Children { .. } => children.clear(),
        }
    }
}

fn without_overlay_xattrs(mut found: ArchiveEntry) -> ArchiveEntry {
    found.entry.metadata.xattrs.retain(|name, _| !whiteout::is_overlay_xattr(name));
    found
}

/// Bytes of an entry without a bound of their own.
fn metadata_size(found: &ArchiveEntry) -> usize {
    let Entry { path, metadata, kind } = &found.entry;
    let target = match kind {
        EntryKind::Symlink { target } | EntryKind::HardLink { target } => target.len(),
        _ => 0,
    };
    let xattrs: usize = metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let runs = found.location.sparse.as_ref().map_or(0, Vec::len);
    path.len() + target + xattrs + runs * size_of::<Extent>()
}

struct LinkBelow {
    path: Vec<u8>,
    target: Vec<u8>,
}

impl Layer {
    fn new(source: u32) -> Self {
        Self {
            source,
            tree: Tree::new(),
            announced: HashSet::new(),
            hidden: Vec::new(),
            links_below: HashMap::new(),
            overlay_whiteouts: HashSet::new(),
            metadata_size: 0,
            limits: Limits {
                files: MAX_LAYER_FILES,
                files_of_all: MAX_TREE_FILES,
                metadata: MAX_LAYER_METADATA,
            },
        }
    }

    fn apply(&mut self, found: ArchiveEntry) -> Result<(), Error> {
        if let Some(name) = whiteout::overlay_reference(&found.entry.metadata.xattrs) {
            let problem = Problem::OverlayReference(name.to_vec());
            return Err(self.error(&found.entry.path, problem));
        }
        if self.is_linked_whiteout(&found.entry) {
            return self.hide_name(&found.entry.path);
        }
        match whiteout::change(&found.entry) {
            Change::Present => self.place(without_overlay_xattrs(found)).map(drop),
            Change::PresentOpaque => {
                let directory = found.entry.path.clone();
                self.hide(Hidden::Children { directory }, &found.entry.path)?;
                self.place(without_overlay_xattrs(found)).map(drop)
            }
            Change::Opaque { directory } => {
                let hidden = Hidden::Children { directory: directory.to_vec() };
                self.hide(hidden, &found.entry.path)?;
                self.directory(directory, &found.entry.path).map(drop)
            }
            Change::Whiteout { directory, name } if path::join(directory, name) == found.entry.path => {
                self.overlay_whiteouts.insert(found.entry.path.clone());
                self.hide_name(&found.entry.path)
            }
            Change::Whiteout { directory, name } => {
                let hidden = Hidden::Name { directory: directory.to_vec(), name: name.to_vec() };
                self.hide(hidden, &found.entry.path)
            }
            Change::Ignored => Ok(()),
            Change::Malformed => Err(self.error(&found.entry.path, Problem::Whiteout)),
        }
    }

    /// The kernel makes one whiteout and gives it many names.
    fn is_linked_whiteout(&self, entry: &Entry) -> bool {
        matches!(&entry.kind, EntryKind::HardLink { target } if self.overlay_whiteouts.contains(target))
    }

    fn hide_name(&mut self, path: &[u8]) -> Result<(), Error> {
        let Some((directory, name)) = path::split_name(path) else { return Ok(()) };
        self.hide(Hidden::Name { directory: directory.to_vec(), name: name.to_vec() }, path)
    }

    fn hide(&mut self, hidden: Hidden, path: &[u8]) -> Result<(), Error> {
        self.hidden.push(hidden);
        self.count(path, path.len() + size_of::<Hidden>())
    }

    /// Notes that the layer takes more memory, and one file more at least.
    fn count(&mut self, path: &[u8], bytes: usize) -> Result<(), Error> {
        self.metadata_size = self.metadata_size.saturating_add(bytes);
        let Limits { files, metadata, .. } = self.limits;
        if self.metadata_size > metadata {
            return Err(self.error(path, Problem::TooMuchMetadata(metadata)));
        }
        if self.tree.node_count() > files {
            return Err(self.error(path, Problem::TooManyFiles(files)));
        }
        Ok(())
    }

    /// Gives a file its name, in place of what had it.
    fn place(&mut self, found: ArchiveEntry) -> Result<NodeId, Error> {
        self.count(&found.entry.path, metadata_size(&found))?;
        self.overlay_whiteouts.remove(&found.entry.path);
        let Some((parent, name)) = path::split_name(&found.entry.path) else {
            return Ok(self.announce(Tree::ROOT, found.entry.metadata));
        };
        let (parent, name) = (self.directory(parent, &found.entry.path)?, name.to_vec());
        let existing = self.tree.child(parent, &name);
        if let (EntryKind::Directory, Some(id)) = (&found.entry.kind, existing)
            && self.tree.is_directory(id)
        {
            return Ok(self.announce(id, found.entry.metadata));
        }
        let id = self.node(found)?;
        self.attach(parent, name, id);
        Ok(id)
    }

    fn announce(&mut self, directory: NodeId, metadata: Metadata) -> NodeId {
        self.tree.node_mut(directory).metadata = metadata;
        self.announced.insert(directory);
        directory
    }

    fn attach(&mut self, directory: NodeId, name: Vec<u8>, id: NodeId) {
        let children = self.tree.children_mut(directory).expect("a directory of this layer");
        children.insert(name, id);
    }

    /// The node for an entry that is not merged with an existing one.
    fn node(&mut self, found: ArchiveEntry) -> Result<NodeId, Error> {
        let Entry { path, metadata, kind } = found.entry;
        let content = match kind {
            EntryKind::HardLink { target } => return self.link(path, target),
            EntryKind::Directory => Content::Directory(Default::default()),
            EntryKind::File { size } => Content::File { size, extents: found.location.extents(self.source) },
            EntryKind::Symlink { target } => Content::Symlink(target),
            EntryKind::CharacterDevice { major, minor } => Content::CharacterDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => Content::BlockDevice { major, minor },
            EntryKind::Fifo => Content::Fifo,
        };
        let is_directory = matches!(content, Content::Directory(_));
        let id = self.tree.insert(Node { metadata, content });
        if is_directory {
            self.announced.insert(id);
        }
        Ok(id)
    }

    /// The file that a hard link names, in this layer or else below. The link's own metadata is the
    /// file's, or of no use.
    fn link(&mut self, path: Vec<u8>, target: Vec<u8>) -> Result<NodeId, Error> {
        let found =
            self.tree.resolve_parent(&target).map_err(|error| self.error(&path, Problem::Links(error)))?;
        match found.place {
            Some(id) if self.tree.is_directory(id) => {
                Err(self.error(&path, Problem::DirectoryTarget(target)))
            }
            Some(id) => Ok(id),
            None => {
                let id = self.tree.insert(Node { metadata: Metadata::default(), content: Content::Fifo });
                self.links_below.insert(id, LinkBelow { path, target });
                Ok(id)
            }
        }
    }

    /// The directory of a path, made if need be, through the symbolic links of this layer. An error is
    /// the entry's that needs it.
    fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<NodeId, Error> {
        let resolved = self.tree.resolve(path).map_err(|error| self.error(entry, Problem::Links(error)))?;
        let mut directory = Tree::ROOT;
        for name in path::components(&resolved.path) {
            directory = match self.tree.child(directory, name) {
                Some(id) if self.tree.is_directory(id) => id,
                _ => {
                    let id = self.tree.insert(implied_directory());
                    self.attach(directory, name.to_vec(), id);
                    id
                }
            };
        }
        Ok(directory)
    }

    fn lay_over(self, below: &mut Tree) -> Result<(), Error> {
        let linked = self.find_links_below(below)?;
        let limit = self.limits.files_of_all;
        if below.node_count().saturating_add(self.tree.node_count()) > limit {
            return Err(self.error(b"", Problem::TooManyFilesInAll(limit)));
        }
        for hidden in &self.hidden {
            hidden.hide(below);
        }
        Overlay { layer: self, below, laid: linked }.run();
        Ok(())
    }

    /// The nodes that the stand-ins stand for, before anything changes below.
    fn find_links_below(&self, below: &Tree) -> Result<HashMap<NodeId, NodeId>, Error> {
        let find = |(id, link): (&NodeId, &LinkBelow)| {
            let error = |problem| self.error(&link.path, problem);
            let found = below.resolve_parent(&link.target).map_err(|why| error(Problem::Links(why)))?;
            match found.place {
                Some(found) if !below.is_directory(found) => Ok((*id, found)),
                Some(_) => Err(error(Problem::DirectoryTarget(link.target.clone()))),
                None => Err(error(Problem::MissingTarget(link.target.clone()))),
            }
        };
        self.links_below.iter().map(find).collect()
    }

    fn error(&self, path: &[u8], problem: Problem) -> Error {
        MergeError { source: self.source, path: path.to_vec(), problem }.into()
    }
}

/// A layer on its way into the tree below.
struct Overlay<'a> {
    layer: Layer,
    below: &'a mut Tree,
    /// Which nodes of the layer that are no directories have which node below. A file with several
    /// names is met several times.
    laid: HashMap<NodeId, NodeId>,
}

impl Overlay<'_> {
    fn run(mut self) {
        self.lay_directory(Tree::ROOT, Tree::ROOT);
        // Not recursive: an archive can nest directories deeper than a stack.
        let mut pending = vec![(Tree::ROOT, Tree::ROOT)];
        while let Some((upper, lower)) = pending.pop() {
            for (name, id) in self.take_children(upper) {
                let existing = self.below.child(lower, &name);
                let is_directory = self.layer.tree.is_directory(id);
                let laid = if is_directory { self.directory(id, existing) } else { self.file(id) };
                self.below.children_mut(lower).expect("a directory").insert(name, laid);
                if is_directory {
                    pending.push((id, laid));
                }
            }
        }
    }

    fn take_children(&mut self, directory: NodeId) -> std::collections::BTreeMap<Vec<u8>, NodeId> {
        std::mem::take(self.layer.tree.children_mut(directory).expect("only directories are pending"))
    }

    fn directory(&mut self, id: NodeId, existing: Option<NodeId>) -> NodeId {
        let existing = existing.filter(|existing| self.below.is_directory(*existing));
        let lower = existing.unwrap_or_else(|| self.below.insert(implied_directory()));
        self.lay_directory(id, lower);
        lower
    }

    fn lay_directory(&mut self, upper: NodeId, lower: NodeId) {
        if self.layer.announced.contains(&upper) {
            self.below.node_mut(lower).metadata =
                std::mem::take(&mut self.layer.tree.node_mut(upper).metadata);
        }
    }

    fn file(&mut self, id: NodeId) -> NodeId {
        let (layer, below) = (&mut self.layer, &mut *self.below);
        *self.laid.entry(id).or_insert_with(|| {
            let placeholder = Node { metadata: Metadata::default(), content: Content::Fifo };
            below.insert(std::mem::replace(layer.tree.node_mut(id), placeholder))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Location, Reader};
    use crate::tree::test_tree::listing;

    /// An entry: `dir` with an owner's number, `-> TARGET`, `= TARGET` for a hard link, `0:0`, or the
    /// owner's number of a file.
    fn entry(path: &str, what: &str) -> ArchiveEntry {
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        let kind = match word {
            "dir" => EntryKind::Directory,
            "->" => EntryKind::Symlink { target: rest.as_bytes().to_vec() },
            "=" => EntryKind::HardLink { target: rest.as_bytes().to_vec() },
            "0:0" => EntryKind::CharacterDevice { major: 0, minor: 0 },
            _ => EntryKind::File { size: 0 },
        };
        let uid = if word == "dir" { rest } else { word }.parse().unwrap_or(0);
        let metadata = Metadata { mode: 0o700, uid, ..Metadata::default() };
        let location = Location { header_offset: 0, data_offset: 512, stored_size: 0, sparse: None };
        ArchiveEntry { entry: Entry { path: path.as_bytes().to_vec(), metadata, kind }, location }
    }

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn apply(tree: &mut Tree, source: u32, files: Files) -> Result<(), Error> {
        tree.apply_layer(source, files.iter().map(|(path, what)| Ok(entry(path, what))))
    }

    fn merged(layers: &[Files]) -> Tree {
        let mut tree = Tree::new();
        for (source, layer) in layers.iter().enumerate() {
            apply(&mut tree, source as u32, layer).unwrap();
        }
        tree
    }

    const BASE: Files<'static> = &[
        ("a", "dir 1"),
        ("a/x", "1"),
        ("a/y", "1"),
        ("b", "1"),
        ("lib", "-> usr/lib"),
        ("usr", "dir 1"),
        ("usr/lib", "dir 1"),
        ("usr/lib/so", "1"),
    ];

    /// What a layer over [`BASE`] makes of it; only lines that differ from it, removed ones with `-`.
    fn changes(layer: Files) -> Vec<String> {
        let (before, after) = (listing(&merged(&[BASE])), listing(&merged(&[BASE, layer])));
        let removed = before.iter().filter(|line| !after.contains(line)).map(|line| format!("-{line}"));
        let added = after.iter().filter(|line| !before.contains(line)).cloned();
        removed.chain(added).collect()
    }

    #[test]
    fn layers_are_laid_over_one_another() {
        let cases: [(&str, Files, &[&str]); 19] = [
            ("new file", &[("a/z", "2")], &["a/z 2"]),
            ("file over file", &[("a/x", "2")], &["-a/x 1", "a/x 2"]),
            ("directory over directory", &[("a", "dir 2")], &["-a/ 1", "a/ 2"]),
            ("file over directory", &[("a", "2")], &["-a/ 1", "-a/x 1", "-a/y 1", "a 2"]),
            ("directory over file", &[("b", "dir 2")], &["-b 1", "b/ 2"]),
            ("implied directory over file", &[("b/c", "2")], &["-b 1", "b/ 0", "b/c 2"]),
            ("implied new directories", &[("n/m/o", "2")], &["n/ 0", "n/m/ 0", "n/m/o 2"]),
            ("link below is replaced", &[("lib/n", "2")], &["-lib -> usr/lib", "lib/ 0", "lib/n 2"]),
            ("link of the layer is followed", &[("lib", "-> usr/lib"), ("lib/n", "2")], &["usr/lib/n 2"]),
            ("last of duplicates", &[("a/x", "2"), ("a/x", "3")], &["-a/x 1", "a/x 3"]),
            ("directory after file", &[("n", "2"), ("n", "dir 3"), ("n/o", "4")], &["n/ 3", "n/o 4"]),
            ("file after directory", &[("n/o", "4"), ("n", "2")], &["n 2"]),
            ("whiteout", &[("a/.wh.x", "")], &["-a/x 1"]),
            ("whiteout of a directory", &[(".wh.a", "")], &["-a/ 1", "-a/x 1", "-a/y 1"]),
            ("whiteout of nothing", &[("a/.wh.q", ""), ("b/.wh.q", ""), ("q/.wh.q", "")], &[]),
            ("overlay's whiteout", &[("a/x", "0:0")], &["-a/x 1"]),
            ("opaque", &[("a/.wh..wh..opq", "")], &["-a/x 1", "-a/y 1"]),
            // Found by the model in tests/layers.rs: the file used to take the marker away.
            (
                "opaque and replaced within the layer",
                &[("a/.wh..wh..opq", ""), ("a", "2"), ("a", "dir 1")],
                &["-a/x 1", "-a/y 1"],
            ),
            (
                "bookkeeping",
                &[(".wh..wh.plnk", "dir 0"), (".wh..wh.plnk/1.2", "1"), (".wh..wh.aufs", "1")],
                &[],
            ),
        ];
        for (what, layer, expected) in cases {
            assert_eq!(changes(layer), expected, "{what}");
        }
    }

    #[test]
    fn whiteouts_hide_what_is_below_wherever_they_stand() {
        let whiteouts: [(Files, &[&str]); 4] = [
            (&[("a/.wh.x", ""), ("a/x", "2")], &["-a/x 1", "a/x 2"]),
            (&[("a/.wh..wh..opq", ""), ("a/z", "2")], &["-a/x 1", "-a/y 1", "a/z 2"]),
            (&[(".wh.a", ""), ("a", "dir 2"), ("a/z", "2")], &["-a/ 1", "-a/x 1", "-a/y 1", "a/ 2", "a/z 2"]),
            (
                &[(".wh..wh..opq", ""), ("n", "2")],
                &[
                    "-a/ 1",
                    "-a/x 1",
                    "-a/y 1",
                    "-b 1",
                    "-lib -> usr/lib",
                    "-usr/ 1",
                    "-usr/lib/ 1",
                    "-usr/lib/so 1",
                    "n 2",
                ],
            ),
        ];
        for (layer, expected) in whiteouts {
            let backwards: Vec<_> = layer.iter().rev().copied().collect();
            assert_eq!(changes(layer), expected);
            assert_eq!(changes(&backwards), expected);
        }
    }

    #[test]
    fn an_opaque_attribute_hides_and_is_dropped() {
        let mut opaque = entry("a", "dir 2");
        opaque.entry.metadata.xattrs = [
            (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
            (b"user.overlay.origin".to_vec(), b"?".to_vec()),
            (b"user.mine".to_vec(), b"1".to_vec()),
        ]
        .into();
        let mut tree = merged(&[BASE]);
        tree.apply_layer(1, [Ok(opaque)]).unwrap();
        let id = tree.lookup(b"a").unwrap();
        assert!(tree.children(id).unwrap().is_empty());
        let names: Vec<_> = tree.node(id).metadata.xattrs.keys().collect();
        assert_eq!(names, [b"user.mine"]);
    }

    #[test]
    fn the_root_takes_metadata_too() {
        let tree = merged(&[BASE, &[("", "dir 7")]]);
        assert_eq!(tree.node(Tree::ROOT).metadata.uid, 7);
        assert!(tree.lookup(b"a/x").is_some());
    }

    #[test]
    fn hard_links_share_a_node_within_and_across_layers() {
        let tree = merged(&[
            &[("f", "1"), ("g", "= f"), ("s", "-> f"), ("t", "= s")],
            &[("h", "= g"), ("i", "= h"), (".wh.f", ""), ("g", "2")],
            &[("usr/bin/x", "5"), ("bin", "-> usr/bin"), ("y", "= bin/x")],
            &[("z", "= bin/x")],
        ]);
        let node = |path: &str| tree.lookup(path.as_bytes());
        assert_eq!(node("f"), None);
        assert!(node("h").is_some());
        assert_eq!(node("h"), node("i"));
        assert_ne!(node("h"), node("g"));
        assert_eq!(node("s"), node("t"));
        assert!([node("y"), node("z")].iter().all(|id| *id == node("usr/bin/x")));
        let uid = |path: &str| tree.node(node(path).unwrap()).metadata.uid;
        assert_eq!((uid("h"), uid("g"), uid("z")), (1, 2, 5));
    }

    #[test]
    fn errors_name_layer_and_entry_and_leave_the_tree_alone() {
        for (layer, message) in [
            (
                &[("n", "2"), ("l", "= q")][..],
                "layer 1, entry \"l\": a hard link to \"q\", which does not exist",
            ),
            (&[("l", "= a")], "layer 1, entry \"l\": a hard link to the directory \"a\""),
            (&[("n", "dir 1"), ("l", "= n")], "layer 1, entry \"l\": a hard link to the directory \"n\""),
            (&[("l", "= ")], "layer 1, entry \"l\": a hard link to the directory \"\""),
            (&[("a/.wh.", "")], "layer 1, entry \"a/.wh.\": a whiteout that does not say of what"),
            (&[("a/.wh.x/y", "")], "layer 1, entry \"a/.wh.x/y\": a whiteout that does not say of what"),
            (
                &[("l", "-> l"), ("l/x", "1")],
                "layer 1, entry \"l/x\": path \"l\" is corrupt: leads through too many symbolic links",
            ),
            (
                &[("l", "-> l"), ("m", "= l/x")],
                "layer 1, entry \"m\": path \"l\" is corrupt: leads through too many symbolic links",
            ),
        ] {
            let mut tree = merged(&[BASE]);
            let error = apply(&mut tree, 1, layer).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.is_corrupt());
            assert_eq!(listing(&tree), listing(&merged(&[BASE])));
        }
    }

    #[test]
    fn what_overlayfs_keeps_elsewhere_is_refused() {
        for name in ["trusted.overlay.redirect", "user.overlay.metacopy"] {
            let mut found = entry("a", "dir 2");
            found.entry.metadata.xattrs = [(name.as_bytes().to_vec(), b"/b".to_vec())].into();
            let error = merged(&[BASE]).apply_layer(1, [Ok(found)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "layer 1, entry \"a\": the extended attribute \"{name}\", by which overlayfs refers to files elsewhere, is not supported"
                )
            );
            assert!(error.is_unsupported() && !error.is_corrupt());
        }
    }

    /// The error of an archive without end.
    fn endless(make: impl Fn(usize) -> ArchiveEntry) -> String {
        let limits = Limits { files: 1000, files_of_all: 2000, metadata: 100_000 };
        let mut layer = Layer { limits, ..Layer::new(1) };
        let error = (0..).find_map(|number| layer.apply(make(number)).err()).unwrap();
        assert!(error.is_corrupt());
        error.to_string()
    }

    #[test]
    fn layers_that_need_too_much_memory_are_refused() {
        let files = endless(|number| entry(&format!("f{number}"), "1"));
        assert_eq!(files, "layer 1, entry \"f1000\": more than 1000 files in one layer");
        let same = endless(|_| entry("f", "1"));
        assert_eq!(same, "layer 1, entry \"f\": more than 1000 files in one layer");
        let deep = "/d".repeat(400);
        let parents = endless(|number| entry(&format!("{number}{deep}"), "1"));
        assert!(parents.ends_with("more than 1000 files in one layer"), "{parents}");
        let long = format!("-> {}", "t".repeat(4000));
        let targets = endless(|number| entry(&format!("l{number}"), &long));
        assert_eq!(
            targets,
            "layer 1, entry \"l24\": more than 100000 bytes of paths, link targets and attributes in one layer"
        );
        let whiteouts = endless(|number| entry(&format!("{number}{deep}/.wh.x"), "1"));
        assert!(
            whiteouts.ends_with("bytes of paths, link targets and attributes in one layer"),
            "{whiteouts}"
        );
        let attributes = endless(|number| {
            let mut found = entry(&format!("f{number}"), "1");
            found.entry.metadata.xattrs = [(b"user.x".to_vec(), vec![0; 60_000])].into();
            found
        });
        assert!(attributes.starts_with("layer 1, entry \"f1\": more than 100000 bytes"), "{attributes}");
    }

    #[test]
    fn layers_together_have_a_limit_too() {
        let limits = Limits { files: 10, files_of_all: 10, metadata: 1000 };
        let mut layer = Layer { limits, ..Layer::new(3) };
        (0..5).for_each(|number| layer.apply(entry(&format!("f{number}"), "1")).unwrap());
        let error = layer.lay_over(&mut merged(&[BASE])).unwrap_err().to_string();
        assert_eq!(error, "layer 3, entry \"\": more than 10 files in all layers");
    }

    #[test]
    fn an_error_of_the_archive_names_the_layer() {
        let error = merged(&[BASE]).apply_layer(7, Reader::new(&[1_u8; 512][..]).entries()).unwrap_err();
        assert_eq!(error.to_string(), "layer 7");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "not a tar archive: it does not begin with a header");
        assert!(error.is_corrupt());
    }

    #[test]
    fn links_cannot_make_paths_without_end() {
        let deep = format!("-> {}", "d/".repeat(1500));
        let mut tree = Tree::new();
        let below = "d/".repeat(1499) + "d/m";
        let error = apply(&mut tree, 0, &[("l", &deep), (&format!("l/{below}"), "1")]).unwrap_err();
        assert!(
            error.to_string().ends_with("becomes too long when its symbolic links are followed"),
            "{error}"
        );
    }

    #[test]
    fn an_archive_that_is_no_layer_keeps_every_name() {
        let files = [entry("a/.wh.b", "1"), entry("a/b", "2")];
        let tree = Tree::from_archive(0, files.map(Ok)).unwrap();
        assert_eq!(listing(&tree), ["a/ 0", "a/.wh.b 1", "a/b 2"]);
    }

    #[test]
    fn extents_say_which_layer() {
        let mut file = entry("f", "1");
        file.entry.kind = EntryKind::File { size: 10 };
        file.location.stored_size = 10;
        let mut tree = merged(&[BASE]);
        tree.apply_layer(4, [Ok(file)]).unwrap();
        let extents = tree.node(tree.lookup(b"f").unwrap()).content.extents();
        let expected = crate::tree::Extent { file_offset: 0, length: 10, source: 4, source_offset: 512 };
        assert_eq!(extents, [expected]);
    }

    #[test]
    fn compacting_keeps_names_and_drops_the_rest() {
        let mut tree = merged(&[BASE, &[("a", "2"), ("c", "= b"), ("usr/lib/so", "3")]]);
        let before = listing(&tree);
        let shared = tree.lookup(b"b") == tree.lookup(b"c");
        assert!(shared && tree.node_count() > before.len() + 1);
        tree.compact();
        assert_eq!(listing(&tree), before);
        assert_eq!(tree.lookup(b"b"), tree.lookup(b"c"));
        assert_eq!(tree.node_count(), before.len());
    }
}
