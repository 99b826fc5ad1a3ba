//! What e2fsprogs, which share no code with us, make of the disks.

use super::*;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn options(size: u64) -> Options {
    Options { size, uuid: [0x5a; 16], hash_seed: [0xa5; 16], volume_name: *b"scratch\0\0\0\0\0\0\0\0\0" }
}

fn disk(directory: &Path, size: u64) -> PathBuf {
    let path = directory.join("disk");
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for write in make(&options(size)).unwrap() {
        file.write_all_at(&write.bytes, write.offset).unwrap();
    }
    path
}

/// Runs a tool of e2fsprogs, which Debian keeps in /sbin.
fn e2fsprogs(tool: &str, arguments: &[&str], disk: &Path) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new("/usr/bin/env")
        .arg(format!("PATH={path}"))
        .arg(tool)
        .args(arguments)
        .arg(disk)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|e| panic!("cannot run {tool} (is e2fsprogs installed?): {e}"))
}

fn assert_clean(disk: &Path) {
    let output = e2fsprogs("e2fsck", &["-fn"], disk);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "e2fsck (of e2fsprogs) says of {}:\n{text}{errors}", disk.display());
}

fn debugfs(disk: &Path, commands: &str) -> String {
    let file = disk.with_extension("commands");
    std::fs::write(&file, commands).unwrap();
    let output = e2fsprogs("debugfs", &["-w", "-f", file.to_str().unwrap()], disk);
    assert!(output.status.success(), "debugfs (of e2fsprogs): {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn e2fsck_finds_every_size_clean() {
    let sizes = [
        MIN_SIZE,
        17 * MIB + 5,
        100 * MIB,
        128 * MIB,
        128 * MIB + 4096,
        133 * MIB,
        8 * GIB,
        64 * GIB + 3 * MIB,
        TIB,
    ];
    for size in sizes {
        let directory = tempfile::tempdir().unwrap();
        assert_clean(&disk(directory.path(), size));
    }
}

/// e2fsck itself needs minutes and gigabytes for sixteen terabytes, whoever made them.
#[test]
fn the_largest_disks_have_descriptors_that_dumpe2fs_accepts() {
    let directory = tempfile::tempdir().unwrap();
    for size in [16 * TIB - 4096, 15 * TIB] {
        let output = e2fsprogs("dumpe2fs", &["-h"], &disk(directory.path(), size));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("Filesystem state:         clean"), "{text}");
    }
}

#[test]
fn a_terabyte_costs_less_than_a_megabyte() {
    for (size, most) in [(64 * GIB, MIB / 4), (TIB, MIB), (MAX_SIZE, 64 * MIB)] {
        let written: usize = make(&options(size)).unwrap().iter().map(|write| write.bytes.len()).sum();
        assert!((written as u64) < most, "{written} bytes for a disk of {size}");
    }
}

#[test]
fn writes_rise_and_do_not_overlap() {
    for size in [MIN_SIZE, 128 * MIB, GIB, 64 * GIB, 16 * TIB, MAX_SIZE] {
        let writes = make(&options(size)).unwrap();
        let mut end = 0;
        for write in &writes {
            assert!(write.offset >= end, "size {size}: {} before {end}", write.offset);
            end = write.offset + write.bytes.len() as u64;
        }
        assert!(end <= size);
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    for size in [0, MIN_SIZE - 1, MAX_SIZE + 1, u64::MAX] {
        let error = make(&options(size)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "a scratch disk of {size} bytes: it must have {MIN_SIZE} (16 MiB) to {MAX_SIZE} (64 TiB)"
            )
        );
    }
}

#[test]
fn dumpe2fs_shows_the_features_and_the_identity() {
    let directory = tempfile::tempdir().unwrap();
    let output = e2fsprogs("dumpe2fs", &["-h"], &disk(directory.path(), 64 * GIB));
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "Filesystem volume name:   scratch",
        "Filesystem UUID:          5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
        "Default mount options:    user_xattr acl",
        "Filesystem state:         clean",
        "Errors behavior:          Remount read-only",
        "Inode count:              8388608",
        "Block count:              16777216",
        "Reserved block count:     0",
        "Directory Hash Seed:      a5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    for absent in ["has_journal", "flex_bg", "metadata_csum", "resize_inode"] {
        assert!(!text.contains(absent), "{absent} in:\n{text}");
    }
}

#[test]
fn what_debugfs_writes_reads_back_and_checks_clean() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path(), 300 * MIB);
    let content = directory.path().join("content");
    let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&content, &bytes).unwrap();
    let source = content.to_str().unwrap();
    debugfs(
        &disk,
        &format!(
            "mkdir upper\nmkdir upper/etc\nwrite {source} upper/etc/big\nsymlink upper/link etc/big\n\
             cd upper\nmknod null c 1 3\ncd /\nea_set upper/etc/big user.note hello\n"
        ),
    );
    assert_clean(&disk);
    let back = directory.path().join("back");
    debugfs(&disk, &format!("dump upper/etc/big {}\n", back.display()));
    assert_eq!(std::fs::read(back).unwrap(), bytes);
    assert!(debugfs(&disk, "ea_get upper/etc/big user.note\n").contains("hello"));
}

#[test]
fn the_file_stays_sparse() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = std::fs::metadata(disk(directory.path(), 64 * GIB)).unwrap();
    assert!(metadata.blocks() * 512 < MIB, "{} blocks", metadata.blocks());
}
