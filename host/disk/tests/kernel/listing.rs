//! One line for each file, the same from inside the machine and from the tree outside.

use std::fmt::Write as _;

/// What both sides know of a file.
#[derive(Debug, Default)]
pub struct Line {
    /// From the root, without a leading `/`.
    pub path: Vec<u8>,
    /// `st_mode`: type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    /// Zero for directories.
    pub size: u64,
    pub mtime: i64,
    pub device: (u32, u32),
    /// Contents, or a symbolic link's target.
    pub content: Fnv,
    /// Names and values, by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Line {
    /// The line.
    pub fn text(&self) -> String {
        let (major, minor) = self.device;
        let mut text = format!(
            "{} {:o} {}:{} links={} size={} mtime={} dev={major},{minor} content={:x}",
            self.path.escape_ascii(),
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.size,
            self.mtime,
            self.content.0,
        );
        for (name, value) in &self.xattrs {
            let mut hash = Fnv::default();
            hash.update(value);
            write!(text, " {}={}:{:x}", name.escape_ascii(), value.len(), hash.0).expect("no I/O");
        }
        text
    }
}

/// FNV-1a: enough to tell contents apart, and the same few lines on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
