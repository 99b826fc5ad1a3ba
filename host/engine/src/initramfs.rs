//! The guest's first file system: a cpio archive of the kind "newc", made in memory
//! ([format](https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html)).

/// "New ASCII" without checksums.
const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const ALIGNMENT: usize = 4;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. The same calls give the same bytes: no clock, no owner of the host.
///
/// ```
/// let archive = kiln_engine::Initramfs::with_init(b"the agent").finish();
/// assert!(archive.starts_with(b"070701"));
/// ```
#[derive(Debug, Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    /// Inode numbers only need to differ.
    entries: u32,
}

/// What goes into a header besides sizes and numbers.
#[derive(Default)]
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    device: (u32, u32),
    data: &'a [u8],
}

impl Initramfs {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a kernel needs to start `init`: the program itself, a console, and places to mount on.
    pub fn with_init(init: &[u8]) -> Self {
        let mut archive = Self::new();
        for name in ["dev", "proc", "sys", "mnt", "tmp"] {
            archive.directory(name);
        }
        archive.character_device("dev/console", 5, 1).file("init", 0o755, init);
        archive
    }

    /// Adds a directory, mode 0755. Names are relative to the root; parents come first.
    pub fn directory(&mut self, name: &str) -> &mut Self {
        self.add(&Entry { name, mode: DIRECTORY | 0o755, links: 2, ..Entry::default() })
    }

    /// Adds a file with permission bits `mode`.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> &mut Self {
        self.add(&Entry { name, mode: FILE | mode, links: 1, data, ..Entry::default() })
    }

    /// Adds a device node, mode 0600.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> &mut Self {
        let device = (major, minor);
        self.add(&Entry { name, mode: CHARACTER_DEVICE | 0o600, links: 1, device, ..Entry::default() })
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.add(&Entry { name: TRAILER, links: 1, ..Entry::default() });
        self.archive
    }

    fn add(&mut self, entry: &Entry<'_>) -> &mut Self {
        let (major, minor) = entry.device;
        let file_size = u32::try_from(entry.data.len()).expect("cpio holds files of less than 4 GiB");
        let name_size = u32::try_from(entry.name.len() + 1).expect("a name of ours");
        self.entries += 1;
        self.archive.extend_from_slice(MAGIC.as_bytes());
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields =
            [self.entries, entry.mode, 0, 0, entry.links, 0, file_size, 0, 0, major, minor, name_size, 0];
        for field in fields {
            self.archive.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.archive.extend_from_slice(entry.name.as_bytes());
        self.archive.push(0);
        self.align();
        self.archive.extend_from_slice(entry.data);
        self.align();
        self
    }

    fn align(&mut self) {
        let length = self.archive.len().next_multiple_of(ALIGNMENT);
        self.archive.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn list(archive: &[u8]) -> String {
        let mut cpio = Command::new("cpio")
            .args(["-t", "-v", "-n", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs cpio");
        cpio.stdin.take().unwrap().write_all(archive).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn cpio_reads_what_was_written() {
        let listing = list(&Initramfs::with_init(b"#!/bin/true\n").finish());
        let columns = |line: &str| {
            let mut columns: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            columns.drain(columns.len() - 4..columns.len() - 1); // the date
            columns.join(" ")
        };
        let lines: Vec<_> = listing.lines().map(columns).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 0 0 0 dev",
                "drwxr-xr-x 2 0 0 0 proc",
                "drwxr-xr-x 2 0 0 0 sys",
                "drwxr-xr-x 2 0 0 0 mnt",
                "drwxr-xr-x 2 0 0 0 tmp",
                "crw------- 1 0 0 5, 1 dev/console",
                "-rwxr-xr-x 1 0 0 12 init",
            ]
        );
    }

    #[test]
    fn the_same_agent_gives_the_same_archive() {
        assert_eq!(Initramfs::with_init(b"agent").finish(), Initramfs::with_init(b"agent").finish());
    }
}
