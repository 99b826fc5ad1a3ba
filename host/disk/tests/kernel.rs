//! A real kernel boots from a disk that kiln laid out, and lists every file of it.
//!
//! Needs QEMU and, in `KILN_KERNEL`, the guest kernel. The end-to-end tests show much the same with
//! real images, so this is skipped without a kernel: it is for finding where they fail.

#[path = "kernel/listing.rs"]
mod listing;

use kiln_disk::erofs::Layout;
use kiln_image::entry::Metadata;
use kiln_image::tree::{Content, Extent, Node, NodeId, Tree};
use listing::{Fnv, Line};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_real_kernel_reads_what_was_laid_out() {
    let Some(kernel) = std::env::var_os("KILN_KERNEL") else {
        eprintln!("skipped: KILN_KERNEL does not name a guest kernel (scripts/build-kernel makes one)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let fixture = fixture();
    let disk = directory.path().join("disk");
    fixture.write(&disk);
    let console = boot(Path::new(&kernel), &disk);
    let (expected, found) = (fixture.lines(), lines(&console));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
    }
    assert_eq!(found.len(), expected.len() + 1, "the last lines are {:?}", found.iter().rev().take(3));
    assert_eq!(found.last().unwrap(), "walked");
}

/// A tree and its one source, in which contents lie as in a tar.
#[derive(Default)]
struct Fixture {
    tree: Tree,
    source: Vec<u8>,
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::default();
    let root = Tree::ROOT;
    fixture.file(root, b"init", &std::fs::read(build_init()).unwrap(), 0);
    fixture.tree.node_mut(child(&fixture, b"init")).metadata.mode = 0o755;
    let dev = fixture.add(root, b"dev", metadata(0o755), Content::Directory(BTreeMap::new()));
    fixture.add(dev, b"console", metadata(0o600), Content::CharacterDevice { major: 5, minor: 1 });
    fixture.add(dev, b"disk", metadata(0o660), Content::BlockDevice { major: 259, minor: 0xabcde });
    fixture.add(dev, b"fifo", metadata(0o644), Content::Fifo);
    fixture.file(root, b"misaligned", &numbers(50_001), 7);
    fixture.file(root, b"empty", b"", 0);
    let extents = vec![fixture.extent(65536, &numbers(1024), 0), fixture.extent(262_144, &numbers(2048), 0)];
    fixture.add(root, b"sparse", metadata(0o600), Content::File { size: 1 << 20, extents });
    fixture.add(root, b"hole", metadata(0o600), Content::File { size: 3_000_001, extents: vec![] });
    fixture.add(root, b"link", metadata(0o777), Content::Symlink(b"aligned".to_vec()));
    fixture.add(root, b"long link", metadata(0o777), Content::Symlink(vec![b'l'; 4095]));
    with_names(&mut fixture);
    with_xattrs(&mut fixture);
    fixture
}

fn with_names(fixture: &mut Fixture) {
    let names = fixture.add(Tree::ROOT, b"names", metadata(0o1777), Content::Directory(BTreeMap::new()));
    for name in [&b"-"[..], b"!", b".-", b".a", b"...", b"\xff\xfe not utf-8", b"new\nline", &[b'n'; 255]] {
        fixture.file(names, name, name, 0);
    }
    let linked = fixture.file(names, b"linked", b"one file", 0);
    fixture.link(Tree::ROOT, b"also linked", linked);
    let many = fixture.add(Tree::ROOT, b"many", metadata(0o755), Content::Directory(BTreeMap::new()));
    for number in 0..3000 {
        fixture.add(
            many,
            format!("{number}").as_bytes(),
            metadata(0o4711),
            Content::File { size: 0, extents: vec![] },
        );
    }
}

fn with_xattrs(fixture: &mut Fixture) {
    // acl(5) as Linux stores it: version 2, then u::rw- u:1000:r-- g::r-- m::r-- o::---
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), b"\x01\0\0\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (b"system.posix_acl_access".to_vec(), acl.to_vec()),
        (b"trusted.kiln".to_vec(), b"\0binary\n".to_vec()),
        (b"user.large".to_vec(), numbers(16_000)),
        (b"user.small".to_vec(), b"x".to_vec()),
    ]);
    let owned = Metadata { uid: 3_000_000_000, gid: 100_000, mtime: -1, xattrs, ..metadata(0o640) };
    fixture.add(Tree::ROOT, b"attributes", owned.clone(), Content::File { size: 0, extents: vec![] });
    fixture.add(
        Tree::ROOT,
        b"link with attributes",
        Metadata { mode: 0o777, xattrs: [(b"trusted.x".to_vec(), vec![7; 500])].into(), ..owned },
        Content::Symlink(b"target".to_vec()),
    );
}

fn child(fixture: &Fixture, name: &[u8]) -> NodeId {
    let Content::Directory(children) = &fixture.tree.node(Tree::ROOT).content else { unreachable!() };
    children[name]
}

fn metadata(mode: u16) -> Metadata {
    Metadata { mode, mtime: 4_300_000_000, ..Metadata::default() }
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
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

    fn file(&mut self, parent: NodeId, name: &[u8], bytes: &[u8], shift: usize) -> NodeId {
        let extent = self.extent(0, bytes, shift);
        self.add(parent, name, metadata(0o644), Content::File { size: extent.length, extents: vec![extent] })
    }

    fn extent(&mut self, file_offset: u64, bytes: &[u8], shift: usize) -> Extent {
        self.source.resize(self.source.len().next_multiple_of(512) + shift, b'#');
        let source_offset = self.source.len() as u64;
        self.source.extend(bytes);
        Extent { file_offset, length: bytes.len() as u64, source: 0, source_offset }
    }

    fn write(&self, disk: &Path) {
        let layout = Layout::new(&self.tree, &[self.source.len() as u64]).unwrap();
        let mut bytes = Vec::new();
        let mut read = |_: u32, offset: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(&self.source[offset as usize..][..buffer.len()]);
            Ok(())
        };
        layout.write(&mut bytes, &mut read).unwrap();
        bytes.extend(&self.source);
        bytes.resize(layout.disk_length() as usize, 0);
        std::fs::write(disk, bytes).unwrap();
    }

    /// What the machine must list.
    fn lines(&self) -> Vec<String> {
        let mut links = HashMap::new();
        self.count_links(Tree::ROOT, &mut links);
        let mut lines = Vec::new();
        self.list(Tree::ROOT, b"", &links, &mut lines);
        lines
    }

    fn count_links(&self, id: NodeId, links: &mut HashMap<NodeId, u64>) {
        if let Content::Directory(children) = &self.tree.node(id).content {
            *links.entry(id).or_default() += 1 + u64::from(id == Tree::ROOT);
            for child in children.values() {
                *links.entry(*child).or_default() += 1;
                if matches!(self.tree.node(*child).content, Content::Directory(_)) {
                    *links.entry(id).or_default() += 1;
                }
                self.count_links(*child, links);
            }
        }
    }

    fn list(&self, id: NodeId, path: &[u8], links: &HashMap<NodeId, u64>, lines: &mut Vec<String>) {
        let node = self.tree.node(id);
        let mut line = Line {
            path: path.to_vec(),
            mode: u32::from(node.metadata.mode),
            uid: node.metadata.uid,
            gid: node.metadata.gid,
            links: links[&id],
            mtime: node.metadata.mtime,
            xattrs: node.metadata.xattrs.clone().into_iter().collect(),
            ..Line::default()
        };
        self.describe(&node.content, &mut line);
        lines.push(line.text());
        if let Content::Directory(children) = &node.content {
            for (name, child) in children {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                self.list(*child, &[path, separator, name].concat(), links, lines);
            }
        }
    }

    fn describe(&self, content: &Content, line: &mut Line) {
        match content {
            Content::Directory(_) => line.mode |= 0o040_000,
            Content::File { size, extents } => {
                line.mode |= 0o100_000;
                line.size = *size;
                line.content = self.hash(*size, extents);
            }
            Content::Symlink(target) => {
                line.mode |= 0o120_000;
                line.size = target.len() as u64;
                line.content.update(target);
            }
            Content::CharacterDevice { major, minor } => {
                line.mode |= 0o020_000;
                line.device = (*major, *minor);
            }
            Content::BlockDevice { major, minor } => {
                line.mode |= 0o060_000;
                line.device = (*major, *minor);
            }
            Content::Fifo => line.mode |= 0o010_000,
        }
    }

    fn hash(&self, size: u64, extents: &[Extent]) -> Fnv {
        let mut bytes = vec![0; size as usize];
        for extent in extents {
            let from = &self.source[extent.source_offset as usize..][..extent.length as usize];
            bytes[extent.file_offset as usize..][..from.len()].copy_from_slice(from);
        }
        let mut hash = Fnv::default();
        hash.update(&bytes);
        hash
    }
}

/// Builds the machine's PID 1: static, as there is no C library in there.
fn build_init() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("walk-init");
    let status = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--release", "--package", "kiln-disk", "--example", "walk-init"])
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-C", "target-feature=+crt-static"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the machine's init does not build");
    target.join("release/examples/walk-init")
}

fn boot(kernel: &Path, disk: &Path) -> Vec<u8> {
    let output = Command::new("qemu-system-x86_64")
        .args(["-M", "microvm,acpi=off,pit=on,pic=on,rtc=off,isa-serial=on,x-option-roms=off"])
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "256", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .args(["-append", "console=ttyS0 quiet panic=-1 reboot=t nolapic_timer root=/dev/vda rootfstype=erofs ro init=/init"])
        .arg("-drive")
        .arg(format!("if=none,id=disk,format=raw,readonly=on,file={}", disk.display()))
        .args(["-device", "virtio-blk-device,drive=disk"])
        .output()
        .unwrap_or_else(|e| panic!("cannot run qemu-system-x86_64 (is QEMU installed?): {e}"));
    assert!(output.status.success(), "QEMU: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What the machine's PID 1 printed: from the root's line, which begins with its empty name, to the
/// last.
fn lines(console: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(console);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let from = lines.iter().position(|line| line.starts_with(" 40755 "));
    let to = lines.iter().position(|line| line == "walked");
    match (from, to) {
        (Some(from), Some(to)) => lines[from..=to].to_vec(),
        _ => panic!("the machine did not list its disk:\n{text}"),
    }
}
