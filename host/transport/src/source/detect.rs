//! What a file or directory is, by what is in it.

use super::layout::plain;
use crate::Error;
use crate::error::Context;
use kiln_image::reference::{Choice, Location, TagChoice};
use kiln_image::tar;
use kiln_store::Store;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;

/// Bytes read at once where only headers are wanted.
const HEADER_BUFFER: usize = 4096;

/// What was found.
pub(crate) struct Found {
    /// The place with its transport.
    pub location: Location,
    /// The file, where it had to be read; at its start, neither compressed nor a stream.
    pub file: Option<File>,
}

/// Tells what is at a path.
pub(crate) fn detect(path: &str, store: &Store) -> Result<Found, Error> {
    let as_path = Path::new(path);
    let owned = path.to_owned();
    if as_path.is_dir() {
        let location = if as_path.join("oci-layout").exists() {
            Location::Oci { path: owned, choice: TagChoice::Only }
        } else if as_path.join("version").exists() && as_path.join("manifest.json").exists() {
            Location::Dir { path: owned }
        } else {
            Location::Rootfs { path: owned }
        };
        return Ok(Found { location, file: None });
    }
    // What was read before need not be read to be told.
    if path != "-" && store.knows_archive(as_path).context(|| format!("cannot read {path}"))? {
        let location = Location::DockerArchive { path: owned, choice: Choice::Only };
        return Ok(Found { location, file: None });
    }
    let file = plain(open(path)?, path, store)?;
    let location = match kind(&file).context(|| format!("cannot read {path}"))? {
        Kind::Docker => Location::DockerArchive { path: owned, choice: Choice::Only },
        Kind::Oci => Location::OciArchive { path: owned, choice: TagChoice::Only },
        Kind::Root => Location::Rootfs { path: owned },
    };
    (&file).rewind().map_err(|e| Error::file("read", as_path, e))?;
    Ok(Found { location, file: Some(file) })
}

/// A file, or standard input.
pub(crate) fn open(path: &str) -> Result<File, Error> {
    use std::os::fd::AsFd;
    let opened = if path == "-" {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    opened.map_err(|e| Error::file("open", Path::new(path), e))
}

enum Kind {
    Docker,
    Oci,
    Root,
}

/// `docker save` since 25 writes both formats at once.
fn kind(file: &File) -> Result<Kind, kiln_image::Error> {
    let mut reader = tar::Reader::seekable(BufReader::with_capacity(HEADER_BUFFER, file))?;
    let mut found = Kind::Root;
    while let Some(member) = reader.next_entry()? {
        match &member.entry.path[..] {
            b"manifest.json" | b"repositories" => return Ok(Kind::Docker),
            b"oci-layout" => found = Kind::Oci,
            _ => {}
        }
    }
    Ok(found)
}
