//! What people declare of a system that is to boot: users, its name, its identity, what happens when it first boots.
//!
//! Everything here is text: functions take the files that are there (written by whoever made the image, so any bytes)
//! and give what they become, and new files come as a list. Whoever has the tree applies it.
//!
//! What is to happen at the first boot is done by scripts of ours in `/usr/lib/kiln`, in the shell's standard language,
//! started by the system's own init once; what is done is remembered in `/var/lib/kiln`.

mod account_file;
mod accounts;
mod first_boot;
mod grow_root;
mod hostname;
mod identity;
mod init;
mod machine_id;
mod ssh;
#[cfg(test)]
mod tests;
mod user;

pub use accounts::{Accounts, Home};
pub use first_boot::{FirstBootScript, first_boot};
pub use grow_root::grow_root;
pub use hostname::Hostname;
pub use identity::Identity;
pub use init::Init;
pub use machine_id::MachineId;
pub use ssh::{host_keys, host_keys_at_first_boot};
pub use user::{Group, Password, PrimaryGroup, User};

/// A file that the system gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFile {
    /// From the root, without a slash before it; parts never `.` or `..`.
    pub path: String,
    /// Permission bits: `0o7777`. Of no account for symbolic links.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub content: SystemContent,
}

/// What a file that the system gets is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemContent {
    /// A regular file of these bytes.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory, made when it is missing.
    Directory,
}

impl SystemFile {
    fn file(path: &str, mode: u16, text: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, uid: 0, gid: 0, content: SystemContent::File(text.into()) }
    }

    fn symlink(path: String, target: String) -> Self {
        Self { path, mode: 0o777, uid: 0, gid: 0, content: SystemContent::Symlink(target) }
    }
}

/// Files that the system loses, where they are: `directory` is from the root without a slash before it, and
/// `name` may have `*` for any bytes. A directory goes with all that is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Where.
    pub directory: &'static str,
    /// Which names in it.
    pub name: &'static str,
}

impl Removal {
    /// True for a name in the directory that goes.
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut parts = self.name.split('*').map(str::as_bytes);
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let parts: Vec<&[u8]> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        for part in middle {
            let Some(at) = (0..=rest.len()).find(|at| rest[*at..].starts_with(part)) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}
