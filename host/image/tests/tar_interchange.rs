//! Archives of GNU tar and of Python's tarfile read by kiln, and kiln's read by them.

use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::tar::{ArchiveEntry, Reader, Writer};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a tool these tests need, with `input`, and returns what it printed.
fn run(package: &str, command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs {package} ({command:?}: {error})"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || {
        // A tool may stop reading at the end marker.
        let _ = stdin.write_all(&input);
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    stdout
}

fn gnu_tar(arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(arguments).current_dir(directory).env("LC_ALL", "C").env("TZ", "UTC");
    run("GNU tar", &mut command, input)
}

fn python(script: &str, input: &[u8]) -> Vec<u8> {
    run("python3", Command::new("python3").args(["-c", script]), input)
}

/// An entry with its data, holes filled.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    entry: Entry,
    data: Vec<u8>,
}

fn read(archive: &[u8]) -> Vec<Found> {
    let mut reader = Reader::seekable(Cursor::new(archive)).unwrap();
    let found: Vec<_> = reader.entries().map(|found| with_data(found.unwrap(), archive)).collect();
    assert!(reader.has_end_marker());
    found
}

fn with_data(found: ArchiveEntry, archive: &[u8]) -> Found {
    let size = if let Kind::File { size } = found.entry.kind { size } else { 0 };
    let mut data = vec![0; size as usize];
    for extent in found.location.extents(0) {
        let (from, to, length) =
            (extent.source_offset as usize, extent.file_offset as usize, extent.length as usize);
        data[to..to + length].copy_from_slice(&archive[from..from + length]);
    }
    Found { entry: found.entry, data }
}

fn by_path(found: Vec<Found>) -> BTreeMap<Vec<u8>, Found> {
    found.into_iter().map(|found| (found.entry.path.clone(), found)).collect()
}

/// Files that every format can hold.
fn make_plain_files(root: &Path) {
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), vec![b'f'; 1000]).unwrap();
    fs::hard_link(root.join("dir/file"), root.join("dir/second-name")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("caf\u{e9}"), b"name in UTF-8").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not-utf-8-\xff\xfe")), b"name in no encoding").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
}

/// Files that do not fit into a seventh-edition header.
fn make_long_files(root: &Path) {
    let deep = root.join(["directory-name-of-thirty-bytes"; 5].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(120)), b"long").unwrap();
    fs::write(deep.join(OsStr::from_bytes(&[b"\xff".repeat(3), b"n".repeat(120)].concat())), b"raw").unwrap();
    symlink("t".repeat(200), root.join("long-link")).unwrap();
    fs::hard_link(deep.join("n".repeat(120)), root.join("link-to-long")).unwrap();
    let old = fs::File::create(root.join("before-1970")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500)).unwrap();
}

/// A file with more holes than fit into a header and two of its extensions.
fn make_sparse_file(root: &Path) {
    let file = fs::File::create(root.join("sparse")).unwrap();
    for index in 0..60_u64 {
        file.write_all_at(format!("run {index}").as_bytes(), index * 128 * 1024 + 5).unwrap();
    }
    file.set_len(9 * 1024 * 1024).unwrap();
    let file = fs::File::create(root.join("all-hole")).unwrap();
    file.set_len(1 << 20).unwrap();
}

/// What the file system says of an entry, compared with the entry.
fn compare_with_file(root: &Path, found: &Found) {
    let path = root.join(OsStr::from_bytes(&found.entry.path));
    let (stat, metadata) = (fs::symlink_metadata(&path).unwrap(), &found.entry.metadata);
    assert_eq!(u32::from(metadata.mode), stat.mode() & 0o7777, "{}", path.display());
    assert_eq!((metadata.uid, metadata.gid), (stat.uid(), stat.gid()), "{}", path.display());
    assert_eq!(metadata.mtime, stat.mtime(), "{}", path.display());
    match &found.entry.kind {
        Kind::File { size } => {
            assert_eq!(*size, stat.len());
            assert!(fs::read(&path).unwrap() == found.data, "{}", path.display());
        }
        Kind::Directory => assert!(stat.is_dir()),
        Kind::Symlink { target } => assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target),
        Kind::HardLink { target } => {
            let target = fs::symlink_metadata(root.join(OsStr::from_bytes(target))).unwrap();
            assert_eq!(stat.ino(), target.ino());
        }
        other => panic!("{} is no {other:?}", path.display()),
    }
}

fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|e| if e.file_type().unwrap().is_dir() { 1 + count_files(&e.path()) } else { 1 }).sum()
}

fn compare_with_gnu_tar(root: &Path, arguments: &[&str]) {
    let archive = gnu_tar(&[&["-c", "-f-"], arguments, &["."]].concat(), root, b"");
    let found = read(&archive);
    assert_eq!(found.len(), 1 + count_files(root), "{arguments:?}");
    for found in &found {
        compare_with_file(root, found);
    }
    let mut streamed = Reader::new(&archive[..]);
    assert!(streamed.entries().map(Result::unwrap).map(|e| e.entry).eq(found.into_iter().map(|f| f.entry)));
    assert_eq!(streamed.position(), archive.len() as u64);
}

#[test]
fn gnu_tar_in_every_format_is_read() {
    let root = tempfile::tempdir().unwrap();
    make_plain_files(root.path());
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        compare_with_gnu_tar(root.path(), &["--format", format, "--sort=name"]);
    }
    make_long_files(root.path());
    for format in ["oldgnu", "gnu", "posix"] {
        compare_with_gnu_tar(root.path(), &["--format", format, "--sort=name"]);
    }
}

#[test]
fn gnu_tar_sparse_files_are_read() {
    let root = tempfile::tempdir().unwrap();
    make_plain_files(root.path());
    make_sparse_file(root.path());
    compare_with_gnu_tar(root.path(), &["--format=gnu", "-S"]);
    compare_with_gnu_tar(root.path(), &["--format=oldgnu", "-S"]);
    for version in ["0.0", "0.1", "1.0"] {
        let argument = format!("--sparse-version={version}");
        compare_with_gnu_tar(root.path(), &["--format=posix", "-S", &argument]);
        let archive = gnu_tar(&["-c", "-f-", "--format=posix", "-S", &argument, "sparse"], root.path(), b"");
        let entry = Reader::new(&archive[..]).next_entry().unwrap().unwrap();
        assert!(entry.location.sparse.is_some_and(|runs| runs.len() >= 60), "the file system has no holes");
    }
}

#[test]
fn gnu_tar_attributes_and_global_headers_are_read() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), b"").unwrap();
    let archive = |option: &str| gnu_tar(&["-c", "-f-", "--format=posix", option, "a"], root.path(), b"");
    let metadata = |option| read(&archive(option)).remove(0).entry.metadata;
    assert_eq!(metadata("--pax-option=SCHILY.xattr.user.one:=1").xattrs[&b"user.one"[..]], b"1");
    assert_eq!(metadata("--pax-option=uid=12345").uid, 12345);
}

const PYTHON_WRITES: &str = r#"
import io, sys, tarfile
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
form = sys.stdin.read()
out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w", format=FORMATS[form], encoding="utf-8", errors="surrogateescape") as archive:
    def add(name, kind=tarfile.REGTYPE, data=b"", **fields):
        member = tarfile.TarInfo(name)
        member.type, member.size, member.mtime = kind, len(data), 1700000000
        member.uname = member.gname = "somebody"
        for key, value in fields.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(data))
    add("dir", tarfile.DIRTYPE, mode=0o2755)
    add("dir/file", data=b"x" * 700, mode=0o644, uid=1, gid=2)
    add("dir/link", tarfile.SYMTYPE, linkname="file")
    add("hard", tarfile.LNKTYPE, linkname="dir/file")
    add("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    add("sda", tarfile.BLKTYPE, devmajor=8, devminor=1048575)
    add("pipe", tarfile.FIFOTYPE)
    add("contiguous", tarfile.CONTTYPE, data=b"c")
    if form != "ustar":
        add("d" * 90 + "/" + "f" * 150, data=b"long")
        add("old", mtime=-5, uid=3000000, gid=4294967295)
    if form == "pax":
        add("attributes", mtime=1700000000.75, pax_headers={"SCHILY.xattr.user.a": "line\n12 path=b\n", "comment": "c"})
sys.stdout.buffer.write(out.getvalue())
"#;

#[test]
fn python_in_every_format_is_read() {
    for (format, count) in [("ustar", 8), ("gnu", 10), ("pax", 11)] {
        let found = by_path(read(&python(PYTHON_WRITES, format.as_bytes())));
        assert_eq!(found.len(), count, "{format}");
        let kind = |path: &str| found[path.as_bytes()].entry.kind.clone();
        let metadata = |path: &str| found[path.as_bytes()].entry.metadata.clone();
        let expected = Metadata { mode: 0o644, uid: 1, gid: 2, mtime: 1_700_000_000, ..Metadata::default() };
        assert_eq!((kind("dir"), metadata("dir").mode), (Kind::Directory, 0o2755));
        assert_eq!((kind("dir/file"), metadata("dir/file")), (Kind::File { size: 700 }, expected));
        assert_eq!(found[&b"dir/file"[..]].data, [b'x'; 700]);
        assert_eq!(kind("dir/link"), Kind::Symlink { target: b"file".to_vec() });
        assert_eq!(kind("hard"), Kind::HardLink { target: b"dir/file".to_vec() });
        assert_eq!(kind("null"), Kind::CharacterDevice { major: 1, minor: 3 });
        assert_eq!(kind("sda"), Kind::BlockDevice { major: 8, minor: 1_048_575 });
        assert_eq!((kind("pipe"), kind("contiguous")), (Kind::Fifo, Kind::File { size: 1 }));
        if format != "ustar" {
            assert_eq!(kind(&["d".repeat(90), "f".repeat(150)].join("/")), Kind::File { size: 4 });
            let old = metadata("old");
            assert_eq!((old.mtime, old.uid, old.gid), (-5, 3_000_000, u32::MAX));
        }
        if format == "pax" {
            let attributes = metadata("attributes");
            assert_eq!(attributes.mtime, 1_700_000_000);
            assert_eq!(attributes.xattrs[&b"user.a"[..]], b"line\n12 path=b\n");
        }
    }
}

/// Entries of every kind and with every need for a record. Each file's data is its path, repeated.
fn every_entry() -> Vec<Entry> {
    let xattrs = [
        (b"security.capability".to_vec(), b"\x01\0\0\x02\n\0=\xff".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
    ];
    let metadata = |mode| Metadata { mode, mtime: 1_600_000_000, ..Metadata::default() };
    let entry = |path: &[u8], kind, metadata| Entry { path: path.to_vec(), metadata, kind };
    let file = |size| Kind::File { size };
    let long = [&b"d".repeat(200)[..], b"/", &b"n".repeat(150)].concat();
    let split = [&b"d".repeat(100)[..], b"/", &b"n".repeat(100)].concat();
    let raw = [&b"\xff\xfe"[..], &b"r".repeat(110)].concat();
    vec![
        entry(b"", Kind::Directory, metadata(0o755)),
        entry(b"a", Kind::Directory, metadata(0o1777)),
        entry(b"a/file", file(1000), metadata(0o4755)),
        entry(b"a/hard", Kind::HardLink { target: b"a/file".to_vec() }, metadata(0o4755)),
        entry(b"attributes", file(1), Metadata { xattrs: xattrs.into(), ..metadata(0o644) }),
        entry(b"block", Kind::BlockDevice { major: 8, minor: 1_048_575 }, metadata(0o600)),
        entry(b"character", Kind::CharacterDevice { major: 4095, minor: 3 }, metadata(0o600)),
        entry(&split[..100], Kind::Directory, metadata(0o755)),
        entry(&split, file(5), metadata(0o644)),
        entry(&long[..200], Kind::Directory, metadata(0o755)),
        entry(&long, file(7), metadata(0o644)),
        entry(b"fifo", Kind::Fifo, metadata(0o622)),
        entry(b"link", Kind::Symlink { target: b"../\xff".to_vec() }, metadata(0o777)),
        entry(b"link-to-long", Kind::HardLink { target: long.clone() }, metadata(0o644)),
        entry(b"long-link", Kind::Symlink { target: b"t".repeat(300) }, metadata(0o777)),
        entry(b"mine", file(0), Metadata { uid: u32::MAX - 1, gid: 3_000_000, ..metadata(0o600) }),
        entry(b"old", file(0), Metadata { mtime: -7, ..metadata(0o644) }),
        entry(b"raw-\xff", file(3), metadata(0o644)),
        entry(&raw, file(4), metadata(0o644)),
    ]
}

fn data_of(entry: &Entry) -> Vec<u8> {
    let size = if let Kind::File { size } = entry.kind { size as usize } else { 0 };
    entry.path.iter().cycle().take(size).copied().collect()
}

fn archive_of(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Writer::new(Vec::new());
    for entry in entries {
        archive.append(entry, &mut &data_of(entry)[..]).unwrap();
    }
    archive.finish().unwrap()
}

const PYTHON_READS: &str = r#"
import os, sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
    for member in archive:
        raw = lambda text: text.encode("utf-8", "surrogateescape").hex()
        xattrs = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        data = archive.extractfile(member).read().hex() if member.isreg() else ""
        print(raw("" if member.name == "." else member.name), member.type.decode(), oct(member.mode)[2:], member.uid, member.gid,
              int(member.mtime), member.size, "link:" + raw(member.linkname), member.devmajor, member.devminor, "data:" + data,
              *(raw(key[13:]) + "=" + raw(value) for key, value in sorted(xattrs.items())))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that the script prints for an entry.
fn line_of(entry: &Entry) -> String {
    let Metadata { mode, uid, gid, mtime, xattrs } = &entry.metadata;
    let (flag, link, (major, minor)) = match &entry.kind {
        Kind::File { .. } => (0, &b""[..], (0, 0)),
        Kind::HardLink { target } => (1, &target[..], (0, 0)),
        Kind::Symlink { target } => (2, &target[..], (0, 0)),
        Kind::CharacterDevice { major, minor } => (3, &b""[..], (*major, *minor)),
        Kind::BlockDevice { major, minor } => (4, &b""[..], (*major, *minor)),
        Kind::Directory => (5, &b""[..], (0, 0)),
        Kind::Fifo => (6, &b""[..], (0, 0)),
    };
    let (path, link, data) = (hex(&entry.path), hex(link), data_of(entry));
    let size = data.len();
    let data = hex(&data);
    let mut line =
        format!("{path} {flag} {mode:o} {uid} {gid} {mtime} {size} link:{link} {major} {minor} data:{data}");
    for (name, value) in xattrs {
        line += &format!(" {}={}", hex(name), hex(value));
    }
    line
}

#[test]
fn python_reads_what_is_written() {
    let entries = every_entry();
    let printed = String::from_utf8(python(PYTHON_READS, &archive_of(&entries))).unwrap();
    for (line, entry) in printed.lines().zip(&entries) {
        assert_eq!(line, line_of(entry));
    }
    assert_eq!(printed.lines().count(), entries.len());
}

#[test]
fn gnu_tar_lists_what_is_written() {
    let entries = every_entry();
    let options = ["-tvvf-", "--numeric-owner", "--xattrs-include=*", "--quoting-style=escape"];
    let directory = tempfile::tempdir().unwrap();
    let listed = String::from_utf8(gnu_tar(&options, directory.path(), &archive_of(&entries))).unwrap();
    for expected in [
        "drwxr-xr-x 0/0               0 2020-09-13 12:26 ./",
        "drwxrwxrwt 0/0               0 2020-09-13 12:26 a/",
        "-rwsr-xr-x 0/0            1000 2020-09-13 12:26 a/file",
        "hrwsr-xr-x 0/0               0 2020-09-13 12:26 a/hard link to a/file",
        "  x:  8 security.capability",
        "brw------- 0/0       8,1048575 2020-09-13 12:26 block",
        "crw------- 0/0          4095,3 2020-09-13 12:26 character",
        "prw--w--w- 0/0               0 2020-09-13 12:26 fifo",
        "lrwxrwxrwx 0/0               0 2020-09-13 12:26 link -> ../\\377",
        "-rw------- 4294967294/3000000 0 2020-09-13 12:26 mine",
        "-rw-r--r-- 0/0                0 1969-12-31 23:59 old",
        "-rw-r--r-- 0/0                3 2020-09-13 12:26 raw-\\377",
    ] {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(listed.lines().any(|line| words(line) == words(expected)), "{expected}\nis not in\n{listed}");
    }
}

/// Extracted by GNU tar, archived by it again, and read: all is the same but what an ordinary user
/// cannot make.
#[test]
fn gnu_tar_extracts_what_is_written() {
    let is_special = |kind: &Kind| matches!(kind, Kind::CharacterDevice { .. } | Kind::BlockDevice { .. });
    let mut entries: Vec<_> = every_entry().into_iter().filter(|entry| !is_special(&entry.kind)).collect();
    let directory = tempfile::tempdir().unwrap();
    gnu_tar(&["-x", "-p", "-f-", "--no-same-owner"], directory.path(), &archive_of(&entries));
    let again = gnu_tar(&["-c", "-f-", "--format=posix", "--sort=name", "."], directory.path(), b"");
    let mut found = by_path(read(&again));
    for entry in &mut entries {
        let found = found.remove(&entry.path).unwrap();
        let (uid, gid) = (found.entry.metadata.uid, found.entry.metadata.gid);
        entry.metadata = Metadata { uid, gid, xattrs: BTreeMap::new(), ..entry.metadata.clone() };
        if !matches!(
            (&entry.kind, &found.entry.kind),
            (Kind::HardLink { .. }, _) | (_, Kind::HardLink { .. })
        ) {
            assert_eq!(&found, &Found { data: data_of(entry), entry: entry.clone() });
        }
    }
    assert!(found.is_empty());
    let inode = |path: &str| fs::metadata(directory.path().join(path)).unwrap().ino();
    assert_eq!(inode("a/file"), inode("a/hard"));
}
