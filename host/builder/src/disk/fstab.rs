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

/// The file with these partitions, and what else the image's own has.
pub(crate) fn write(existing: Option<&[u8]>, partitions: &[Named]) -> Vec<u8> {
    let ours: Vec<String> = partitions.iter().filter_map(Named::line).collect();
    let ours_at: Vec<&str> = ours.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let existing = existing.map(String::from_utf8_lossy).unwrap_or_default();
    let kept = existing.lines().filter(|line| {
        let place = line.split_ascii_whitespace().nth(1);
        let is_entry = !line.trim_start().starts_with('#') && place.is_some();
        let is_replaced = place.is_some_and(|place| place != "none" && ours_at.contains(&place));
        is_entry && !is_replaced
    });
    let mut lines: Vec<&str> = ours.iter().map(String::as_str).collect();
    lines.extend(kept);
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
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
        assert_eq!(String::from_utf8(write(Some(existing), &named)).unwrap(), wanted);
    }
}
