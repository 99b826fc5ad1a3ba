//! `rootfs:`: a directory or tar that becomes an image of one layer.

use super::detect::open;
use crate::Error;
use crate::error::{Context, Kind};
use kiln_image::compress::Decompressor;
use kiln_image::entry::{Metadata, Xattrs};
use kiln_image::layer::LayerWriter;
use kiln_image::tree::{Content, Extent, Node, NodeId, Tree};
use kiln_store::{Layer, Store};
use rustix::fs::OFlags;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Permission bits of `st_mode`.
const MODE_BITS: u32 = 0o7777;
/// Bytes written at once.
const BUFFER_SIZE: usize = 256 * 1024;
/// Bytes of an extended attribute's value, or of a list of names, that Linux allows (`XATTR_SIZE_MAX`).
const XATTR_LIMIT: usize = 64 * 1024;

/// The layer of a directory or tar; `file` is the tar where it is open already.
pub(crate) fn layer(path: &str, file: Option<File>, store: &Store) -> Result<Layer, Error> {
    let as_path = Path::new(path);
    if file.is_none() && as_path.is_dir() {
        return of_directory(as_path, store);
    }
    let file = file.map_or_else(|| open(path), Ok)?;
    of_tar(&file, path, store)
}

/// The tar becomes the layer as it is.
fn of_tar(file: &File, name: &str, store: &Store) -> Result<Layer, Error> {
    let what = || format!("cannot read {name}");
    let mut tar = Decompressor::new(file).context(what)?;
    let mut new = store.new_layer(&[], NonZeroUsize::MIN).context(what)?;
    let copied = io::copy(&mut tar, &mut new);
    copied.map_err(|e| kiln_image::Error::from_io(e, || format!("read {name}"))).context(what)?;
    new.finish_tar().context(what)
}

fn of_directory(path: &Path, store: &Store) -> Result<Layer, Error> {
    let what = || format!("cannot make a layer of {}", path.display());
    let mut found = Found::default();
    let tree = read(path, &mut found)?;
    let new = store.new_layer(&[], NonZeroUsize::MIN).context(what)?;
    let mut writer = LayerWriter::new(BufWriter::with_capacity(BUFFER_SIZE, new), i64::MAX);
    let mut open: Option<(u32, File)> = None;
    let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
        let path = &found.files[source as usize];
        if open.as_ref().is_none_or(|(number, _)| *number != source) {
            open = Some((source, open_file(path)?));
        }
        let (_, file) = open.as_ref().expect("just opened");
        file.read_exact_at(buffer, offset).map_err(|e| with_path(e, path))
    };
    let written = writer.write_tree(&tree, &mut read).and_then(|()| writer.finish()).context(what)?;
    let new = written.into_inner().map_err(|e| Error::io(what, e.into_error()))?;
    new.finish().context(what)
}

/// What was met on the way.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// Files of several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
}

/// Reads names, kinds, modes, owners, extended attributes and hard links; contents stay where they are. Times are left out:
/// they say more about the host than about the files. Sockets are skipped.
fn read(root: &Path, found: &mut Found) -> Result<Tree, Error> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |e| Error::file("read", &path, e)
    };
    let mut tree = Tree::new();
    let root_metadata = fs::metadata(root).map_err(unreadable(root))?;
    tree.node_mut(Tree::ROOT).metadata = metadata(root, &root_metadata).map_err(unreadable(root))?;
    // Not recursive: a directory can be deeper than a stack.
    let mut pending = vec![(root.to_owned(), Tree::ROOT)];
    while let Some((path, directory)) = pending.pop() {
        for (name, path) in list(&path).map_err(unreadable(&path))? {
            let id = insert(&mut tree, &path, found).map_err(unreadable(&path))?;
            let Some(id) = id else { continue };
            tree.children_mut(directory).expect("only directories are listed").insert(name, id);
            if tree.is_directory(id) {
                pending.push((path, id));
            }
        }
    }
    Ok(tree)
}

/// Sorted, so that what is read does not depend on the file system.
fn list(path: &Path) -> io::Result<BTreeMap<Vec<u8>, PathBuf>> {
    let entries = fs::read_dir(path)?;
    entries.map(|entry| entry.map(|entry| (entry.file_name().into_vec(), entry.path()))).collect()
}

/// Another name of a file that was met before is that file.
fn insert(tree: &mut Tree, path: &Path, found: &mut Found) -> io::Result<Option<NodeId>> {
    let status = fs::symlink_metadata(path)?;
    let key = (status.dev(), status.ino());
    let has_names = !status.is_dir() && status.nlink() > 1;
    if let Some(known) = found.links.get(&key).filter(|_| has_names) {
        return Ok(Some(*known));
    }
    let Some(content) = content(path, &status, found)? else { return Ok(None) };
    let id = tree.insert(Node { metadata: metadata(path, &status)?, content });
    if has_names {
        found.links.insert(key, id);
    }
    Ok(Some(id))
}

fn content(path: &Path, status: &fs::Metadata, found: &mut Found) -> io::Result<Option<Content>> {
    let kind = status.file_type();
    let device = || (rustix::fs::major(status.rdev()), rustix::fs::minor(status.rdev()));
    Ok(Some(if kind.is_dir() {
        Content::Directory(BTreeMap::new())
    } else if kind.is_symlink() {
        Content::Symlink(fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        Content::Fifo
    } else if kind.is_char_device() {
        let (major, minor) = device();
        Content::CharacterDevice { major, minor }
    } else if kind.is_block_device() {
        let (major, minor) = device();
        Content::BlockDevice { major, minor }
    } else if kind.is_file() {
        let source = u32::try_from(found.files.len()).map_err(io::Error::other)?;
        found.files.push(path.to_owned());
        let size = status.size();
        let whole = Extent { file_offset: 0, length: size, source, source_offset: 0 };
        Content::File { size, extents: Vec::from_iter((size > 0).then_some(whole)) }
    } else {
        return Ok(None);
    }))
}

fn metadata(path: &Path, status: &fs::Metadata) -> io::Result<Metadata> {
    let mode = if status.is_symlink() { 0o777 } else { status.mode() & MODE_BITS };
    Ok(Metadata {
        mode: u16::try_from(mode).expect("12 bits"),
        uid: status.uid(),
        gid: status.gid(),
        mtime: 0,
        xattrs: xattrs(path)?,
    })
}

/// Those that an ordinary user may read and that belong to the file rather than to the host: capabilities and the user's.
fn xattrs(path: &Path) -> io::Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    let mut names = vec![0; XATTR_LIMIT];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        // File systems without any.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; XATTR_LIMIT];
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                xattrs.insert(name.to_vec(), value);
            }
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(xattrs)
}

fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

/// Does not follow a symbolic link that took the file's place after it was listed.
fn open_file(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2)");
    let file = File::options().read(true).custom_flags(no_follow).open(path);
    file.map_err(|e| with_path(e, path))
}

fn with_path(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The error of a directory where there should be a tar.
pub(crate) fn refuse_directory(path: &str) -> Result<(), Error> {
    if Path::new(path).is_dir() {
        return Err(Kind::Usage(format!("{path} is a directory, not an archive")).into());
    }
    Ok(())
}
