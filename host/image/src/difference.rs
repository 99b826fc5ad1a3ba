//! The layer that turns one tree into another.
//!
//! A tree `lower` with the layer laid over it is `upper`, hard links included. The layer holds
//! - every file that is new or differs, in kind, metadata or contents;
//! - a whiteout for each name that is gone, unless the directory is opaque. Opaque costs the marker and
//!   all that is still in the directory, data included, so both ways are counted in blocks of the
//!   archive and the smaller is taken, at a tie the whiteouts;
//! - the directories on the way to these, changed or not: where a layer does not have them, Docker and
//!   containerd make them anew for the kernel's overlayfs, and `/tmp` loses its mode.
//!
//! What replaces something of another kind needs no whiteout: it hides what was there.
//!
//! A hard link in a layer can only name a file of the same layer. So a file with several names is left
//! out only if all names of it were names of one file below, and else comes whole. Two files of `upper`
//! cannot both be the same one below: the first stays, the other is made anew, or they would be linked.
//!
//! The root is never opaque: overlayfs merges the roots of all layers, whatever they say.

use crate::Error;
use crate::entry::{Entry, Kind as EntryKind, Metadata};
use crate::layer::{LayerItem, ReadAt, TreeItem};
use crate::path;
use crate::tree::{Content, Extent, Node, NodeId, Tree};
use std::collections::{BTreeMap, HashMap, HashSet};

/// When two times of change are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtimes {
    /// When they are equal.
    Compared,
    /// When they are equal once those later than this, in seconds since 1970, are taken for it: what
    /// [`LayerWriter`](crate::layer::LayerWriter) makes of them.
    Capped(i64),
    /// Always.
    Ignored,
}

impl Mtimes {
    fn are_same(self, lower: i64, upper: i64) -> bool {
        match self {
            Self::Compared => lower == upper,
            Self::Capped(epoch) => lower.min(epoch) == upper.min(epoch),
            Self::Ignored => true,
        }
    }
}

/// Tells whether a regular file of the lower tree and one of the upper, which have one size, have the
/// same bytes.
pub type SameContents<'a> = dyn FnMut(&Node, &Node) -> Result<bool, Error> + 'a;

/// Compares by reading, for trees that have one numbering of sources. Files of one place in one source
/// are not read.
///
/// # Errors
/// When `read` fails.
pub fn same_bytes(lower: &Node, upper: &Node, read: &mut ReadAt) -> Result<bool, Error> {
    let (left, right) = (lower.content.extents(), upper.content.extents());
    if lower.content.size() != upper.content.size() {
        return Ok(false);
    }
    if left == right {
        return Ok(true);
    }
    let (mut left_bytes, mut right_bytes) = (vec![0; COMPARE_SIZE], vec![0; COMPARE_SIZE]);
    let mut position = 0;
    while position < lower.content.size() {
        let length = (lower.content.size() - position).min(COMPARE_SIZE as u64);
        let count = usize::try_from(length).expect("no more than a buffer");
        fill(left, position, &mut left_bytes[..count], read)?;
        fill(right, position, &mut right_bytes[..count], read)?;
        if left_bytes[..count] != right_bytes[..count] {
            return Ok(false);
        }
        position += length;
    }
    Ok(true)
}

/// Bytes compared at a time.
const COMPARE_SIZE: usize = 128 * 1024;

/// The bytes of a file from a position.
fn fill(extents: &[Extent], position: u64, buffer: &mut [u8], read: &mut ReadAt) -> Result<(), Error> {
    buffer.fill(0);
    let end = position + buffer.len() as u64;
    let first = extents.partition_point(|extent| extent.file_offset + extent.length <= position);
    for extent in extents[first..].iter().take_while(|extent| extent.file_offset < end) {
        let start = extent.file_offset.max(position);
        let stop = (extent.file_offset + extent.length).min(end);
        let index = |offset: u64| usize::try_from(offset - position).expect("inside the buffer");
        let from = extent.source_offset + (start - extent.file_offset);
        read(extent.source, from, &mut buffer[index(start)..index(stop)])
            .map_err(|error| Error::from_io(error, || "compare files of two trees".to_owned()))?;
    }
    Ok(())
}

/// What a layer over `lower` has to hold to show `upper`, in the order of a layer.
///
/// # Errors
/// Those of `same_contents`.
pub fn difference<'a>(
    lower: &Tree,
    upper: &'a Tree,
    mtimes: Mtimes,
    same_contents: &mut SameContents,
) -> Result<Vec<TreeItem<'a>>, Error> {
    let visits = visit(lower, upper);
    let kept = kept_files(&visits, Comparison { lower, upper, mtimes, same_contents })?;
    let mut difference = Difference { lower, upper, mtimes, visits, kept, links: upper.link_counts() };
    let plan = difference.plan();
    let mut items = difference.items(&plan);
    items.sort_by(|left, right| path::walk_order(left.item.path(), right.item.path()));
    Ok(items)
}

/// A name of the upper tree.
struct Visit {
    path: Vec<u8>,
    id: NodeId,
    /// Index of its directory's visit; the root's own.
    parent: usize,
    /// What the lower tree has of this path, no link being followed.
    below: Option<NodeId>,
}

fn visit(lower: &Tree, upper: &Tree) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::with_capacity(upper.node_count());
    // The directories that the walk is in, by their visits.
    let mut open: Vec<usize> = Vec::new();
    for (path, id) in upper.walk() {
        open.truncate(path::components(&path).count());
        let parent = open.last().copied().unwrap_or(0);
        let below = match path::split_name(&path) {
            Some((_, name)) => visits[parent].below.and_then(|directory| lower.child(directory, name)),
            None => Some(Tree::ROOT),
        };
        open.push(visits.len());
        visits.push(Visit { path, id, parent, below });
    }
    visits
}

struct Comparison<'a, 'b> {
    lower: &'a Tree,
    upper: &'a Tree,
    mtimes: Mtimes,
    same_contents: &'a mut SameContents<'b>,
}

impl Comparison<'_, '_> {
    fn is_same(&mut self, below: NodeId, id: NodeId) -> Result<bool, Error> {
        let (below, node) = (self.lower.node(below), self.upper.node(id));
        if !same_metadata(&below.metadata, &node.metadata, self.mtimes) {
            return Ok(false);
        }
        match (&below.content, &node.content) {
            (Content::Directory(_), _) | (_, Content::Directory(_)) => Ok(false),
            (Content::File { size: 0, .. }, Content::File { size: 0, .. }) => Ok(true),
            (Content::File { size: lower, .. }, Content::File { size: upper, .. }) => {
                Ok(lower == upper && (self.same_contents)(below, node)?)
            }
            (lower, upper) => Ok(lower == upper),
        }
    }
}

fn same_metadata(lower: &Metadata, upper: &Metadata, mtimes: Mtimes) -> bool {
    (lower.mode, lower.uid, lower.gid) == (upper.mode, upper.uid, upper.gid)
        && lower.xattrs == upper.xattrs
        && mtimes.are_same(lower.mtime, upper.mtime)
}

/// The files of the upper tree, directories apart, that are there below under all of their names.
fn kept_files(visits: &[Visit], mut comparison: Comparison) -> Result<HashSet<NodeId>, Error> {
    let mut below_of: HashMap<NodeId, Option<NodeId>> = HashMap::new();
    let files = || visits.iter().filter(|visit| !comparison.upper.is_directory(visit.id));
    for visit in files() {
        let below = below_of.entry(visit.id).or_insert(visit.below);
        *below = below.filter(|below| Some(*below) == visit.below);
    }
    let in_order: Vec<NodeId> = files().map(|visit| visit.id).collect();
    let (mut kept, mut claimed) = (HashSet::new(), HashSet::new());
    for id in in_order {
        // Several names are decided upon once.
        let Some(below) = below_of.remove(&id).flatten() else { continue };
        if !claimed.contains(&below) && comparison.is_same(below, id)? {
            claimed.insert(below);
            kept.insert(id);
        }
    }
    Ok(kept)
}

struct Difference<'a, 'b> {
    lower: &'b Tree,
    upper: &'a Tree,
    mtimes: Mtimes,
    visits: Vec<Visit>,
    kept: HashSet<NodeId>,
    links: Vec<u32>,
}

/// What is to be done about a name, and what that costs in blocks of the archive.
#[derive(Clone, Default)]
struct Plan {
    /// All that is at and below the name, as if nothing were below.
    whole: u64,
    /// Only what differs; nothing if zero.
    changed: u64,
    /// Whether there are files with several names at or below it that the layer leaves out.
    keeps_links: bool,
    is_opaque: bool,
}

/// Bytes of a block of an archive.
const BLOCK_SIZE: u64 = 512;

impl<'a> Difference<'a, '_> {
    /// From the end: what is in a directory comes after it.
    fn plan(&mut self) -> Vec<Plan> {
        let mut plans = vec![Plan::default(); self.visits.len()];
        for index in (0..self.visits.len()).rev() {
            let plan = match self.upper.is_directory(self.visits[index].id) {
                true => self.plan_directory(index, &plans[index]),
                false => self.plan_file(index),
            };
            if index > 0 {
                plans[self.visits[index].parent].add(&plan);
            }
            plans[index] = plan;
        }
        plans
    }

    fn plan_file(&self, index: usize) -> Plan {
        let id = self.visits[index].id;
        let whole = 1 + self.upper.node(id).content.size().div_ceil(BLOCK_SIZE);
        let is_kept = self.kept.contains(&id);
        let keeps_links = is_kept && self.links[id.index()] > 1;
        Plan { whole, changed: if is_kept { 0 } else { whole }, keeps_links, is_opaque: false }
    }

    /// With the sums of what is in the directory.
    fn plan_directory(&self, index: usize, inside: &Plan) -> Plan {
        let whole = inside.whole + 1;
        let Some(below) = self.directory_below(index) else {
            return Plan { whole, changed: whole, keeps_links: inside.keeps_links, is_opaque: false };
        };
        let whiteouts = self.gone(index).count() as u64;
        let changed = inside.changed + whiteouts;
        let is_opaque = index > 0 && !inside.keeps_links && whiteouts > 0 && inside.whole + 1 < changed;
        let changed = if is_opaque { inside.whole + 1 } else { changed };
        let node = self.upper.node(self.visits[index].id);
        let is_same = same_metadata(&self.lower.node(below).metadata, &node.metadata, self.mtimes);
        // The directories on the way are in the layer, but not the root, which every layer has.
        let itself = u64::from(!is_same || (changed > 0 && index > 0));
        Plan { whole, changed: changed + itself, keeps_links: inside.keeps_links, is_opaque }
    }

    fn directory_below(&self, index: usize) -> Option<NodeId> {
        self.visits[index].below.filter(|below| self.lower.is_directory(*below))
    }

    /// Names of a directory that are below only.
    fn gone(&self, index: usize) -> impl Iterator<Item = &Vec<u8>> {
        let below = self.directory_below(index).and_then(|below| self.lower.children(below));
        let here = self.upper.children(self.visits[index].id);
        let is_gone = move |name: &&Vec<u8>| here.is_some_and(|here| !here.contains_key(*name));
        below.into_iter().flat_map(BTreeMap::keys).filter(is_gone)
    }

    fn items(&self, plans: &[Plan]) -> Vec<TreeItem<'a>> {
        let mut first_names = HashMap::new();
        let mut items = Vec::new();
        // Whether all that is in a directory is to come.
        let mut is_whole = vec![false; self.visits.len()];
        for (index, plan) in plans.iter().enumerate() {
            let forced = index > 0 && is_whole[self.visits[index].parent];
            is_whole[index] = forced || plan.is_opaque;
            if forced || self.is_due(index, plan) {
                items.push(self.item(index, plan.is_opaque && !forced, &mut first_names));
            }
            if !is_whole[index] && plan.changed > 0 {
                let hide = |name: &Vec<u8>| path::join(&self.visits[index].path, name);
                items.extend(self.gone(index).map(hide).map(whiteout));
            }
        }
        items
    }

    fn is_due(&self, index: usize, plan: &Plan) -> bool {
        let is_root_as_below = index == 0 && {
            let (below, here) = (self.lower.node(Tree::ROOT), self.upper.node(Tree::ROOT));
            same_metadata(&below.metadata, &here.metadata, self.mtimes)
        };
        plan.changed > 0 && !is_root_as_below
    }

    fn item(&self, index: usize, opaque: bool, first_names: &mut HashMap<NodeId, Vec<u8>>) -> TreeItem<'a> {
        let Visit { path, id, .. } = &self.visits[index];
        let node = self.upper.node(*id);
        let (path, metadata) = (path.clone(), node.metadata.clone());
        if opaque {
            return TreeItem { item: LayerItem::OpaqueDirectory { path, metadata }, size: 0, extents: &[] };
        }
        if let Some(target) = first_names.get(id).cloned() {
            let kind = EntryKind::HardLink { target };
            let item = LayerItem::Entry(Entry { path, metadata, kind });
            return TreeItem { item, size: 0, extents: &[] };
        }
        if !self.upper.is_directory(*id) && self.links[id.index()] > 1 {
            first_names.insert(*id, path.clone());
        }
        let (size, extents) = (node.content.size(), node.content.extents());
        TreeItem {
            item: LayerItem::Entry(Entry { path, metadata, kind: node.content.kind() }),
            size,
            extents,
        }
    }
}

impl Plan {
    fn add(&mut self, inside: &Self) {
        self.whole = self.whole.saturating_add(inside.whole);
        self.changed = self.changed.saturating_add(inside.changed);
        self.keeps_links |= inside.keeps_links;
    }
}

fn whiteout<'a>(path: Vec<u8>) -> TreeItem<'a> {
    TreeItem { item: LayerItem::Whiteout { path }, size: 0, extents: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::test_tree;

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn lines(lower: Files, upper: Files) -> Vec<String> {
        let (lower, upper) = (test_tree::of(lower), test_tree::of(upper));
        let items = difference(&lower, &upper, Mtimes::Compared, &mut |_, _| Ok(true)).unwrap();
        items.iter().map(|item| line(&item.item)).collect()
    }

    fn line(item: &LayerItem) -> String {
        let path = String::from_utf8(item.path().to_vec()).unwrap();
        match item {
            LayerItem::Whiteout { .. } => format!("-{path}"),
            LayerItem::OpaqueDirectory { .. } => format!("{path}/ opaque"),
            LayerItem::Entry(Entry { kind: EntryKind::Directory, .. }) => format!("{path}/"),
            LayerItem::Entry(Entry { kind: EntryKind::HardLink { target }, .. }) => {
                format!("{path} = {}", String::from_utf8_lossy(target))
            }
            LayerItem::Entry(_) => path,
        }
    }

    #[test]
    fn only_what_differs_is_in_the_layer() {
        let base: Files = &[("a/x", "1"), ("a/y", "1"), ("b", "1"), ("l", "-> b"), ("z", "= b")];
        let cases: [(&str, Files, &[&str]); 12] = [
            ("nothing", base, &[]),
            (
                "new",
                &[("a/x", "1"), ("a/y", "1"), ("a/z", "1"), ("b", "1"), ("l", "-> b"), ("z", "= b")],
                &["a/", "a/z"],
            ),
            ("owner", &[("a/x", "2"), ("a/y", "1"), ("b", "1"), ("l", "-> b"), ("z", "= b")], &["a/", "a/x"]),
            ("gone", &[("a/x", "1"), ("b", "1"), ("l", "-> b"), ("z", "= b")], &["a/", "-a/y"]),
            // One whiteout each, against a marker and nothing else.
            ("emptied", &[("a", "dir"), ("b", "1"), ("l", "-> b"), ("z", "= b")], &["a/ opaque"]),
            ("directory gone", &[("b", "1"), ("l", "-> b"), ("z", "= b")], &["-a"]),
            ("directory to file", &[("a", "1"), ("b", "1"), ("l", "-> b"), ("z", "= b")], &["a"]),
            (
                "link to directory",
                &[("a/x", "1"), ("a/y", "1"), ("b", "1"), ("l/n", "1"), ("z", "= b")],
                &["l/", "l/n"],
            ),
            (
                "a linked name changes",
                &[("a/x", "1"), ("a/y", "1"), ("b", "2"), ("l", "-> b"), ("z", "= b")],
                &["b", "z = b"],
            ),
            (
                "a link is broken",
                &[("a/x", "1"), ("a/y", "1"), ("b", "1"), ("l", "-> b"), ("z", "1")],
                &["z"],
            ),
            ("a name is gone", &[("a/x", "1"), ("a/y", "1"), ("l", "-> b"), ("z", "1")], &["-b"]),
            (
                "one name more",
                &[("a/x", "1"), ("a/y", "1"), ("b", "1"), ("l", "-> b"), ("y", "= b"), ("z", "= b")],
                &["b", "y = b", "z = b"],
            ),
        ];
        for (what, upper, expected) in cases {
            assert_eq!(lines(base, upper), expected, "{what}");
        }
    }

    #[test]
    fn opaque_is_taken_where_it_is_smaller() {
        let base: Files = &[("d/a", "1"), ("d/b", "1"), ("d/c", "1"), ("d/s", "1")];
        // Two whiteouts against the marker and the file that stays.
        assert_eq!(lines(base, &[("d/c", "1"), ("d/s", "1")]), ["d/", "-d/a", "-d/b"]);
        assert_eq!(lines(base, &[("d/s", "1")]), ["d/ opaque", "d/s"]);
        let linked: Files = &[("d/a", "1"), ("d/b", "1"), ("d/c", "1"), ("d/s", "1"), ("o", "= d/s")];
        assert_eq!(lines(linked, &[("d/s", "1"), ("o", "= d/s")]), ["d/", "-d/a", "-d/b", "-d/c"]);
        assert_eq!(lines(base, &[]), ["-d"]);
        assert_eq!(lines(&[("a", "1"), ("b", "1"), ("c", "1")], &[]), ["-a", "-b", "-c"]);
    }

    #[test]
    fn data_is_not_repeated_to_save_whiteouts() {
        let files: Files = &[("d/a", "1"), ("d/b", "1"), ("d/c", "1"), ("d/s", "1")];
        let (mut lower, mut upper) = (test_tree::of(files), test_tree::of(&[("d/s", "1")]));
        for tree in [&mut lower, &mut upper] {
            let id = tree.lookup(b"d/s").unwrap();
            tree.node_mut(id).content = Content::File { size: 4096, extents: Vec::new() };
        }
        let items = difference(&lower, &upper, Mtimes::Compared, &mut |_, _| Ok(true)).unwrap();
        let lines: Vec<_> = items.iter().map(|item| line(&item.item)).collect();
        assert_eq!(lines, ["d/", "-d/a", "-d/b", "-d/c"]);
    }

    #[test]
    fn times_count_as_told() {
        let (mut lower, mut upper) = (test_tree::of(&[("f", "1")]), test_tree::of(&[("f", "1")]));
        let set = |tree: &mut Tree, mtime| {
            let id = tree.lookup(b"f").unwrap();
            tree.node_mut(id).metadata.mtime = mtime;
        };
        set(&mut lower, 100);
        set(&mut upper, 200);
        let count = |mtimes| difference(&lower, &upper, mtimes, &mut |_, _| Ok(true)).unwrap().len();
        assert_eq!(count(Mtimes::Compared), 1);
        assert_eq!(count(Mtimes::Capped(150)), 1);
        assert_eq!(count(Mtimes::Capped(100)), 0);
        assert_eq!(count(Mtimes::Ignored), 0);
    }

    #[test]
    fn the_root_is_there_when_it_differs() {
        let (lower, mut upper) = (Tree::new(), test_tree::of(&[("f", "1")]));
        upper.node_mut(Tree::ROOT).metadata.mode = 0o700;
        let items = difference(&lower, &upper, Mtimes::Ignored, &mut |_, _| Ok(true)).unwrap();
        let lines: Vec<_> = items.iter().map(|item| line(&item.item)).collect();
        assert_eq!(lines, ["/", "f"]);
    }

    #[test]
    fn contents_are_asked_for_and_their_error_returned() {
        let file = |size| {
            let mut tree = test_tree::of(&[("f", "1")]);
            let id = tree.lookup(b"f").unwrap();
            tree.node_mut(id).content = Content::File { size, extents: Vec::new() };
            tree
        };
        let count = |lower: &Tree, upper: &Tree, same| {
            difference(lower, upper, Mtimes::Compared, &mut |_, _| Ok(same)).unwrap().len()
        };
        assert_eq!(count(&file(3), &file(3), true), 0);
        assert_eq!(count(&file(3), &file(3), false), 1);
        assert_eq!(count(&file(3), &file(4), true), 1);
        let broken = &mut |_: &Node, _: &Node| Err(crate::error::Kind::Choice("broken".to_owned()).into());
        let error = difference(&file(3), &file(3), Mtimes::Compared, broken).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }

    #[test]
    fn bytes_are_the_same_wherever_they_are() {
        let node = |size, extents: &[(u64, u64, u32, u64)]| {
            let extent = |&(file_offset, length, source, source_offset)| Extent {
                file_offset,
                length,
                source,
                source_offset,
            };
            let content = Content::File { size, extents: extents.iter().map(extent).collect() };
            Node { metadata: Metadata::default(), content }
        };
        let mut sources = [vec![b'a'; 300_000], vec![b'a'; 300_000], vec![0; 300_000]];
        sources[1][200_000] = b'b';
        let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
            let start = usize::try_from(offset).unwrap();
            let bytes = sources[source as usize].get(start..start + buffer.len());
            buffer.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let whole = node(300_000, &[(0, 300_000, 0, 0)]);
        let mut same = |left: &Node, right: &Node| same_bytes(left, right, &mut read).map_err(|_| ());
        assert_eq!(same(&whole, &node(300_000, &[(0, 200_000, 1, 0), (200_000, 100_000, 0, 5)])), Ok(true));
        assert_eq!(same(&whole, &node(300_000, &[(0, 300_000, 1, 0)])), Ok(false));
        assert_eq!(same(&whole, &node(300_000, &[(0, 299_999, 0, 0)])), Ok(false));
        assert_eq!(same(&node(300_000, &[]), &node(300_000, &[(7, 1000, 2, 0)])), Ok(true));
        assert_eq!(same(&whole, &node(2, &[(0, 2, 0, 0)])), Ok(false));
        assert_eq!(same(&whole, &node(300_000, &[(0, 300_000, 0, 1)])), Err(()));
    }
}
