//! Disks that boot, in every form; judged by QEMU, by the file systems' own checkers, and by their init.

mod boots;
mod chains;
mod conversions;
mod declared;
mod read_only;
mod refusals;
mod reproducible;

use kiln_tests::{Engine, Room, System, disk_context, disk_kiln, tool, tool_output};
use std::path::{Path, PathBuf};

/// Lines of a partition with the root.
pub fn root(file_system: &str) -> String {
    format!("[[disk.partition]]\nsize = 'fit+64MiB'\nfilesystem = '{file_system}'\nmount = '/'\n")
}

pub const ESP: &str =
    "[[disk.partition]]\nsize = 'fit+16MiB'\ntype = 'efi'\nfilesystem = 'vfat'\nlabel = 'ESP'\n";
pub const BIOS_BOOT: &str = "[[disk.partition]]\nsize = '1MiB'\ntype = 'bios-boot'\n";

/// Builds the disk to these outputs, each `type=...,dest=NAME...` with a name in the room.
pub fn build(room: &Room, system: System, engine: Engine, disk: &str, outputs: &[&str]) {
    let context = disk_context(room, "context", system, disk);
    let mut kiln = disk_kiln(room).arg("build").engine(engine);
    for output in outputs {
        let output = output.replacen("dest=", &format!("dest={}/", room.path("").display()), 1);
        kiln = kiln.args(["-o", &output]);
    }
    kiln.arg(context).run().succeeds();
}

/// What `sfdisk` says of the partitions: first byte and length.
pub fn partitions(disk: &Path) -> Vec<(u64, u64)> {
    tool_output("sfdisk", &["--verify", disk.to_str().expect("plain")]);
    let json = tool_output("sfdisk", &["--json", disk.to_str().expect("plain")]);
    let json: serde_json::Value = serde_json::from_slice(&json).expect("sfdisk writes JSON");
    let list = json["partitiontable"]["partitions"].as_array().expect("there are partitions");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number") * 512;
    list.iter().map(|partition| (number(&partition["start"]), number(&partition["size"]))).collect()
}

/// A partition as a file of its own.
pub fn partition(room: &Room, disk: &Path, index: usize) -> PathBuf {
    let (start, length) = partitions(disk)[index];
    let file = room.path(&format!("partition-{index}"));
    let words = [
        format!("if={}", disk.display()),
        format!("of={}", file.display()),
        "bs=1M".to_owned(),
        "conv=sparse".to_owned(),
        "iflag=skip_bytes,count_bytes".to_owned(),
        format!("skip={start}"),
        format!("count={length}"),
        "status=none".to_owned(),
    ];
    tool_output("dd", &words);
    file
}

/// The file system's own checker finds nothing.
pub fn check_file_system(file_system: &str, file: &Path) {
    let path = file.to_str().expect("plain");
    let words: Vec<&str> = match file_system {
        "ext2" | "ext3" | "ext4" => vec!["e2fsck", "-fn", path],
        "xfs" => vec!["xfs_repair", "-n", "-f", path],
        "btrfs" => vec!["btrfs", "check", "--readonly", "--check-data-csum", path],
        "vfat" => vec!["fsck.fat", "-n", path],
        other => panic!("no checker for {other}"),
    };
    let output = tool(words[0]).args(&words[1..]).output().expect("it is installed");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{words:?}: {}\n{text}", output.status);
    assert!(!text.contains("Dirty bit") && !text.contains("bad"), "{text}");
}

/// `qemu-img` finds the disks equal.
pub fn same_disk(one: &Path, format: &str, other: &Path) {
    let words =
        ["compare", "-f", format, "-F", "raw", one.to_str().expect("plain"), other.to_str().expect("plain")];
    tool_output("qemu-img", &words);
}
