//! The job's disks: found by serial, mounted, and put together.
//!
//! ```text
//! DIRECTORY/base      EROFS  the overlay's lower directory
//! DIRECTORY/tools     EROFS  the hooks' userland, if not the base
//! DIRECTORY/contents  EROFS  copied into the layer
//! DIRECTORY/scratch   ext4   layer, work: the overlay's; hook-layer, hook-work: the hooks' own, thrown away
//! DIRECTORY/root             the overlay of base and layer
//! DIRECTORY/hook             the overlay of tools and hook-layer
//! ```

use crate::{
    contents::{copy_directory_metadata, copy_entries},
    failure::{Failure, Result, Trying},
    target::{Node, TargetDisk},
    tree::Place,
    unmount::unmount_patiently,
    view::{HOOK_DIRECTORIES, HOOK_LAYER, HOOK_TREE, MOUNT_POINTS, View},
};
use kiln_protocol::{Job, ScratchUsage};
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, chmodat, mkdir, mkdirat, open, statvfs,
        unlinkat, utimensat,
    },
    io::Errno,
    mount::{MountFlags, mount, mount_bind},
};
use std::{
    ffi::CString,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Nothing on the scratch disk outlives the VM, so nothing needs to reach it in order, or at all.
/// `noinit_itable`, `no_prefetch_block_bitmaps`, `noblock_validity`: no thread beside, no table built at mount
/// ([ext4](https://docs.kernel.org/admin-guide/ext4.html)).
const SCRATCH_OPTIONS: &std::ffi::CStr =
    c"nobarrier,noauto_da_alloc,noinit_itable,noblock_validity,no_prefetch_block_bitmaps,nodiscard";
/// `volatile`: fsync(2) costs nothing. The other features would leave things in the upper directory
/// that a layer cannot say; redirects are not even followed, as no base has a reason to hold one
/// ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)).
const OVERLAY_OPTIONS: &str = "volatile,redirect_dir=nofollow,index=off,metacopy=off,xino=off";
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// How a disk's serial leads to its device.
#[derive(Debug, Clone)]
pub enum Disks {
    /// virtio-blk disks, by what the kernel says of them.
    Virtio,
    /// For tests without a VM: devices named by serial in a directory.
    Named(PathBuf),
}

impl Disks {
    fn find(&self, serial: &str) -> Result<PathBuf> {
        match self {
            Self::Named(directory) => Ok(directory.join(serial)),
            Self::Virtio => find_virtio(serial),
        }
    }
}

/// Disks are vda, vdb and so on without a gap: none is ever unplugged.
fn find_virtio(serial: &str) -> Result<PathBuf> {
    for letter in 'a'..='z' {
        let Ok(found) = fs::read(format!("/sys/block/vd{letter}/serial")) else { break };
        if found.trim_ascii_end() == serial.as_bytes() {
            return Ok(format!("/dev/vd{letter}").into());
        }
    }
    Err(Failure::new(format!("no disk has the serial {serial:?}")))
}

/// What hooks find at `$mnt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// Nothing.
    None,
    /// Base and layer, merged.
    Merged,
    /// The base alone.
    Base,
}

/// The mounted disks.
pub struct Storage {
    directory: PathBuf,
    has_base: bool,
    has_tools: bool,
    hook_is_mounted: bool,
    /// The disk that is being made.
    target: Option<TargetDisk>,
    /// The names in [`MOUNT_POINTS`] that were not there.
    made_mount_points: Vec<&'static str>,
}

impl Storage {
    /// Mounts the scratch disk in `directory`.
    ///
    /// # Errors
    /// What could not be found or mounted.
    pub fn mount_scratch(directory: &Path, disks: &Disks, serial: &str) -> Result<Self> {
        let storage = Self {
            directory: directory.into(),
            has_base: false,
            has_tools: false,
            hook_is_mounted: false,
            target: None,
            made_mount_points: Vec::new(),
        };
        make_directory(directory)?;
        storage.mount_disk(
            "scratch",
            &disks.find(serial)?,
            "ext4",
            MountFlags::NOATIME,
            Some(SCRATCH_OPTIONS),
        )?;
        for name in ["scratch/layer", "scratch/work"] {
            make_directory(&storage.path(name))?;
        }
        Ok(storage)
    }

    /// Mounts what the job reads, and fills the layer.
    ///
    /// # Errors
    /// What could not be found, mounted or copied.
    pub fn prepare(&mut self, job: &Job, disks: &Disks) -> Result<()> {
        self.has_base = self.mount_image("base", job.base.as_deref(), disks)?;
        self.has_tools = self.mount_image("tools", job.tools.as_deref(), disks)?;
        if self.has_base {
            let (base, layer) = (open_directory(&self.path("base"))?, self.open_layer()?);
            copy_directory_metadata(Place::itself(&base), Place::itself(&layer))?;
        } else {
            chmodat(CWD, self.layer(), DIRECTORY, AtFlags::empty()).trying(|| "set the mode of the layer")?;
        }
        if self.mount_image("contents", job.contents.as_deref(), disks)? {
            copy_entries(open_directory(&self.path("contents"))?, self.open_layer()?)?;
        }
        if let Some(target) = &job.target {
            if !self.has_base || job.contents.is_some() {
                return Err(Failure::new("a disk is made of a base, and of nothing beside it"));
            }
            self.target = Some(TargetDisk::new(disks.find(&target.serial)?, target)?);
        }
        Ok(())
    }

    /// A place in the agent's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn mount_image(&self, name: &str, serial: Option<&str>, disks: &Disks) -> Result<bool> {
        if let Some(serial) = serial {
            self.mount_disk(name, &disks.find(serial)?, "erofs", MountFlags::RDONLY, None)?;
        }
        Ok(serial.is_some())
    }

    fn mount_disk(
        &self,
        name: &str,
        device: &Path,
        file_system: &str,
        flags: MountFlags,
        options: Option<&std::ffi::CStr>,
    ) -> Result<()> {
        let target = self.path(name);
        make_directory(&target)?;
        mount(device, &target, file_system, flags, options).trying(|| format!("mount the {name} disk"))
    }

    /// The new layer's directory.
    pub fn layer(&self) -> PathBuf {
        self.path("scratch/layer")
    }

    /// The new layer's directory, open.
    ///
    /// # Errors
    /// That of open(2).
    pub fn open_layer(&self) -> Result<OwnedFd> {
        open_directory(&self.layer())
    }

    /// The base's root, open, if there is a base.
    ///
    /// # Errors
    /// That of open(2).
    pub fn open_base(&self) -> Result<Option<OwnedFd>> {
        self.has_base.then(|| open_directory(&self.path("base"))).transpose()
    }

    /// Mounts the merged tree. From scratch it is the layer itself.
    ///
    /// # Errors
    /// That of mount(2).
    pub fn mount_root(&self) -> Result<()> {
        let root = self.path("root");
        make_directory(&root)?;
        if !self.has_base {
            return mount_bind(self.layer(), &root).trying(|| "mount the layer as root");
        }
        let source = self.target.as_ref().and_then(TargetDisk::root_source);
        let source = source.as_deref().unwrap_or(Path::new("overlay"));
        self.overlay(source, "base", "scratch/layer", "scratch/work", &root)?;
        self.target.as_ref().map_or(Ok(()), |target| target.mount(self))
    }

    /// Mounts an overlay; `source` is what is told to those who ask.
    ///
    /// # Errors
    /// That of mount(2).
    pub fn overlay(&self, source: &Path, lower: &str, upper: &str, work: &str, target: &Path) -> Result<()> {
        let [lower, upper, work] = [lower, upper, work].map(|name| self.path(name).display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},{OVERLAY_OPTIONS}");
        let options = CString::new(options).expect("the agent's own paths have no NUL");
        mount(source, target, "overlay", MountFlags::NOATIME, &options[..])
            .trying(|| format!("mount the overlay on {}", target.display()))
    }

    /// Unmounts the merged tree.
    ///
    /// # Errors
    /// That of umount(2).
    pub fn unmount_root(&self) -> Result<()> {
        if let Some(target) = &self.target {
            target.unmount(self)?;
        }
        unmount_patiently(&self.path("root"))?;
        self.target.as_ref().map_or(Ok(()), |target| target.collect(self))
    }

    /// Sees to it that all that was written to the disk that is being made has reached the host.
    ///
    /// # Errors
    /// When the host could not write.
    pub fn sync_target(&self) -> Result<()> {
        self.target.as_ref().map_or(Ok(()), TargetDisk::sync)
    }

    /// Makes the mount points that the root lacks.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_mount_points(&mut self) -> Result<()> {
        let root = open_directory(&self.path("root"))?;
        let modified = modification_time(&root)?;
        for name in MOUNT_POINTS {
            match mkdirat(&root, name, DIRECTORY) {
                Err(Errno::EXIST) => {}
                made => {
                    made.trying(|| format!("make /{name}")).map(|()| self.made_mount_points.push(name))?
                }
            }
        }
        self.restore_time(&root, &modified)
    }

    /// Removes the mount points that were made, unless a step has put something there.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_mount_points(&mut self) -> Result<()> {
        let root = open_directory(&self.path("root"))?;
        let modified = modification_time(&root)?;
        for name in &self.made_mount_points {
            match unlinkat(&root, *name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::NOENT | Errno::NOTDIR) => {}
                other => other.trying(|| format!("remove /{name}"))?,
            }
        }
        self.restore_time(&root, &modified)?;
        self.made_mount_points.clear();
        Ok(())
    }

    fn restore_time(&self, root: &OwnedFd, modified: &Timestamps) -> Result<()> {
        if self.made_mount_points.is_empty() {
            return Ok(());
        }
        utimensat(root, ".", modified, AtFlags::empty()).trying(|| "set the time of the root")
    }

    /// What steps in the merged tree see.
    pub fn root_view(&self) -> View {
        let (nodes, links) = self.target_devices();
        View { root: self.path("root"), binds: Vec::new(), directories: &[], nodes, links }
    }

    fn target_devices(&self) -> (Vec<Node>, Vec<(PathBuf, PathBuf)>) {
        let target = self.target.as_ref();
        target.map_or_else(Default::default, |target| (target.nodes().to_vec(), target.links().to_vec()))
    }

    /// What hooks see: a userland of their own, with the layer and a tree.
    /// `None` if there is neither tools nor base.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn hook_view(&mut self, tree: Tree) -> Result<Option<View>> {
        let lower = match (self.has_tools, self.has_base) {
            (true, _) => "tools",
            (false, true) => "base",
            (false, false) => return Ok(None),
        };
        if !self.hook_is_mounted {
            for name in ["hook", "scratch/hook-layer", "scratch/hook-work"] {
                make_directory(&self.path(name))?;
            }
            let overlay = Path::new("overlay");
            self.overlay(overlay, lower, "scratch/hook-layer", "scratch/hook-work", &self.path("hook"))?;
            self.hook_is_mounted = true;
        }
        let mut binds = vec![(self.layer(), HOOK_LAYER)];
        match tree {
            Tree::None => {}
            Tree::Merged => binds.push((self.path("root"), HOOK_TREE)),
            Tree::Base => binds.push((self.path("base"), HOOK_TREE)),
        }
        let (nodes, links) = self.target_devices();
        Ok(Some(View { root: self.path("hook"), binds, directories: HOOK_DIRECTORIES, nodes, links }))
    }

    /// How full the scratch disk is.
    ///
    /// # Errors
    /// That of statvfs(3).
    pub fn usage(&self) -> Result<ScratchUsage> {
        let usage = statvfs(self.path("scratch")).trying(|| "look at the scratch disk")?;
        Ok(ScratchUsage {
            size: usage.f_blocks.saturating_mul(usage.f_frsize),
            available: usage.f_bavail.saturating_mul(usage.f_frsize),
            available_inodes: usage.f_favail,
        })
    }
}

fn modification_time(directory: &OwnedFd) -> Result<Timestamps> {
    let stat = rustix::fs::fstat(directory).trying(|| "look at the root")?;
    let nanoseconds = stat.st_mtime_nsec.try_into().unwrap_or(0);
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    })
}

/// Opens a directory.
///
/// # Errors
/// That of open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).trying(|| format!("open {}", path.display()))
}

/// Makes a directory, unless it is there.
///
/// # Errors
/// That of mkdir(2).
pub fn make_directory(path: &Path) -> Result<()> {
    match mkdir(path, DIRECTORY) {
        Err(Errno::EXIST) => Ok(()),
        other => other.trying(|| format!("make {}", path.display())),
    }
}
