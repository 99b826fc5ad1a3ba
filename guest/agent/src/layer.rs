//! Sending the overlay's upper directory as the new layer.
//!
//! The upper directory holds copies of everything that was opened for writing, so more than what
//! changed. What is equal to the base is left out, but for directories on the way to something that
//! is sent. A walk keeps one [`Level`] for every directory it is in; the entry of an unchanged
//! directory waits there until something below it is sent.
//!
//! A file with several names in the upper directory is always sent, under all of them: linking is a
//! change that a comparison of one name with the base does not see.

use crate::{
    base::{self, Upper},
    connection::Connection,
    failure::{Result, Trying},
    tree::{
        Extent, Place, Xattrs, extents, file_type, is_whiteout, permissions, remove_overlay_xattrs, size,
        sorted_names,
    },
};
use kiln_protocol::{EntryKind, FromGuest, LayerEntry, LayerRecord};
use rustix::fs::{FileType, Stat, major, minor};
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    os::fd::OwnedFd,
    vec::IntoIter,
};

/// The mark of a directory that hides the base's
/// ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories)).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// The mark of a deleted file where no device can be made.
const WHITEOUT: &[u8] = b"trusted.overlay.whiteout";
/// The root of an image from scratch, if nobody changes it.
const DEFAULT_ROOT_MODE: u16 = 0o755;

/// Sends the layer in `upper` over `base`. What only was touched since `clock` (seconds since the
/// Unix epoch) counts as unchanged.
///
/// # Errors
/// When a file cannot be read, or the host is gone.
pub fn send(upper: OwnedFd, base: Option<OwnedFd>, clock: u64, connection: &mut Connection) -> Result<()> {
    let clock = i64::try_from(clock).unwrap_or(i64::MAX);
    let walk =
        Walk { connection, clock, path: Vec::new(), levels: Vec::new(), links: HashMap::new(), entries: 0 };
    walk.run(upper, base)
}

/// A directory that the walk is in.
struct Level {
    upper: OwnedFd,
    /// The base's directory, where it shows through.
    base: Option<OwnedFd>,
    names: IntoIter<CString>,
    path_length: usize,
    /// Not sent yet.
    entry: Option<LayerEntry>,
}

struct Walk<'a> {
    connection: &'a mut Connection,
    clock: i64,
    /// Of the current file, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// The path sent first of each file with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

impl Walk<'_> {
    fn run(mut self, upper: OwnedFd, base: Option<OwnedFd>) -> Result<()> {
        self.root(&upper, base.as_ref())?;
        self.push_level(upper, base, None)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            match level.names.next() {
                None => _ = self.levels.pop(),
                Some(name) => self.child(&name)?,
            }
        }
        let end = LayerRecord::End { entries: self.entries };
        self.connection.send(&FromGuest::Layer(end))
    }

    fn push_level(&mut self, upper: OwnedFd, base: Option<OwnedFd>, entry: Option<LayerEntry>) -> Result<()> {
        let names = sorted_names(&upper)?.into_iter();
        self.levels.push(Level { upper, base, names, path_length: self.path.len(), entry });
        Ok(())
    }

    /// The root is sent only for its own sake, never for what is in it.
    fn root(&mut self, upper: &OwnedFd, base: Option<&OwnedFd>) -> Result<()> {
        let (place, stat) = (Place::itself(upper), rustix::fs::fstat(upper).trying(|| "look at the layer")?);
        let xattrs = place.xattrs()?;
        let unchanged = match base {
            None => is_default_root(&stat, &xattrs),
            Some(base) => {
                let base_stat = rustix::fs::fstat(base).trying(|| "look at the base")?;
                Upper { place, stat: &stat, xattrs: &xattrs }
                    .same_metadata(Place::itself(base), &base_stat)?
            }
        };
        if unchanged {
            Ok(())
        } else {
            self.emit(entry(&[], EntryKind::Directory { opaque: false }, &stat, xattrs))
        }
    }

    fn child(&mut self, name: &CStr) -> Result<()> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        let level = self.levels.last().expect("a child is in a directory");
        match inspect(level, name, &self.path, self.clock)? {
            Found::Nothing => Ok(()),
            Found::Whiteout => {
                let path = self.path.clone();
                self.emit(without_metadata(path, EntryKind::Whiteout))
            }
            Found::Directory { entry, changed, upper, base } => {
                self.push_level(upper, base, Some(entry))?;
                if changed { self.emit_pending() } else { Ok(()) }
            }
            Found::File { entry, stat, file } => self.file(entry, &stat, file),
        }
    }

    /// A changed file that is no directory.
    fn file(&mut self, entry: LayerEntry, stat: &Stat, file: Option<File>) -> Result<()> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(target) = self.links.get(&inode) {
                let kind = EntryKind::HardLink { target: target.clone() };
                return self.emit(without_metadata(entry.path, kind));
            }
            self.links.insert(inode, entry.path.clone());
        }
        self.emit(entry)?;
        file.map_or(Ok(()), |file| self.data(&file, stat))
    }

    fn data(&mut self, file: &File, stat: &Stat) -> Result<()> {
        let mut parts = extents(file, stat);
        while let Some(part) = parts.next()? {
            match part {
                Extent::Data(length) => self.connection.queue_file(file, length)?,
                Extent::Hole(length) => {
                    self.connection.queue(&FromGuest::Layer(LayerRecord::Zeroes(length)))?
                }
            }
        }
        Ok(())
    }

    /// Sends an entry, after the directories on the way to it.
    fn emit(&mut self, entry: LayerEntry) -> Result<()> {
        self.emit_pending()?;
        self.emit_alone(entry)
    }

    fn emit_pending(&mut self) -> Result<()> {
        // Once a directory was sent, so were those it is in.
        let first = self.levels.iter().rposition(|l| l.entry.is_none()).map_or(0, |sent| sent + 1);
        for at in first..self.levels.len() {
            if let Some(entry) = self.levels[at].entry.take() {
                self.emit_alone(entry)?;
            }
        }
        Ok(())
    }

    fn emit_alone(&mut self, entry: LayerEntry) -> Result<()> {
        self.entries += 1;
        self.connection.queue(&FromGuest::Layer(LayerRecord::Entry(entry)))
    }
}

/// What is to be done about a file of the upper directory.
enum Found {
    Nothing,
    Whiteout,
    Directory {
        entry: LayerEntry,
        changed: bool,
        upper: OwnedFd,
        base: Option<OwnedFd>,
    },
    /// With the open file, if it is a regular one.
    File {
        entry: LayerEntry,
        stat: Stat,
        file: Option<File>,
    },
}

fn inspect(level: &Level, name: &CStr, path: &[u8], clock: i64) -> Result<Found> {
    let place = Place::new(&level.upper, name);
    let base = level.base.as_ref().map(|base| Place::new(base, name));
    let Some(stat) = place.stat()? else { return Ok(Found::Nothing) };
    if is_whiteout(&stat) {
        return whiteout(base);
    }
    let mut xattrs = place.all_xattrs()?;
    if xattrs.contains_key(WHITEOUT) {
        return whiteout(base);
    }
    let opaque = xattrs.get(OPAQUE).is_some_and(|value| value == b"y");
    remove_overlay_xattrs(&mut xattrs);
    match file_type(&stat) {
        FileType::Directory => directory(place, base, path, &stat, xattrs, opaque),
        _ => file(place, base, path, stat, xattrs, clock),
    }
}

/// Tells of a deletion only where there is something to delete.
fn whiteout(base: Option<Place<'_>>) -> Result<Found> {
    let hidden = base.map_or(Ok(None), Place::stat)?;
    Ok(if hidden.is_some() { Found::Whiteout } else { Found::Nothing })
}

fn directory(
    place: Place<'_>,
    base: Option<Place<'_>>,
    path: &[u8],
    stat: &Stat,
    xattrs: Xattrs,
    opaque: bool,
) -> Result<Found> {
    let base_directory = base.map_or(Ok(None), base::open_directory)?;
    let hiding = opaque && base::hides_anything(base_directory.as_ref())?;
    let unchanged = match (&base_directory, base) {
        (Some(_), Some(base)) if !hiding => match base.stat()? {
            Some(base_stat) => Upper { place, stat, xattrs: &xattrs }.same_metadata(base, &base_stat)?,
            None => false,
        },
        _ => false,
    };
    Ok(Found::Directory {
        entry: entry(path, EntryKind::Directory { opaque: hiding }, stat, xattrs),
        changed: !unchanged,
        upper: place.open_directory()?,
        // What an opaque directory hides cannot make anything in it "unchanged".
        base: base_directory.filter(|_| !opaque),
    })
}

fn file(
    place: Place<'_>,
    base: Option<Place<'_>>,
    path: &[u8],
    stat: Stat,
    xattrs: Xattrs,
    clock: i64,
) -> Result<Found> {
    let Some(kind) = kind(place, &stat)? else { return whiteout(base) };
    if let Some(base) = base.filter(|_| stat.st_nlink == 1)
        && (Upper { place, stat: &stat, xattrs: &xattrs }).is_unchanged(base, clock)?
    {
        return Ok(Found::Nothing);
    }
    let file = matches!(kind, EntryKind::File { .. }).then(|| place.open_file()).transpose()?;
    Ok(Found::File { entry: entry(path, kind, &stat, xattrs), stat, file })
}

/// What a layer calls it. `None` for sockets, which no layer can hold.
fn kind(place: Place<'_>, stat: &Stat) -> Result<Option<EntryKind>> {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(Some(match file_type(stat) {
        FileType::RegularFile => EntryKind::File { size: size(stat) },
        FileType::Symlink => EntryKind::Symlink { target: place.read_link()? },
        FileType::CharacterDevice => EntryKind::CharacterDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        _ => return Ok(None),
    }))
}

fn entry(path: &[u8], kind: EntryKind, stat: &Stat, xattrs: Xattrs) -> LayerEntry {
    LayerEntry {
        path: path.to_vec(),
        kind,
        mode: permissions(stat),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs: xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

fn without_metadata(path: Vec<u8>, kind: EntryKind) -> LayerEntry {
    LayerEntry { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
}

fn is_default_root(stat: &Stat, xattrs: &Xattrs) -> bool {
    permissions(stat) == DEFAULT_ROOT_MODE && (stat.st_uid, stat.st_gid) == (0, 0) && xattrs.is_empty()
}
