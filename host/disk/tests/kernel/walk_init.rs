//! PID 1 of the machine that `tests/kernel.rs` boots from an EROFS disk: lists the whole file system
//! on the console.

#[path = "listing.rs"]
mod listing;

use listing::{Fnv, Line};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn main() {
    if let Err(error) = walk(Path::new("/")) {
        println!("failed: {error}");
    }
    println!("walked");
    // PID 1 returns, the kernel panics, and `panic=-1` with `-no-reboot` ends the machine.
}

fn walk(path: &Path) -> io::Result<()> {
    println!("{}", line(path)?.text());
    if !path.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    let mut names =
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    names.iter().try_for_each(|name| walk(&path.join(name)))
}

fn line(path: &Path) -> io::Result<Line> {
    let metadata = path.symlink_metadata()?;
    let device = metadata.rdev();
    Ok(Line {
        path: path.as_os_str().as_bytes()[1..].to_vec(),
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: metadata.nlink(),
        size: if metadata.is_dir() { 0 } else { metadata.size() },
        mtime: metadata.mtime(),
        device: (rustix::fs::major(device), rustix::fs::minor(device)),
        content: content(path, &metadata)?,
        xattrs: xattrs(path)?,
    })
}

fn content(path: &Path, metadata: &fs::Metadata) -> io::Result<Fnv> {
    let mut hash = Fnv::default();
    if metadata.is_symlink() {
        hash.update(fs::read_link(path)?.as_os_str().as_bytes());
    } else if metadata.is_file() {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
    }
    Ok(hash)
}

fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut buffer = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut buffer)?;
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut xattrs =
        names.map(|name| Ok((name.to_vec(), xattr(path, name)?))).collect::<io::Result<Vec<_>>>()?;
    xattrs.sort();
    Ok(xattrs)
}

fn xattr(path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
    value.truncate(length);
    Ok(value)
}
