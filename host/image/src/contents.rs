//! Composing what a layer adds from several trees, laid into a base image as it is.

use crate::Error;
use crate::entry::Metadata;
use crate::path;
use crate::resolve::{self, View};
use crate::tree::{Content, Node, NodeId, Tree};
use std::collections::{BTreeMap, HashMap};

/// Who owns what is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As in the tree it comes from.
    Keep,
    /// This user and group.
    Set {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Root and its group.
impl Default for Owner {
    fn default() -> Self {
        Self::Set { uid: 0, gid: 0 }
    }
}

/// Where and how a tree is placed. The default is at the root, owned by root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Path in the image; made if need be.
    pub destination: Vec<u8>,
    /// Owner of everything placed.
    pub owner: Owner,
    /// Time of everything placed, in seconds since 1970; as in the tree if `None`.
    pub mtime: Option<i64>,
    /// Whether a directory that the base image has takes the placed one's owner, mode, time and
    /// attributes. If not, files go in and `/tmp` or `/root` stay as they are.
    pub replaces_directories: bool,
}

/// Collects trees into one, over a base image.
///
/// Symbolic links to directories are followed, those of the base and those placed before: where the
/// base has `lib -> usr/lib`, a placed `lib/x` becomes `usr/lib/x` and the link stays. What is placed
/// later replaces what was placed earlier, but a directory over a directory keeps what is in it.
#[derive(Debug)]
pub struct Contents<'a> {
    base: &'a Tree,
    tree: Tree,
}

impl<'a> Contents<'a> {
    /// Nothing yet. Without a base image, give an empty tree.
    pub fn new(base: &'a Tree) -> Self {
        let mut tree = Tree::new();
        tree.node_mut(Tree::ROOT).metadata = base.node(Tree::ROOT).metadata.clone();
        Self { base, tree }
    }

    /// Places what is in the root of a tree into the destination. Sources of the tree's extents are
    /// taken over: trees placed together have to share one numbering.
    ///
    /// # Errors
    /// When symbolic links lead nowhere, or paths become too long.
    pub fn place(&mut self, tree: &Tree, placement: &Placement) -> Result<(), Error> {
        let destination = resolve::resolve(&self.view(), &placement.destination)?.path;
        let is_new = !self.has_directory(&destination);
        let target = self.make_directory(&destination);
        if is_new {
            self.tree.node_mut(target).metadata = placement.metadata(tree.node(Tree::ROOT));
        }
        Placing { contents: self, tree, placement, placed: HashMap::new() }.run(destination)
    }

    /// The collected files. Directories on the way to them are there as well, with the base's owner,
    /// mode and attributes where it has them.
    pub fn into_tree(self) -> Tree {
        self.tree
    }

    fn view(&self) -> Combined<'_> {
        Combined { over: &self.tree, base: self.base }
    }

    fn has_directory(&self, path: &[u8]) -> bool {
        self.view().at(path).is_some_and(|place| self.view().is_directory(place))
    }

    /// The directory of a path without symbolic links, made like the base's or else plainly.
    fn make_directory(&mut self, path: &[u8]) -> NodeId {
        let (mut directory, mut base) = (Tree::ROOT, Some(Tree::ROOT));
        for name in path::components(path) {
            let existing = self.tree.child(directory, name);
            let shines_through = existing.is_none_or(|id| self.tree.is_directory(id));
            base = base.filter(|_| shines_through).and_then(|base| self.base.child(base, name));
            directory = match existing {
                Some(id) if self.tree.is_directory(id) => id,
                _ => self.add_directory(directory, name, base),
            };
        }
        directory
    }

    fn add_directory(&mut self, parent: NodeId, name: &[u8], base: Option<NodeId>) -> NodeId {
        let metadata = match base.filter(|base| self.base.is_directory(*base)) {
            Some(base) => self.base.node(base).metadata.clone(),
            None => Metadata { mode: 0o755, ..Metadata::default() },
        };
        let id = self.tree.insert(Node { metadata, content: Content::Directory(BTreeMap::new()) });
        self.attach(parent, name, id);
        id
    }

    fn attach(&mut self, directory: NodeId, name: &[u8], id: NodeId) {
        let children = self.tree.children_mut(directory).expect("a directory that was made");
        children.insert(name.to_vec(), id);
    }
}

impl Placement {
    fn metadata(&self, node: &Node) -> Metadata {
        let mut metadata = node.metadata.clone();
        if let Owner::Set { uid, gid } = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        if let Some(mtime) = self.mtime {
            metadata.mtime = mtime;
        }
        metadata
    }
}

/// One tree on its way into the contents.
struct Placing<'a, 'b> {
    contents: &'a mut Contents<'b>,
    tree: &'a Tree,
    placement: &'a Placement,
    /// Files that have been placed under another name.
    placed: HashMap<NodeId, NodeId>,
}

impl Placing<'_, '_> {
    fn run(mut self, destination: Vec<u8>) -> Result<(), Error> {
        // Not recursive: the tree can be deeper than a stack.
        let mut pending = vec![(Tree::ROOT, destination)];
        while let Some((directory, path)) = pending.pop() {
            let tree = self.tree;
            for (name, id) in tree.children(directory).into_iter().flatten() {
                if tree.is_directory(*id) {
                    pending.push((*id, self.directory(*id, &path, name)?));
                } else {
                    self.file(*id, &path, name);
                }
            }
        }
        Ok(())
    }

    /// Places a directory without what is in it. Returns its path in the contents.
    fn directory(&mut self, id: NodeId, parent: &[u8], name: &[u8]) -> Result<Vec<u8>, Error> {
        let plain = path::join(parent, name);
        let resolved = resolve::resolve(&self.contents.view(), &plain)?.path;
        let path = if self.contents.has_directory(&resolved) { resolved } else { plain };
        let is_in_base = self.is_in_base(&path);
        let target = self.contents.make_directory(&path);
        if !is_in_base || self.placement.replaces_directories {
            self.contents.tree.node_mut(target).metadata = self.placement.metadata(self.tree.node(id));
        }
        Ok(path)
    }

    /// True when the base has the directory and nothing placed before has replaced it.
    fn is_in_base(&self, path: &[u8]) -> bool {
        let place = self.contents.view().at(path);
        let base = place.and_then(|place| place.base);
        base.is_some_and(|base| self.contents.base.is_directory(base))
    }

    fn file(&mut self, id: NodeId, parent: &[u8], name: &[u8]) {
        let node = self.tree.node(id);
        let (contents, placement) = (&mut *self.contents, self.placement);
        let target = *self.placed.entry(id).or_insert_with(|| {
            let metadata = placement.metadata(node);
            contents.tree.insert(Node { metadata, content: node.content.clone() })
        });
        let directory = contents.make_directory(parent);
        contents.attach(directory, name, target);
    }
}

/// The contents so far over the base, as the image will show them.
struct Combined<'a> {
    over: &'a Tree,
    base: &'a Tree,
}

/// A file of either tree, or a directory of both.
#[derive(Clone, Copy)]
struct CombinedPlace {
    over: Option<NodeId>,
    base: Option<NodeId>,
}

impl Combined<'_> {
    fn at(&self, path: &[u8]) -> Option<CombinedPlace> {
        path::components(path).try_fold(self.root(), |directory, name| self.child(directory, name))
    }

    fn is_directory(&self, place: CombinedPlace) -> bool {
        match place.over {
            Some(over) => self.over.is_directory(over),
            None => place.base.is_some_and(|base| self.base.is_directory(base)),
        }
    }
}

impl View for Combined<'_> {
    type Place = CombinedPlace;

    fn root(&self) -> CombinedPlace {
        CombinedPlace { over: Some(Tree::ROOT), base: Some(Tree::ROOT) }
    }

    fn child(&self, place: CombinedPlace, name: &[u8]) -> Option<CombinedPlace> {
        let over = place.over.and_then(|directory| self.over.child(directory, name));
        let shines_through = over.is_none_or(|over| self.over.is_directory(over));
        let base = place.base.and_then(|directory| self.base.child(directory, name));
        let base = base.filter(|_| shines_through);
        (over.is_some() || base.is_some()).then_some(CombinedPlace { over, base })
    }

    fn symlink(&self, place: CombinedPlace) -> Option<&[u8]> {
        match (place.over, place.base) {
            (Some(over), _) => self.over.symlink(over),
            (None, base) => self.base.symlink(base?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::test_tree::{self, listing};

    fn composed(base: &Tree, placements: &[(&Tree, Placement)]) -> Vec<String> {
        let mut contents = Contents::new(base);
        for (tree, placement) in placements {
            contents.place(tree, placement).unwrap();
        }
        listing(&contents.into_tree())
    }

    fn at(destination: &str) -> Placement {
        Placement { destination: destination.as_bytes().to_vec(), owner: Owner::Keep, ..Placement::default() }
    }

    #[test]
    fn links_of_the_base_are_followed_and_stay() {
        let base = test_tree::of(&[
            ("usr/lib/old", "1"),
            ("lib", "-> usr/lib"),
            ("var/run", "-> /run"),
            ("run/x", "1"),
            ("file", "-> usr/lib/old"),
            ("dangling", "-> nowhere"),
        ]);
        let tree =
            test_tree::of(&[("lib/new", "2"), ("var/run/pid", "2"), ("file", "3"), ("dangling/x", "4")]);
        assert_eq!(
            composed(&base, &[(&tree, at(""))]),
            [
                "dangling/ 0",
                "dangling/x 4",
                "file 3",
                "run/ 0",
                "run/pid 2",
                "usr/ 0",
                "usr/lib/ 0",
                "usr/lib/new 2",
                "var/ 0"
            ]
        );
        let flat = test_tree::of(&[("new", "2")]);
        assert_eq!(composed(&base, &[(&flat, at("/lib/"))]), ["usr/ 0", "usr/lib/ 0", "usr/lib/new 2"]);
    }

    #[test]
    fn links_placed_earlier_are_followed_too() {
        let links = test_tree::of(&[("bin", "-> usr/bin"), ("usr/bin/a", "1")]);
        let files = test_tree::of(&[("bin/b", "2")]);
        let all = composed(&Tree::new(), &[(&links, at("")), (&files, at(""))]);
        assert_eq!(all, ["bin -> usr/bin", "usr/ 0", "usr/bin/ 0", "usr/bin/a 1", "usr/bin/b 2"]);
    }

    #[test]
    fn later_trees_win() {
        let first = test_tree::of(&[("a/x", "1"), ("a/y", "1"), ("b", "1"), ("c/z", "1")]);
        let second = test_tree::of(&[("a/x", "2"), ("b/new", "2"), ("c", "2")]);
        let all = composed(&Tree::new(), &[(&first, at("")), (&second, at(""))]);
        assert_eq!(all, ["a/ 0", "a/x 2", "a/y 1", "b/ 0", "b/new 2", "c 2"]);
    }

    #[test]
    fn what_replaces_a_directory_of_the_base_hides_what_was_in_it() {
        let base = test_tree::of(&[("lib/x", "1"), ("usr/lib/y", "1")]);
        let link = test_tree::of(&[("lib", "-> usr/lib")]);
        let file = test_tree::of(&[("lib/z", "2")]);
        let all = composed(&base, &[(&link, at("")), (&file, at(""))]);
        assert_eq!(all, ["lib -> usr/lib", "usr/ 0", "usr/lib/ 0", "usr/lib/z 2"]);
    }

    fn directory_with(mode: u16, uid: u32) -> Tree {
        let mut tree = test_tree::of(&[("tmp/x", "1")]);
        let id = tree.lookup(b"tmp").unwrap();
        tree.node_mut(id).metadata = Metadata { mode, uid, mtime: 77, ..Metadata::default() };
        tree
    }

    #[test]
    fn directories_of_the_base_keep_their_metadata_unless_told() {
        let (base, tree) = (directory_with(0o1777, 0), directory_with(0o700, 5));
        let mode_and_uid = |base: &Tree, placement: Placement| {
            let mut contents = Contents::new(base);
            contents.place(&tree, &placement).unwrap();
            let tree = contents.into_tree();
            let metadata = &tree.node(tree.lookup(b"tmp").unwrap()).metadata;
            (metadata.mode, metadata.uid)
        };
        assert_eq!(mode_and_uid(&base, at("")), (0o1777, 0));
        assert_eq!(mode_and_uid(&base, Placement { replaces_directories: true, ..at("") }), (0o700, 5));
        assert_eq!(mode_and_uid(&Tree::new(), at("")), (0o700, 5));
    }

    #[test]
    fn owner_and_time_are_set_on_what_is_placed_only() {
        let base = directory_with(0o755, 3);
        let mut tree = test_tree::of(&[("f", "9"), ("g", "= f")]);
        tree.node_mut(Tree::ROOT).metadata.mode = 0o750;
        let owner = Owner::Set { uid: 10, gid: 20 };
        let placement = Placement { owner, mtime: Some(5), ..at("tmp/new") };
        let mut contents = Contents::new(&base);
        contents.place(&tree, &placement).unwrap();
        let placed = contents.into_tree();
        let of = |path: &str| placed.node(placed.lookup(path.as_bytes()).unwrap()).metadata.clone();
        assert_eq!((of("tmp").uid, of("tmp").mtime), (3, 77));
        assert_eq!(
            of("tmp/new"),
            Metadata { mode: 0o750, uid: 10, gid: 20, mtime: 5, ..Metadata::default() }
        );
        assert_eq!((of("tmp/new/f").uid, of("tmp/new/f").gid, of("tmp/new/f").mtime), (10, 20, 5));
        assert_eq!(placed.lookup(b"tmp/new/f"), placed.lookup(b"tmp/new/g"));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let base = test_tree::of(&[("loop", "-> loop")]);
        let tree = test_tree::of(&[("loop/x", "1")]);
        assert!(Contents::new(&base).place(&tree, &at("")).is_err());
        assert!(Contents::new(&base).place(&tree, &at("loop")).is_err());
    }
}
