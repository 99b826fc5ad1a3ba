//! The files that the tools for users and groups need, for an image from scratch.
//!
//! They are those of nixpkgs' `dockerTools.shadowSetup`, made on the same conditions: `passwd` and
//! `shadow` when there is no `passwd`, `group` and `gshadow` when there is no `group`, and the others each
//! for itself. Nothing that is there is changed. Modes are those of real systems, where the script's are
//! whatever its umask leaves: passwords are for root alone.

use crate::Error;
use crate::entry::Metadata;
use crate::error::Kind;
use crate::path::{self, Quoted};
use crate::resolve::Resolved;
use crate::tree::{Content, Extent, Node, NodeId, Tree};
use std::collections::BTreeMap;

struct File {
    path: &'static [u8],
    /// Made only when this is not there.
    unless: &'static [u8],
    mode: u16,
    text: &'static [u8],
}

const PASSWD: &[u8] = b"etc/passwd";
const GROUP: &[u8] = b"etc/group";
const PAM_OTHER: &[u8] = b"etc/pam.d/other";
const LOGIN_DEFS: &[u8] = b"etc/login.defs";

/// For services without a file of their own: passwords of `shadow`, and root without one.
const PAM_RULES: &[u8] = b"account sufficient pam_unix.so
auth sufficient pam_rootok.so
password requisite pam_unix.so nullok sha512
session required pam_unix.so
";

const FILES: [File; 6] = [
    // The second of a pair before the first, on which it depends.
    File { path: b"etc/shadow", unless: PASSWD, mode: 0o600, text: b"root:!x:::::::\n" },
    File { path: PASSWD, unless: PASSWD, mode: 0o644, text: b"root:x:0:0::/root:/bin/sh\n" },
    File { path: b"etc/gshadow", unless: GROUP, mode: 0o600, text: b"root:x::\n" },
    File { path: GROUP, unless: GROUP, mode: 0o644, text: b"root:x:0:\n" },
    File { path: PAM_OTHER, unless: PAM_OTHER, mode: 0o644, text: PAM_RULES },
    File { path: LOGIN_DEFS, unless: LOGIN_DEFS, mode: 0o644, text: b"" },
];

/// Adds what is missing, with a time of change in seconds since 1970, and returns the bytes that
/// `source` has to be for the tree's extents. On error the tree is as it was.
///
/// # Errors
/// When symbolic links lead nowhere, or a file is where a directory is needed.
pub fn add(tree: &mut Tree, source: u32, mtime: i64) -> Result<Vec<u8>, Error> {
    let mut added = tree.clone();
    let mut bytes = Vec::new();
    for file in &FILES {
        if added.resolve(file.unless)?.place.is_some() {
            continue;
        }
        let Resolved { path, place: None } = added.resolve(file.path)? else { continue };
        let extents = extents(file.text, source, bytes.len() as u64);
        bytes.extend_from_slice(file.text);
        let content = Content::File { size: file.text.len() as u64, extents };
        attach(&mut added, &path, Node { metadata: of_root(file.mode, mtime), content })?;
    }
    *tree = added;
    Ok(bytes)
}

fn extents(text: &[u8], source: u32, source_offset: u64) -> Vec<Extent> {
    let length = text.len() as u64;
    if length == 0 { Vec::new() } else { vec![Extent { file_offset: 0, length, source, source_offset }] }
}

fn of_root(mode: u16, mtime: i64) -> Metadata {
    Metadata { mode, mtime, ..Metadata::default() }
}

/// At a path without symbolic links, with the directories that are missing.
fn attach(tree: &mut Tree, path: &[u8], node: Node) -> Result<(), Error> {
    let (parent, name) = path::split_name(path).expect("a file that is not there is not the root");
    let mtime = node.metadata.mtime;
    let directory = path::components(parent)
        .try_fold(Tree::ROOT, |directory, name| directory_in(tree, directory, name, mtime))
        .ok_or_else(|| Kind::corrupt(Quoted(path).to_string(), "a file is where its directory should be"))?;
    insert(tree, directory, name, node);
    Ok(())
}

fn directory_in(tree: &mut Tree, parent: NodeId, name: &[u8], mtime: i64) -> Option<NodeId> {
    match tree.child(parent, name) {
        Some(id) => tree.is_directory(id).then_some(id),
        None => {
            let content = Content::Directory(BTreeMap::new());
            Some(insert(tree, parent, name, Node { metadata: of_root(0o755, mtime), content }))
        }
    }
}

fn insert(tree: &mut Tree, directory: NodeId, name: &[u8], node: Node) -> NodeId {
    let id = tree.insert(node);
    tree.children_mut(directory).expect("a directory").insert(name.to_vec(), id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::test_tree::{self, listing};

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn added(files: Files) -> (Vec<String>, Vec<u8>) {
        let mut tree = test_tree::of(files);
        let before = listing(&tree);
        let bytes = add(&mut tree, 3, 7).unwrap();
        (listing(&tree).into_iter().filter(|line| !before.contains(line)).collect(), bytes)
    }

    #[test]
    fn an_image_from_scratch_gets_all() {
        let mut tree = Tree::new();
        let bytes = add(&mut tree, 3, 7).unwrap();
        for (path, mode, text) in [
            ("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\n"),
            ("etc/shadow", 0o600, "root:!x:::::::\n"),
            ("etc/group", 0o644, "root:x:0:\n"),
            ("etc/gshadow", 0o600, "root:x::\n"),
            ("etc/pam.d/other", 0o644, std::str::from_utf8(PAM_RULES).unwrap()),
            ("etc/login.defs", 0o644, ""),
        ] {
            let node = tree.node(tree.lookup(path.as_bytes()).unwrap());
            assert_eq!((node.metadata.mode, node.metadata.uid, node.metadata.mtime), (mode, 0, 7), "{path}");
            let text_found: Vec<u8> = node
                .content
                .extents()
                .iter()
                .flat_map(|extent| {
                    assert_eq!(extent.source, 3);
                    let start = extent.source_offset as usize;
                    bytes[start..start + extent.length as usize].to_vec()
                })
                .collect();
            assert_eq!(text_found, text.as_bytes(), "{path}");
        }
        assert_eq!(tree.node(tree.lookup(b"etc").unwrap()).metadata.mode, 0o755);
    }

    #[test]
    fn what_is_there_stays() {
        let cases: [(Files, &[&str]); 4] = [
            (
                &[("etc/passwd", "1"), ("etc/group", "1"), ("etc/pam.d/other", "1"), ("etc/login.defs", "1")],
                &[],
            ),
            (
                &[("etc/passwd", "1"), ("etc/gshadow", "1")],
                &["etc/group 0", "etc/login.defs 0", "etc/pam.d/ 0", "etc/pam.d/other 0"],
            ),
            (
                &[("etc/shadow", "1"), ("etc/group", "1"), ("etc/pam.d/sshd", "1"), ("etc/login.defs", "1")],
                &["etc/pam.d/other 0", "etc/passwd 0"],
            ),
            (
                &[
                    ("etc", "-> usr/etc"),
                    ("usr/etc/group", "1"),
                    ("usr/etc/passwd", "-> /lib/passwd"),
                    ("lib/passwd", "1"),
                ],
                &["usr/etc/login.defs 0", "usr/etc/pam.d/ 0", "usr/etc/pam.d/other 0"],
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(added(files).0, expected, "{files:?}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_an_error_and_changes_nothing() {
        for (files, message) in [
            (
                &[("etc/pam.d", "1")][..],
                "\"etc/pam.d/other\" is corrupt: a file is where its directory should be",
            ),
            (&[("etc", "-> etc")], "path \"etc/passwd\" is corrupt: leads through too many symbolic links"),
        ] {
            let mut tree = test_tree::of(files);
            let before = listing(&tree);
            assert_eq!(add(&mut tree, 0, 0).unwrap_err().to_string(), message);
            assert_eq!(listing(&tree), before);
        }
    }
}
