//! Two runs, one by nobody, give the same bytes.

use super::{BIOS_BOOT, ESP};
use crate::reproducible::assert_same_bytes;
use kiln_tests::{
    Confinement, Engine, Kiln, NOBODY, Room, System, disk_cache, disk_context, is_root, on_every_engine,
    tool_output,
};
use std::{os::unix::fs::chown, path::Path};

on_every_engine! {
    two_runs_give_the_same_bytes_of_ext4_and_btrfs,
    two_runs_give_the_same_bytes_of_extlinux_and_xfs,
    two_runs_give_the_same_bytes_of_uki_and_erofs,
}

// Every file system, and every boot loader that goes with another, is in one of them.

fn two_runs_give_the_same_bytes_of_ext4_and_btrfs(engine: Engine) {
    let disk = format!(
        "boot = ['grub-bios', 'grub-efi']\n{BIOS_BOOT}{ESP}{}{}{}",
        partition("ext4", "/"),
        partition("btrfs", "/usr/lib/modules"),
        "[[disk.partition]]\nsize = '16MiB'\nfilesystem = 'swap'\n"
    );
    assert_two_runs_agree(engine, &disk, &OUTPUTS);
}

fn two_runs_give_the_same_bytes_of_extlinux_and_xfs(engine: Engine) {
    let disk = format!(
        "table = 'mbr'\nboot = ['extlinux']\n{}{}",
        partition("ext2", "/boot"),
        partition("xfs", "/")
    );
    assert_two_runs_agree(engine, &disk, &[&OUTPUTS[..], &OTHER_OUTPUTS].concat());
}

fn two_runs_give_the_same_bytes_of_uki_and_erofs(engine: Engine) {
    let root = "[[disk.partition]]\nfilesystem = 'erofs'\nmount = '/'\n";
    assert_two_runs_agree(engine, &format!("boot = ['uki']\n{ESP}{root}"), &OUTPUTS);
}

fn partition(file_system: &str, mount: &str) -> String {
    format!("[[disk.partition]]\nsize = 'fit+48MiB'\nfilesystem = '{file_system}'\nmount = '{mount}'\n")
}

/// A kind of output, with its file or directory.
type Output = (&'static str, &'static str);

const OUTPUTS: [Output; 4] = [
    ("raw", "disk.raw"),
    ("qcow2,compression=zlib", "disk.qcow2"),
    ("ova", "disk.ova"),
    ("vhdx", "disk.vhdx"),
];

/// What is the same work for every disk.
const OTHER_OUTPUTS: [Output; 13] = [
    ("raw", "disk.raw.gz"),
    ("raw", "disk.raw.zst"),
    ("qcow2,compression=zstd", "zstd.qcow2"),
    ("vmdk", "disk.vmdk"),
    ("vmdk,subformat=streamOptimized", "stream.vmdk"),
    ("vhd", "disk.vhd"),
    ("vhd,subformat=fixed", "fixed.vhd"),
    ("vdi", "disk.vdi"),
    ("xva", "disk.xva"),
    ("vmware-zip", "disk.zip"),
    ("vmware-tar", "disk.tgz"),
    ("kernel", "kernel"),
    ("iso", "live.iso"),
];

fn assert_two_runs_agree(engine: Engine, disk: &str, outputs: &[Output]) {
    let (ours, theirs) = (with_toolbox(), with_toolbox());
    build(&ours, engine, disk, outputs, &|kiln| kiln);
    if is_root() {
        std::fs::create_dir(theirs.path("mount")).expect("a directory can be made");
        let confinement = Confinement::find(&theirs.path("mount")).expect("root can give up its rights");
        build(&theirs, engine, disk, outputs, &|kiln| {
            give_away(&theirs);
            kiln.confined(confinement.clone())
        });
    } else {
        build(&theirs, engine, disk, outputs, &|kiln| kiln);
    }
    for (_, name) in outputs {
        let files = |room: &Room| match std::fs::read_dir(room.path(name)) {
            Ok(entries) => entries.map(|entry| entry.expect("readable").file_name()).collect(),
            Err(_) => vec![],
        };
        let (mut found, mut others) = (files(&ours), files(&theirs));
        found.sort();
        others.sort();
        assert_eq!(found, others, "{name}");
        if found.is_empty() {
            assert_same_bytes(&ours.path(name), &theirs.path(name));
        }
        for file in found {
            assert_same_bytes(&ours.path(name).join(&file), &theirs.path(name).join(&file));
        }
    }
}

fn build(room: &Room, engine: Engine, disk: &str, outputs: &[Output], confine: &dyn Fn(Kiln) -> Kiln) {
    let context = disk_context(room, "context", System::Debian, disk);
    let mut kiln = room
        .kiln()
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .env("HOME", room.dir())
        .arg("build")
        .engine(engine);
    for (kind, file) in outputs {
        kiln = kiln.args(["-o", &format!("type={kind},dest={}", room.path(file).display())]);
    }
    confine(kiln.arg(context)).run().succeeds();
}

/// A room whose cache has the toolbox, where one is there already, and nothing else.
fn with_toolbox() -> Room {
    let room = Room::new();
    let toolbox = disk_cache().join("toolbox");
    if toolbox.exists() {
        std::fs::create_dir_all(room.cache()).expect("a directory can be made");
        let plain = |path: &Path| path.to_str().expect("plain").to_owned();
        tool_output("cp", &["-a", &plain(&toolbox), &plain(&room.cache())]);
    }
    room
}

/// Gives everything of a room to nobody.
fn give_away(room: &Room) {
    let dir = room.dir().to_str().expect("plain");
    tool_output("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), dir]);
    chown(room.dir(), Some(NOBODY), Some(NOBODY)).expect("root may");
}
