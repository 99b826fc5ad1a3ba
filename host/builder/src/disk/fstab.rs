//! `/etc/fstab`: [fstab(5)](https://man7.org/linux/man-pages/man5/fstab.5.html).

use super::{
    identity::{Uuid, format_uuid},
    plan::{FileSystem, PartitionPlan, is_writable},
};

/// A partition with what it goes by.
#[derive(Debug, Clone)]
pub(crate) struct Named<'a> {
    pub plan: &'a PartitionPlan,
    pub uuid: Uuid,
    /// `PARTUUID` for what has no UUID of its own.
    pub partition_uuid: Option<String>,
}

impl Named<'_> {
    /// What `mount` and the kernel's `root=` find it by.
    pub fn source(&self) -> Option<String> {
        match self.plan.file_system? {
            FileSystem::Vfat => {
                let [a, b, c, d, ..] = self.uuid;
                Some(format!("UUID={a:02X}{b:02X}-{c:02X}{d:02X}"))
            }
            FileSystem::Squashfs => self.partition_uuid.as_ref().map(|uuid| format!("PARTUUID={uuid}")),
            _ => Some(format!("UUID={}", format_uuid(&self.uuid))),
        }
    }

    /// As udev names it below `/dev/disk`.
    pub fn link(&self) -> Option<String> {
        let source = self.source()?;
        let (kind, value) = source.split_once('=')?;
        Some(format!("by-{}/{value}", kind.to_lowercase()))
    }

    fn line(&self) -> Option<String> {
        let source = self.source()?;
        let file_system = self.plan.file_system?;
        if file_system == FileSystem::Swap {
            let options = self.plan.mount_options.as_deref().unwrap_or("sw");
            return Some(format!("{source} none swap {options} 0 0"));
        }
        let mount = format!("/{}", self.plan.mount_path()?);
        let options = self.plan.mount_options.clone().unwrap_or_else(|| default_options(self.plan));
        // Checked at boot: the root first, what lies below it later, and what needs no check never.
        let pass = match file_system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 | FileSystem::Vfat => {
                if mount == "/" {
                    1
                } else {
                    2
                }
            }
            _ => 0,
        };
        Some(format!("{source} {} {} {options} 0 {pass}", escape(&mount), file_system.name()))
    }
}

fn default_options(plan: &PartitionPlan) -> String {
    match plan.file_system {
        Some(FileSystem::Vfat) if plan.is_esp() => "umask=0077",
        Some(file_system) if !is_writable(file_system) => "ro",
        _ => "defaults",
    }
    .to_owned()
}

fn escape(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011")
}

/// Before lines that name a disk that this system will not have: its boot would wait for it, and fail.
const ELSEWHERE: &str = "# Not on this disk: ";
/// Sources that are partitions of some disk. Labels are left: who gives one to a disk means any that has it.
const PARTITIONS: [&str; 10] = [
    "UUID=",
    "PARTUUID=",
    "/dev/disk/by-uuid/",
    "/dev/disk/by-partuuid/",
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/mmcblk",
];

/// The file with these partitions, and what else the image's own has; and how many lines of that were made comments.
pub(crate) fn write(existing: Option<&[u8]>, partitions: &[Named]) -> (Vec<u8>, usize) {
    let ours: Vec<String> = partitions.iter().filter_map(Named::line).collect();
    let mut bytes: Vec<u8> = ours.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
    let mut commented = 0;
    for line in existing.unwrap_or_default().split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [source, place, _, rest @ ..] = &fields[..] else { continue };
        let is_replaced = *place != "none" && ours.iter().any(|line| line.split(' ').nth(1) == Some(place));
        if source.starts_with('#') || is_replaced {
            continue;
        }
        if is_elsewhere(source, rest.first().copied().unwrap_or_default()) {
            bytes.extend_from_slice(ELSEWHERE.as_bytes());
            commented += 1;
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    (bytes, commented)
}

/// Whether a boot needs a disk of another system.
fn is_elsewhere(source: &str, options: &str) -> bool {
    let is_optional = options.split(',').any(|option| option == "nofail" || option == "noauto");
    !is_optional && PARTITIONS.iter().any(|start| source.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(file_system: FileSystem, mount: Option<&str>) -> PartitionPlan {
        PartitionPlan {
            file_system: Some(file_system),
            mount: mount.map(str::to_owned),
            ..PartitionPlan::default()
        }
    }

    #[test]
    fn partitions_are_named_by_what_they_hold() {
        let plans = [
            partition(FileSystem::Ext4, Some("/")),
            PartitionPlan { kind: Some("efi".into()), ..partition(FileSystem::Vfat, Some("/boot/efi")) },
            partition(FileSystem::Swap, None),
            partition(FileSystem::Xfs, Some("/with space")),
            partition(FileSystem::Btrfs, None),
        ];
        let named: Vec<_> =
            plans.iter().map(|plan| Named { plan, uuid: [0xab; 16], partition_uuid: None }).collect();
        let existing =
            b"# UNCONFIGURED FSTAB\n/dev/sda1 / ext3 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\n";
        let uuid = "abababab-abab-abab-abab-abababababab";
        let wanted = format!(
            "UUID={uuid} / ext4 defaults 0 1\nUUID=ABAB-ABAB /boot/efi vfat umask=0077 0 2\nUUID={uuid} none swap \
             sw 0 0\nUUID={uuid} /with\\040space xfs defaults 0 0\ntmpfs /tmp tmpfs defaults 0 0\n"
        );
        assert_eq!(write(Some(existing), &named), (wanted.into_bytes(), 0));
    }

    #[test]
    fn lines_of_another_machine_do_not_stop_the_boot() {
        let table: [(&[u8], &[u8], usize); 7] = [
            (b"UUID=1-2 none swap sw 0 0", b"# Not on this disk: UUID=1-2 none swap sw 0 0\n", 1),
            (b"/dev/sda3 /home ext4 defaults\n", b"# Not on this disk: /dev/sda3 /home ext4 defaults\n", 1),
            (b"UUID=1 /srv xfs nofail 0 0", b"UUID=1 /srv xfs nofail 0 0\n", 0),
            (b"/dev/sdb1 /usb auto user,noauto", b"/dev/sdb1 /usb auto user,noauto\n", 0),
            (b"LABEL=data /srv xfs defaults", b"LABEL=data /srv xfs defaults\n", 0),
            (b"server:/\xff /mnt nfs defaults", b"server:/\xff /mnt nfs defaults\n", 0),
            (b"# a comment\n\nnonsense\n", b"", 0),
        ];
        for (existing, wanted, commented) in table {
            assert_eq!(write(Some(existing), &[]), (wanted.to_vec(), commented));
        }
    }
}
