//! What a disk is to be.

pub use kiln_disk::table::FileSystem;
use kiln_disk::table::PartitionType;
use kiln_image::{
    compress::Compression,
    reference::ImageReference,
    system::{Group, User},
};
use std::path::PathBuf;

/// A disk that is made of an image.
#[derive(Debug, Clone, Default)]
pub struct DiskPlan {
    /// In bytes; as large as its partitions need if not given.
    pub size: Option<u64>,
    /// What says where partitions lie.
    pub table: Table,
    /// Of the table: eight hexadecimal digits (MBR) or a UUID (GPT); derived from the image if not given.
    pub identifier: Option<String>,
    /// Where partitions begin, in bytes; 1 MiB if not given.
    pub alignment: Option<u64>,
    /// Heads and sectors per track, for firmware that counts in cylinders.
    pub geometry: Option<(u8, u8)>,
    /// In the order of their numbers. Without a table: one, which is the disk.
    pub partitions: Vec<PartitionPlan>,
    /// What boots it, in order.
    pub boot: Vec<Loader>,
    /// What the kernel is told, beyond where its root is.
    pub kernel_options: String,
    /// Seconds a menu is shown.
    pub boot_timeout: u32,
    /// Whether the initial RAM disks are made anew.
    pub initrd: Initrd,
    /// Root scripts run in order with the tree as it will be, before boot loaders are installed.
    pub scripts: Vec<DiskScript>,
    /// What people do to systems.
    pub system: SystemPlan,
    /// The image's files as they are: no `fstab`, no directories that a system needs.
    pub is_plain: bool,
    /// The image with the tools that make file systems; kiln's own if not given.
    pub toolbox: Option<ImageReference>,
}

/// A partition table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Table {
    /// Of the PC's BIOS.
    Mbr,
    /// Of UEFI.
    #[default]
    Gpt,
    /// A file system and nothing else.
    None,
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub struct PartitionPlan {
    /// How large.
    pub size: PartitionSize,
    /// Where it begins, in bytes; behind the one before if not given.
    pub start: Option<u64>,
    /// What it is for: a name, two hexadecimal digits (MBR) or a UUID (GPT); by its file system if not given.
    pub kind: Option<String>,
    /// In a GPT: its name.
    pub name: Option<String>,
    /// In an MBR: active.
    pub is_bootable: bool,
    /// In a GPT: its attributes, by name or number.
    pub attributes: Vec<String>,
    /// In a GPT: its identity; derived from the image if not given.
    pub partition_uuid: Option<String>,
    /// What is on it.
    pub file_system: Option<FileSystem>,
    /// Of the file system.
    pub label: Option<String>,
    /// Of the file system; derived from the image if not given.
    pub uuid: Option<String>,
    /// An absolute path. What the image has there is on this partition.
    pub mount: Option<String>,
    /// For `fstab`.
    pub mount_options: Option<String>,
    /// Given to mkfs as they are.
    pub mkfs_options: Vec<String>,
}

/// How large a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionSize {
    /// In bytes.
    Bytes(u64),
    /// All that is left.
    Rest,
    /// As large as its contents need, with so much room besides.
    Fit {
        /// In bytes.
        slack: u64,
    },
}

impl Default for PartitionSize {
    fn default() -> Self {
        Self::Fit { slack: 0 }
    }
}

/// What makes a disk boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// GRUB 2 for the PC's BIOS.
    GrubBios,
    /// GRUB 2 for UEFI, at the path for removable media.
    GrubEfi,
    /// GRUB 0.97.
    GrubLegacy,
    /// SYSLINUX for ext, XFS and btrfs file systems.
    Extlinux,
    /// systemd-boot with the kernels beside it.
    SystemdBoot,
    /// A unified kernel image, started by the firmware.
    Uki,
}

/// Whether initial RAM disks are made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Initrd {
    /// Where a kernel has none.
    #[default]
    Missing,
    /// For each kernel.
    Always,
    /// Never.
    Never,
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskScript {
    /// For messages.
    pub name: String,
    /// Its text.
    pub text: Vec<u8>,
}

/// What people do to systems.
#[derive(Debug, Clone, Default)]
pub struct SystemPlan {
    /// Host name.
    pub hostname: Option<String>,
    /// The machine's ID; removed unless said.
    pub machine_id: Option<MachineId>,
    /// Groups that are to be there.
    pub groups: Vec<Group>,
    /// Users that are to be there.
    pub users: Vec<DiskUser>,
    /// Whether SSH host keys stay that are in the image; else they are made at the first boot.
    pub keeps_ssh_keys: bool,
    /// Whether the root partition grows to the disk at the first boot.
    pub grow: bool,
    /// Scripts run once, at the first boot.
    pub first_boot: Vec<DiskScript>,
}

/// A user, and where its password is.
#[derive(Debug, Clone)]
pub struct DiskUser {
    /// Without its password.
    pub user: User,
    /// None fits if there is none.
    pub password: Option<crate::RootPassword>,
}

/// A machine's ID ([machine-id(5)](https://man7.org/linux/man-pages/man5/machine-id.5.html)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineId {
    /// As it is in the image.
    Keep,
    /// Made at the first boot.
    Remove,
    /// This one.
    Fixed(String),
}

impl SystemPlan {
    pub(crate) fn has_fresh_ssh_keys(&self) -> bool {
        !self.keeps_ssh_keys
    }
}

/// Where a disk goes, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOutput {
    /// The form.
    pub form: DiskForm,
    /// `-` is standard output.
    pub dest: PathBuf,
    /// Ids of the images; those that have a disk if empty.
    pub images: Vec<String>,
}

/// The form of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskForm {
    /// The disk's bytes: sparse, or compressed.
    Raw(Option<Compression>),
    /// QEMU's.
    Qcow2(Option<kiln_disk::formats::qcow2::Compression>),
    /// VMware's.
    Vmdk(Vmware),
    /// Virtual PC's and Azure's.
    Vhd(kiln_disk::formats::vhd::Layout),
    /// Hyper-V's.
    Vhdx,
    /// VirtualBox's.
    Vdi,
    /// A machine with the disk in it.
    Appliance(Appliance),
    /// A live system that boots from CDs and disks.
    Iso,
    /// The root file system and nothing else, as one that is read-only.
    ReadOnly(FileSystem),
    /// A directory of qcow2 files, one for each layer of the image, each over the one before.
    Chain,
    /// A directory with kernel, initial RAM disk and command line, for booting without a loader.
    Kernel,
}

/// What VMware's formats say beyond the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmware {
    /// What kind of file.
    pub subformat: kiln_disk::formats::vmdk::Subformat,
    /// The controller the disk is for.
    pub adapter: kiln_disk::formats::vmdk::Adapter,
    /// Version of the virtual hardware; that of ESXi 5.5 if not given.
    pub hardware_version: Option<u32>,
}

/// What a machine comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplianceForm {
    /// An OVF package, for VMware and VirtualBox.
    Ova,
    /// For XenServer.
    Xva,
    /// VMware's description and disk in a zip.
    Zip,
    /// VMware's description and disk in a tar, compressed.
    TarGz,
}

/// The machine that an appliance describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    /// What it comes in.
    pub form: ApplianceForm,
    /// What people see; the file's name without its ending if not given.
    pub name: Option<String>,
    /// Bytes of memory.
    pub memory: u64,
    /// Processors.
    pub cpus: u32,
    /// Whether it boots with UEFI.
    pub is_efi: bool,
    /// The controller the disk is for, and the hardware's version.
    pub vmware: Vmware,
}

/// Whether it can be written to once it is made.
pub(crate) fn is_writable(file_system: FileSystem) -> bool {
    !matches!(file_system, FileSystem::Squashfs | FileSystem::Erofs)
}

impl Loader {
    /// The build file's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::GrubBios => "grub-bios",
            Self::GrubEfi => "grub-efi",
            Self::GrubLegacy => "grub-legacy",
            Self::Extlinux => "extlinux",
            Self::SystemdBoot => "systemd-boot",
            Self::Uki => "uki",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::GrubBios, Self::GrubEfi, Self::GrubLegacy, Self::Extlinux, Self::SystemdBoot, Self::Uki];

    /// Whether the firmware finds it on an EFI system partition.
    pub fn needs_esp(self) -> bool {
        matches!(self, Self::GrubEfi | Self::SystemdBoot | Self::Uki)
    }
}

impl PartitionPlan {
    /// The mount point relative to the root; empty is the root itself.
    pub fn mount_path(&self) -> Option<&str> {
        self.mount.as_deref().map(|mount| mount.trim_matches('/'))
    }

    /// Whether the firmware of UEFI looks here.
    pub fn is_esp(&self) -> bool {
        self.is_of_type("efi")
    }

    /// Whether GRUB's core image goes here.
    pub(crate) fn is_bios_boot(&self) -> bool {
        self.is_of_type("bios-boot")
    }

    /// Whether its type is this one, by whichever of its names, its byte or its UUID.
    fn is_of_type(&self, name: &str) -> bool {
        let parsed = |text: &str| text.parse::<PartitionType>().ok();
        let (Some(kind), Some(wanted)) = (self.kind.as_deref().and_then(parsed), parsed(name)) else {
            return false;
        };
        (kind.gpt().is_some() && kind.gpt() == wanted.gpt())
            || (kind.mbr().is_some() && kind.mbr() == wanted.mbr())
    }
}

impl DiskPlan {
    /// The partition with the root file system, by its index.
    pub fn root(&self) -> Option<usize> {
        self.partitions.iter().position(|partition| partition.mount_path() == Some(""))
    }

    /// The partition where a path of the tree lies, by its index.
    pub fn holder(&self, path: &str) -> Option<usize> {
        let path = path.trim_matches('/');
        let holds = |mount: &str| {
            mount.is_empty()
                || path == mount
                || path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'))
        };
        let held = self.partitions.iter().enumerate().filter_map(|(index, partition)| {
            partition.mount_path().filter(|mount| holds(mount)).map(|mount| (index, mount.len()))
        });
        held.max_by_key(|(_, length)| *length).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_several_names() {
        let table = [
            ("efi", (true, false)),
            ("ESP", (true, false)),
            ("efi-system", (true, false)),
            ("ef", (true, false)),
            ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", (true, false)),
            ("bios-boot", (false, true)),
            ("bios_grub", (false, true)),
            ("21686148-6449-6e6f-744e-656564454649", (false, true)),
            ("linux", (false, false)),
            ("83", (false, false)),
            ("no type", (false, false)),
        ];
        for (kind, wanted) in table {
            let plan = PartitionPlan { kind: Some(kind.to_owned()), ..PartitionPlan::default() };
            assert_eq!((plan.is_esp(), plan.is_bios_boot()), wanted, "{kind}");
        }
        assert!(!PartitionPlan::default().is_esp());
    }
}
