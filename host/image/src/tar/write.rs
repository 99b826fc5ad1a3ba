//! Writing archives: one spelling for each file, whatever made it.

use super::error::{WriteError, WriteProblem};
use super::header::{self, BLOCK_SIZE, Block, Field, typeflag};
use super::pax;
use super::read::MAX_EXTENSION;
use crate::Error;
use crate::copy::copy;
use crate::entry::{Entry, Kind, Metadata};
use crate::path;
use crate::whiteout;
use crate::xattr;
use std::io::{Read, Write};

/// The name of every extended header. Python's, so that nobody is surprised by it.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// How the root is called.
const ROOT: &[u8] = b"./";

/// How many zeroes are written at a time.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes an archive of which every byte follows from the entries: ustar headers without names of
/// owners, and PAX records for what does not fit into them. Data comes in pieces.
///
/// ```
/// # use kiln_image::{entry::{Entry, Kind, Metadata}, tar::Writer};
/// let mut archive = Writer::new(Vec::new());
/// let kind = Kind::File { size: 5 };
/// archive.begin(&Entry { path: b"file".to_vec(), metadata: Metadata::default(), kind })?;
/// archive.data(b"he")?;
/// archive.zeroes(3)?;
/// let bytes = archive.finish()?;
/// assert_eq!(&bytes[512..517], b"he\0\0\0");
/// # Ok::<(), kiln_image::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    position: u64,
    /// The current entry's, for messages.
    path: Vec<u8>,
    size: u64,
    /// Bytes of data still to come.
    data_left: u64,
}

impl<W: Write> Writer<W> {
    /// An archive without entries yet. Headers are written singly; give it a
    /// [`BufWriter`](std::io::BufWriter) where that is slow.
    pub fn new(out: W) -> Self {
        Self { out, position: 0, path: Vec::new(), size: 0, data_left: 0 }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Begins an entry. Exactly the size of a [`Kind::File`] has to follow as data.
    ///
    /// # Errors
    /// When the previous entry lacks data, this one cannot be in an archive (a path or link target
    /// with a NUL, an attribute name with `=`), or writing fails.
    pub fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        self.end()?;
        self.path.clone_from(&entry.path);
        let headers = Headers::of(entry).map_err(|problem| self.error(problem))?;
        if !headers.records.is_empty() {
            self.write_records(&headers.records)?;
        }
        self.write(&headers.block)?;
        self.size = size_of(&entry.kind);
        self.data_left = self.size;
        Ok(())
    }

    /// The next bytes of the current entry.
    ///
    /// # Errors
    /// When there are more than the entry's size, or writing fails.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.count(bytes.len() as u64)?;
        self.write(bytes)
    }

    /// The next bytes of the current entry, all of them zero.
    ///
    /// # Errors
    /// When there are more than the entry's size, or writing fails.
    pub fn zeroes(&mut self, count: u64) -> Result<(), Error> {
        self.count(count)?;
        self.write_zeroes(count)
    }

    /// Ends the current entry, as [`begin`](Self::begin) and [`finish`](Self::finish) do too.
    ///
    /// # Errors
    /// When data is missing, or writing fails.
    pub fn end(&mut self) -> Result<(), Error> {
        if self.data_left > 0 {
            let problem = WriteProblem::MissingData { size: self.size, missing: self.data_left };
            return Err(self.error(problem));
        }
        let padding = self.size.next_multiple_of(BLOCK_SIZE as u64) - self.size;
        self.size = 0;
        self.write_zeroes(padding)
    }

    /// Writes an entry with all of its data.
    ///
    /// # Errors
    /// When `data` is longer or shorter than the entry's size or cannot be read, or as
    /// [`begin`](Self::begin).
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        self.begin(entry)?;
        copy(data, || doing("read the data of", &entry.path), |bytes| self.data(bytes))?;
        self.end()
    }

    /// Ends the archive and gives back what it was written to, which is not flushed.
    ///
    /// # Errors
    /// When the last entry lacks data, or writing fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end()?;
        self.write_zeroes(2 * BLOCK_SIZE as u64)?;
        Ok(self.out)
    }

    fn write_records(&mut self, records: &[u8]) -> Result<(), Error> {
        let block = pax_header(records.len() as u64);
        self.write(&block)?;
        self.write(records)?;
        let padding = records.len().next_multiple_of(BLOCK_SIZE) - records.len();
        self.write_zeroes(padding as u64)
    }

    fn count(&mut self, count: u64) -> Result<(), Error> {
        match self.data_left.checked_sub(count) {
            Some(left) => {
                self.data_left = left;
                Ok(())
            }
            None => Err(self.error(WriteProblem::TooMuchData { size: self.size })),
        }
    }

    fn write_zeroes(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROES.len());
            self.write(&ZEROES[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|error| Error::from_io(error, || doing("write", &self.path)))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn error(&self, problem: WriteProblem) -> Error {
        WriteError { path: self.path.clone(), problem }.into()
    }
}

fn doing(what: &str, path: &[u8]) -> String {
    format!("{what} tar entry {}", path::Quoted(path))
}

/// An entry's header, and the records for what does not fit into it.
struct Headers {
    block: Block,
    records: Vec<u8>,
}

impl Headers {
    fn of(entry: &Entry) -> Result<Self, WriteProblem> {
        check(entry)?;
        let mut headers = Self { block: [0; BLOCK_SIZE], records: Vec::new() };
        headers.put_constants(&entry.kind);
        headers.put_device(&entry.kind)?;
        // The records are sorted by keyword: upper case comes first.
        headers.put_xattrs(&entry.metadata)?;
        headers.put_number(header::GID, pax::GID, entry.metadata.gid.into());
        headers.put_names(&name_of(entry), link_of(&entry.kind));
        headers.put_mtime(entry.metadata.mtime);
        headers.put_path(&name_of(entry));
        headers.put_number(header::SIZE, pax::SIZE, size_of(&entry.kind));
        headers.put_number(header::UID, pax::UID, entry.metadata.uid.into());
        header::put_octal(&mut headers.block, header::MODE, entry.metadata.mode.into());
        header::put_checksum(&mut headers.block);
        match headers.records.len() as u64 {
            size if size > MAX_EXTENSION => Err(WriteProblem::LongExtension { size, limit: MAX_EXTENSION }),
            _ => Ok(headers),
        }
    }

    fn put_constants(&mut self, kind: &Kind) {
        header::TYPEFLAG.of_mut(&mut self.block)[0] = typeflag_of(kind);
        header::MAGIC.of_mut(&mut self.block).copy_from_slice(&header::POSIX_MAGIC);
    }

    fn put_device(&mut self, kind: &Kind) -> Result<(), WriteProblem> {
        let (major, minor) = match kind {
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => (*major, *minor),
            _ => (0, 0),
        };
        let fits = header::put_octal(&mut self.block, header::DEVMAJOR, major.into())
            && header::put_octal(&mut self.block, header::DEVMINOR, minor.into());
        if fits { Ok(()) } else { Err(WriteProblem::Device { major, minor }) }
    }

    fn put_xattrs(&mut self, metadata: &Metadata) -> Result<(), WriteProblem> {
        for (name, value) in &metadata.xattrs {
            check_xattr(name, value).map_err(|why| WriteProblem::Xattr { name: name.clone(), why })?;
            pax::push_record(&mut self.records, &[pax::SCHILY_XATTR, name].concat(), value);
        }
        Ok(())
    }

    fn put_number(&mut self, field: Field, keyword: &[u8], value: u64) {
        if !header::put_octal(&mut self.block, field, value) {
            header::put_octal(&mut self.block, field, 0);
            pax::push_record(&mut self.records, keyword, value.to_string().as_bytes());
        }
    }

    fn put_mtime(&mut self, mtime: i64) {
        match u64::try_from(mtime) {
            Ok(seconds) => self.put_number(header::MTIME, pax::MTIME, seconds),
            Err(_) => {
                header::put_octal(&mut self.block, header::MTIME, 0);
                pax::push_record(&mut self.records, pax::MTIME, mtime.to_string().as_bytes());
            }
        }
    }

    /// The link target, and before it the note that the names in records are not UTF-8, if so.
    fn put_names(&mut self, name: &[u8], link: &[u8]) {
        let is_record = [split(name).is_none(), link.len() > header::LINKNAME.len()];
        let is_binary = |(name, is_record): (&[u8], bool)| is_record && std::str::from_utf8(name).is_err();
        if [name, link].into_iter().zip(is_record).any(is_binary) {
            pax::push_record(&mut self.records, pax::HDRCHARSET, pax::BINARY);
        }
        put_start(&mut self.block, header::LINKNAME, link);
        if link.len() > header::LINKNAME.len() {
            pax::push_record(&mut self.records, pax::LINKPATH, link);
        }
    }

    fn put_path(&mut self, name: &[u8]) {
        if let Some((prefix, name)) = split(name) {
            put_start(&mut self.block, header::PREFIX, prefix);
            put_start(&mut self.block, header::NAME, name);
        } else {
            put_start(&mut self.block, header::NAME, name);
            pax::push_record(&mut self.records, pax::PATH, name);
        }
    }
}

fn pax_header(size: u64) -> Block {
    let mut block = [0; BLOCK_SIZE];
    put_start(&mut block, header::NAME, PAX_NAME);
    header::TYPEFLAG.of_mut(&mut block)[0] = typeflag::PAX;
    header::MAGIC.of_mut(&mut block).copy_from_slice(&header::POSIX_MAGIC);
    for (field, value) in [
        (header::MODE, 0o644),
        (header::UID, 0),
        (header::GID, 0),
        (header::SIZE, size),
        (header::MTIME, 0),
        (header::DEVMAJOR, 0),
        (header::DEVMINOR, 0),
    ] {
        assert!(header::put_octal(&mut block, field, value), "attributes of one file are less than 8 GiB");
    }
    header::put_checksum(&mut block);
    block
}

/// As much of a name as the field takes.
fn put_start(block: &mut Block, field: Field, text: &[u8]) {
    let length = text.len().min(field.len());
    field.of_mut(block)[..length].copy_from_slice(&text[..length]);
}

/// Divides a name at a `/` between the prefix, as short as possible, and name fields.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= header::NAME.len() {
        return Some((b"", name));
    }
    let earliest = name.len() - header::NAME.len() - 1;
    let end = name.len() - 1;
    let slash = earliest + name[earliest..end].iter().position(|byte| *byte == b'/')?;
    (slash <= header::PREFIX.len()).then(|| (&name[..slash], &name[slash + 1..]))
}

/// Directories' names end in `/`.
fn name_of(entry: &Entry) -> Vec<u8> {
    match entry.kind {
        Kind::Directory if entry.path.is_empty() => ROOT.to_vec(),
        Kind::Directory => [&entry.path[..], b"/"].concat(),
        _ => entry.path.clone(),
    }
}

fn link_of(kind: &Kind) -> &[u8] {
    match kind {
        Kind::Symlink { target } | Kind::HardLink { target } => target,
        _ => b"",
    }
}

fn size_of(kind: &Kind) -> u64 {
    if let Kind::File { size } = kind { *size } else { 0 }
}

fn typeflag_of(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => typeflag::FILE,
        Kind::Directory => typeflag::DIRECTORY,
        Kind::Symlink { .. } => typeflag::SYMLINK,
        Kind::HardLink { .. } => typeflag::HARD_LINK,
        Kind::CharacterDevice { .. } => typeflag::CHARACTER_DEVICE,
        Kind::BlockDevice { .. } => typeflag::BLOCK_DEVICE,
        Kind::Fifo => typeflag::FIFO,
    }
}

fn check(entry: &Entry) -> Result<(), WriteProblem> {
    path::check(&entry.path, whiteout::prefix_length).map_err(WriteProblem::Path)?;
    if entry.path.is_empty() && entry.kind != Kind::Directory {
        return Err(WriteProblem::RootKind);
    }
    if entry.metadata.mode > 0o7777 {
        return Err(WriteProblem::Mode(entry.metadata.mode));
    }
    match &entry.kind {
        Kind::HardLink { target } => {
            path::check(target, |_| 0).map_err(|why| WriteProblem::LinkTarget { target: target.clone(), why })
        }
        Kind::Symlink { target } if !path::is_symlink_target(target) => Err(WriteProblem::SymlinkTarget),
        _ => Ok(()),
    }
}

fn check_xattr(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    xattr::check(name, value)?;
    // It would end the keyword. GNU tar escapes it, but no reader of layers understands that.
    if name.contains(&b'=') { Err("an archive has no way to write `=` in its name") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Xattrs;
    use crate::tar::Reader;
    use std::io;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry { path: path.to_vec(), metadata: Metadata { mode: 0o755, ..Metadata::default() }, kind }
    }

    const EMPTY: Kind = Kind::File { size: 0 };

    type Change<T> = fn(&mut T);

    /// An archive of one entry, without the end marker.
    fn archive_of(entry: &Entry) -> Vec<u8> {
        let mut archive = Writer::new(Vec::new());
        archive.begin(entry).unwrap();
        archive.zeroes(size_of(&entry.kind)).unwrap();
        let mut bytes = archive.finish().unwrap();
        assert_eq!(bytes.split_off(bytes.len() - 2 * BLOCK_SIZE), [0; 2 * BLOCK_SIZE]);
        bytes
    }

    /// The records of an archive of one entry, as text.
    fn records_of(entry: &Entry) -> String {
        let headers = Headers::of(entry).unwrap();
        String::from_utf8_lossy(&headers.records).into_owned()
    }

    #[test]
    fn a_header_has_always_been_these_bytes() {
        let metadata =
            Metadata { mode: 0o4755, uid: 1000, gid: 100, mtime: 1_700_000_000, xattrs: Xattrs::new() };
        let kind = Kind::File { size: 5 };
        let mut archive = Writer::new(Vec::new());
        archive.append(&Entry { path: b"bin/su".to_vec(), metadata, kind }, &mut &b"hello"[..]).unwrap();
        let expected: Vec<u8> = [
            &b"bin/su"[..],
            &[0; 94],
            b"0004755\x000001750\x000000144\x0000000000005\x0014524770400\x00010421\0 0",
            &[0; 100],
            b"ustar\x0000",
            &[0; 64],
            b"0000000\x000000000\0",
            &[0; 167],
            b"hello",
            &[0; 507],
            &[0; 1024],
        ]
        .concat();
        assert_eq!(archive.finish().unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn records_are_written_only_where_the_header_is_too_small() {
        let name_100 = "n".repeat(100);
        let split_256 = ["p".repeat(155), name_100.clone()].join("/");
        let cases: [(&str, Kind, Change<Metadata>, &str); 14] = [
            (&name_100, EMPTY, |_| {}, ""),
            (&split_256, EMPTY, |_| {}, ""),
            (&split_256[1..], Kind::Directory, |_| {}, "266 path="),
            ("caf\u{e9}", EMPTY, |_| {}, ""),
            ("", Kind::Directory, |_| {}, ""),
            (&"n".repeat(101), EMPTY, |_| {}, "111 path=n"),
            ("a", EMPTY, |m| m.uid = 0o7_777_777, ""),
            ("a", EMPTY, |m| m.uid = 0o10_000_000, "15 uid=2097152\n"),
            ("a", EMPTY, |m| m.gid = u32::MAX, "18 gid=4294967295\n"),
            ("a", EMPTY, |m| m.mtime = 0o77_777_777_777, ""),
            ("a", EMPTY, |m| m.mtime = 0o100_000_000_000, "20 mtime=8589934592\n"),
            ("a", EMPTY, |m| m.mtime = -1, "12 mtime=-1\n"),
            ("a", Kind::File { size: 0o77_777_777_777 }, |_| {}, ""),
            ("a", Kind::File { size: 0o100_000_000_000 }, |_| {}, "19 size=8589934592\n"),
        ];
        for (path, kind, change, expected) in cases {
            let mut entry = entry(path.as_bytes(), kind);
            change(&mut entry.metadata);
            let records = records_of(&entry);
            assert!(
                records.starts_with(expected) && records.is_empty() == expected.is_empty(),
                "{path}: {records}"
            );
        }
    }

    #[test]
    fn records_are_sorted_and_say_when_names_are_not_utf_8() {
        let target = [b'\xff'; 101].to_vec();
        let mut entry = entry(&[b'n'; 101], Kind::Symlink { target });
        entry.metadata.uid = u32::MAX;
        entry.metadata.gid = u32::MAX;
        entry.metadata.mtime = -1;
        entry.metadata.xattrs = [("user.b", "2"), ("user.a", "1")]
            .map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()))
            .into();
        let records = records_of(&entry);
        let keywords: Vec<_> = records.lines().map(|line| line.split([' ', '=']).nth(1).unwrap()).collect();
        let sorted = [
            "SCHILY.xattr.user.a",
            "SCHILY.xattr.user.b",
            "gid",
            "hdrcharset",
            "linkpath",
            "mtime",
            "path",
            "uid",
        ];
        assert_eq!(keywords, sorted);
        assert!(keywords.is_sorted());
        let short = Kind::Symlink { target: b"\xff".to_vec() };
        assert_eq!(records_of(&self::entry(b"\xff", short)), "");
    }

    #[test]
    fn extended_headers_are_reproducible_entries_of_their_own() {
        let long = entry(&[b'n'; 101], EMPTY);
        let bytes = archive_of(&long);
        assert_eq!(bytes.len(), 3 * BLOCK_SIZE);
        assert!(bytes.starts_with(b"././@PaxHeader\0"));
        assert_eq!(bytes[156], b'x');
        assert!(bytes[BLOCK_SIZE..].starts_with(b"111 path=nnn"));
        assert_eq!(bytes, archive_of(&long));
    }

    #[test]
    fn what_cannot_be_in_an_archive_is_refused() {
        let with = |change: Change<Entry>| {
            let mut entry = entry(b"a", EMPTY);
            change(&mut entry);
            Writer::new(io::sink()).begin(&entry).unwrap_err().to_string()
        };
        let cases: [(Change<Entry>, &str); 11] = [
            (|e| e.path = b"/a".to_vec(), "tar entry \"/a\": the path has an empty or `.` component"),
            (|e| e.path = b"a\0".to_vec(), "tar entry \"a\\0\": the path has a NUL byte"),
            (|e| e.path = b"..".to_vec(), "tar entry \"..\": the path has a `..` component"),
            (|e| e.path = Vec::new(), "tar entry \"\": only a directory can be the root"),
            (|e| e.metadata.mode = 0o10_000, "tar entry \"a\": the mode 10000 is out of range"),
            (
                |e| e.kind = Kind::Symlink { target: Vec::new() },
                "tar entry \"a\": the link target is empty, too long or has a NUL byte",
            ),
            (
                |e| e.kind = Kind::HardLink { target: b"../b".to_vec() },
                "tar entry \"a\": the link target \"../b\" has a `..` component",
            ),
            (
                |e| e.kind = Kind::BlockDevice { major: 1, minor: 1 << 21 },
                "tar entry \"a\": the device number 1:2097152 is out of range",
            ),
            (
                |e| e.metadata.xattrs = [(b"user.a=b".to_vec(), Vec::new())].into(),
                "tar entry \"a\": extended attribute \"user.a=b\": an archive has no way to write `=` in its name",
            ),
            (
                |e| e.metadata.xattrs = [(b"user.\0".to_vec(), Vec::new())].into(),
                "tar entry \"a\": extended attribute \"user.\\0\": its name has a NUL byte",
            ),
            (
                |e| {
                    e.metadata.xattrs = (0..16).map(|i| (vec![b'a' + i], vec![0; xattr::MAX_VALUE])).collect()
                },
                "tar entry \"a\": an extended header of 1048928 bytes, more than the 1048576 that readers allow",
            ),
        ];
        for (change, message) in cases {
            assert_eq!(with(change), message);
        }
    }

    #[test]
    fn data_has_exactly_the_announced_size() {
        let begun = || {
            let mut archive = Writer::new(Vec::new());
            archive.begin(&entry(b"a", Kind::File { size: 3 })).unwrap();
            archive.data(b"ab").unwrap();
            archive
        };
        let too_much = "tar entry \"a\": more than the announced 3 bytes of data";
        let missing = "tar entry \"a\": 1 of the announced 3 bytes of data are missing";
        assert_eq!(begun().data(b"cd").unwrap_err().to_string(), too_much);
        assert_eq!(begun().zeroes(2).unwrap_err().to_string(), too_much);
        assert_eq!(begun().end().unwrap_err().to_string(), missing);
        assert_eq!(begun().begin(&entry(b"b", EMPTY)).unwrap_err().to_string(), missing);
        assert_eq!(begun().finish().unwrap_err().to_string(), missing);
        let append = |mut data: &[u8]| {
            let error = Writer::new(io::sink()).append(&entry(b"a", Kind::File { size: 3 }), &mut data);
            error.unwrap_err().to_string()
        };
        assert_eq!(append(b"ab"), missing);
        assert_eq!(append(b"abcd"), too_much);
    }

    #[test]
    fn position_counts_every_byte() {
        let mut archive = Writer::new(Vec::new());
        archive.begin(&entry(&[b'n'; 101], Kind::File { size: 700 })).unwrap();
        archive.zeroes(700).unwrap();
        assert_eq!(archive.position(), 3 * 512 + 700);
        archive.end().unwrap();
        assert_eq!(archive.position(), 3 * 512 + 1024);
        assert_eq!(archive.finish().unwrap().len(), 3 * 512 + 1024 + 1024);
    }

    #[test]
    fn the_root_is_read_back_as_the_root() {
        let bytes = archive_of(&entry(b"", Kind::Directory));
        assert!(bytes.starts_with(b"./\0"));
        let read = Reader::new(&bytes[..]).next_entry().unwrap().unwrap();
        assert_eq!(read.entry, entry(b"", Kind::Directory));
    }
}
