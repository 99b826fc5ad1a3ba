//! Two runs, one by nobody, give the same bytes.

use super::{BIOS_BOOT, ESP};
use crate::reproducible::assert_same_bytes;
use kiln_tests::{
    Confinement, Engine, Kiln, NOBODY, Room, System, disk_cache, disk_context, is_root, on_every_engine,
    tool_output,
};
use std::os::unix::fs::chown;

on_every_engine! { two_runs_give_the_same_bytes }

/// Every file system, and every boot loader that goes with another.
fn disks() -> [(&'static str, String); 3] {
    let partition = |file_system: &str, mount: &str| {
        format!("[[disk.partition]]\nsize = 'fit+48MiB'\nfilesystem = '{file_system}'\nmount = '{mount}'\n")
    };
    let swap = "[[disk.partition]]\nsize = '16MiB'\nfilesystem = 'swap'\n";
    [
        (
            "ext4-btrfs",
            format!(
                "boot = ['grub-bios', 'grub-efi']\n{BIOS_BOOT}{ESP}{}{}{swap}",
                partition("ext4", "/"),
                partition("btrfs", "/usr/lib/modules")
            ),
        ),
        (
            "extlinux-xfs",
            format!(
                "table = 'mbr'\nboot = ['extlinux']\n{}{}",
                partition("ext2", "/boot"),
                partition("xfs", "/")
            ),
        ),
        (
            "uki-erofs",
            format!("boot = ['uki']\n{ESP}{}", partition("erofs", "/").replace("size = 'fit+48MiB'\n", "")),
        ),
    ]
}

fn build(room: &Room, engine: Engine, confine: &dyn Fn(Kiln) -> Kiln) {
    for (name, disk) in disks() {
        let context = disk_context(room, name, System::Debian, &disk);
        let dest = |ending: &str| format!("dest={}", room.path(&format!("{name}.{ending}")).display());
        let mut kiln = room
            .kiln()
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .env("HOME", room.dir())
            .arg("build")
            .engine(engine);
        for (kind, ending) in
            [("raw", "raw"), ("qcow2,compression=zlib", "qcow2"), ("ova", "ova"), ("vhdx", "vhdx")]
        {
            kiln = kiln.args(["-o", &format!("type={kind},{}", dest(ending))]);
        }
        confine(kiln.arg(context)).run().succeeds();
    }
}

fn with_cache() -> Room {
    let room = Room::new();
    tool_output("cp", &["-a", disk_cache().to_str().expect("plain"), room.cache().to_str().expect("plain")]);
    room
}

fn two_runs_give_the_same_bytes(engine: Engine) {
    // So that the toolbox is there.
    let warm = Room::new();
    let context = disk_context(
        &warm,
        "context",
        System::Debian,
        "table = 'none'\n[[disk.partition]]\nfilesystem = 'erofs'\nmount = '/'\n",
    );
    let output = format!("type=raw,dest={}", warm.path("disk.raw").display());
    kiln_tests::disk_kiln(&warm).args(["build", "-o", &output]).engine(engine).arg(context).run().succeeds();

    let (ours, theirs) = (with_cache(), with_cache());
    build(&ours, engine, &|kiln| kiln);
    if is_root() {
        std::fs::create_dir(theirs.path("mount")).expect("a directory can be made");
        let confinement = Confinement::find(&theirs.path("mount")).expect("root can give up its rights");
        give_away(&theirs);
        build_as_nobody(&theirs, engine, &confinement);
    } else {
        build(&theirs, engine, &|kiln| kiln);
    }
    for (name, _) in disks() {
        for ending in ["raw", "qcow2", "ova", "vhdx"] {
            let file = format!("{name}.{ending}");
            assert_same_bytes(&ours.path(&file), &theirs.path(&file));
        }
    }
}

fn build_as_nobody(room: &Room, engine: Engine, confinement: &Confinement) {
    build(room, engine, &|kiln| {
        give_away(room);
        kiln.confined(confinement.clone())
    });
}

/// Gives everything of a room to nobody.
fn give_away(room: &Room) {
    let dir = room.dir().to_str().expect("plain");
    tool_output("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), dir]);
    chown(room.dir(), Some(NOBODY), Some(NOBODY)).expect("root may");
}
