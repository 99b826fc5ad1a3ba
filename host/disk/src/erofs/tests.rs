//! What erofs-utils, which share no code with us, make of the indexes. Those of many distributions
//! read blocks of 4096 bytes only, so most tests here use these; `tests/kernel.rs` shows the real
//! size to a real kernel.

use super::*;
use kiln_image::entry::Metadata;
use kiln_image::tree::{Content, Extent, Node, NodeId, Tree};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

const LARGE_BLOCK_BITS: u8 = 12;

/// A tree under construction, and the bytes of its one source.
#[derive(Default)]
struct Fixture {
    tree: Tree,
    source: Vec<u8>,
}

impl Fixture {
    fn add(&mut self, parent: NodeId, name: &[u8], metadata: Metadata, content: Content) -> NodeId {
        let id = self.tree.insert(Node { metadata, content });
        self.link(parent, name, id);
        id
    }

    fn link(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        let Content::Directory(children) = &mut self.tree.node_mut(parent).content else {
            panic!("not a directory");
        };
        children.insert(name.to_vec(), id);
    }

    fn directory(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        self.add(parent, name, mode(0o755), Content::Directory(Default::default()))
    }

    /// A file whose bytes start at the next multiple of `align` plus `shift`.
    fn file(&mut self, parent: NodeId, name: &[u8], bytes: &[u8], align: usize, shift: usize) -> NodeId {
        self.source.resize(self.source.len().next_multiple_of(align) + shift, b'#');
        let extent = self.extent(0, bytes);
        self.add(parent, name, mode(0o644), Content::File { size: extent.length, extents: vec![extent] })
    }

    fn extent(&mut self, file_offset: u64, bytes: &[u8]) -> Extent {
        let source_offset = self.source.len() as u64;
        self.source.extend(bytes);
        Extent { file_offset, length: bytes.len() as u64, source: 0, source_offset }
    }

    fn disk(&self, block_bits: u8) -> Vec<u8> {
        let layout = Layout::with_block_bits(&self.tree, &[self.source.len() as u64], block_bits).unwrap();
        let mut disk = Vec::new();
        let mut read = |_: u32, offset: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(&self.source[offset as usize..][..buffer.len()]);
            Ok(())
        };
        layout.write(&mut disk, &mut read).unwrap();
        assert_eq!(disk.len() as u64, layout.index_length());
        assert_eq!(layout.source_offsets(), [layout.index_length()]);
        disk.extend(&self.source);
        disk.resize(layout.disk_length() as usize, 0);
        disk
    }
}

fn mode(mode: u16) -> Metadata {
    Metadata { mode, mtime: 1_600_000_000, ..Metadata::default() }
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

/// One of everything that can be extracted without privilege, but no holes: fsck.erofs 1.5 extracts
/// them as nothing. The kernel sees those.
fn everything() -> Fixture {
    let mut fixture = Fixture::default();
    let root = Tree::ROOT;
    fixture.file(root, b"aligned", &numbers(30_000), 4096, 0);
    fixture.file(root, b"misaligned", &numbers(30_001), 512, 3);
    fixture.file(root, b"empty", b"", 4096, 0);
    fixture.add(root, b"short link", mode(0o777), Content::Symlink(b"aligned".to_vec()));
    fixture.add(root, b"long link", mode(0o777), Content::Symlink(vec![b'l'; 4095]));
    fixture.add(root, b"fifo", mode(0o640), Content::Fifo);
    let inner = fixture.directory(root, b"directory");
    for name in [&b"-"[..], b"!", b".-", b".a", b"...", b"\xff\xfe not utf-8", &[b'n'; 255]] {
        fixture.file(inner, name, name, 4096, 0);
    }
    let linked = fixture.file(inner, b"linked", b"one file", 4096, 0);
    fixture.link(root, b"also linked", linked);
    fixture
}

fn erofs_utils(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {tool} (is erofs-utils installed?): {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}:\n{text}{errors}");
    text
}

fn extract(fixture: &Fixture, directory: &Path) {
    let disk = directory.join("disk");
    std::fs::write(&disk, fixture.disk(LARGE_BLOCK_BITS)).unwrap();
    let to = format!("--extract={}", directory.join("out").display());
    erofs_utils("fsck.erofs", &[&to, disk.to_str().unwrap()]);
}

/// What a file of the fixture must read as.
fn contents(fixture: &Fixture, id: NodeId) -> Vec<u8> {
    let Content::File { size, extents } = &fixture.tree.node(id).content else { panic!("not a file") };
    let mut bytes = vec![0; *size as usize];
    for extent in extents {
        let from = &fixture.source[extent.source_offset as usize..][..extent.length as usize];
        bytes[extent.file_offset as usize..][..from.len()].copy_from_slice(from);
    }
    bytes
}

/// Compares a directory on the host with one of the fixture; returns how many names there were.
fn compare(fixture: &Fixture, id: NodeId, path: &Path) -> usize {
    use std::os::unix::ffi::OsStrExt;
    let Content::Directory(children) = &fixture.tree.node(id).content else { panic!("not a directory") };
    let mut found: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    found.sort();
    assert_eq!(found, children.keys().cloned().collect::<Vec<_>>(), "{}", path.display());
    let mut names = found.len();
    for (name, child) in children {
        let path = path.join(std::ffi::OsStr::from_bytes(name));
        let node = fixture.tree.node(*child);
        let metadata = path.symlink_metadata().unwrap();
        match &node.content {
            Content::Directory(_) => names += compare(fixture, *child, &path),
            Content::File { .. } => {
                assert!(std::fs::read(&path).unwrap() == contents(fixture, *child), "{}", path.display());
            }
            Content::Symlink(target) => {
                assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
                continue;
            }
            _ => {}
        }
        assert_eq!(metadata.permissions().mode() & 0o7777, u32::from(node.metadata.mode), "{path:?}");
        assert_eq!(metadata.mtime(), node.metadata.mtime, "{path:?}");
    }
    names
}

#[test]
fn fsck_extracts_what_was_put_in() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = everything();
    extract(&fixture, directory.path());
    assert_eq!(compare(&fixture, Tree::ROOT, &directory.path().join("out")), 16);
}

#[test]
fn a_directory_of_many_names_extracts() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::default();
    let many = fixture.directory(Tree::ROOT, b"many");
    for number in 0..100_000 {
        fixture.add(
            many,
            format!("{number}").as_bytes(),
            mode(0o644),
            Content::File { size: 0, extents: vec![] },
        );
    }
    extract(&fixture, directory.path());
    assert_eq!(compare(&fixture, Tree::ROOT, &directory.path().join("out")), 100_001);
}

#[test]
fn dump_shows_owner_links_and_attributes() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::default();
    let metadata = Metadata {
        uid: 3_000_000_000,
        gid: 70_000,
        xattrs: [(b"user.note".to_vec(), vec![b'x'; 5000]), (b"security.capability".to_vec(), vec![1; 20])]
            .into(),
        ..mode(0o4711)
    };
    let file = fixture.add(Tree::ROOT, b"file", metadata, Content::File { size: 5 << 30, extents: vec![] });
    fixture.link(Tree::ROOT, b"link", file);
    let disk = directory.path().join("disk");
    std::fs::write(&disk, fixture.disk(LARGE_BLOCK_BITS)).unwrap();
    let text = erofs_utils("dump.erofs", &["--path=/link", disk.to_str().unwrap()]);
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["Uid: 3000000000", "Gid: 70000", "Access: 0711", "Links: 2", "Size: 5368709120", "Xattr size: 5056"]
    {
        assert!(squeezed.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    assert!(everything().disk(BLOCK_BITS) == everything().disk(BLOCK_BITS));
}

#[test]
fn a_tar_aligned_file_is_not_copied() {
    let mut fixture = Fixture::default();
    fixture.file(Tree::ROOT, b"aligned", &numbers(1 << 20), 512, 512);
    let layout = Layout::new(&fixture.tree, &[fixture.source.len() as u64]).unwrap();
    assert_eq!(layout.index_length(), 2048);
}

fn error_of(fixture: &Fixture, sources: &[u64]) -> String {
    let error = Layout::new(&fixture.tree, sources).unwrap_err();
    let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn a_disk_over_two_tebibytes_is_refused() {
    let fixture = Fixture::default();
    let most = (u64::from(u32::MAX) - 4) * BLOCK_SIZE;
    assert!(Layout::new(&fixture.tree, &[most]).is_ok());
    for length in [most + 1, u64::MAX] {
        let error = error_of(&fixture, &[length]);
        assert!(error.ends_with("more than the 2199023255040 (2 TiB) there can be"), "{error}");
    }
}

#[test]
fn what_erofs_cannot_tell_is_refused_with_its_path() {
    let device = |major, minor| Content::CharacterDevice { major, minor };
    let at = |what: &str| format!("cannot put d/name into a file system index: {what}");
    for (content, what) in [
        (
            device(4096, 0),
            "a device with major number 4096 and minor number 0, more than Linux's 12 and 20 bits",
        ),
        (Content::Symlink(vec![]), "a symbolic link to a target of 0 bytes, not 1 to 4095"),
        (
            Content::File { size: 1 << 63, extents: vec![] },
            "a size of 9223372036854775808 bytes, more than a file can have",
        ),
    ] {
        let mut fixture = Fixture::default();
        let directory = fixture.directory(Tree::ROOT, b"d");
        fixture.add(directory, b"name", mode(0o644), content);
        assert_eq!(error_of(&fixture, &[0]), at(what));
    }
}

#[test]
fn names_that_are_none_and_linked_directories_are_refused() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'n'; 256]] {
        let mut fixture = Fixture::default();
        fixture.add(Tree::ROOT, name, mode(0o644), Content::Fifo);
        let error = error_of(&fixture, &[]);
        assert!(error.contains("its name is not one that a file can have"), "{error}");
    }
    let mut fixture = Fixture::default();
    let directory = fixture.directory(Tree::ROOT, b"d");
    fixture.link(directory, b"loop", directory);
    assert_eq!(
        error_of(&fixture, &[]),
        "cannot put d/loop into a file system index: it is a directory with a second name"
    );
}

#[test]
fn a_source_that_cannot_be_read_names_the_file() {
    let mut fixture = Fixture::default();
    fixture.file(Tree::ROOT, b"misaligned", b"bytes", 512, 1);
    let layout = Layout::new(&fixture.tree, &[fixture.source.len() as u64]).unwrap();
    let mut read = |_: u32, _: u64, _: &mut [u8]| Err(std::io::ErrorKind::UnexpectedEof.into());
    let error = layout.write(std::io::sink(), &mut read).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        format!("{error}: {cause}"),
        "cannot put misaligned into a file system index: cannot read layer 0 at byte 1"
    );
}
