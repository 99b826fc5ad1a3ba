//! An image's files in a directory of the host, as far as an ordinary user can make them.
//!
//! The directory has to be empty, and all below it is found by openat2(2) with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`: whatever links an image has, nothing outside is touched. Directories get their modes last, or files
//! could not be put into them.

use crate::files::Files;
use anyhow::{Context, Result, bail};
use kiln_image::{
    entry::Metadata,
    path,
    tree::{Content, Node, NodeId},
};
use kiln_inspect::escaped;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use std::{collections::HashMap, fs, io, os::unix::fs::FileExt, path::Path};

/// Permissions while files are made.
const PRIVATE: Mode = Mode::RWXU;

/// Set-user-ID and set-group-ID: of a file with another owner than it should have, they are a danger.
const SET_ID_BITS: u16 = 0o6000;

/// Writes all files. What could not be made, each as a line for people.
pub fn write(files: &Files, directory: &Path) -> Result<Vec<String>> {
    let shown = directory.display();
    fs::create_dir_all(directory).with_context(|| format!("cannot make {shown}"))?;
    let mut entries = fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    if entries.next().is_some() {
        bail!("{shown} is not empty");
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty());
    let root = root.with_context(|| format!("cannot open {shown}"))?;
    let mut writer =
        DirectoryWriter { files, root, made: HashMap::new(), left_out: Vec::new(), without_owner: 0 };
    writer.run()?;
    if writer.without_owner > 0 {
        writer.left_out.push(format!("the owners of {} files, which are yours now", writer.without_owner));
    }
    Ok(writer.left_out)
}

struct DirectoryWriter<'a> {
    files: &'a Files,
    root: OwnedFd,
    /// Files that have a name already.
    made: HashMap<NodeId, Vec<u8>>,
    left_out: Vec<String>,
    /// Files that belong to who makes them, as their owners may not be set.
    without_owner: u64,
}

impl DirectoryWriter<'_> {
    fn run(&mut self) -> Result<()> {
        let tree = &self.files.tree;
        let mut directories = Vec::new();
        for (path, id) in tree.walk() {
            if tree.is_directory(id) {
                directories.push((path.clone(), id));
            }
            self.make(&path, id).with_context(|| format!("cannot make /{}", escaped(&path)))?;
        }
        // From the deepest up: a mode may forbid to go further down.
        for (path, id) in directories.into_iter().rev() {
            let directory = self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.finish(&path, tree.node(id), directory.as_fd())
                .with_context(|| format!("cannot finish /{}", escaped(&path)))?;
        }
        Ok(())
    }

    fn make(&mut self, path: &[u8], id: NodeId) -> Result<()> {
        let Some((parent, name)) = path::split_name(path) else { return Ok(()) };
        let parent = self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        if let Some(first) = self.made.get(&id).cloned() {
            return self.link(&first, &parent, name);
        }
        let node = self.files.tree.node(id);
        match &node.content {
            Content::Directory(_) => rustix::fs::mkdirat(&parent, name, PRIVATE)?,
            Content::File { .. } => self.file(path, &parent, name, node)?,
            Content::Symlink(target) => self.symlink(&parent, name, (target, node))?,
            Content::Fifo => self.special(path, &parent, name, (FileType::Fifo, node, 0))?,
            Content::CharacterDevice { major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                self.special(path, &parent, name, (FileType::CharacterDevice, node, device))?;
            }
            Content::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                self.special(path, &parent, name, (FileType::BlockDevice, node, device))?;
            }
        }
        if !matches!(node.content, Content::Directory(_)) {
            self.made.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// A file or directory that was made here before.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
        opened.with_context(|| format!("cannot open /{}", escaped(path)))
    }

    /// Another name of a file; of one that could not be made, there is none either.
    fn link(&mut self, first: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let Some((directory, first_name)) = path::split_name(first) else { return Ok(()) };
        let directory = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
        match rustix::fs::linkat(&directory, first_name, parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    fn file(&mut self, path: &[u8], parent: &OwnedFd, name: &[u8], node: &Node) -> Result<()> {
        let Content::File { size, extents } = &node.content else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        file.set_len(*size)?;
        self.files.pieces(extents, &mut |offset, bytes| file.write_all_at(bytes, offset))?;
        self.finish(path, node, file.as_fd())
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &[u8], link: (&[u8], &Node)) -> Result<()> {
        let (target, Node { metadata, .. }) = link;
        rustix::fs::symlinkat(target, parent, name)?;
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        let owned = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        self.note_owner(owned)?;
        let times = times(metadata);
        Ok(rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn special(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        what: (FileType, &Node, u64),
    ) -> Result<()> {
        let (kind, Node { metadata, .. }, device) = what;
        let mode = Mode::from_raw_mode(u32::from(metadata.mode & !SET_ID_BITS));
        let made = rustix::fs::mknodat(parent, name, kind, mode, device);
        if !self.note(path, "a device, which only root can make", made)? {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        let owned = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        self.note_owner(owned)?;
        // It was made here, under a name nobody else knew: no link is followed.
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        Ok(rustix::fs::utimensat(parent, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Owner, attributes, mode and times, in the order in which one does not undo the other.
    fn finish(&mut self, path: &[u8], node: &Node, file: BorrowedFd<'_>) -> Result<()> {
        let Metadata { mode, uid, gid, xattrs, .. } = &node.metadata;
        let owned = rustix::fs::fchown(file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
        let is_owned = self.note_owner(owned)?;
        for (name, value) in xattrs {
            let set = rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty());
            self.note(path, &format!("the attribute {}", escaped(name)), set)?;
        }
        let mut kept = *mode;
        if !is_owned && mode & SET_ID_BITS != 0 {
            kept &= !SET_ID_BITS;
            self.left_out.push(format!("/{}: set-user-ID and set-group-ID", escaped(path)));
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(kept.into()))?;
        Ok(rustix::fs::futimens(file, &times(&node.metadata))?)
    }

    /// Whether the owner was set.
    fn note_owner(&mut self, done: Result<(), Errno>) -> io::Result<bool> {
        let is_owned = is_done(done)?;
        self.without_owner += u64::from(!is_owned);
        Ok(is_owned)
    }

    /// Whether it was done; what was not is noted.
    fn note(&mut self, path: &[u8], what: &str, done: Result<(), Errno>) -> io::Result<bool> {
        let is_done = is_done(done)?;
        if !is_done {
            self.left_out.push(format!("/{}: {what}", escaped(path)));
        }
        Ok(is_done)
    }
}

/// Whether it was done; false of what an ordinary user may not do: not allowed (PERM, ACCESS), no such number here
/// (INVAL), not on this file system (NOTSUP).
fn is_done(done: Result<(), Errno>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: metadata.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::config::ImageConfig;
    use kiln_image::digest::Digest;
    use kiln_store::StoredImage;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn no_files() -> Files {
        let config = ImageConfig::scratch("amd64", "linux");
        let config_json = config.to_json();
        let image_id = Digest::of(&config_json);
        Files::of(&StoredImage { image_id, config, config_json, layers: Vec::new(), manifest: None }).unwrap()
    }

    fn put(files: &mut Files, path: &[u8], mode: u16, content: Content) -> NodeId {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let metadata = Metadata { mode, uid, gid, mtime: 7, ..Metadata::default() };
        let id = files.tree.insert(Node { metadata, content });
        let (parent, name) = path::split_name(path).unwrap();
        let parent = files.tree.lookup(parent).unwrap();
        files.tree.children_mut(parent).unwrap().insert(name.to_vec(), id);
        id
    }

    fn room(name: &str) -> std::path::PathBuf {
        let room = std::env::temp_dir().join(format!("kiln-export-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&room);
        room
    }

    #[test]
    fn files_get_their_bytes_modes_and_names() {
        let mut files = no_files();
        put(&mut files, b"d", 0o500, Content::Directory(Default::default()));
        let bytes = files.add(b"text".to_vec());
        let file = put(&mut files, b"d/f", 0o640, bytes);
        let directory = files.tree.lookup(b"d").unwrap();
        files.tree.children_mut(directory).unwrap().insert(b"second".to_vec(), file);
        put(&mut files, b"l", 0o777, Content::Symlink(b"/".to_vec()));
        put(&mut files, b"sparse", 0o600, Content::File { size: 1 << 30, extents: Vec::new() });
        put(&mut files, b"p", 0o600, Content::Fifo);
        let room = room("files");
        let left_out = write(&files, &room).unwrap();
        assert!(left_out.iter().all(|line| line.starts_with("the owners of")), "{left_out:?}");
        assert_eq!(fs::read(room.join("d/second")).unwrap(), b"text");
        let file = fs::metadata(room.join("d/f")).unwrap();
        assert_eq!((file.permissions().mode() & 0o7777, file.mtime(), file.nlink()), (0o640, 7, 2));
        assert_eq!(fs::metadata(room.join("d")).unwrap().permissions().mode() & 0o7777, 0o500);
        assert_eq!(fs::read_link(room.join("l")).unwrap(), Path::new("/"));
        let sparse = fs::metadata(room.join("sparse")).unwrap();
        assert!(sparse.len() == 1 << 30 && sparse.blocks() < 64);
        fs::set_permissions(room.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let room = room("taken");
        fs::create_dir_all(&room).unwrap();
        symlink("/", room.join("d")).unwrap();
        let error = write(&no_files(), &room).unwrap_err();
        assert!(error.to_string().ends_with("is not empty"), "{error}");
        fs::remove_dir_all(&room).unwrap();
    }
}
