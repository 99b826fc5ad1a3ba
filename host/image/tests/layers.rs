//! Layers as a whole: merged as a simple model says, and the same after a trip through an archive.

use kiln_image::contents::{Contents, Placement};
use kiln_image::difference::{Mtimes, difference};
use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::layer::LayerWriter;
use kiln_image::path::{components, join, split_name};
use kiln_image::tar::{ArchiveEntry, Location, Reader};
use kiln_image::tree::{Content, Node, NodeId, Tree};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a layer's entry does, without links.
#[derive(Debug, Clone)]
enum Change {
    File(u32),
    Directory(u32),
    Whiteout,
    Opaque,
}

type Layer = Vec<(Vec<u8>, Change)>;

/// Owner of what a layer implies; no change has it.
const IMPLIED: u32 = 0;

/// Paths to whether it is a directory, and its owner.
type Model = BTreeMap<Vec<u8>, (bool, u32)>;

fn remove_below(model: &mut Model, path: &[u8]) {
    model.retain(|other, _| !kiln_image::path::is_below(other, path));
}

/// A layer by itself: the later entry wins, and what is missing is made.
fn upper(layer: &Layer) -> Model {
    let mut upper = Model::new();
    for (path, change) in layer {
        match change {
            Change::File(owner) => {
                make_parents(&mut upper, path);
                remove_below(&mut upper, path);
                upper.insert(path.clone(), (false, *owner));
            }
            Change::Directory(owner) => {
                make_parents(&mut upper, path);
                upper.insert(path.clone(), (true, *owner));
            }
            Change::Opaque => make_parents(&mut upper, &join(path, b"x")),
            Change::Whiteout => {}
        }
    }
    upper
}

fn make_parents(upper: &mut Model, path: &[u8]) {
    let Some((parent, _)) = split_name(path) else { return };
    if !parent.is_empty() {
        make_parents(upper, parent);
        let entry = upper.entry(parent.to_vec()).or_insert((true, IMPLIED));
        if !entry.0 {
            *entry = (true, IMPLIED);
        }
    }
}

fn model_of(layers: &[Layer]) -> Model {
    let mut merged = Model::new();
    for layer in layers {
        for (path, change) in layer {
            match change {
                Change::Whiteout => {
                    remove_below(&mut merged, path);
                    merged.remove(path);
                }
                // In the layer itself, a later file may have replaced the directory.
                Change::Opaque => remove_below(&mut merged, path),
                _ => {}
            }
        }
        for (path, (is_directory, owner)) in upper(layer) {
            let existing = merged.get(&path).copied();
            if !is_directory {
                remove_below(&mut merged, &path);
            }
            match existing {
                Some((true, _)) if is_directory && owner == IMPLIED => {}
                _ => drop(merged.insert(path, (is_directory, owner))),
            }
        }
    }
    merged
}

fn archive_entry((path, change): &(Vec<u8>, Change)) -> ArchiveEntry {
    let hiding = || {
        let (parent, name) = split_name(path).expect("not the root");
        join(parent, &[b".wh.", name].concat())
    };
    let empty = Kind::File { size: 0 };
    let (path, kind, uid) = match change {
        Change::File(owner) => (path.clone(), empty, *owner),
        Change::Directory(owner) => (path.clone(), Kind::Directory, *owner),
        Change::Whiteout => (hiding(), empty, 0),
        Change::Opaque => (join(path, b".wh..wh..opq"), empty, 0),
    };
    let entry = Entry { path, metadata: Metadata { uid, ..Metadata::default() }, kind };
    ArchiveEntry {
        entry,
        location: Location { header_offset: 0, data_offset: 0, stored_size: 0, sparse: None },
    }
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "a-"]), 1..4)
        .prop_map(|names| names.join("/").into())
}

fn layer() -> impl Strategy<Value = Layer> {
    let change = prop_oneof![
        3 => (1_u32..100).prop_map(Change::File),
        2 => (1_u32..100).prop_map(Change::Directory),
        1 => Just(Change::Whiteout),
        1 => Just(Change::Opaque),
    ];
    prop::collection::vec((path(), change), 0..10)
}

fn listed(tree: &Tree) -> Model {
    let line = |(path, id): (Vec<u8>, NodeId)| (path, (tree.is_directory(id), tree.node(id).metadata.uid));
    tree.walk().skip(1).map(line).collect()
}

/// A tree with links: each path is a new file, a directory, a symbolic link, or another name of a file.
fn tree() -> impl Strategy<Value = Tree> {
    prop::collection::vec((path(), 0_u8..8, any::<prop::sample::Index>()), 0..15).prop_map(|files| {
        let (mut tree, mut linkable) = (Tree::new(), Vec::new());
        for (path, what, other) in files {
            let content = match what {
                0 => Content::Directory(BTreeMap::new()),
                1 => Content::Symlink(b"../target".to_vec()),
                2 => Content::CharacterDevice { major: 1, minor: 3 },
                3 => Content::Fifo,
                _ => Content::File { size: 600, extents: Vec::new() },
            };
            let is_link = what > 5 && !linkable.is_empty();
            let id = if is_link { linkable[other.index(linkable.len())] } else { add(&mut tree, content) };
            if what != 0 {
                linkable.push(id);
            }
            attach(&mut tree, &path, id);
        }
        tree
    })
}

fn add(tree: &mut Tree, content: Content) -> NodeId {
    let uid = u32::try_from(tree.node_count()).unwrap();
    tree.insert(Node { metadata: Metadata { mode: 0o755, uid, mtime: 5, ..Metadata::default() }, content })
}

fn attach(tree: &mut Tree, path: &[u8], id: NodeId) {
    let (parent, name) = split_name(path).unwrap();
    let mut directory = Tree::ROOT;
    for name in components(parent) {
        directory = match tree.child(directory, name).filter(|child| tree.is_directory(*child)) {
            Some(child) => child,
            None => {
                let child = add(tree, Content::Directory(BTreeMap::new()));
                tree.children_mut(directory).unwrap().insert(name.to_vec(), child);
                child
            }
        };
    }
    tree.children_mut(directory).unwrap().insert(name.to_vec(), id);
}

fn layer_of(tree: &Tree) -> Vec<u8> {
    let mut layer = LayerWriter::new(Vec::new(), i64::MAX);
    layer.write_tree(tree, &mut |_, _, _: &mut [u8]| panic!("all files are holes")).unwrap();
    layer.finish().unwrap()
}

/// Everything but where data is; files with several names by their first.
fn described(tree: &Tree) -> Vec<(Vec<u8>, Metadata, Kind, Vec<u8>)> {
    let mut first_names = BTreeMap::new();
    let mut lines = Vec::new();
    for (path, id) in tree.walk().skip(1) {
        let first = first_names.entry(id).or_insert_with(|| path.clone()).clone();
        let node = tree.node(id);
        lines.push((path, node.metadata.clone(), node.content.kind(), first));
    }
    lines
}

/// Owners and sizes from few, so that two trees have files in common.
fn similar_tree() -> impl Strategy<Value = Tree> {
    (tree(), prop::collection::vec((0_u32..2, 0_u64..2), 60)).prop_map(|(mut tree, choices)| {
        let ids: Vec<NodeId> = tree.walk().map(|(_, id)| id).collect();
        for id in ids {
            let (uid, size) = choices[id.index() % choices.len()];
            let node = tree.node_mut(id);
            node.metadata.uid = uid;
            if let Content::File { size: old, .. } = &mut node.content {
                *old = size * 600;
            }
        }
        tree
    })
}

proptest! {
    #[test]
    fn a_difference_laid_over_the_one_tree_is_the_other(lower in similar_tree(), upper in similar_tree()) {
        let items = difference(&lower, &upper, Mtimes::Compared, &mut |_, _| Ok(true)).unwrap();
        let mut layer = LayerWriter::new(Vec::new(), i64::MAX);
        layer.write_items(items, &mut |_, _, _: &mut [u8]| panic!("all files are holes")).unwrap();
        let layer = layer.finish().unwrap();
        let mut applied = lower.clone();
        applied.apply_layer(1, Reader::new(&layer[..]).entries()).unwrap();
        prop_assert_eq!(described(&applied), described(&upper));
        prop_assert_eq!(&applied.node(Tree::ROOT).metadata, &upper.node(Tree::ROOT).metadata);
        prop_assert!(difference(&applied, &upper, Mtimes::Compared, &mut |_, _| Ok(true)).unwrap().is_empty());
    }

    #[test]
    fn merging_agrees_with_the_model(layers in prop::collection::vec(layer(), 1..4)) {
        let mut tree = Tree::new();
        for (source, layer) in (0..).zip(&layers) {
            tree.apply_layer(source, layer.iter().map(|change| Ok(archive_entry(change)))).unwrap();
        }
        prop_assert_eq!(listed(&tree), model_of(&layers));
        tree.compact();
        prop_assert_eq!(listed(&tree), model_of(&layers));
    }

    #[test]
    fn a_tree_survives_its_layer(tree in tree()) {
        let layer = layer_of(&tree);
        let mut again = Tree::new();
        again.apply_layer(0, Reader::new(&layer[..]).entries()).unwrap();
        prop_assert_eq!(described(&again), described(&tree));
        prop_assert_eq!(layer_of(&tree), layer);
    }

    #[test]
    fn contents_over_nothing_are_the_tree(tree in tree()) {
        let empty = Tree::new();
        let mut contents = Contents::new(&empty);
        let keep = Placement { owner: kiln_image::contents::Owner::Keep, ..Placement::default() };
        contents.place(&tree, &keep).unwrap();
        prop_assert_eq!(described(&contents.into_tree()), described(&tree));
    }
}

#[test]
fn contents_made_a_layer_go_through_the_links_of_the_base() {
    let mut base = Tree::new();
    let directory = add(&mut base, Content::Directory(BTreeMap::new()));
    attach(&mut base, b"usr/lib", directory);
    let link = add(&mut base, Content::Symlink(b"usr/lib".to_vec()));
    attach(&mut base, b"lib", link);
    let mut added = Tree::new();
    let file = add(&mut added, Content::Fifo);
    attach(&mut added, b"lib/new", file);

    let mut contents = Contents::new(&base);
    contents.place(&added, &Placement::default()).unwrap();
    let layer = layer_of(&contents.into_tree());
    base.apply_layer(0, Reader::new(&layer[..]).entries()).unwrap();
    assert!(matches!(base.node(base.lookup(b"lib").unwrap()).content, Content::Symlink(_)));
    assert!(base.lookup(b"usr/lib/new").is_some());
}
