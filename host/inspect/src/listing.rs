//! An image's files as tree(1) draws them, with what ls(1) says of each and the layers they are from.

use crate::capability;
use crate::escape::escaped;
use crate::file_history::FileHistory;
use crate::size::human_size;
use kiln_image::entry::Xattrs;
use kiln_image::path;
use kiln_image::tree::{Content, Node, NodeId, Tree};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListingOptions {
    /// Directories below the first that are opened: 1 shows what is in it.
    pub depth: Option<usize>,
    /// Only this file or directory and what is below; with or without leading `/`.
    pub path: Option<Vec<u8>>,
    /// Only what this layer added or changed last, from 0, and the directories on the way there.
    pub layer: Option<usize>,
    /// Colours for terminals.
    pub colour: bool,
}

/// The files that are shown, in the order of a sorted walk.
#[derive(Debug, Clone)]
pub struct Listing {
    rows: Vec<Row>,
    colour: bool,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    /// From the image's root, which is `/`; escaped.
    path: String,
    /// In ls(1)'s words: `-rwxr-xr-x`.
    mode: String,
    uid: u32,
    gid: u32,
    /// Bytes: of a directory, of all files in it.
    size: u64,
    mtime: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// Major and minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    /// The layer that added the name, and the last one to change it.
    added: u32,
    changed: u32,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    depth: usize,
}

impl Listing {
    /// Chooses the files. `None` when the path is not in the image.
    pub fn new(files: &FileHistory, options: &ListingOptions) -> Option<Self> {
        let top: Vec<u8> =
            path::components(options.path.as_deref().unwrap_or_default()).collect::<Vec<_>>().join(&b'/');
        files.tree().lookup(&top)?;
        let sizes = sizes(files.tree());
        let wanted = options.layer.map(|layer| on_the_way(files, layer));
        let base = path::components(&top).count();
        let rows = files.tree().walk().filter_map(|(path, id)| {
            let depth = path::components(&path).count();
            let is_shown = (path == top || top.is_empty() || path::is_below(&path, &top))
                && options.depth.is_none_or(|most| depth <= base + most)
                && wanted.as_ref().is_none_or(|wanted| wanted.contains(&path));
            is_shown.then(|| row(files, &path, id, depth - base, &sizes))
        });
        Some(Self { rows: rows.collect(), colour: options.colour })
    }

    /// One object a file.
    pub fn to_json(&self) -> Value {
        json!(self.rows)
    }

    /// A headline, and one line a file.
    pub fn to_text(&self) -> String {
        let owner = |row: &Row| format!("{}:{}", row.uid, row.gid);
        let width = self.rows.iter().map(|row| owner(row).len()).max().unwrap_or(0).max("uid:gid".len());
        let mut text =
            format!("{:<10}  {:>width$}  {:>10}  {:>7}  path\n", "mode", "uid:gid", "size", "layer");
        for (row, branches) in self.rows.iter().zip(self.branches()) {
            let (size, layers) = (row.size_text(), row.layers_text());
            let line = format!("{}  {:>width$}  {size:>10}  {layers:>7}", row.mode, owner(row));
            writeln!(text, "{line}  {branches}{}", row.name_text(self.colour)).expect("writing to a string");
        }
        text
    }

    /// What is drawn before each name.
    fn branches(&self) -> Vec<String> {
        let is_last = self.last_of_their_directories();
        let mut open: Vec<bool> = Vec::new();
        let mut branches = Vec::with_capacity(self.rows.len());
        for (row, is_last) in self.rows.iter().zip(is_last) {
            open.truncate(row.depth);
            open.push(is_last);
            let mut text = String::new();
            for (depth, is_last) in open.iter().enumerate().skip(1) {
                text.push_str(match (depth == row.depth, is_last) {
                    (true, true) => "└── ",
                    (true, false) => "├── ",
                    (false, true) => "    ",
                    (false, false) => "│   ",
                });
            }
            branches.push(text);
        }
        branches
    }

    fn last_of_their_directories(&self) -> Vec<bool> {
        // The depths at which a later sibling was seen, from the end.
        let mut followed: BTreeSet<usize> = BTreeSet::new();
        let is_last = |row: &Row| {
            followed.split_off(&(row.depth + 1));
            followed.insert(row.depth)
        };
        let mut is_last: Vec<bool> = self.rows.iter().rev().map(is_last).collect();
        is_last.reverse();
        is_last
    }
}

/// The paths of what a layer added or changed last, and of their directories.
fn on_the_way(files: &FileHistory, layer: usize) -> HashSet<Vec<u8>> {
    let mut wanted = HashSet::from([Vec::new()]);
    for (path, _) in files.tree().walk() {
        let is_of_layer = files
            .origin(&path)
            .is_some_and(|origin| origin.added as usize == layer || origin.changed as usize == layer);
        let mut next = is_of_layer.then_some(&path[..]);
        while let Some(path) = next.filter(|path| wanted.insert(path.to_vec())) {
            next = path::split_name(path).map(|(directory, _)| directory);
        }
    }
    wanted
}

/// Bytes of each file, and of all files in each directory; one with several names counts at its first.
fn sizes(tree: &Tree) -> HashMap<NodeId, u64> {
    let mut sizes = HashMap::new();
    let mut open: Vec<NodeId> = Vec::new();
    for (path, id) in tree.walk() {
        open.truncate(path::components(&path).count());
        if let Content::File { size, .. } = &tree.node(id).content
            && sizes.insert(id, *size).is_none()
        {
            for directory in &open {
                let total = sizes.entry(*directory).or_default();
                *total = total.saturating_add(*size);
            }
        }
        open.push(id);
    }
    sizes
}

fn row(files: &FileHistory, path: &[u8], id: NodeId, depth: usize, sizes: &HashMap<NodeId, u64>) -> Row {
    let node = files.tree().node(id);
    let origin = files.origin(path);
    let text = format!("/{}", escaped(path));
    let name = match path::split_name(path) {
        Some((_, name)) if depth > 0 => escaped(name),
        _ => text.clone(),
    };
    Row {
        path: text,
        mode: mode_text(node),
        uid: node.metadata.uid,
        gid: node.metadata.gid,
        size: sizes.get(&id).copied().unwrap_or(0),
        mtime: node.metadata.mtime,
        link: link(&node.content),
        device: device(&node.content),
        xattrs: xattrs(&node.metadata.xattrs),
        added: origin.map_or(0, |origin| origin.added),
        changed: origin.map_or(0, |origin| origin.changed),
        name,
        depth,
    }
}

fn link(content: &Content) -> Option<String> {
    match content {
        Content::Symlink(target) => Some(escaped(target)),
        _ => None,
    }
}

pub(crate) fn device(content: &Content) -> Option<(u32, u32)> {
    match content {
        Content::CharacterDevice { major, minor } | Content::BlockDevice { major, minor } => {
            Some((*major, *minor))
        }
        _ => None,
    }
}

/// `drwxr-xr-x`, setuid, setgid and sticky as ls(1) has them.
pub(crate) fn mode_text(node: &Node) -> String {
    let kind = match node.content {
        Content::Directory(_) => 'd',
        Content::File { .. } => '-',
        Content::Symlink(_) => 'l',
        Content::CharacterDevice { .. } => 'c',
        Content::BlockDevice { .. } => 'b',
        Content::Fifo => 'p',
    };
    let mode = node.metadata.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Attributes for people; of capabilities what getcap(8) shows.
pub(crate) fn xattrs(xattrs: &Xattrs) -> BTreeMap<String, String> {
    let value = |name: &[u8], value: &[u8]| match name {
        capability::XATTR => capability::decode(value),
        _ => None,
    };
    xattrs
        .iter()
        .map(|(name, bytes)| (escaped(name), value(name, bytes).unwrap_or_else(|| escaped(bytes))))
        .collect()
}

impl Row {
    fn size_text(&self) -> String {
        match self.device {
            Some((major, minor)) => format!("{major}, {minor}"),
            None => human_size(self.size),
        }
    }

    /// `2`, or `0>2` of a file that layer 0 added and layer 2 changed.
    fn layers_text(&self) -> String {
        if self.added == self.changed {
            self.added.to_string()
        } else {
            format!("{}>{}", self.added, self.changed)
        }
    }

    fn name_text(&self, colour: bool) -> String {
        let mut text = match self.colour().filter(|_| colour) {
            Some(code) => format!("\x1b[{code}m{}\x1b[0m", self.name),
            None => self.name.clone(),
        };
        if let Some(target) = &self.link {
            text = format!("{text} -> {target}");
        }
        for (name, value) in &self.xattrs {
            text = match name.as_str() {
                "security.capability" => format!("{text} [{value}]"),
                _ => format!("{text} [{name}={value}]"),
            };
        }
        text
    }

    /// As ls(1) colours: <https://man7.org/linux/man-pages/man5/dir_colors.5.html>.
    fn colour(&self) -> Option<&'static str> {
        match self.mode.as_bytes() {
            [b'd', ..] => Some("1;34"),
            [b'l', ..] => Some("1;36"),
            [b'c' | b'b', ..] => Some("1;33"),
            [b'p', ..] => Some("33"),
            [_, _, _, b's' | b'S', ..] => Some("37;41"),
            mode if mode.iter().any(|letter| b"xs".contains(letter)) => Some("1;32"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_history::sample::history;

    fn files() -> FileHistory {
        history(&[
            &[
                ("bin", "dir"),
                ("bin/sh", "2048"),
                ("dev/null", "null"),
                ("etc/a\n", "3"),
                ("sh", "-> bin/sh"),
            ],
            &[("bin/ping", "cap"), ("etc/a\n", "4"), ("etc/b", "= bin/sh")],
        ])
    }

    fn text(options: &ListingOptions) -> String {
        Listing::new(&files(), options).unwrap().to_text()
    }

    #[test]
    fn all_of_it() {
        assert_eq!(
            text(&ListingOptions::default()),
            "\
mode        uid:gid        size    layer  path
drwxr-xr-x      0:0     2.0 KiB        0  /
drwxr-xr-x      0:0     2.0 KiB        0  ├── bin
-rwsr-xr-x      0:0         8 B        1  │   ├── ping [cap_net_bind_service=ep]
-rw-r--r--      0:0     2.0 KiB        0  │   └── sh
drwxr-xr-x      0:0         0 B        0  ├── dev
crw-r--r--      0:0        1, 3        0  │   └── null
drwxr-xr-x      0:0         4 B        0  ├── etc
-rw-r--r--      0:0         4 B      0>1  │   ├── a\\n
-rw-r--r--      0:0     2.0 KiB        1  │   └── b
lrw-r--r--      0:0         0 B        0  └── sh -> bin/sh
"
        );
    }

    #[test]
    fn parts_of_it() {
        let paths = |options: &ListingOptions| -> Vec<String> {
            Listing::new(&files(), options).unwrap().rows.iter().map(|row| row.path.clone()).collect()
        };
        let all = ListingOptions::default;
        assert_eq!(paths(&ListingOptions { depth: Some(1), ..all() }), ["/", "/bin", "/dev", "/etc", "/sh"]);
        assert_eq!(paths(&ListingOptions { depth: Some(0), ..all() }), ["/"]);
        let path = |path: &str| Some(path.as_bytes().to_vec());
        assert_eq!(paths(&ListingOptions { path: path("/etc/"), ..all() }), ["/etc", "/etc/a\\n", "/etc/b"]);
        assert_eq!(paths(&ListingOptions { path: path("bin/sh"), ..all() }), ["/bin/sh"]);
        let layer = ListingOptions { layer: Some(1), ..all() };
        assert_eq!(paths(&layer), ["/", "/bin", "/bin/ping", "/etc", "/etc/a\\n", "/etc/b"]);
        assert!(Listing::new(&files(), &ListingOptions { path: path("et"), ..all() }).is_none());
    }

    #[test]
    fn colours_only_if_asked() {
        let options = ListingOptions { path: Some(b"bin".to_vec()), ..ListingOptions::default() };
        assert!(!text(&options).contains('\x1b'));
        let coloured = text(&ListingOptions { colour: true, ..options });
        assert!(coloured.contains("\x1b[1;34m/bin\x1b[0m") && coloured.contains("\x1b[37;41mping\x1b[0m"));
    }

    #[test]
    fn json_has_all_of_a_file() {
        let options = ListingOptions { path: Some(b"bin/ping".to_vec()), ..ListingOptions::default() };
        let json = Listing::new(&files(), &options).unwrap().to_json();
        assert_eq!(
            json[0],
            json!({
                "path": "/bin/ping", "mode": "-rwsr-xr-x", "uid": 0, "gid": 0, "size": 8, "mtime": 0,
                "xattrs": {"security.capability": "cap_net_bind_service=ep"}, "added": 1, "changed": 1,
            })
        );
    }

    #[test]
    fn special_bits() {
        let node = |mode| Node {
            metadata: kiln_image::entry::Metadata { mode, ..Default::default() },
            content: Content::Fifo,
        };
        let table = [(0o7777, "prwsrwsrwt"), (0o7000, "p--S--S--T"), (0o640, "prw-r-----")];
        for (mode, text) in table {
            assert_eq!(mode_text(&node(mode)), text);
        }
    }
}
