//! The root partition and its file system grown to the disk at the first boot, by the image's own tools.
//!
//! systemd could grow the file system (`x-systemd.growfs`), but partitions only where `systemd-repart` is, which
//! few images have; cloud-initramfs-growroot needs an initrd of its own. A script with what every system
//! has works on all.

use super::SystemFile;
use super::init::{Init, Service};

const SERVICE: Service = Service {
    name: "grow-root",
    description: "Grow the root file system to its disk",
    command: "/usr/lib/kiln/grow-root",
    unit_lines: "ConditionPathExists=!/var/lib/kiln/grow-root.done\nBefore=kiln-first-boot.service\n",
    script_condition: "[ ! -e /var/lib/kiln/grow-root.done ]",
    order: "97",
};

/// What grows `/`: ext2, ext3, ext4, XFS or btrfs, on a partition of an MBR or GPT disk or on the whole disk. On failure the
/// service has failed and is tried at the next boot.
pub fn grow_root(init: Init) -> Vec<SystemFile> {
    let mut files = vec![SystemFile::file("usr/lib/kiln/grow-root", 0o755, include_str!("grow-root.sh"))];
    files.extend(SERVICE.files(init));
    files
}
