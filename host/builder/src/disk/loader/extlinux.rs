//! extlinux: `ldlinux.sys` in the file system, and a sector of code in the MBR that starts it.
//!
//! `ldlinux.sys` knows its own blocks, so it is installed last, into the finished file system: the one place where something
//! of the disk is mounted. It is mounted without its journal, and what mounting dirtied is put right after.

use super::{BootCode, DEVICE, Scene, TREE, Task, Work};
use crate::disk::{
    edit::Edit,
    plan::{FileSystem, Table},
    shell::quote,
    survey,
};

/// Where `ldlinux.sys` and its configuration are.
const DIRECTORY: &str = "boot/extlinux";
/// The code of the first sector, by table, where distributions have it.
const DIRECTORIES: [&str; 4] =
    ["usr/lib/syslinux/mbr", "usr/lib/EXTLINUX", "usr/share/syslinux", "usr/lib/syslinux/bios"];

pub(super) fn work(scene: &Scene) -> Result<Work, String> {
    let holder = scene.plan.holder("boot").map(|index| &scene.plan.partitions[index]);
    let file_system = holder.and_then(|partition| partition.file_system);
    if !matches!(file_system, Some(FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4)) {
        return Err("`extlinux` needs /boot on ext2, ext3 or ext4".to_owned());
    }
    let own = survey::program(scene.tree, &["extlinux"]);
    let others = survey::program(scene.toolbox, &["extlinux"]);
    if own.is_none() && others.is_none() {
        return Err("neither the image nor the toolbox has extlinux; Debian's package is extlinux".to_owned());
    }
    let name = match scene.plan.table {
        Table::Gpt => "gptmbr.bin",
        Table::Mbr => "mbr.bin",
        Table::None => {
            return Err("`extlinux` needs a partition table, whose first sector starts it".to_owned());
        }
    };
    let code = DIRECTORIES.iter().map(|directory| format!("{directory}/{name}"));
    let code = code.into_iter().find_map(|path| Some((scene.either(&path)?, path)));
    let Some((is_in_toolbox, path)) = code else {
        return Err(format!(
            "neither the image nor the toolbox has SYSLINUX' {name}; Debian's package is syslinux-common"
        ));
    };
    Ok(Work {
        edits: vec![Edit::Directory { path: DIRECTORY.to_owned(), mode: 0o755, uid: 0, gid: 0 }],
        on_disk: vec![Task { name: "extlinux".to_owned(), script: script(scene, own.is_some()) }],
        boot_code: Some(BootCode { path, is_in_toolbox }),
        ..Work::default()
    })
}

/// Fields that mounting and writing change, and what they are without.
const SUPERBLOCK: [&str; 4] = ["mtime 0", "mnt_count 0", "kbytes_written 0", "last_mounted \"\""];
/// The files that are written; the directory changes with them.
const FILES: [&str; 3] = ["", "/ldlinux.sys", "/ldlinux.c32"];

fn script(scene: &Scene, has_own: bool) -> String {
    let device = match scene.boot_partition {
        0 => DEVICE.to_owned(),
        number => format!("{DEVICE}{number}"),
    };
    // On the file system itself, whose root may be `/boot`.
    let directory = format!("{}/extlinux", scene.boot_prefix);
    let install = match (has_own, scene.boot_prefix) {
        (false, _) => {
            format!(
                "extlinux --install --device={device} {} >/dev/null\n",
                quote(&format!("/mnt{directory}"))
            )
        }
        // Its own directory is found by going up to where the file system begins: a part of it mounted alone would look
        // like the whole.
        (true, "") => {
            in_root(TREE, &device, &format!("mount --bind /mnt {TREE}/boot\n"), &format!("{TREE}/boot"))
        }
        (true, _) => in_root("/mnt", &device, "", ""),
    };
    let mut put_right: Vec<String> = SUPERBLOCK.iter().map(|field| format!("ssv {field}")).collect();
    put_right.push("ssv wtime $SOURCE_DATE_EPOCH".to_owned());
    for file in FILES {
        for field in ["atime", "mtime", "ctime", "crtime"] {
            put_right.push(format!("sif {directory}{file} {field} @$SOURCE_DATE_EPOCH"));
            put_right.push(format!("sif {directory}{file} {field}_extra 0"));
        }
        put_right.push(format!("sif {directory}{file} generation 0"));
        put_right.push(format!("sif {directory}{file} version 0"));
    }
    format!(
        "set -eu\nmount -t ext4 -o noload,noatime,nodiscard {device} /mnt\n{install}umount /mnt\ndebugfs -w -f - {device} \
         >/dev/null 2>&1 <<END\n{}\nEND\n",
        put_right.join("\n")
    )
}

/// Runs the image's own extlinux.
fn in_root(root: &str, device: &str, before: &str, also_unmount: &str) -> String {
    format!(
        "{before}mount --rbind /dev {root}/dev\nmount -t proc proc {root}/proc\nchroot {root} extlinux --install \
         --device={device} /boot/extlinux >/dev/null\numount -R {root}/proc {root}/dev {also_unmount}\n"
    )
}

pub(super) fn configuration(scene: &Scene) -> Vec<Edit> {
    let mut text = String::new();
    if scene.plan.kernel_options.contains("console=ttyS0") {
        text.push_str("SERIAL 0 115200\n");
    }
    text.push_str(&format!("DEFAULT linux0\nPROMPT {}\n", u8::from(scene.plan.boot_timeout > 0)));
    // In tenths of a second; 0 would wait for ever.
    text.push_str(&format!("TIMEOUT {}\n", scene.plan.boot_timeout.saturating_mul(10).max(1)));
    for (index, kernel) in scene.kernels.iter().enumerate() {
        text.push_str(&format!(
            "LABEL linux{index}\n\tMENU LABEL {}, Linux {}\n",
            scene.title, kernel.version
        ));
        text.push_str(&format!("\tLINUX {}\n", scene.seen_from_boot(&kernel.path)));
        if let Some(initrd) = &kernel.initrd {
            text.push_str(&format!("\tINITRD {}\n", scene.seen_from_boot(initrd)));
        }
        text.push_str(&format!("\tAPPEND {}\n", scene.command_line()));
    }
    vec![Edit::File { path: format!("{DIRECTORY}/extlinux.conf"), mode: 0o644, bytes: text.into_bytes() }]
}
