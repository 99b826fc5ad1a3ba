//! Reading, and reading what was written.

use super::header::{self, BLOCK_SIZE, Block, Field, typeflag};
use super::{MAX_EXTENSION, Reader, Writer, pax};
use crate::Error;
use crate::entry::{Entry, Kind, Metadata};
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// A header with a right checksum, and its data.
fn raw_with(flag: u8, name: &[u8], data: &[u8], patch: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = [0; BLOCK_SIZE];
    put(&mut block, header::NAME, name);
    put(&mut block, header::MAGIC, &header::POSIX_MAGIC);
    header::put_octal(&mut block, header::SIZE, data.len() as u64);
    header::TYPEFLAG.of_mut(&mut block)[0] = flag;
    patch(&mut block);
    header::put_checksum(&mut block);
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
    bytes
}

fn raw(flag: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    raw_with(flag, name, data, |_| {})
}

fn put(block: &mut Block, field: Field, text: &[u8]) {
    field.of_mut(block)[..text.len()].copy_from_slice(text);
}

fn pax_header(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (keyword, value) in records {
        pax::push_record(&mut data, keyword.as_bytes(), value);
    }
    raw(typeflag::PAX, b"pax", &data)
}

fn read_all(archive: &[u8]) -> Result<Vec<Entry>, Error> {
    Reader::new(archive).entries().map(|found| found.map(|found| found.entry)).collect()
}

fn paths(archive: &[u8]) -> Vec<String> {
    let entries = read_all(archive).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect()
}

#[test]
fn names_come_from_header_long_name_or_record() {
    let file = raw(typeflag::FILE, b"./short", b"");
    let long_name = raw(typeflag::GNU_LONG_NAME, b"././@LongLink", b"/a/long//name\0");
    let pax_name = pax_header(&[("path", b"pax/name")]);
    let split = raw_with(typeflag::FILE, b"name", b"", |block| put(block, header::PREFIX, b"prefix"));
    let old_directory = raw(typeflag::OLD_FILE, b"old/", b"");
    let archive = [
        file.clone(),
        long_name.clone(),
        file.clone(),
        pax_name.clone(),
        file.clone(),
        pax_name,
        long_name,
        file,
        split,
        old_directory,
    ];
    let expected = ["short", "a/long/name", "pax/name", "a/long/name", "prefix/name", "old"];
    assert_eq!(paths(&archive.concat()), expected);
    assert_eq!(read_all(&archive[9]).unwrap()[0].kind, Kind::Directory);
}

#[test]
fn link_targets_come_from_header_long_link_or_record() {
    let link = |flag| raw_with(flag, b"l", b"", |block| put(block, header::LINKNAME, b"/t/./u"));
    let long = raw(typeflag::GNU_LONG_LINK, b"", b"/long/./link\0");
    let pax = pax_header(&[("linkpath", b"/pax/./link")]);
    let archive = [
        link(typeflag::SYMLINK),
        link(typeflag::HARD_LINK),
        long.clone(),
        link(typeflag::SYMLINK),
        pax,
        link(typeflag::HARD_LINK),
    ];
    let kinds: Vec<_> = read_all(&archive.concat()).unwrap().into_iter().map(|entry| entry.kind).collect();
    let symlink = |target: &[u8]| Kind::Symlink { target: target.to_vec() };
    let hard_link = |target: &[u8]| Kind::HardLink { target: target.to_vec() };
    assert_eq!(
        kinds,
        [symlink(b"/t/./u"), hard_link(b"t/u"), symlink(b"/long/./link"), hard_link(b"pax/link")]
    );
}

/// alexcrichton/tar-rs issue 428: a value that looks like a record is still a value.
#[test]
fn an_attribute_cannot_redirect_a_link() {
    let value = b"x\n22 linkpath=/etc/evil\n";
    let link = raw_with(typeflag::SYMLINK, b"l", b"", |block| put(block, header::LINKNAME, b"good"));
    let archive = [pax_header(&[("SCHILY.xattr.user.a", value)]), link].concat();
    let entry = read_all(&archive).unwrap().remove(0);
    assert_eq!(entry.kind, Kind::Symlink { target: b"good".to_vec() });
    assert_eq!(entry.metadata.xattrs[&b"user.a"[..]], value);
}

#[test]
fn numbers_beyond_the_header_come_from_base_256_and_records() {
    let base_256 = raw_with(typeflag::FILE, b"a", b"", |block| {
        put(block, header::UID, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        put(block, header::MTIME, &[0xff; 12]);
        put(block, header::MODE, b"0104755\0");
    });
    let records = [
        pax_header(&[("uid", b"3000000"), ("gid", b"4000000"), ("mtime", b"-1.5"), ("size", b"3")]),
        raw_with(typeflag::FILE, b"b", b"abc", |block| {
            header::put_octal(block, header::SIZE, 0);
        }),
    ];
    let entries = read_all(&[base_256, records.concat()].concat()).unwrap();
    let (first, second) = (&entries[0].metadata, &entries[1].metadata);
    assert_eq!((first.uid, first.mtime, first.mode), (u32::MAX, -1, 0o4755));
    assert_eq!((second.uid, second.gid, second.mtime), (3_000_000, 4_000_000, -2));
    assert_eq!(entries[1].kind, Kind::File { size: 3 });
}

#[test]
fn a_global_header_holds_until_told_otherwise() {
    let file = |name: &[u8]| raw(typeflag::FILE, name, b"");
    let global = raw(typeflag::PAX_GLOBAL, b"g", b"9 uid=77\n15 comment=abc\n");
    let archive = [file(b"a"), global, file(b"b"), pax_header(&[("uid", b"5")]), file(b"c"), file(b"d")];
    let uids: Vec<_> =
        read_all(&archive.concat()).unwrap().into_iter().map(|entry| entry.metadata.uid).collect();
    assert_eq!(uids, [0, 77, 5, 77]);
}

#[test]
fn files_that_only_claim_to_have_data_have_none() {
    let sized = |flag| {
        raw_with(flag, b"a", b"", |block| {
            put(block, header::LINKNAME, b"t");
            header::put_octal(block, header::SIZE, 1000);
        })
    };
    let flags = [typeflag::HARD_LINK, typeflag::SYMLINK, typeflag::DIRECTORY, typeflag::FIFO];
    let archive = [flags.map(sized).concat(), raw(typeflag::FILE, b"last", b"")].concat();
    assert_eq!(read_all(&archive).unwrap().len(), 5);
}

#[test]
fn malformed_archives_are_refused_with_place_and_reason() {
    let patched = |flag, field: Field, text: &'static [u8]| {
        raw_with(flag, b"a", b"", |block| field.of_mut(block)[..text.len()].copy_from_slice(text))
    };
    let good = raw(typeflag::FILE, b"good", b"data");
    let mut bad_checksum = raw(typeflag::FILE, b"a", b"");
    bad_checksum[0] = b'b';
    let long_size = |flag, size| {
        raw_with(flag, b"a", b"", |block| {
            header::put_octal(block, header::SIZE, size);
        })
    };
    let file = |name: &[u8]| raw(typeflag::FILE, name, b"");
    let after_pax = |records: &[(&str, &[u8])]| [pax_header(records), file(b"a")].concat();
    let long_target = [b't'; 4096];
    let (long_name, long_path) = ([b'n'; 256], "d/".repeat(2048) + "f");
    let (mut global_path, mut global_xattr) = (Vec::new(), Vec::new());
    super::pax::push_record(&mut global_path, b"path", &[b'p'; 4097]);
    super::pax::push_record(&mut global_xattr, b"SCHILY.xattr.user.a", b"1");
    let cases: Vec<(Vec<u8>, String)> = vec![
        (bad_checksum, "tar archive at byte 1024: the header's checksum is 1584, but its bytes add up to 1585".into()),
        ([vec![0; 512], file(b"a")].concat(), "tar archive at byte 1024: a lone block of zeroes between entries".into()),
        (file(b"../x"), r#"tar entry "../x" at byte 1024: the path has a `..` component"#.into()),
        (file(b"a/../x"), r#"tar entry "a/../x" at byte 1024: the path has a `..` component"#.into()),
        (file(b""), r#"tar entry "" at byte 1024: only a directory can be the root"#.into()),
        (after_pax(&[("path", b"a\0b")]), r#"tar entry "a\0b" at byte 2048: the path has a NUL byte"#.into()),
        (
            patched(typeflag::HARD_LINK, header::LINKNAME, b"../x"),
            r#"tar entry "a" at byte 1024: the link target "../x" has a `..` component"#.into(),
        ),
        (
            raw(typeflag::SYMLINK, b"a", b""),
            r#"tar entry "a" at byte 1024: the link target is empty, too long or has a NUL byte"#.into(),
        ),
        (
            [pax_header(&[("linkpath", &long_target)]), raw(typeflag::SYMLINK, b"a", b"")].concat(),
            r#"tar entry "a" at byte 6144: the link target is empty, too long or has a NUL byte"#.into(),
        ),
        (raw(b'V', b"label", b""), r#"tar entry "label" at byte 1024: entries of type "V" are not supported"#.into()),
        (raw(0xff, b"a", b""), r#"tar entry "a" at byte 1024: entries of type "\xff" are not supported"#.into()),
        (patched(typeflag::FILE, header::SIZE, b"12x"), r#"tar entry "a" at byte 1024: the size field holds no number"#.into()),
        (patched(typeflag::FILE, header::SIZE, &[0xff; 12]), r#"tar entry "a" at byte 1024: the size -1 is out of range"#.into()),
        (patched(typeflag::FILE, header::UID, &[0xff; 8]), r#"tar entry "a" at byte 1024: the uid -1 is out of range"#.into()),
        (
            patched(typeflag::CHARACTER_DEVICE, header::DEVMINOR, &[0x80, 0, 0, 1, 0, 0, 0, 0]),
            r#"tar entry "a" at byte 1024: the devminor 4294967296 is out of range"#.into(),
        ),
        (
            after_pax(&[("size", b"9223372036854775808")]),
            r#"tar entry "a" at byte 2048: the size 9223372036854775808 is out of range"#.into(),
        ),
        (
            long_size(typeflag::PAX, MAX_EXTENSION + 1),
            "tar archive at byte 1024: an extended header of 1048577 bytes, more than the 1048576 allowed".into(),
        ),
        (
            long_size(typeflag::GNU_LONG_NAME, MAX_EXTENSION + 1),
            "tar archive at byte 1024: an extended header of 1048577 bytes, more than the 1048576 allowed".into(),
        ),
        (
            raw(typeflag::PAX, b"", b"5 a=b"),
            "tar archive at byte 1024: malformed extended header: a record is not `LENGTH KEYWORD=VALUE\\n`".into(),
        ),
        (
            after_pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]),
            r#"tar entry "a" at byte 2048: malformed map of a sparse file: a format other than 0.0, 0.1 and 1.0"#.into(),
        ),
        (
            after_pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]),
            r#"tar entry "a" at byte 2048: malformed map of a sparse file: it does not end within the data"#.into(),
        ),
        (
            after_pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")]),
            r#"tar entry "a" at byte 2048: malformed map of a sparse file: its runs do not add up to the stored size"#.into(),
        ),
        (
            after_pax(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"4398046511105")]),
            r#"tar entry "a" at byte 2048: a sparse file of 4398046511105 bytes, more than the 4398046511104 allowed"#.into(),
        ),
        (
            [pax_header(&[]).repeat(65), file(b"a")].concat(),
            "tar archive at byte 33792: more than 64 extended headers for one entry".into(),
        ),
        (
            [raw(typeflag::PAX_GLOBAL, b"", &global_path), file(b"a")].concat(),
            "tar archive at byte 1024: malformed extended header: a global header with a value longer than any path".into(),
        ),
        (
            raw(typeflag::PAX_GLOBAL, b"", &global_xattr),
            "tar archive at byte 1024: malformed extended header: a global header with what belongs to one file".into(),
        ),
        (
            file(b"x/../../etc/passwd"),
            r#"tar entry "x/../../etc/passwd" at byte 1024: the path has a `..` component"#.into(),
        ),
        (
            after_pax(&[("path", &long_name)]),
            format!(r#"tar entry "{}" at byte 2048: the path has a component longer than 255 bytes"#, "n".repeat(256)),
        ),
        (
            after_pax(&[("path", long_path.as_bytes())]),
            format!(r#"tar entry "{}..." (4097 bytes) at byte 6144: the path is longer than 4096 bytes"#, "d/".repeat(256)),
        ),
        (
            after_pax(&[("GNU.sparse.map", b"0,0")]),
            r#"tar entry "a" at byte 2048: malformed map of a sparse file: its size is missing"#.into(),
        ),
    ];
    for (archive, message) in cases {
        let archive = [good.clone(), archive].concat();
        let mut reader = Reader::new(&archive[..]);
        assert!(reader.next_entry().unwrap().is_some());
        let error = reader.next_entry().unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(!error.is_truncated() && error.is_corrupt() != error.is_unsupported());
        assert!(reader.next_entry().unwrap().is_none());
    }
}

#[test]
fn an_archive_cut_anywhere_but_between_entries_is_truncated() {
    let pax = pax_header(&[("uid", b"1")]);
    let file = raw(typeflag::FILE, b"file", &[b'd'; 600]);
    let archive = [pax.clone(), file.clone(), raw(typeflag::FIFO, b"fifo", b""), vec![0; 1024]].concat();
    let first_end = pax.len() + file.len();
    let whole_at = [first_end, first_end + 512, first_end + 1024, first_end + 1536];
    for length in BLOCK_SIZE..archive.len() {
        let cut = &archive[..length];
        let streamed = read_all(cut);
        let seekable: Result<Vec<_>, _> = Reader::seekable(Cursor::new(cut)).unwrap().entries().collect();
        if whole_at.contains(&length) {
            assert!(streamed.is_ok() && seekable.is_ok(), "{length}");
        } else {
            assert!(streamed.unwrap_err().is_truncated() && seekable.unwrap_err().is_truncated(), "{length}");
        }
    }
}

#[test]
fn what_does_not_begin_as_an_archive_is_corrupt() {
    let archive = raw(typeflag::FILE, b"file", b"");
    let mut flipped = archive.clone();
    flipped[0] ^= 1;
    for (bytes, why) in [
        (&b""[..], "it is empty"),
        (b"plain text\n", "it is shorter than a header"),
        (&[0; BLOCK_SIZE - 1], "it is shorter than a header"),
        (&archive[..BLOCK_SIZE - 1], "it is shorter than a header"),
        (&[b'x'; 5000], "it does not begin with a header"),
        (&flipped, "it does not begin with a header"),
    ] {
        let seekable = Reader::seekable(Cursor::new(bytes)).unwrap().next_entry().unwrap_err();
        for error in [read_all(bytes).unwrap_err(), seekable] {
            assert_eq!(error.to_string(), format!("not a tar archive: {why}"));
            assert!(error.is_corrupt() && !error.is_truncated());
        }
    }
    assert!(read_all(&[0; 2 * BLOCK_SIZE]).unwrap().is_empty());
}

#[test]
fn truncation_says_where_and_in_what() {
    let archive = raw(typeflag::FILE, b"file", &[b'd'; 600]);
    let message = |length: usize| read_all(&archive[..length]).unwrap_err().to_string();
    assert_eq!(
        message(600),
        r#"tar entry "file" at byte 0: the archive ends in the middle of a file's data"#
    );
    let mut reader = Reader::new(&archive[..600]);
    reader.next_entry().unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), message(600));
}

#[test]
fn the_end_marker_is_told_and_what_follows_is_read_through() {
    let file = raw(typeflag::FILE, b"a", b"");
    for (tail, marked, left_by_seeking) in [
        (vec![], false, 0),
        (vec![0; 512], false, 0),
        (vec![0; 1024], true, 0),
        ([vec![0; 1024], vec![7; 3000]].concat(), true, 3000),
    ] {
        let archive = [file.clone(), tail].concat();
        let mut reader = Reader::new(&archive[..]);
        assert_eq!(reader.entries().count(), 1);
        assert_eq!(reader.has_end_marker(), marked);
        assert_eq!(reader.position(), archive.len() as u64);
        assert!(reader.into_inner().is_empty());
        let mut reader = Reader::seekable(Cursor::new(&archive)).unwrap();
        assert_eq!(reader.entries().count(), 1);
        assert_eq!(reader.position() + left_by_seeking, archive.len() as u64);
    }
    assert!(read_all(&[0; 1024]).unwrap().is_empty());
}

/// Counts what is read.
struct Counting<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Counting<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn seeking_reads_headers_only() {
    let file = raw(typeflag::FILE, b"a", &vec![1; 1 << 20]);
    let archive = [file.clone(), file, vec![0; 1024]].concat();
    let mut reader = Reader::seekable(Counting { inner: Cursor::new(&archive), count: 0 }).unwrap();
    assert_eq!(reader.entries().count(), 2);
    assert_eq!(reader.into_inner().count, 4 * 512);
}

#[test]
fn offsets_count_from_where_the_reader_began() {
    let mut source = Cursor::new([vec![9; 100], raw(typeflag::FILE, b"a", b"data")].concat());
    source.set_position(100);
    let mut reader = Reader::seekable(source).unwrap();
    let location = reader.next_entry().unwrap().unwrap().location;
    assert_eq!((location.header_offset, location.data_offset, location.stored_size), (0, 512, 4));
    let mut data = String::new();
    reader.read_to_string(&mut data).unwrap();
    assert_eq!(data, "data");
    assert!(reader.next_entry().unwrap().is_none());
}

#[test]
fn a_failing_source_is_no_malformed_archive() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = Reader::new(Failing).next_entry().unwrap_err();
    assert_eq!(error.to_string(), "cannot read the tar archive at byte 0");
    assert!(error.is_io() && !error.is_truncated() && !error.is_corrupt());
}

fn bytes(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8.., length)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = bytes(1..120).prop_map(|name| {
        let name: Vec<u8> = name.into_iter().map(|byte| if byte == b'/' { b'-' } else { byte }).collect();
        if name == b"." || name == b".." { b"dots".to_vec() } else { name }
    });
    prop::collection::vec(name, 1..6).prop_map(|names| names.join(&b'/'))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0_u64..3000).prop_map(|size| Kind::File { size }),
        Just(Kind::Directory),
        bytes(1..300).prop_map(|target| Kind::Symlink { target }),
        path().prop_map(|target| Kind::HardLink { target }),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::CharacterDevice { major, minor }),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        Just(Kind::Fifo),
    ]
}

fn xattr_name() -> impl Strategy<Value = Vec<u8>> {
    bytes(1..40)
        .prop_map(|name| [b"user.".to_vec(), name].concat().into_iter().filter(|b| *b != b'=').collect())
}

prop_compose! {
    fn entry()(
        path in path(),
        kind in kind(),
        mode in 0_u16..0o10_000,
        uid in prop_oneof![0_u32..100, any::<u32>()],
        gid in prop_oneof![0_u32..100, any::<u32>()],
        mtime in prop_oneof![0_i64..2_000_000_000, -(1_i64 << 40)..1 << 40],
        xattrs in prop::collection::btree_map(xattr_name(), prop::collection::vec(any::<u8>(), 0..200), 0..3),
    ) -> Entry {
        Entry { path, metadata: Metadata { mode, uid, gid, mtime, xattrs }, kind }
    }
}

fn size(entry: &Entry) -> usize {
    if let Kind::File { size } = entry.kind { size as usize } else { 0 }
}

/// One block that passes the checksum, and some that are arbitrary.
fn nearly_an_entry() -> impl Strategy<Value = Vec<u8>> {
    let flags = b"\x000123456 7xgLKSV";
    let patches = prop::collection::vec((0..BLOCK_SIZE, any::<u8>()), 0..6);
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1200),
        "[0-9]{1,3} [a-z.GNU]{1,20}=[0-9,]{0,20}\n".prop_map(String::into_bytes)
    ];
    (prop::sample::select(&flags[..]), patches, data).prop_map(|(flag, patches, data)| {
        raw_with(flag, b"name", &data, |block| {
            for (offset, byte) in patches {
                block[offset] = byte;
            }
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(entries in prop::collection::vec(entry(), 0..8)) {
        let mut archive = Writer::new(Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            archive.begin(entry).unwrap();
            archive.data(&vec![index as u8 + 1; size(entry)]).unwrap();
        }
        let archive = archive.finish().unwrap();
        let mut reader = Reader::seekable(Cursor::new(&archive)).unwrap();
        for (index, entry) in entries.iter().enumerate() {
            let found = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(&found.entry, entry);
            let start = found.location.data_offset as usize;
            let expected = vec![index as u8 + 1; size(entry)];
            prop_assert_eq!(&archive[start..start + size(entry)], &expected);
            if index % 2 == 0 {
                let mut data = Vec::new();
                reader.read_to_end(&mut data).unwrap();
                prop_assert_eq!(data, expected);
            }
        }
        prop_assert!(reader.next_entry().unwrap().is_none() && reader.has_end_marker());
        prop_assert_eq!(read_all(&archive).unwrap(), entries);
    }

    #[test]
    fn any_bytes_give_entries_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read_all(&bytes);
    }

    #[test]
    fn damaged_entries_give_entries_or_an_error(blocks in prop::collection::vec(nearly_an_entry(), 1..6)) {
        let archive = blocks.concat();
        let streamed = read_all(&archive);
        let seekable: Result<Vec<_>, _> =
            Reader::seekable(Cursor::new(&archive)).unwrap().entries().map(|e| e.map(|e| e.entry)).collect();
        prop_assert_eq!(streamed.map_err(|e| e.to_string()), seekable.map_err(|e| e.to_string()));
    }
}
