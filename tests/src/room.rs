//! A place for one test.

use crate::{
    debian::Debian,
    kiln::Kiln,
    tool::{succeed, tool},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A directory that is gone after the test, with `cache`, `tmp` and `work` in it.
pub struct Room(TempDir);

impl Room {
    /// With an empty cache.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("kiln-test-").tempdir().expect("a directory can be made");
        // Other users have work in here too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        for name in ["tmp", "work"] {
            fs::create_dir(dir.path().join(name)).expect("a directory can be made");
        }
        Self(dir)
    }

    /// With a cache that has seen the Debian base.
    pub fn with_debian(debian: &Debian) -> Self {
        let room = Self::new();
        // The stored files never change, so that links are as good as copies; other file systems need copies.
        let copied = tool("cp").arg("-al").arg(debian.cache()).arg(room.cache()).output();
        if !copied.is_ok_and(|output| output.status.success()) {
            let _ = fs::remove_dir_all(room.cache());
            succeed(tool("cp").arg("-a").arg(debian.cache()).arg(room.cache()));
        }
        room
    }

    /// The whole of it.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// kiln's cache.
    pub fn cache(&self) -> PathBuf {
        self.dir().join("cache")
    }

    /// Temporary files go here.
    pub fn temporary(&self) -> PathBuf {
        self.dir().join("tmp")
    }

    /// A path for the test's own use.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join("work").join(name)
    }

    /// Writes a file, and the directories it needs.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the room")).expect("a directory can be made");
        fs::write(&path, contents).expect("a file can be written");
        path
    }

    /// Makes a build context: a directory with this build file, in which `base.tar` is the Debian image.
    pub fn context(&self, name: &str, debian: Option<&Debian>, build_file: &str) -> PathBuf {
        self.write(&format!("{name}/kiln.toml"), build_file);
        if let Some(debian) = debian {
            std::os::unix::fs::symlink(debian.image(), self.path(name).join("base.tar"))
                .expect("a link can be made");
        }
        self.path(name)
    }

    /// A kiln with this room's cache.
    pub fn kiln(&self) -> Kiln {
        Kiln::new(&self.cache(), &self.temporary(), self.dir())
    }

    /// `kiln build` of a context to a file of the room; `-o`'s other keys are in `options` (`,compression=zstd`).
    pub fn build(&self, context: &Path, image: &str, options: &str) -> Kiln {
        let output = format!("type=docker-archive,dest={}{options}", self.path(image).display());
        self.kiln().args(["build", "-o", &output]).arg(context)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}
