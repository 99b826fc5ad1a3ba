//! Reading archives made by anyone.

use super::error::{Problem, ReadError};
use super::header::{self, BLOCK_SIZE, Block, Header, typeflag};
use super::pax::Attributes;
use super::sparse::{self, MapText, SparseRun};
use crate::Error;
use crate::entry::{Entry, Kind, Metadata};
use crate::path;
use crate::tree::Extent;
use crate::whiteout;
use std::io::{self, Read, Seek, SeekFrom};

/// Most bytes of an extended header or a long name. Attributes of one file fit several times.
pub const MAX_EXTENSION: u64 = 1024 * 1024;

/// Most extended headers and long names before an entry. GNU tar writes three, with a global one.
pub const MAX_EXTENSIONS: u32 = 64;

/// Most bytes of a file with holes: these cost the archive nothing, but everyone who reads the file.
/// `/var/log/lastlog` of a system with large user numbers is more than a terabyte.
pub const MAX_SPARSE: u64 = 1 << 42;

/// Most entries of an archive. The largest images have some hundred thousand files.
pub const MAX_ENTRIES: u64 = 1 << 22;

/// An entry and where it is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The file.
    pub entry: Entry,
    /// Where its parts are.
    pub location: Location,
}

/// Where an entry's parts are, in bytes from where the reader began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The entry's own header block, after its extensions.
    pub header_offset: u64,
    /// The first byte of its data.
    pub data_offset: u64,
    /// Bytes of data: of a sparse file, those that are not in holes.
    pub stored_size: u64,
    /// Of a sparse file, where its data belongs: sorted, not overlapping, within the size.
    pub sparse: Option<Vec<SparseRun>>,
}

impl Location {
    /// The file's bytes as a [`Tree`](crate::tree::Tree) refers to them, the archive being `source`.
    pub fn extents(&self, source: u32) -> Vec<Extent> {
        let whole = [SparseRun { offset: 0, length: self.stored_size }];
        let runs = self.sparse.as_deref().unwrap_or(&whole);
        let mut source_offset = self.data_offset;
        let mut extents = Vec::with_capacity(runs.len());
        for run in runs.iter().filter(|run| run.length > 0) {
            extents.push(Extent { file_offset: run.offset, length: run.length, source, source_offset });
            source_offset += run.length;
        }
        extents
    }
}

/// Reads an archive entry by entry: v7, ustar, GNU, PAX and star, sparse files included.
///
/// Between two calls of [`next_entry`](Self::next_entry) the reader gives the bytes stored for the
/// entry just returned ([`Read`]); those not read are skipped. Owner and group names, access and
/// change times, and textual ACLs are ignored.
///
/// Where programs disagree about an archive, this follows Go's `archive/tar`, with which Docker,
/// containerd and Podman read layers.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    skip: fn(&mut R, u64) -> io::Result<u64>,
    /// Bytes in the source, where known: seeking does not notice that it passes the end.
    length: Option<u64>,
    position: u64,
    /// Bytes of the current entry's data that were not read.
    data_left: u64,
    /// Bytes between the data and the next header.
    padding: u64,
    global: Attributes,
    entry_count: u64,
    state: State,
    /// For messages: the current entry's header and name.
    header_offset: u64,
    raw_path: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    /// The end, and whether its marker was there.
    End {
        marked: bool,
    },
    Failed,
}

/// Why a step failed; where is added when it is known.
enum Fault {
    Problem(Problem),
    Io(io::Error),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What precedes an entry's header and belongs to it.
#[derive(Default)]
struct Extensions {
    present: bool,
    pax: Option<Attributes>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads through everything, also what follows the end marker: a hash of the source is complete
    /// once the last entry was asked for. Headers are read singly; give it a
    /// [`BufReader`](io::BufReader).
    pub fn new(source: R) -> Self {
        Self::with_skip(source, skip_reading, None)
    }

    fn with_skip(source: R, skip: fn(&mut R, u64) -> io::Result<u64>, length: Option<u64>) -> Self {
        Self {
            source,
            skip,
            length,
            position: 0,
            data_left: 0,
            padding: 0,
            global: Attributes::default(),
            entry_count: 0,
            state: State::Entries,
            header_offset: 0,
            raw_path: None,
        }
    }

    /// The next entry, or `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// When the archive is malformed, cut short or cannot be read; what does not begin as an archive
    /// is malformed, however short it is. A `..` in a path, or a type of
    /// entry that no file system knows, is an error; nothing is left out silently.
    pub fn next_entry(&mut self) -> Result<Option<ArchiveEntry>, Error> {
        if self.state != State::Entries {
            return Ok(None);
        }
        self.step().map_err(|fault| {
            self.state = State::Failed;
            self.locate(fault)
        })
    }

    /// The remaining entries.
    pub fn entries(&mut self) -> impl Iterator<Item = Result<ArchiveEntry, Error>> {
        std::iter::from_fn(|| self.next_entry().transpose())
    }

    /// True when the end was reached and was marked as such by two blocks of zeroes. Archives without
    /// are accepted; but a download that broke off between two entries looks the same.
    pub fn has_end_marker(&self) -> bool {
        self.state == State::End { marked: true }
    }

    /// Bytes of the archive consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The source, wherever it is.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn locate(&self, fault: Fault) -> Error {
        let problem = match fault {
            Fault::Problem(problem) => problem,
            Fault::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() => {
                Problem::Truncated("its data")
            }
            Fault::Io(error) => {
                return Error::from_io(error, || format!("read the tar archive at byte {}", self.position));
            }
        };
        ReadError { offset: self.header_offset, path: self.raw_path.clone(), problem }.into()
    }

    fn step(&mut self) -> Result<Option<ArchiveEntry>, Fault> {
        self.skip_data()?;
        self.raw_path = None;
        let mut extensions = Extensions::default();
        for _ in 0..=MAX_EXTENSIONS {
            self.header_offset = self.position;
            let Some(block) = self.read_header_block(extensions.present)? else {
                return Ok(None);
            };
            let header = Header::new(block).map_err(|problem| self.no_header(problem))?;
            if !self.extend(&header, &mut extensions)? {
                return self.finish_entry(&header, extensions).map(Some);
            }
        }
        Err(Problem::TooManyExtensions(MAX_EXTENSIONS).into())
    }

    /// What is wrong with a block that is no header: at the start, that this is something else.
    fn no_header(&self, problem: Problem) -> Problem {
        if self.header_offset == 0 { Problem::NotTar("it does not begin with a header") } else { problem }
    }

    /// Goes to the next header.
    fn skip_data(&mut self) -> Result<(), Fault> {
        self.skip_bytes(self.data_left, "a file's data")?;
        self.data_left = 0;
        self.skip_bytes(self.padding, "the padding after a file")?;
        self.padding = 0;
        Ok(())
    }

    fn skip_bytes(&mut self, count: u64, what: &'static str) -> Result<(), Fault> {
        if self.length.is_some_and(|length| length.saturating_sub(self.position) < count) {
            return Err(Problem::Truncated(what).into());
        }
        let skipped = if count == 0 { 0 } else { (self.skip)(&mut self.source, count)? };
        self.position += skipped;
        if skipped == count { Ok(()) } else { Err(Problem::Truncated(what).into()) }
    }

    /// The next header, or `None` at the end, which cannot be where an entry has begun.
    fn read_header_block(&mut self, entry_begun: bool) -> Result<Option<Block>, Fault> {
        match self.read_block("a header")? {
            Some(block) if block != [0; BLOCK_SIZE] => Ok(Some(block)),
            _ if entry_begun => Err(Problem::Truncated("an entry").into()),
            None if self.position == 0 => Err(Problem::NotTar("it is empty").into()),
            None => {
                self.state = State::End { marked: false };
                Ok(None)
            }
            Some(_) => self.read_end_marker().map(|()| None),
        }
    }

    /// After one block of zeroes: a second one, or the end of the source, and then anything.
    fn read_end_marker(&mut self) -> Result<(), Fault> {
        let second = self.read_block("its end marker")?;
        if second.is_some_and(|block| block != [0; BLOCK_SIZE]) {
            return Err(Problem::LoneZeroBlock.into());
        }
        self.state = State::End { marked: second.is_some() };
        if self.length.is_none() {
            self.position += io::copy(&mut self.source, &mut io::sink())?;
        }
        Ok(())
    }

    /// A block, or `None` when the source ends here.
    fn read_block(&mut self, what: &'static str) -> Result<Option<Block>, Fault> {
        let mut block = [0; BLOCK_SIZE];
        let mut filled = 0;
        while filled < BLOCK_SIZE {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) if self.position == 0 => {
                    return Err(Problem::NotTar("it is shorter than a header").into());
                }
                Ok(0) => return Err(Problem::Truncated(what).into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += BLOCK_SIZE as u64;
        Ok(Some(block))
    }

    /// Takes in a header that only describes the next entry; false for an entry's own.
    fn extend(&mut self, header: &Header, extensions: &mut Extensions) -> Result<bool, Fault> {
        match header.typeflag() {
            typeflag::PAX => {
                let records = self.read_extension(header)?;
                extensions.pax = Some(Attributes::of_entry(&self.global, &records)?);
            }
            typeflag::PAX_GLOBAL => {
                let records = self.read_extension(header)?;
                self.global.apply_global(&records)?;
                return Ok(true);
            }
            typeflag::GNU_LONG_NAME => {
                extensions.long_name = Some(header::text(&self.read_extension(header)?).to_vec());
            }
            typeflag::GNU_LONG_LINK => {
                extensions.long_link = Some(header::text(&self.read_extension(header)?).to_vec());
            }
            _ => return Ok(false),
        }
        extensions.present = true;
        Ok(true)
    }

    /// The data of a header that describes another.
    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let size = unsigned(header, header::SIZE)?;
        if size > MAX_EXTENSION {
            return Err(Problem::LongExtension { size, limit: MAX_EXTENSION }.into());
        }
        let mut data = Vec::new();
        let read = (&mut self.source).take(size).read_to_end(&mut data)? as u64;
        self.position += read;
        if read < size {
            return Err(Problem::Truncated("an extended header").into());
        }
        self.skip_bytes(padding_after(size), "an extended header")?;
        Ok(data)
    }

    fn finish_entry(&mut self, header: &Header, extensions: Extensions) -> Result<ArchiveEntry, Fault> {
        let Extensions { pax, long_name, long_link, .. } = extensions;
        let mut attributes = pax.unwrap_or_else(|| self.global.clone());
        let sparse_name = attributes.sparse.name.take();
        let raw_path = long_name.or(sparse_name).or(attributes.path.take()).unwrap_or_else(|| header.path());
        self.raw_path = Some(raw_path.clone());
        self.entry_count += 1;
        if self.entry_count > MAX_ENTRIES {
            return Err(Problem::TooManyEntries(MAX_ENTRIES).into());
        }
        let path = path::normalize(&raw_path, whiteout::prefix_length).map_err(Problem::Path)?;
        let link = long_link.or(attributes.linkpath.take()).unwrap_or_else(|| header.link_name());
        let metadata = metadata(header, &mut attributes)?;
        let (kind, location) = self.contents(header, &raw_path, link, &attributes)?;
        if path.is_empty() && kind != Kind::Directory {
            return Err(Problem::RootKind.into());
        }
        Ok(ArchiveEntry { entry: Entry { path, metadata, kind }, location })
    }

    /// What the entry is, and where its data is, to which the reader goes.
    fn contents(
        &mut self,
        header: &Header,
        raw_path: &[u8],
        link: Vec<u8>,
        attributes: &Attributes,
    ) -> Result<(Kind, Location), Fault> {
        let is_old_directory = header.typeflag() == typeflag::OLD_FILE && raw_path.ends_with(b"/");
        match header.typeflag() {
            typeflag::OLD_FILE if is_old_directory => Ok((Kind::Directory, self.no_data())),
            typeflag::OLD_FILE | typeflag::FILE | typeflag::CONTIGUOUS_FILE => self.file(header, attributes),
            typeflag::GNU_SPARSE => self.gnu_sparse_file(header, attributes),
            // Like Go, whatever size their headers claim.
            _ => Ok((kind_without_data(header, link)?, self.no_data())),
        }
    }

    fn no_data(&self) -> Location {
        Location {
            header_offset: self.header_offset,
            data_offset: self.position,
            stored_size: 0,
            sparse: None,
        }
    }

    fn file(&mut self, header: &Header, attributes: &Attributes) -> Result<(Kind, Location), Fault> {
        let sparse = &attributes.sparse;
        let stored_size = self.begin_data(header, attributes)?;
        if sparse.major.is_some_and(|major| major != 0) {
            if (sparse.major, sparse.minor) != (Some(1), Some(0)) {
                return Err(Problem::Sparse("a format other than 0.0, 0.1 and 1.0").into());
            }
            let map = self.read_map()?;
            self.sparse_file(&map, sparse.real_size, self.data_left)
        } else if sparse.real_size.is_some() || !sparse.map.is_empty() {
            self.sparse_file(&sparse.map, sparse.real_size, stored_size)
        } else {
            let location = Location { stored_size, ..self.no_data() };
            Ok((Kind::File { size: stored_size }, location))
        }
    }

    fn gnu_sparse_file(
        &mut self,
        header: &Header,
        attributes: &Attributes,
    ) -> Result<(Kind, Location), Fault> {
        let real_size = unsigned(header, header::GNU_REALSIZE)?;
        let mut map = Vec::new();
        let mut more =
            sparse::push_gnu_runs(header.block(), header::GNU_SPARSE, header::GNU_IS_EXTENDED, &mut map)?;
        while more {
            let block = self.read_block("a sparse file's map")?;
            let block = block.ok_or(Problem::Truncated("a sparse file's map"))?;
            let (runs, is_extended) = (header::GNU_EXTENSION_SPARSE, header::GNU_EXTENSION_IS_EXTENDED);
            more = sparse::push_gnu_runs(&block, runs, is_extended, &mut map)?;
        }
        let stored_size = self.begin_data(header, attributes)?;
        self.sparse_file(&map, Some(real_size), stored_size)
    }

    fn sparse_file(
        &self,
        map: &[u64],
        real_size: Option<u64>,
        stored_size: u64,
    ) -> Result<(Kind, Location), Fault> {
        let size = real_size.ok_or(Problem::Sparse("its size is missing"))?;
        if i64::try_from(size).is_err() {
            return Err(Problem::OutOfRange { field: "size", value: size.into() }.into());
        }
        if size > MAX_SPARSE {
            return Err(Problem::HugeSparse { size, limit: MAX_SPARSE }.into());
        }
        let runs = sparse::runs(map, size, stored_size)?;
        let location = Location { stored_size, sparse: Some(runs), ..self.no_data() };
        Ok((Kind::File { size }, location))
    }

    /// Sets out to read the data that begins here. Returns its size.
    fn begin_data(&mut self, header: &Header, attributes: &Attributes) -> Result<u64, Fault> {
        let size = match attributes.size {
            Some(size) if i64::try_from(size).is_err() => {
                return Err(Problem::OutOfRange { field: "size", value: size.into() }.into());
            }
            Some(size) => size,
            None => unsigned(header, header::SIZE)?,
        };
        self.data_left = size;
        self.padding = padding_after(size);
        Ok(size)
    }

    /// The map in front of a sparse file's data, which it is part of.
    fn read_map(&mut self) -> Result<Vec<u64>, Fault> {
        let mut text = MapText::default();
        loop {
            if self.data_left < BLOCK_SIZE as u64 {
                return Err(Problem::Sparse("it does not end within the data").into());
            }
            let block = self.read_block("a sparse file's map")?;
            let block = block.ok_or(Problem::Truncated("a sparse file's map"))?;
            self.data_left -= BLOCK_SIZE as u64;
            if let Some(map) = text.push(&block)? {
                return Ok(map);
            }
        }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads headers only, seeking over data that is not asked for, and nothing after the end marker.
    ///
    /// # Errors
    /// When the source cannot seek.
    pub fn seekable(mut source: R) -> Result<Self, Error> {
        let length = length_ahead(&mut source)
            .map_err(|error| Error::from_io(error, || "find the size of the tar archive".to_owned()))?;
        Ok(Self::with_skip(source, skip_seeking, Some(length)))
    }
}

/// The bytes stored for the current entry: of a sparse file, without its holes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 || self.state == State::Failed {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..limit])?;
        if count == 0 {
            self.state = State::Failed;
            return Err(self.locate(Problem::Truncated("a file's data").into()).into());
        }
        self.position += count as u64;
        self.data_left -= count as u64;
        Ok(count)
    }
}

fn skip_reading<R: Read>(source: &mut R, count: u64) -> io::Result<u64> {
    io::copy(&mut source.take(count), &mut io::sink())
}

/// Skips all of `count`, which the caller knows to be there.
fn skip_seeking<R: Seek>(source: &mut R, count: u64) -> io::Result<u64> {
    let distance = i64::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    source.seek_relative(distance)?;
    Ok(count)
}

fn length_ahead<R: Seek>(source: &mut R) -> io::Result<u64> {
    let start = source.stream_position()?;
    let end = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(start))?;
    Ok(end.saturating_sub(start))
}

fn padding_after(size: u64) -> u64 {
    let rest = size % BLOCK_SIZE as u64;
    if rest == 0 { 0 } else { BLOCK_SIZE as u64 - rest }
}

fn unsigned(header: &Header, field: header::Field) -> Result<u64, Problem> {
    let value = header.number(field)?;
    u64::try_from(value).map_err(|_| Problem::OutOfRange { field: field.name, value: value.into() })
}

fn unsigned_32(header: &Header, field: header::Field) -> Result<u32, Problem> {
    let value = header.number(field)?;
    u32::try_from(value).map_err(|_| Problem::OutOfRange { field: field.name, value: value.into() })
}

/// Permission bits, setuid, setgid and sticky. Bits above are the file's type, which some repeat here.
const MODE_MASK: i64 = 0o7777;

fn metadata(header: &Header, attributes: &mut Attributes) -> Result<Metadata, Problem> {
    let mode = header.number(header::MODE)? & MODE_MASK;
    Ok(Metadata {
        mode: u16::try_from(mode).expect("twelve bits"),
        uid: attributes.uid.map_or_else(|| unsigned_32(header, header::UID), Ok)?,
        gid: attributes.gid.map_or_else(|| unsigned_32(header, header::GID), Ok)?,
        mtime: attributes.mtime.map_or_else(|| header.number(header::MTIME), Ok)?,
        xattrs: attributes.take_xattrs(),
    })
}

fn kind_without_data(header: &Header, link: Vec<u8>) -> Result<Kind, Problem> {
    Ok(match header.typeflag() {
        typeflag::HARD_LINK => Kind::HardLink { target: hard_link_target(link)? },
        typeflag::SYMLINK => Kind::Symlink { target: symlink_target(link)? },
        typeflag::DIRECTORY => Kind::Directory,
        typeflag::FIFO => Kind::Fifo,
        typeflag::CHARACTER_DEVICE => {
            let (major, minor) = device_numbers(header)?;
            Kind::CharacterDevice { major, minor }
        }
        typeflag::BLOCK_DEVICE => {
            let (major, minor) = device_numbers(header)?;
            Kind::BlockDevice { major, minor }
        }
        other => return Err(Problem::UnknownType(other)),
    })
}

fn hard_link_target(link: Vec<u8>) -> Result<Vec<u8>, Problem> {
    path::normalize(&link, whiteout::prefix_length).map_err(|why| Problem::LinkTarget { target: link, why })
}

fn symlink_target(link: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if path::is_symlink_target(&link) { Ok(link) } else { Err(Problem::SymlinkTarget) }
}

fn device_numbers(header: &Header) -> Result<(u32, u32), Problem> {
    Ok((unsigned_32(header, header::DEVMAJOR)?, unsigned_32(header, header::DEVMINOR)?))
}
