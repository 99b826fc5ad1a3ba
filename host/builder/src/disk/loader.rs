//! What boots the disk: which tools there are for it, and what each has done.
//!
//! ```text
//! grub.rs          GRUB 2 for BIOS and UEFI
//! legacy.rs        GRUB 0.97
//! extlinux.rs      SYSLINUX on ext, XFS and btrfs
//! systemd_boot.rs  systemd-boot, and unified kernel images
//! ```
//!
//! The image's own tools come first, because their modules and configuration match; the toolbox's serve images
//! that have none.

mod extlinux;
mod grub;
mod legacy;
mod systemd_boot;

use super::{
    edit::Edit,
    plan::{DiskPlan, Loader, Table},
    survey::{self, Kernel},
};
use crate::Error;
use kiln_image::tree::Tree;

/// The disk that is made, as the VM sees it: it is the first one.
pub(crate) const DEVICE: &str = "/dev/vda";
/// Where tools of the toolbox see the tree.
pub(crate) const TREE: &str = "/kiln/mnt";

/// What loaders look at.
pub(crate) struct Scene<'a> {
    pub plan: &'a DiskPlan,
    /// The image as it is so far.
    pub tree: &'a Tree,
    pub toolbox: &'a Tree,
    pub kernels: &'a [Kernel],
    /// `root=...` and what it needs beside.
    pub root: String,
    /// UUID of the file system that holds `/boot`, and its partition's number (0: the disk).
    pub boot_uuid: String,
    pub boot_partition: u32,
    /// Where the root file system begins in the tree of `/boot`'s: `/boot` or nothing.
    pub boot_prefix: &'static str,
    /// Where the EFI system partition is in the tree, relative to the root.
    pub esp: Option<String>,
    /// What the system calls itself.
    pub title: String,
}

/// Something that runs in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// For messages.
    pub name: String,
    pub script: String,
}

/// What a loader has done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// Before anything runs.
    pub edits: Vec<Edit>,
    /// In the image.
    pub in_image: Vec<Task>,
    /// In the toolbox, with the tree at [`TREE`].
    pub in_toolbox: Vec<Task>,
    /// With all file systems made, in the toolbox, with the tree at [`TREE`].
    pub on_disk: Vec<Task>,
    /// Whose bytes go where the BIOS starts: a path in the image, or else in the toolbox.
    pub boot_code: Option<BootCode>,
}

/// The first sector's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootCode {
    pub path: String,
    pub is_in_toolbox: bool,
}

impl Scene<'_> {
    /// What the kernel is told.
    pub fn command_line(&self) -> String {
        format!("{} ro {}", self.root, self.plan.kernel_options).trim_end().to_owned()
    }

    /// A path of `/boot` as the loader sees it, which may be a file system of its own.
    pub fn seen_from_boot(&self, path: &str) -> String {
        match path.strip_prefix("boot/") {
            Some(rest) if self.boot_prefix.is_empty() => format!("/{rest}"),
            _ => format!("/{path}"),
        }
    }

    /// Of a file, the image's or else the toolbox's; whether it is the latter's.
    fn either(&self, path: &str) -> Option<bool> {
        [false, true]
            .into_iter()
            .find(|is_in_toolbox| survey::has(if *is_in_toolbox { self.toolbox } else { self.tree }, path))
    }
}

/// Kernels that lie beside their modules, as Fedora has them, with their initial RAM disks: loaders that read the file system of
/// `/boot`, and tools that make their menus, find them there only. Where kernels are then, and what brings them there.
pub(crate) fn brought_to_boot(plan: &DiskPlan, mut kernels: Vec<Kernel>) -> (Vec<Kernel>, Vec<Edit>) {
    let mut edits = Vec::new();
    if plan.boot.iter().all(|loader| matches!(loader, Loader::SystemdBoot | Loader::Uki)) {
        return (kernels, edits);
    }
    let mut bring = |path: &mut String, name: &str, version: &str| {
        if !path.starts_with("boot/") {
            let to = format!("boot/{name}-{version}");
            edits.push(Edit::Copy { from: std::mem::replace(path, to.clone()), to });
        }
    };
    for Kernel { version, path, initrd } in &mut kernels {
        bring(path, "vmlinuz", version);
        if let Some(initrd) = initrd {
            bring(initrd, "initrd.img", version);
        }
    }
    (kernels, edits)
}

/// What is done before the file systems are made. Errors say which tools are missing, or what the layout lacks.
pub(crate) fn work(loader: Loader, scene: &Scene) -> Result<Work, String> {
    if loader.needs_esp() && scene.esp.is_none() {
        return Err(format!(
            "`{}` needs an EFI system partition: one with type = \"efi\" and filesystem = \"vfat\"",
            loader.name()
        ));
    }
    if loader.needs_esp() && scene.plan.table == Table::None {
        return Err(format!("`{}` needs a partition table", loader.name()));
    }
    match loader {
        Loader::GrubBios => grub::bios(scene),
        Loader::GrubEfi => grub::efi(scene),
        Loader::GrubLegacy => legacy::work(scene),
        Loader::Extlinux => extlinux::work(scene),
        Loader::SystemdBoot | Loader::Uki => systemd_boot::check(loader, scene).map(|()| Work::default()),
    }
}

/// Reads a file of the image, or with `true` of the toolbox.
pub(crate) type Read<'r> = &'r mut dyn FnMut(&str, bool) -> Result<Vec<u8>, Error>;

/// What is put into the tree once initial RAM disks are made, and nothing runs in it any more.
pub(crate) fn late_edits(loader: Loader, scene: &Scene, read: Read) -> Result<Vec<Edit>, Error> {
    match loader {
        Loader::GrubBios | Loader::GrubEfi => Ok(grub::configuration(scene)),
        Loader::GrubLegacy => Ok(legacy::configuration(scene)),
        Loader::Extlinux => Ok(extlinux::configuration(scene)),
        Loader::SystemdBoot => systemd_boot::boot_files(scene, read),
        Loader::Uki => systemd_boot::unified(scene, read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_beside_their_modules_are_brought_to_boot() {
        let kernel = |path: &str, initrd: &str| Kernel {
            version: "7.0".to_owned(),
            path: path.to_owned(),
            initrd: Some(initrd.to_owned()),
        };
        let apart = kernel("lib/modules/7.0/vmlinuz", "lib/modules/7.0/initrd");
        let there = kernel("boot/vmlinuz-7.0", "boot/initrd.img-7.0");
        let brought = |boot: &[Loader], kernel: &Kernel| {
            let plan = DiskPlan { boot: boot.to_vec(), ..DiskPlan::default() };
            let (kernels, edits) = brought_to_boot(&plan, vec![kernel.clone()]);
            (kernels[0] == there, edits.len())
        };
        assert_eq!(brought(&[Loader::GrubBios, Loader::GrubEfi], &apart), (true, 2));
        assert_eq!(brought(&[Loader::Extlinux], &there), (true, 0));
        assert_eq!(brought(&[Loader::Uki], &apart), (false, 0));
        assert_eq!(brought(&[], &apart), (false, 0));
    }
}
