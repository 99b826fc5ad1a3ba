//! Where the bytes of contents are: files of a directory, archives.

use super::files::merged;
use crate::{Error, error::Kind, packing::temporary_file};
use kiln_image::{
    compress::{Decompressor, Format},
    layer::ReadAt,
    tar::Reader,
    tree::Tree,
};
use kiln_store::{Layer, Store};
use rustix::fs::OFlags;
use std::{
    fs::File,
    io::{self, BufReader, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Bytes read from an archive at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// The sources of a tree of contents, by number.
pub(crate) struct Sources<'a> {
    list: Vec<Source>,
    /// Holds decompressed archives, without a name.
    store: &'a Store,
}

enum Source {
    /// Opened when it is read: there may be more than a process can have open.
    HostFile(PathBuf),
    Archive(File),
    Layer(Layer),
    /// Made here, such as a file of users.
    Bytes(Vec<u8>),
}

impl<'a> Sources<'a> {
    /// Sources that begin with the layers below.
    pub fn new(store: &'a Store, below: &[Layer]) -> Self {
        Self { list: below.iter().cloned().map(Source::Layer).collect(), store }
    }

    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The number of the source that is added next.
    pub fn next(&self) -> u32 {
        u32::try_from(self.list.len()).expect("fewer than 2^32 files")
    }

    /// Adds an image's layers and returns its files.
    pub fn add_layers(&mut self, layers: &[Layer]) -> Result<Tree, Error> {
        let first = self.next();
        self.list.extend(layers.iter().cloned().map(Source::Layer));
        merged(layers, first)
    }

    /// Adds what was made here and returns its number.
    pub fn add_bytes(&mut self, bytes: Vec<u8>) -> u32 {
        self.add(Source::Bytes(bytes))
    }

    /// Adds a regular file and returns its number.
    pub fn add_file(&mut self, path: PathBuf) -> u32 {
        self.add(Source::HostFile(path))
    }

    /// Adds a tar, compressed or not, and returns its tree.
    pub fn add_archive(&mut self, path: &Path) -> Result<Tree, Error> {
        let read = |source| Kind::Read { path: path.to_owned(), source };
        let corrupt =
            |source| Kind::Image { what: format!("cannot read the archive {}", path.display()), source };
        let mut file = File::open(path).map_err(read)?;
        let mut input = Decompressor::new(&file).map_err(corrupt)?;
        if input.format() != Format::None {
            let mut plain = temporary_file(self.store)?;
            let doing = || format!("decompress {}", path.display());
            io::copy(&mut input, &mut plain)
                .map_err(|error| corrupt(kiln_image::Error::from_io(error, doing)))?;
            drop(input);
            file = plain;
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let number = self.add(Source::Archive(file.try_clone().map_err(read)?));
        let reader = Reader::seekable(BufReader::with_capacity(BUFFER_SIZE, file));
        let tree = reader.and_then(|mut reader| Tree::from_archive(number, reader.entries()));
        Ok(tree.map_err(corrupt)?)
    }

    /// Calls `use_reader` with a function that fills a buffer from a source at an offset.
    pub fn with_reader<T>(&self, use_reader: impl FnOnce(&mut ReadAt) -> T) -> T {
        let mut open: Option<(u32, File)> = None;
        use_reader(&mut |source, offset, buffer| match &self.list[source as usize] {
            Source::Archive(file) => file.read_exact_at(buffer, offset),
            Source::Layer(layer) => layer.file.read_exact_at(buffer, offset),
            Source::Bytes(bytes) => read_bytes(bytes, offset, buffer),
            Source::HostFile(path) => {
                if open.as_ref().is_none_or(|(number, _)| *number != source) {
                    open = Some((source, open_file(path)?));
                }
                let (_, file) = open.as_ref().expect("just opened");
                file.read_exact_at(buffer, offset).map_err(|error| with_path(error, path))
            }
        })
    }

    fn add(&mut self, source: Source) -> u32 {
        self.list.push(source);
        u32::try_from(self.list.len() - 1).expect("fewer than 2^32 files")
    }
}

fn read_bytes(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).ok();
    let range = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
    buffer.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// Does not follow a symbolic link that took the file's place after it was listed.
fn open_file(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2)");
    let file = File::options().read(true).custom_flags(no_follow).open(path);
    file.map_err(|error| with_path(error, path))
}

fn with_path(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
