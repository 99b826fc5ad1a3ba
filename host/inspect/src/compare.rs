//! How two images differ.

use crate::config_changes::{ConfigChange, config_changes};
use crate::escape::escaped;
use crate::listing::{device, mode_text, xattrs};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::path;
use kiln_image::tree::{Content, Node, NodeId, Tree};
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt::Write;

/// One of the two images.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its configuration.
    pub config: &'a ImageConfig,
    /// Its files. Extents refer to the layers of the configuration.
    pub tree: &'a Tree,
}

/// All that differs. Equal to its default when nothing does, but for the layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Files, in the order of a sorted walk.
    pub files: Vec<FileChange>,
    /// Configuration, by key.
    pub config: Vec<ConfigChange>,
    /// Layers in common.
    pub layers: Shared,
}

/// How many layers are the same. Layers say how an image is stored, so they are no difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// Layers of the left image.
    pub left: usize,
    /// Layers of the right one.
    pub right: usize,
    /// From the lowest on, in both.
    pub shared: usize,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// From the root, which is `/`; escaped.
    pub path: String,
    /// In which way.
    pub change: Change,
    /// Of a file that is in both: what differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only on the right.
    Added,
    /// Only on the left.
    Removed,
    /// In both.
    Changed,
}

/// What of a file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which of its properties.
    pub aspect: Aspect,
    /// On the left, for people.
    pub left: String,
    /// On the right.
    pub right: String,
}

/// Properties of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// File, directory, link and so on.
    Kind,
    /// Permissions.
    Mode,
    /// User and group.
    Owner,
    /// Bytes.
    Size,
    /// Digest of the bytes.
    Contents,
    /// Target of a symbolic link.
    Target,
    /// Major and minor number.
    Device,
    /// Extended attributes.
    Xattrs,
    /// Time of change.
    Mtime,
}

/// Compares two images. `digest` gives that of a regular file of one of them (false: the left one), and is only asked
/// where it has to be read to know. With `ignore_mtimes` files differ in more than their times.
///
/// # Errors
/// Those of `digest`.
pub fn compare<E>(
    left: Side<'_>,
    right: Side<'_>,
    ignore_mtimes: bool,
    digest: &mut dyn FnMut(bool, &Node) -> Result<Digest, E>,
) -> Result<Comparison, E> {
    let mut comparer = Comparer { left, right, ignore_mtimes, digest, files: Vec::new() };
    comparer.run()?;
    let files = comparer.files;
    let (ours, theirs) = (&left.config.rootfs.diff_ids, &right.config.rootfs.diff_ids);
    let shared = ours.iter().zip(theirs).take_while(|(left, right)| left == right).count();
    let layers = Shared { left: ours.len(), right: theirs.len(), shared };
    Ok(Comparison { files, config: config_changes(left.config, right.config), layers })
}

struct Comparer<'a, 'b, E> {
    left: Side<'a>,
    right: Side<'a>,
    ignore_mtimes: bool,
    digest: &'b mut dyn FnMut(bool, &Node) -> Result<Digest, E>,
    files: Vec<FileChange>,
}

impl<E> Comparer<'_, '_, E> {
    fn run(&mut self) -> Result<(), E> {
        let (mut ours, mut theirs) = (self.left.tree.walk().peekable(), self.right.tree.walk().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, _)), Some((right, _))) => path::walk_order(left, right),
            };
            let left = if order.is_le() { ours.next() } else { None };
            let right = if order.is_ge() { theirs.next() } else { None };
            match (left, right) {
                (Some((path, left)), Some((_, right))) => self.both(&path, left, right)?,
                (Some((path, _)), None) => self.push(&path, Change::Removed, Vec::new()),
                (None, Some((path, _))) => self.push(&path, Change::Added, Vec::new()),
                (None, None) => return Ok(()),
            }
        }
    }

    fn push(&mut self, path: &[u8], change: Change, differences: Vec<Difference>) {
        self.files.push(FileChange { path: format!("/{}", escaped(path)), change, differences });
    }

    fn both(&mut self, path: &[u8], left: NodeId, right: NodeId) -> Result<(), E> {
        let (left, right) = (self.left.tree.node(left), self.right.tree.node(right));
        let mut differences = self.metadata(left, right);
        differences.extend(self.contents(left, right)?);
        if !differences.is_empty() {
            self.push(path, Change::Changed, differences);
        }
        Ok(())
    }

    fn metadata(&self, left: &Node, right: &Node) -> Vec<Difference> {
        let owner = |node: &Node| format!("{}:{}", node.metadata.uid, node.metadata.gid);
        let attributes = |node: &Node| {
            let text = |(name, value): (&String, &String)| format!("{name}={value}");
            xattrs(&node.metadata.xattrs).iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let mtime = |node: &Node| if self.ignore_mtimes { 0 } else { node.metadata.mtime };
        let all = [
            different(Aspect::Kind, left, right, |node| kind(&node.content).to_owned()),
            different(Aspect::Mode, left, right, |node| mode_text(node)[1..].to_owned()),
            different(Aspect::Owner, left, right, owner),
            different(Aspect::Xattrs, left, right, attributes),
            different(Aspect::Mtime, left, right, |node| mtime(node).to_string()),
        ];
        all.into_iter().flatten().collect()
    }

    fn contents(&mut self, left: &Node, right: &Node) -> Result<Option<Difference>, E> {
        Ok(match (&left.content, &right.content) {
            (Content::File { size: ours, .. }, Content::File { size: theirs, .. }) if ours != theirs => {
                different(Aspect::Size, ours, theirs, ToString::to_string)
            }
            (Content::File { size: 0, .. }, Content::File { .. }) => None,
            (Content::File { .. }, Content::File { .. }) if self.is_one_place(left, right) => None,
            (Content::File { .. }, Content::File { .. }) => {
                let digests = ((self.digest)(false, left)?, (self.digest)(true, right)?);
                different(Aspect::Contents, &digests.0, &digests.1, ToString::to_string)
            }
            (Content::Symlink(ours), Content::Symlink(theirs)) => {
                different(Aspect::Target, ours, theirs, |target| escaped(target))
            }
            (ours, theirs) if kind(ours) == kind(theirs) => {
                let numbers =
                    |content: &Content| device(content).map_or(String::new(), |(a, b)| format!("{a}, {b}"));
                different(Aspect::Device, ours, theirs, numbers)
            }
            _ => None,
        })
    }

    /// Whether both have their bytes from one place of one layer.
    fn is_one_place(&self, left: &Node, right: &Node) -> bool {
        let (Content::File { extents: ours, .. }, Content::File { extents: theirs, .. }) =
            (&left.content, &right.content)
        else {
            return false;
        };
        let layer = |side: &Side<'_>, source: u32| side.config.rootfs.diff_ids.get(source as usize).copied();
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(left, right)| {
                let layers = (layer(&self.left, left.source), layer(&self.right, right.source));
                layers.0.is_some()
                    && layers.0 == layers.1
                    && (left.file_offset, left.length, left.source_offset)
                        == (right.file_offset, right.length, right.source_offset)
            })
    }
}

fn different<T: ?Sized>(
    aspect: Aspect,
    left: &T,
    right: &T,
    text: impl Fn(&T) -> String,
) -> Option<Difference> {
    let (left, right) = (text(left), text(right));
    (left != right).then_some(Difference { aspect, left, right })
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Directory(_) => "directory",
        Content::File { .. } => "file",
        Content::Symlink(_) => "symbolic link",
        Content::CharacterDevice { .. } => "character device",
        Content::BlockDevice { .. } => "block device",
        Content::Fifo => "named pipe",
    }
}

impl Comparison {
    /// True when both images have the same files and say the same of running them.
    pub fn is_same(&self) -> bool {
        self.files.is_empty() && self.config.is_empty()
    }

    /// For people: `+` is only on the right, `-` only on the left, `~` is what differs. Empty when nothing does.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.is_same() {
            self.write(&mut text).expect("writing to a string");
        }
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for file in &self.files {
            let sign = match file.change {
                Change::Added => '+',
                Change::Removed => '-',
                Change::Changed => '~',
            };
            writeln!(text, "{sign} {}", file.path)?;
            for Difference { aspect, left, right } in &file.differences {
                writeln!(text, "    {}: {left} -> {right}", format!("{aspect:?}").to_lowercase())?;
            }
        }
        for ConfigChange { key, left, right } in &self.config {
            let key = escaped(key.as_bytes());
            let value =
                |value: &serde_json::Value| escaped(value.to_string().as_bytes()).replace("\\\\", "\\");
            match (left, right) {
                (Some(left), Some(right)) => {
                    writeln!(text, "~ config {key}: {} -> {}", value(left), value(right))?
                }
                (Some(left), None) => writeln!(text, "- config {key}: {}", value(left))?,
                (None, right) => {
                    writeln!(text, "+ config {key}: {}", right.as_ref().map(value).unwrap_or_default())?
                }
            }
        }
        let Shared { left, right, shared } = self.layers;
        writeln!(text, "{shared} layers in common, of {left} and {right}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_history::sample::history;
    use std::convert::Infallible;

    fn compared(left: &[(&str, &str)], right: &[(&str, &str)], diff_ids: [&[u8]; 2]) -> Comparison {
        let (ours, theirs) = (history(&[left]), history(&[right]));
        let config = |diff_id: &[u8]| {
            let mut config = ImageConfig::scratch("amd64", "linux");
            config.rootfs.diff_ids = vec![Digest::of(diff_id)];
            config
        };
        let (a, b) = (config(diff_ids[0]), config(diff_ids[1]));
        let mut digest =
            |right: bool, _: &Node| Ok::<_, Infallible>(Digest::of(if right { b"r" } else { b"l" }));
        let side = |config, tree| Side { config, tree };
        let (left, right) = (side(&a, ours.tree()), side(&b, theirs.tree()));
        let Ok(comparison) = compare(left, right, false, &mut digest);
        comparison
    }

    #[test]
    fn every_aspect() {
        let left = [
            ("dev/x", "null"),
            ("etc/a", "1"),
            ("etc/b", "1"),
            ("etc/c", "2"),
            ("etc/d", "cap"),
            ("etc/gone", "1"),
            ("l", "-> a"),
        ];
        let right = [
            ("dev/x", "1"),
            ("etc/a", "2"),
            ("etc/b", "1"),
            ("etc/c", "dir"),
            ("etc/d", "8"),
            ("etc/new", "1"),
            ("l", "-> b"),
        ];
        assert_eq!(
            compared(&left, &right, [b"x", b"y"]).to_text(),
            "\
~ /dev/x
    kind: character device -> file
~ /etc/a
    size: 1 -> 2
~ /etc/b
    contents: sha256:acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0 -> sha256:454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1
~ /etc/c
    kind: file -> directory
    mode: rw-r--r-- -> rwxr-xr-x
~ /etc/d
    mode: rwsr-xr-x -> rw-r--r--
    xattrs: security.capability=cap_net_bind_service=ep -> 
    contents: sha256:acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0 -> sha256:454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1
- /etc/gone
+ /etc/new
~ /l
    target: a -> b
0 layers in common, of 1 and 1
"
        );
    }

    #[test]
    fn what_is_in_one_place_is_not_read() {
        let files = [("a", "5"), ("b", "dir"), ("b/c", "0")];
        let comparison = compared(&files, &files, [b"x", b"x"]);
        assert!(comparison.is_same() && comparison.to_text().is_empty());
        assert_eq!(comparison.layers, Shared { left: 1, right: 1, shared: 1 });
        let other = compared(&files, &files, [b"x", b"y"]);
        assert_eq!(other.files.len(), 1, "the file of five bytes was read");
    }
}
