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

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind, Metadata};
use crate::error::Kind;
use crate::path::{self, Quoted};
use crate::tar::ArchiveEntry;
use crate::tree::{Content, Node, NodeId, Tree};
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

#[derive(Debug, thiserror::Error)]
enum Problem {
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
            layer.apply(entry?)?;
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
        let mut layer = Layer::new(source);
        for entry in entries {
            layer.place(entry?)?;
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
    opaque: HashSet<NodeId>,
    /// Directories and names of what is hidden.
    whiteouts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Stand-ins for files of the layers below that have new names in this one.
    links_below: HashMap<NodeId, LinkBelow>,
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
            opaque: HashSet::new(),
            whiteouts: Vec::new(),
            links_below: HashMap::new(),
        }
    }

    fn apply(&mut self, found: ArchiveEntry) -> Result<(), Error> {
        match whiteout::change(&found.entry) {
            Change::Present => self.place(found).map(drop),
            Change::PresentOpaque => {
                let directory = self.place(found)?;
                self.opaque.insert(directory);
                Ok(())
            }
            Change::Opaque { directory } => {
                let directory = self.directory(directory)?;
                self.opaque.insert(directory);
                Ok(())
            }
            Change::Whiteout { directory, name } => {
                self.whiteouts.push((directory.to_vec(), name.to_vec()));
                Ok(())
            }
            Change::Ignored => Ok(()),
            Change::Malformed => Err(self.error(&found.entry.path, Problem::Whiteout)),
        }
    }

    /// Gives a file its name, in place of what had it.
    fn place(&mut self, mut found: ArchiveEntry) -> Result<NodeId, Error> {
        found.entry.metadata.xattrs.retain(|name, _| !whiteout::is_overlay_xattr(name));
        let Some((parent, name)) = path::split_name(&found.entry.path) else {
            return Ok(self.announce(Tree::ROOT, found.entry.metadata));
        };
        let (parent, name) = (self.directory(parent)?, name.to_vec());
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
        match self.tree.resolve_parent(&target)?.place {
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

    /// The directory of a path, made if need be, through the symbolic links of this layer.
    fn directory(&mut self, path: &[u8]) -> Result<NodeId, Error> {
        let resolved = self.tree.resolve(path)?;
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
        for (directory, name) in &self.whiteouts {
            if let Some(directory) = below.lookup(directory)
                && let Some(children) = below.children_mut(directory)
            {
                children.remove(name);
            }
        }
        Overlay { layer: self, below, laid: linked }.run();
        Ok(())
    }

    /// The nodes that the stand-ins stand for, before anything changes below.
    fn find_links_below(&self, below: &Tree) -> Result<HashMap<NodeId, NodeId>, Error> {
        let find = |(id, link): (&NodeId, &LinkBelow)| match below.resolve_parent(&link.target)?.place {
            Some(found) if !below.is_directory(found) => Ok((*id, found)),
            Some(_) => Err(self.error(&link.path, Problem::DirectoryTarget(link.target.clone()))),
            None => Err(self.error(&link.path, Problem::MissingTarget(link.target.clone()))),
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

    /// Metadata, and what is hidden.
    fn lay_directory(&mut self, upper: NodeId, lower: NodeId) {
        if self.layer.announced.contains(&upper) {
            self.below.node_mut(lower).metadata =
                std::mem::take(&mut self.layer.tree.node_mut(upper).metadata);
        }
        if self.layer.opaque.contains(&upper) {
            self.below.children_mut(lower).expect("a directory").clear();
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
