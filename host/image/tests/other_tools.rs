//! What this crate writes, read by other people's tools, and the other way round.

use kiln_image::compress::{Compression, Decompressor, ParallelCompressor, piece};
use kiln_image::config::{Change, ContainerConfig, ImageConfig, Timestamp};
use kiln_image::digest::Digest;
use kiln_image::docker_archive::{self, Archive, LayerRef, LayerSink, LayerSource, StoredLayer};
use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::flatten::write_root;
use kiln_image::id_map::IdMap;
use kiln_image::reference::{Choice, ImageName};
use kiln_image::tar;
use kiln_image::tree::Tree;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMPRESSIONS: [Compression; 3] = [Compression::GZIP, Compression::ZSTD, Compression::None];

/// Runs a tool in a directory; it must exist and succeed.
fn run(directory: &Path, command: &[&str], input: &[u8]) -> Vec<u8> {
    let (program, arguments) = command.split_first().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    succeeded(command, output)
}

fn succeeded(command: &[&str], output: Output) -> Vec<u8> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {errors}", output.status);
    output.stdout
}

/// Numbers, then zeros, over several blocks of any format, not a multiple of any block.
fn sample() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_be_bytes).collect();
    bytes.extend(vec![0; 5_000_001]);
    bytes
}

/// A piece, a stream of blocks, and a piece.
fn compressed(compression: Compression) -> Vec<u8> {
    let mut all = piece(compression, b"head");
    let threads = NonZeroUsize::new(3).unwrap();
    let mut compressor = ParallelCompressor::new(compression, threads, &mut all);
    compressor.write_all(&sample()).unwrap();
    compressor.finish().unwrap();
    all.extend(piece(compression, b"tail"));
    all
}

#[test]
fn compressed_pieces_are_one_file_to_everybody() {
    let expected = [&b"head"[..], &sample(), b"tail"].concat();
    let python = "import gzip,sys; sys.stdout.buffer.write(gzip.open(sys.stdin.buffer).read())";
    let here = Path::new(".");
    for (compression, command) in [
        (Compression::GZIP, &["gzip", "-dc"][..]),
        (Compression::GZIP, &["python3", "-c", python]),
        (Compression::ZSTD, &["zstd", "-dcq"]),
    ] {
        assert!(run(here, command, &compressed(compression)) == expected, "{command:?}");
    }
}

#[test]
fn what_others_compress_is_read() {
    let expected = sample();
    for command in [&["gzip", "-c"][..], &["zstd", "-cq", "-T2"], &["zstd", "-cq", "--long=27", "-19"]] {
        let input = &expected[..2_000_000];
        let mut out = Vec::new();
        let compressed = run(Path::new("."), command, input);
        Decompressor::new(&*compressed).unwrap().read_to_end(&mut out).unwrap();
        assert!(out == input, "{command:?}");
    }
}

/// Layers by diff ID.
#[derive(Default)]
struct Store(BTreeMap<Digest, Vec<u8>>);

impl LayerSink for Store {
    type Writer = Vec<u8>;

    fn begin(&mut self, _: &str) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn end(&mut self, bytes: Vec<u8>, layer: LayerRef) -> io::Result<()> {
        self.0.insert(layer.diff_id, bytes);
        Ok(())
    }
}

struct Shelf<'a>(&'a Store, Compression);

impl LayerSource for Shelf<'_> {
    type Reader = Cursor<Vec<u8>>;

    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>> {
        let tar = &self.0.0[diff_id];
        let mut compressor = ParallelCompressor::new(self.1, NonZeroUsize::MIN, Vec::new());
        compressor.write_all(tar)?;
        let (bytes, _) = compressor.finish()?;
        Ok(StoredLayer { size: tar.len() as u64, bytes: Cursor::new(bytes) })
    }
}

fn layer(name: &str, data: &[u8]) -> Vec<u8> {
    let kind = Kind::File { size: data.len() as u64 };
    let metadata = Metadata { mode: 0o644, ..Metadata::default() };
    let mut writer = tar::Writer::new(Vec::new());
    writer.append(&Entry { path: name.into(), metadata, kind }, &mut &*data).unwrap();
    writer.finish().unwrap()
}

/// Three layers, the last the same as the first.
fn image() -> (Store, Vec<u8>) {
    let mut store = Store::default();
    let mut config = ImageConfig::scratch("amd64", "linux");
    for (name, data) in [("one", &b"1"[..]), ("big", &sample()), ("one", b"1")] {
        let tar = layer(name, data);
        let diff_id = Digest::of(&tar);
        store.0.insert(diff_id, tar);
        let config_of_layer = ContainerConfig {
            env: Some(vec![format!("{name}=1")]),
            cmd: Some(vec!["sh".to_owned()]),
            ..ContainerConfig::default()
        };
        config = config.derive(Change {
            layer: Some(diff_id),
            created: Timestamp::from_unix_seconds(1_700_000_000).unwrap(),
            created_by: format!("add {name}"),
            comment: None,
            author: None,
            config: config_of_layer,
        });
    }
    (store, config.to_json())
}

fn names() -> [ImageName; 1] {
    ["example.org/me/app:1".parse().unwrap()]
}

fn write(path: &Path, compression: Compression) {
    let (store, config) = image();
    let file = File::create(path).unwrap();
    docker_archive::write(file, compression, &config, &names(), &mut Shelf(&store, compression)).unwrap();
}

fn read(path: &Path) -> (Store, Archive) {
    let mut store = Store::default();
    let archive = docker_archive::read(File::open(path).unwrap(), &Choice::Only, None, &mut store).unwrap();
    (store, archive)
}

#[test]
fn skopeo_takes_our_archives() {
    let directory = tempfile::tempdir().unwrap();
    let (store, config) = image();
    for (compression, name) in COMPRESSIONS.into_iter().zip(["gzip.tar", "zstd.tar", "plain.tar"]) {
        write(&directory.path().join(name), compression);
        if compression == Compression::GZIP {
            // Some versions (1.9.3 among them) fail on any docker-archive in gzip, gzip's own too.
            let tar =
                run(directory.path(), &["gzip", "-dc"], &fs::read(directory.path().join(name)).unwrap());
            fs::write(directory.path().join(name), tar).unwrap();
        }
        let place = format!("docker-archive:{name}");
        let shown = run(directory.path(), &["skopeo", "inspect", "--config", "--raw", &place], b"");
        assert_eq!(shown, config, "{name}");
        let named = format!("{place}:example.org/me/app:1");
        let copy = ["skopeo", "--insecure-policy", "copy", "-q", &named, &format!("oci:{name}.oci")];
        run(directory.path(), &copy, b"");
        // Copied back, everything is still as it was.
        let back =
            ["skopeo", "--insecure-policy", "copy", "-q", &format!("oci:{name}.oci"), "docker-archive:back"];
        run(directory.path(), &back, b"");
        let (read_store, archive) = read(&directory.path().join("back"));
        assert_eq!(archive.config_json, config, "{name}");
        assert_eq!(archive.layers.len(), 3);
        assert!(read_store.0 == store.0, "{name}");
        fs::remove_file(directory.path().join("back")).unwrap();
    }
}

/// Names, types, targets and contents of all members, sorted.
const LIST: &str = "
import hashlib, sys, tarfile
for m in sorted(tarfile.open(sys.argv[1]), key=lambda m: m.name):
    print(m.name, m.type, m.linkname, m.mtime, m.uid, m.gid, m.isfile() and hashlib.sha256(tarfile.open(sys.argv[1]).extractfile(m.name).read()).hexdigest())
";

#[test]
fn our_archive_is_member_for_member_what_skopeo_writes() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join("ours"), Compression::None);
    let copy = |from: &str, to: &str| {
        run(directory.path(), &["skopeo", "--insecure-policy", "copy", "-q", from, to], b"");
    };
    copy("docker-archive:ours", "oci:oci");
    copy("oci:oci", "docker-archive:theirs:example.org/me/app:1");
    let list =
        |name: &str| String::from_utf8(run(directory.path(), &["python3", "-c", LIST, name], b"")).unwrap();
    assert_eq!(list("ours"), list("theirs"));
}

#[test]
fn python_reads_our_compressed_archive() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join("plain"), Compression::None);
    write(&directory.path().join("gzip"), Compression::GZIP);
    let list = |name: &str| run(directory.path(), &["python3", "-c", LIST, name], b"");
    assert_eq!(list("plain"), list("gzip"));
}

#[test]
fn openssl_hashes_passwords_to_the_same() {
    for (password, salt) in
        [("secret", "abcdefgh"), ("p\u{e4}ss w\u{f6}rd", "./A9z"), (&"long".repeat(40), "x")]
    {
        let output = Command::new("openssl")
            .args(["passwd", "-6", "-salt", salt, password])
            .output()
            .expect("openssl is needed for this test");
        let expected = String::from_utf8(output.stdout).unwrap();
        let hashed = kiln_image::password::HashedPassword::sha_512(password.as_bytes(), salt, 5000).unwrap();
        assert_eq!(hashed.as_str(), expected.trim_end());
    }
}

#[test]
fn gnu_tar_lists_and_unpacks_a_flattened_tree() {
    let mut layer = tar::Writer::new(Vec::new());
    let metadata = |mode, uid| Metadata { mode, uid, mtime: 1_000_000_000, ..Metadata::default() };
    for (path, mode, uid, kind) in [
        ("etc", 0o755, 0, Kind::Directory),
        ("etc/file", 0o4755, 1, Kind::File { size: 0 }),
        ("etc/.wh.kept", 0o600, 9, Kind::File { size: 0 }),
        ("link", 0o777, 0, Kind::Symlink { target: b"etc/file".to_vec() }),
        ("other", 0o4755, 1, Kind::HardLink { target: b"etc/file".to_vec() }),
    ] {
        let path = path.as_bytes().to_vec();
        layer.begin(&Entry { path, metadata: metadata(mode, uid), kind }).unwrap();
    }
    let layer = layer.finish().unwrap();
    let mut tree = Tree::from_archive(0, tar::Reader::new(&layer[..]).entries()).unwrap();
    tree.map_ids(&IdMap::parse("0:1000:5").unwrap(), &IdMap::parse("0:2000:1").unwrap());
    let root = write_root(Vec::new(), &tree, 1_000_000_000, &mut |_, _, _: &mut [u8]| Ok(())).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let list = ["tar", "--list", "--verbose", "--numeric-owner", "--utc", "--full-time"];
    let listing = String::from_utf8(run(directory.path(), &list, &root)).unwrap();
    let expected = "\
drwxr-xr-x 1000/2000         0 1970-01-01 00:00:00 ./
drwxr-xr-x 1000/2000         0 2001-09-09 01:46:40 etc/
-rw------- 9/2000            0 2001-09-09 01:46:40 etc/.wh.kept
-rwsr-xr-x 1001/2000         0 2001-09-09 01:46:40 etc/file
lrwxrwxrwx 1000/2000         0 2001-09-09 01:46:40 link -> etc/file
hrwsr-xr-x 1001/2000         0 2001-09-09 01:46:40 other link to etc/file
";
    assert_eq!(listing, expected);
    run(directory.path(), &["tar", "--extract", "--no-same-owner"], &root);
    let inode = |path: &str| fs::metadata(directory.path().join(path)).unwrap().ino();
    assert_eq!(inode("etc/file"), inode("other"));
}
