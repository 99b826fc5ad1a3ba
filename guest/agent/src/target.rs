//! The disk that is being made: its device nodes, and overlays that stand for its partitions.
//!
//! # Why nothing of it is mounted
//! A boot loader's installer asks on which device `/boot` lies, looks that up in `/proc/self/mountinfo`, and reads file
//! system type and UUID from the device itself. An overlay may be mounted with any word as its source: with
//! `/dev/vda1` there, the installer finds the right device, with an empty file system of the right UUID on it, while
//! everything it writes lands in the layer. So no file system is mounted that would have to be cleaned of it later, and
//! none that this kernel would have to know.

use crate::{
    contents::copy_directory_metadata,
    failure::{Failure, Result, Trying},
    storage::{Storage, make_directory, open_directory},
    tree::Place,
    unmount::unmount_patiently,
};
use kiln_protocol::{Target, TargetMount};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fsync, mkdirat, open, rename, stat, unlinkat},
    io::Errno,
};
use std::{
    ffi::CString,
    path::{Path, PathBuf},
};

/// Permissions of the nodes, as udev gives them to disks.
const NODE: Mode = Mode::from_raw_mode(0o660);

/// The disk as the kernel knows it.
pub struct TargetDisk {
    /// `/dev/vda`
    device: PathBuf,
    mounts: Vec<TargetMount>,
    nodes: Vec<Node>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// A device node that steps get.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is, in `/dev`.
    pub path: PathBuf,
    /// Its number.
    pub device: rustix::fs::Dev,
}

impl TargetDisk {
    /// The disk `device` and its partitions.
    ///
    /// # Errors
    /// When a partition that the host named is not there.
    pub fn new(device: PathBuf, target: &Target) -> Result<Self> {
        let mut disk = Self { device, mounts: target.mounts.clone(), nodes: Vec::new(), links: Vec::new() };
        disk.nodes.push(node(disk.device.clone())?);
        // Numbers may have gaps: an extended partition is one, and whoever asks for one gets it.
        for number in 1..=PARTITIONS_MAX {
            let path = disk.partition(number);
            if path.exists() {
                disk.nodes.push(node(path)?);
            }
        }
        for (name, partition) in &target.links {
            disk.links.push((Path::new("/dev/disk").join(name), disk.known(*partition)?));
        }
        for mount in &target.mounts {
            disk.known(mount.partition)?;
        }
        Ok(disk)
    }

    fn partition(&self, number: u32) -> PathBuf {
        match number {
            0 => self.device.clone(),
            _ => format!("{}{number}", self.device.display()).into(),
        }
    }

    fn known(&self, number: u32) -> Result<PathBuf> {
        let path = self.partition(number);
        let is_there = self.nodes.iter().any(|node| node.path == path);
        is_there.then(|| path.clone()).ok_or_else(|| {
            Failure::new(format!("the kernel sees no partition {number} on {}", self.device.display()))
        })
    }

    /// Nodes for steps' `/dev`.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Symbolic links for steps' `/dev`: name, and what it leads to.
    pub fn links(&self) -> &[(PathBuf, PathBuf)] {
        &self.links
    }

    /// What the merged tree's root says it is mounted from.
    pub fn root_source(&self) -> Option<PathBuf> {
        let root = self.mounts.iter().find(|mount| mount.path.is_empty())?;
        Some(self.partition(root.partition))
    }

    /// The other mount points, parents first.
    fn others(&self) -> Vec<(usize, &TargetMount)> {
        let mut others: Vec<_> =
            self.mounts.iter().enumerate().filter(|(_, mount)| !mount.path.is_empty()).collect();
        others.sort_by_key(|(_, mount)| mount.path.matches('/').count());
        others
    }

    /// Mounts an overlay for each mount point in the merged tree.
    ///
    /// # Errors
    /// When a mount point is no directory of the base, or cannot be mounted.
    pub fn mount(&self, storage: &Storage) -> Result<()> {
        for (index, mount) in self.others() {
            let (upper, work) = (upper(index), format!("scratch/target-work-{index}"));
            for name in [&upper, &work] {
                make_directory(&storage.path(name))?;
            }
            let lower = format!("base/{}", mount.path);
            let from = open_directory(&storage.path(&lower))?;
            copy_directory_metadata(
                Place::itself(&from),
                Place::itself(&open_directory(&storage.path(&upper))?),
            )?;
            let target = storage.path("root").join(&mount.path);
            storage.overlay(&self.partition(mount.partition), &lower, &upper, &work, &target)?;
        }
        Ok(())
    }

    /// Unmounts them, the last one first, and puts what was written to them where it belongs in the layer.
    ///
    /// # Errors
    /// When one stays in use, or its files cannot be moved.
    pub fn unmount(&self, storage: &Storage) -> Result<()> {
        for (_, mount) in self.others().into_iter().rev() {
            unmount_patiently(&storage.path("root").join(&mount.path))?;
        }
        Ok(())
    }

    /// Puts what was written to the mount points where it belongs in the layer. The merged tree is not mounted.
    ///
    /// # Errors
    /// When files cannot be moved.
    pub fn collect(&self, storage: &Storage) -> Result<()> {
        for (index, mount) in self.others() {
            let layer = storage.layer();
            make_parents(storage, &mount.path)?;
            let place = layer.join(&mount.path);
            match unlinkat(CWD, &place, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                other => other.trying(|| format!("replace /{} in the layer", mount.path))?,
            }
            rename(storage.path(&upper(index)), &place)
                .trying(|| format!("move what was written to /{} into the layer", mount.path))?;
        }
        Ok(())
    }

    /// Sees to it that everything written to the disk has reached the host.
    ///
    /// # Errors
    /// That of fsync(2): the host could not write.
    pub fn sync(&self) -> Result<()> {
        for node in &self.nodes {
            let describe = || format!("write {} out", node.path.display());
            let device =
                open(&node.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).trying(describe)?;
            fsync(&device).trying(describe)?;
        }
        Ok(())
    }
}

/// More than virtio-blk gives minor numbers to at once.
const PARTITIONS_MAX: u32 = 128;

fn upper(index: usize) -> String {
    format!("scratch/target-{index}")
}

fn node(path: PathBuf) -> Result<Node> {
    let found = stat(&path).trying(|| format!("look at {}", path.display()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(Failure::new(format!("{} is no block device", path.display())));
    }
    Ok(Node { path, device: found.st_rdev })
}

/// Makes the directories above a mount point in the layer, as they are in the base.
fn make_parents(storage: &Storage, path: &str) -> Result<()> {
    let (mut below, mut above) = (open_directory(&storage.path("base"))?, storage.open_layer()?);
    let Some((parents, _)) = path.rsplit_once('/') else { return Ok(()) };
    for name in parents.split('/') {
        let name = &CString::new(name).map_err(|_| Failure::new("a mount point has a NUL byte"))?;
        let made = mkdirat(&above, name, Mode::from_raw_mode(0o755));
        let (base, layer) = (Place::new(&below, name).open_directory()?, Place::new(&above, name));
        match made {
            Err(Errno::EXIST) => {}
            other => {
                other.trying(|| layer.describe("make"))?;
                copy_directory_metadata(Place::itself(&base), layer)?;
            }
        }
        (above, below) = (layer.open_directory()?, base);
    }
    Ok(())
}

/// Makes the nodes and links in the step's own `/dev`.
///
/// # Errors
/// When one cannot be made.
pub fn fill_devices(nodes: &[Node], links: &[(PathBuf, PathBuf)]) -> Result<()> {
    for node in nodes {
        rustix::fs::mknodat(CWD, &node.path, FileType::BlockDevice, NODE, node.device)
            .trying(|| format!("make {}", node.path.display()))?;
    }
    for (link, target) in links {
        let make = || {
            std::fs::create_dir_all(link.parent().unwrap_or(Path::new("/dev")))?;
            std::os::unix::fs::symlink(target, link)
        };
        make().trying(|| format!("make {}", link.display()))?;
    }
    Ok(())
}
