//! One tree as several layers that images have in common.
//!
//! As in nixpkgs' `dockerTools.buildLayeredImage`: files come in groups that change together (a store
//! path, a package), the most popular groups get a layer each, lowest first, and all the rest shares the
//! last layer. A registry then keeps, and a push or pull moves, a group once for all images with it.
//!
//! The order is by popularity, how many other groups need the group, which the caller knows; then by the
//! order of magnitude of the size, larger first, as that is what sharing saves; then by name. It does not
//! depend on contents: when a group changes, its layer changes and the last, no other. Only a group that
//! becomes twice as large or small, more or less popular, new or gone may move, and then another one into
//! the last layer or out of it.
//!
//! For the same reason a layer has nothing of its neighbours. Directories that belong to no group are in
//! the last layer, as they are; the other layers, where they need them, have plain ones, which the last
//! one, being the highest, hides. A file with names in several groups is in the last layer too: a hard
//! link cannot leave its layer.

use crate::Error;
use crate::entry::Metadata;
use crate::error::Kind;
use crate::path;
use crate::tree::{Content, Node, NodeId, Tree};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many layers dockerTools makes where nothing is said.
pub const DEFAULT_LAYERS: usize = 100;

/// Most layers: what Docker's overlay driver takes
/// ([`maxDepth`](https://github.com/moby/moby/blob/master/daemon/graphdriver/overlay2/overlay.go)), less one.
pub const MAX_LAYERS: usize = 127;

/// Directories whose parts are groups, where groups are directories: they hold most of any system.
const DIVIDED: [&[u8]; 4] = [b"usr", b"var", b"opt", b"home"];

/// Where the store paths of Nix and Guix are.
const STORES: [&[u8]; 2] = [b"nix/store", b"gnu/store"];

/// A set of files that change together, by name.
pub type Group = Vec<u8>;

/// Which files belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// Those of one store path: `/nix/store/NAME` or `/gnu/store/NAME` with all below, NAME being the
    /// group.
    Store,
    /// Those that one package owns: a path, as of [`Entry::path`](crate::entry::Entry::path), to its
    /// package. Directories belong to nobody.
    Owned(BTreeMap<Vec<u8>, Group>),
    /// Those in one directory at the top, or in `usr`, `var`, `opt` and `home` one level further down.
    Directories,
}

impl Grouping {
    /// By store paths where there is a store, else by directories.
    pub fn of(tree: &Tree) -> Self {
        let has_store = STORES.iter().any(|store| tree.lookup(store).is_some());
        if has_store { Self::Store } else { Self::Directories }
    }

    fn group<'a>(&'a self, path: &'a [u8], is_directory: bool) -> Option<&'a [u8]> {
        match self {
            Self::Store => STORES.iter().find_map(|store| {
                let inside = path.strip_prefix(*store)?.strip_prefix(b"/")?;
                path::components(inside).next()
            }),
            Self::Owned(_) if is_directory => None,
            Self::Owned(owners) => owners.get(path).map(Vec::as_slice),
            Self::Directories => directory_of(path, is_directory),
        }
    }
}

/// The first one or two names of a path, if they are a directory.
fn directory_of(path: &[u8], is_directory: bool) -> Option<&[u8]> {
    let depth = if DIVIDED.contains(&path::components(path).next()?) { 2 } else { 1 };
    let mut ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    match ends.nth(depth - 1) {
        Some(end) => Some(&path[..end]),
        None => (is_directory && path::components(path).count() == depth).then_some(path),
    }
}

/// One of the layers.
#[derive(Debug, Clone)]
pub struct SharedLayer {
    /// Whose files it has, sorted. Of the last layer, also files of no group.
    pub groups: Vec<Group>,
    /// Its files; extents have the sources of the tree that was split. Like a layer, it shows something
    /// only together with the others.
    pub tree: Tree,
}

/// How popular groups are, from what each needs directly: how many others need it, directly or not.
pub fn popularity(needs: &BTreeMap<Group, BTreeSet<Group>>) -> BTreeMap<Group, u64> {
    let mut counts = BTreeMap::new();
    for group in needs.keys() {
        let (mut seen, mut pending) = (BTreeSet::from([group]), vec![group]);
        while let Some(next) = pending.pop() {
            let needed = needs.get(next).into_iter().flatten();
            pending.extend(needed.filter(|needed| seen.insert(needed)));
        }
        for needed in seen.into_iter().filter(|needed| *needed != group) {
            *counts.entry(needed.clone()).or_insert(0) += 1;
        }
    }
    counts
}

/// Splits a tree into at most `max_layers` layers, the lowest first. Laid over one another they are the
/// tree. Groups without a popularity have none.
///
/// # Errors
/// When `max_layers` is zero or more than [`MAX_LAYERS`].
pub fn split(
    tree: &Tree,
    grouping: &Grouping,
    popularity: &BTreeMap<Group, u64>,
    max_layers: usize,
) -> Result<Vec<SharedLayer>, Error> {
    if !(1..=MAX_LAYERS).contains(&max_layers) {
        let why =
            format!("cannot make {max_layers} layers: an image has at least one and at most {MAX_LAYERS}");
        return Err(Kind::Choice(why).into());
    }
    let names = Names::of(tree, grouping);
    let mut ranked = names.ranked(popularity);
    let rest = ranked.split_off(ranked.len().min(max_layers - 1));
    let last = ranked.len();
    let mut layer_of = vec![last; names.groups.len()];
    for (layer, group) in ranked.iter().enumerate() {
        layer_of[*group] = layer;
    }
    let mut layers: Vec<Building> = (0..=last).map(|layer| Building::new(tree, layer == last)).collect();
    for (path, id, group) in &names.files {
        let layer = group.map_or(last, |group| layer_of[group]);
        layers[layer].add(path, *id);
    }
    let sets = ranked.into_iter().map(|group| vec![group]).chain([rest]);
    Ok(sets.zip(layers).map(|(set, building)| building.finish(&names, set)).collect())
}

/// The names of a tree and the groups they are in.
struct Names<'a> {
    tree: &'a Tree,
    /// By index in `groups`; none for what is in no group.
    files: Vec<(Vec<u8>, NodeId, Option<usize>)>,
    groups: Vec<Group>,
}

impl<'a> Names<'a> {
    fn of(tree: &'a Tree, grouping: &Grouping) -> Self {
        let mut indices: BTreeMap<Group, usize> = BTreeMap::new();
        let mut files: Vec<_> = tree
            .walk()
            .map(|(path, id)| {
                let group = grouping.group(&path, tree.is_directory(id)).map(|group| {
                    let next = indices.len();
                    *indices.entry(group.to_vec()).or_insert(next)
                });
                (path, id, group)
            })
            .collect();
        keep_linked_together(&mut files);
        let mut groups = vec![Group::new(); indices.len()];
        for (group, index) in indices {
            groups[index] = group;
        }
        Self { tree, files, groups }
    }

    /// The groups in the order of their layers.
    fn ranked(&self, popularity: &BTreeMap<Group, u64>) -> Vec<usize> {
        let mut sizes = vec![0_u64; self.groups.len()];
        for (_, id, group) in &self.files {
            if let Some(group) = group {
                sizes[*group] = sizes[*group].saturating_add(self.tree.node(*id).content.size());
            }
        }
        let mut ranked: Vec<usize> = (0..self.groups.len()).collect();
        ranked.sort_by_key(|group| {
            let name = &self.groups[*group];
            let popularity = popularity.get(name).copied().unwrap_or(0);
            (Reverse(popularity), Reverse(sizes[*group].checked_ilog2()), name)
        });
        ranked
    }
}

/// Takes files with names in several groups out of all of them.
fn keep_linked_together(files: &mut [(Vec<u8>, NodeId, Option<usize>)]) {
    let mut group_of: HashMap<NodeId, Option<usize>> = HashMap::new();
    for (_, id, group) in files.iter() {
        let common = group_of.entry(*id).or_insert(*group);
        *common = common.filter(|common| Some(*common) == *group);
    }
    for (_, id, group) in files {
        *group = group_of[id];
    }
}

/// A layer in the making.
struct Building<'a> {
    from: &'a Tree,
    layer: Tree,
    /// Whether directories that are only on the way are as in the tree.
    is_last: bool,
    /// Nodes of the tree that are there, with their ids in the layer.
    added: HashMap<NodeId, NodeId>,
}

impl<'a> Building<'a> {
    fn new(from: &'a Tree, is_last: bool) -> Self {
        let mut layer = Tree::new();
        if is_last {
            layer.node_mut(Tree::ROOT).metadata = from.node(Tree::ROOT).metadata.clone();
        }
        Self { from, layer, is_last, added: HashMap::from([(Tree::ROOT, Tree::ROOT)]) }
    }

    fn add(&mut self, path: &[u8], id: NodeId) {
        let Some((parent, name)) = path::split_name(path) else { return };
        let parent = self.parent(parent);
        let (from, layer) = (self.from, &mut self.layer);
        let is_directory = from.is_directory(id);
        let id = *self.added.entry(id).or_insert_with(|| {
            let node = from.node(id);
            let content = if is_directory { empty_directory() } else { node.content.clone() };
            layer.insert(Node { metadata: node.metadata.clone(), content })
        });
        attach(layer, parent, name, id);
    }

    /// The directory of a path, made on the way. A directory of the layer's own was added before what is
    /// in it.
    fn parent(&mut self, path: &[u8]) -> NodeId {
        let (mut here, mut there) = (Tree::ROOT, Tree::ROOT);
        for name in path::components(path) {
            there = self.from.child(there, name).expect("the path is the tree's");
            here = match self.layer.child(here, name) {
                Some(id) => id,
                None => self.make_directory(here, name, there),
            };
        }
        here
    }

    fn make_directory(&mut self, parent: NodeId, name: &[u8], like: NodeId) -> NodeId {
        let metadata = match self.is_last {
            true => self.from.node(like).metadata.clone(),
            false => Metadata { mode: 0o755, ..Metadata::default() },
        };
        let id = self.layer.insert(Node { metadata, content: empty_directory() });
        attach(&mut self.layer, parent, name, id);
        self.added.insert(like, id);
        id
    }

    fn finish(self, names: &Names, set: Vec<usize>) -> SharedLayer {
        let mut groups: Vec<Group> = set.into_iter().map(|group| names.groups[group].clone()).collect();
        groups.sort_unstable();
        SharedLayer { groups, tree: self.layer }
    }
}

fn empty_directory() -> Content {
    Content::Directory(BTreeMap::new())
}

fn attach(tree: &mut Tree, directory: NodeId, name: &[u8], id: NodeId) {
    tree.children_mut(directory).expect("a directory").insert(name.to_vec(), id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerWriter;
    use crate::tar::Reader;
    use crate::tree::test_tree::{self, listing};

    fn layers(tree: &Tree, grouping: &Grouping, max_layers: usize) -> Vec<SharedLayer> {
        let popularity = BTreeMap::from([(b"glibc".to_vec(), 9), (b"bash".to_vec(), 4)]);
        split(tree, grouping, &popularity, max_layers).unwrap()
    }

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut writer = LayerWriter::new(Vec::new(), i64::MAX);
        writer.write_tree(tree, &mut |_, _, _: &mut [u8]| Ok(())).unwrap();
        writer.finish().unwrap()
    }

    fn store() -> Tree {
        test_tree::of(&[
            ("nix/store/zlib/lib/z", "1"),
            ("nix/store/bash/bin/sh", "2"),
            ("nix/store/glibc/lib/c", "3"),
            ("nix/store/app/bin/app", "4"),
            ("bin", "-> nix/store/bash/bin"),
            ("etc/app", "5"),
        ])
    }

    #[test]
    fn store_paths_get_a_layer_each_until_there_are_no_more() {
        let tree = store();
        assert_eq!(Grouping::of(&tree), Grouping::Store);
        let of = |max_layers| -> Vec<String> {
            let layers = layers(&tree, &Grouping::Store, max_layers);
            layers.iter().map(|layer| String::from_utf8(layer.groups.join(&b' ')).unwrap()).collect()
        };
        assert_eq!(of(100), ["glibc", "bash", "app", "zlib", ""]);
        assert_eq!(of(3), ["glibc", "bash", "app zlib"]);
        assert_eq!(of(1), ["app bash glibc zlib"]);
        let split = layers(&tree, &Grouping::Store, 3);
        assert_eq!(
            listing(&split[0].tree),
            [
                "nix/ 0",
                "nix/store/ 0",
                "nix/store/glibc/ 0",
                "nix/store/glibc/lib/ 0",
                "nix/store/glibc/lib/c 3"
            ]
        );
        assert!(listing(&split[2].tree).contains(&"etc/app 5".to_owned()));
    }

    #[test]
    fn packages_own_files_and_nobody_directories() {
        let tree =
            test_tree::of(&[("usr/bin/sh", "1"), ("usr/lib/c", "2"), ("usr/bin/x", "3"), ("usr/bin/y", "4")]);
        assert_eq!(Grouping::of(&tree), Grouping::Directories);
        let owners =
            [("usr/bin/sh", "bash"), ("usr/lib/c", "glibc"), ("usr/bin/y", "app"), ("usr/lib", "app")];
        let owners = owners.map(|(path, package)| (path.as_bytes().to_vec(), package.as_bytes().to_vec()));
        let split = layers(&tree, &Grouping::Owned(owners.into()), 4);
        let lines: Vec<_> = split.iter().map(|layer| listing(&layer.tree)).collect();
        assert_eq!(lines[0], ["usr/ 0", "usr/lib/ 0", "usr/lib/c 2"]);
        assert_eq!(lines[1], ["usr/ 0", "usr/bin/ 0", "usr/bin/sh 1"]);
        assert_eq!(lines[2], ["usr/ 0", "usr/bin/ 0", "usr/bin/y 4"]);
        assert_eq!(lines[3], ["usr/ 0", "usr/bin/ 0", "usr/bin/x 3", "usr/lib/ 0"]);
    }

    #[test]
    fn directories_come_by_the_order_of_their_size() {
        let mut tree = test_tree::of(&[
            ("usr/lib/a", "1"),
            ("usr/bin/b", "1"),
            ("etc/c", "1"),
            ("usr/d", "1"),
            ("e", "1"),
        ]);
        for (path, size) in [("usr/lib/a", 1000), ("usr/bin/b", 1020), ("etc/c", 5000)] {
            let id = tree.lookup(path.as_bytes()).unwrap();
            tree.node_mut(id).content = Content::File { size, extents: Vec::new() };
        }
        let groups: Vec<_> =
            layers(&tree, &Grouping::Directories, 9).into_iter().map(|layer| layer.groups).collect();
        let expected: [&[&[u8]]; 4] = [&[b"etc"], &[b"usr/bin"], &[b"usr/lib"], &[]];
        assert_eq!(groups, expected);
    }

    #[test]
    fn a_change_of_a_group_changes_its_layer_and_no_other() {
        let before: Vec<_> =
            layers(&store(), &Grouping::Store, 4).iter().map(|layer| archive(&layer.tree)).collect();
        let mut tree = store();
        for path in [&b"nix/store/bash/bin/sh"[..], b"nix/store/bash", b"nix/store", b"nix", b""] {
            let id = tree.lookup(path).unwrap();
            tree.node_mut(id).metadata.mtime = 99;
        }
        let after: Vec<_> =
            layers(&tree, &Grouping::Store, 4).iter().map(|layer| archive(&layer.tree)).collect();
        let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
        assert_eq!(same, [true, false, true, false]);
    }

    #[test]
    fn layers_laid_over_one_another_are_the_tree() {
        let mut tree = test_tree::of(&[
            ("nix/store/a/x", "1"),
            ("nix/store/a/y", "= nix/store/a/x"),
            ("nix/store/b/x", "2"),
            ("nix/store/c/x", "= nix/store/b/x"),
            ("nix/store/d/empty", "dir"),
            ("nix/store/e", "-> a"),
            ("tmp", "dir"),
        ]);
        for path in [&b"nix/store"[..], b"tmp", b"nix/store/b"] {
            let id = tree.lookup(path).unwrap();
            tree.node_mut(id).metadata = Metadata { mode: 0o1777, uid: 7, mtime: 5, ..Metadata::default() };
        }
        for (grouping, max_layers) in
            [(Grouping::Store, 1), (Grouping::Store, 3), (Grouping::Store, 99), (Grouping::Directories, 2)]
        {
            let mut merged = Tree::new();
            for (source, layer) in (0..).zip(layers(&tree, &grouping, max_layers)) {
                merged.apply_layer(source, Reader::new(&archive(&layer.tree)[..]).entries()).unwrap();
            }
            let (merged_bytes, tree_bytes) = (archive(&merged), archive(&tree));
            assert_eq!(listing(&merged), listing(&tree));
            assert!(merged_bytes == tree_bytes, "{grouping:?} {max_layers}");
        }
    }

    #[test]
    fn popularity_counts_who_needs_a_group_in_the_end() {
        let set = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<BTreeSet<_>>();
        let needs = BTreeMap::from([
            (b"app".to_vec(), set(&["bash", "app"])),
            (b"bash".to_vec(), set(&["libc"])),
            (b"libc".to_vec(), set(&["gcc"])),
            (b"gcc".to_vec(), set(&["libc"])),
        ]);
        let expected = [("bash", 1), ("gcc", 3), ("libc", 3)];
        assert_eq!(
            popularity(&needs),
            expected.map(|(name, count)| (name.as_bytes().to_vec(), count)).into()
        );
    }

    #[test]
    fn numbers_of_layers_that_cannot_be_are_refused() {
        for count in [0, MAX_LAYERS + 1] {
            let error = split(&Tree::new(), &Grouping::Store, &BTreeMap::new(), count).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot make {count} layers: an image has at least one and at most 127")
            );
        }
    }
}
