//! What a step sees: its root, and `/dev`, `/proc` and `/sys` in it.

use crate::{
    failure::{Failure, Result, Trying},
    target::{self, Node},
};
use rustix::{
    fs::{CWD, FileType, Mode, makedev, mkdir, mknodat, symlink},
    io::Errno,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_move, move_mount, open_tree},
    process::{chdir, chroot},
};
use std::{
    ffi::CStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Where hooks find the layer directory; also `$layer`.
pub const HOOK_LAYER: &str = "/kiln/layer";
/// Where hooks find the merged tree; also `$mnt`.
pub const HOOK_TREE: &str = "/kiln/mnt";
/// Scripts are kept here: on the step's own `/dev`, where no layer can pick them up.
pub const SCRIPT_DIRECTORY: &str = "/dev/.kiln";
/// The mount points every root needs.
pub const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// A root directory for steps, in the agent's mount namespace.
#[derive(Debug, Clone)]
pub struct View {
    /// The mounted root.
    pub root: PathBuf,
    /// What else is mounted in it: the source in the agent's namespace, and the place in the root.
    pub binds: Vec<(PathBuf, &'static str)>,
    /// Directories that are made in it if they are missing; only for roots that are thrown away.
    pub directories: &'static [&'static str],
    /// Devices in its `/dev` beyond the usual.
    pub nodes: Vec<Node>,
    /// Symbolic links in its `/dev`: name, and what it leads to.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// The directories of a hook's root.
pub const HOOK_DIRECTORIES: &[&str] = &["/kiln", HOOK_LAYER, HOOK_TREE, "/dev", "/proc", "/sys"];

/// Special files of a minimal system
/// ([devices.txt](https://docs.kernel.org/admin-guide/devices.html)): name, permissions, major, minor.
const DEVICES: [(&str, u16, u32, u32); 16] = [
    ("/dev/null", 0o666, 1, 3),
    ("/dev/zero", 0o666, 1, 5),
    ("/dev/full", 0o666, 1, 7),
    ("/dev/random", 0o666, 1, 8),
    ("/dev/urandom", 0o666, 1, 9),
    ("/dev/tty", 0o666, 5, 0),
    ("/dev/console", 0o600, 5, 1),
    ("/dev/loop-control", 0o660, 10, 237),
    ("/dev/loop0", 0o660, LOOP_MAJOR, 0),
    ("/dev/loop1", 0o660, LOOP_MAJOR, 1),
    ("/dev/loop2", 0o660, LOOP_MAJOR, 2),
    ("/dev/loop3", 0o660, LOOP_MAJOR, 3),
    ("/dev/loop4", 0o660, LOOP_MAJOR, 4),
    ("/dev/loop5", 0o660, LOOP_MAJOR, 5),
    ("/dev/loop6", 0o660, LOOP_MAJOR, 6),
    ("/dev/loop7", 0o660, LOOP_MAJOR, 7),
];
const LOOP_MAJOR: u32 = 7;

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

impl View {
    /// Makes this view the root of the calling process, which must be in its own mount namespace.
    ///
    /// # Errors
    /// What could not be mounted.
    pub fn enter(&self) -> Result<()> {
        let binds = self.clone_binds()?;
        become_root(&self.root)?;
        for directory in self.directories {
            make_directory(directory)?;
        }
        for (tree, target) in binds {
            move_mount(&tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .trying(|| format!("mount {target}"))?;
        }
        mount_system()?;
        target::fill_devices(&self.nodes, &self.links)
    }

    /// The sources of the binds lie outside the root, so they are taken hold of before it is entered.
    fn clone_binds(&self) -> Result<Vec<(OwnedFd, &'static str)>> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let clone =
            |source: &Path| open_tree(CWD, source, flags).trying(|| format!("bind {}", source.display()));
        self.binds.iter().map(|(source, target)| Ok((clone(source)?, *target))).collect()
    }
}

/// Moves the mount over the namespace's root, as switch_root(8) does: pivot_root(2) cannot replace an
/// initramfs, and after a mere chroot(2) no program could make a user namespace.
fn become_root(root: &Path) -> Result<()> {
    chdir(root).trying(|| format!("enter {}", root.display()))?;
    mount_move(".", "/").trying(|| "move the root into place")?;
    chroot(".").and_then(|()| chdir("/")).trying(|| "change the root")
}

fn make_directory(path: &str) -> Result<()> {
    match mkdir(path, DIRECTORY) {
        Err(Errno::EXIST) => Ok(()),
        other => other.trying(|| format!("make {path}")),
    }
}

fn mount_system() -> Result<()> {
    let harmless = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_at("/proc", c"proc", harmless, None)?;
    mount_at("/sys", c"sysfs", harmless, None)?;
    optional(mount_at("/sys/fs/cgroup", c"cgroup2", harmless, None))?;
    mount_at("/dev", c"tmpfs", MountFlags::NOSUID, Some(c"mode=0755"))?;
    fill_devices()?;
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    optional(mount_at("/dev/pts", c"devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(terminals)))?;
    optional(mount_at("/dev/mqueue", c"mqueue", harmless, None))?;
    mount_at("/dev/shm", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777"))
}

fn mount_at(target: &str, file_system: &CStr, flags: MountFlags, options: Option<&CStr>) -> Result<()> {
    mount(file_system, target, file_system, flags, options).trying(|| format!("mount {target}"))
}

/// A kernel that is not kiln's may lack what few programs need.
fn optional(mounted: Result<()>) -> Result<()> {
    match mounted {
        Err(Failure { errno: libc::ENODEV | libc::ENOENT, .. }) => Ok(()),
        other => other,
    }
}

/// Runs with an empty umask, as all of the agent does.
fn fill_devices() -> Result<()> {
    for (name, permissions, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(permissions.into());
        let kind = if major == LOOP_MAJOR { FileType::BlockDevice } else { FileType::CharacterDevice };
        mknodat(CWD, name, kind, mode, makedev(major, minor)).trying(|| format!("make {name}"))?;
    }
    for (target, name) in LINKS {
        symlink(target, name).trying(|| format!("make {name}"))?;
    }
    for name in ["/dev/pts", "/dev/mqueue", "/dev/shm"] {
        make_directory(name)?;
    }
    Ok(())
}
