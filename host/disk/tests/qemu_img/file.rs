//! Files as disks, and QEMU's tool for them.

use kiln_disk::sparse::{Source, Target};
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{io, ops::Range};

/// A file that is read where it has data.
pub struct FileSource(File);

impl FileSource {
    pub fn open(path: &Path) -> Self {
        Self(File::open(path).unwrap())
    }

    pub fn boxed(path: &Path) -> Box<dyn Source> {
        Box::new(Self::open(path))
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        match seek(&self.0, SeekFrom::Data(offset)) {
            Ok(start) => Ok(Some(start..seek(&self.0, SeekFrom::Hole(start))?)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A new file.
pub struct FileTarget(File);

impl FileTarget {
    pub fn create(path: &Path) -> Self {
        Self(File::create(path).unwrap())
    }
}

impl Target for FileTarget {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

/// Bytes of the file system that a file takes.
pub fn space(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// A directory for a test's files, on a file system with holes.
pub struct Sample(tempfile::TempDir);

impl Sample {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A raw disk with these pieces in it: their offset, their length, and what they are filled with.
    pub fn raw(&self, name: &str, length: u64, pieces: &[(u64, usize, Fill)]) -> PathBuf {
        let path = self.path(name);
        let mut file = FileTarget::create(&path);
        for (offset, length, fill) in pieces {
            file.write_at(&fill.bytes(*length), *offset).unwrap();
        }
        file.set_len(length).unwrap();
        path
    }

    /// Runs `qemu-img` in the directory; what it prints.
    pub fn qemu_img(&self, arguments: &[&str]) -> String {
        self.run("qemu-img", arguments)
    }

    /// Has QEMU write into an image.
    pub fn qemu_io(&self, driver: &str, image: &str, command: &str) {
        self.run("qemu-io", &["-f", driver, "-c", command, image]);
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output();
        let output = output.expect("these tests need qemu-img and qemu-io: apt-get install qemu-utils");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}: {text}", arguments.join(" "));
        text
    }
}

/// What a piece of a disk holds.
#[derive(Clone, Copy)]
pub enum Fill {
    Byte(u8),
    /// What does not compress.
    Noise(u32),
    /// Half of it does.
    Text,
}

impl Fill {
    pub fn bytes(self, length: usize) -> Vec<u8> {
        let noise = |seed: u32| {
            let mut state = seed | 1;
            std::iter::repeat_with(move || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as u8
            })
        };
        match self {
            Self::Byte(byte) => vec![byte; length],
            Self::Noise(seed) => noise(seed).take(length).collect(),
            Self::Text => noise(7).map(|byte| b"etaoinsr"[usize::from(byte % 8)]).take(length).collect(),
        }
    }
}
