//! `kiln convert`, and `qemu-img` on the other side.

use super::same_disk;
use kiln_tests::{Room, tool_output};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// A disk of 3 GiB with little in it, at its end too.
fn disk(room: &Room) -> PathBuf {
    let path = room.path("disk.raw");
    let file = File::create(&path).expect("it can be made");
    file.set_len(3 << 30).expect("sparse files are possible");
    for (offset, text) in [(0, "start"), ((1 << 30) + 513, "middle"), ((3 << 30) - 4, "last")] {
        file.write_all_at(text.as_bytes(), offset).expect("it can be written");
    }
    path
}

fn convert(room: &Room, from: &str, to: &str) {
    let path = |name: &str| room.path(name).display().to_string();
    let (file, keys) = to.split_once(',').unwrap_or((to, ""));
    let keys = if keys.is_empty() { String::new() } else { format!(",{keys}") };
    room.kiln().args(["convert", &path(from), &format!("{}{keys}", path(file))]).run().succeeds();
}

#[test]
fn every_format_there_and_back() {
    let room = Room::new();
    let raw = disk(&room);
    let table = [
        ("a.qcow2", "", "qcow2"),
        ("b.qcow2", ",compression=zstd", "qcow2"),
        ("a.vmdk", "", "vmdk"),
        ("b.vmdk", ",subformat=streamOptimized", "vmdk"),
        ("a.vhd", "", "vpc"),
        ("b.vhd", ",subformat=fixed", "vpc"),
        ("a.vhdx", "", "vhdx"),
        ("a.vdi", "", "vdi"),
    ];
    for (name, keys, format) in table {
        convert(&room, "disk.raw", &format!("{name}{keys}"));
        same_disk(&room.path(name), format, &raw);
        convert(&room, name, "back.raw");
        tool_output("cmp", &[&raw, &room.path("back.raw")]);
        // Holes stay holes.
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&room.path("back.raw").metadata().expect("it is there"));
        assert!(blocks * 512 < 8 << 20, "{name}: {} bytes", blocks * 512);
    }
    convert(&room, "disk.raw", "disk.raw.zst");
    convert(&room, "disk.raw.zst", "back.raw");
    tool_output("cmp", &[&raw, &room.path("back.raw")]);
    convert(&room, "disk.raw", "machine.ova");
    convert(&room, "machine.ova", "back.raw");
    tool_output("cmp", &[&raw, &room.path("back.raw")]);
}

#[test]
fn what_qemu_made_is_read() {
    let room = Room::new();
    let raw = disk(&room);
    let path = |name: &str| room.path(name).display().to_string();
    for (format, options, name) in [
        ("qcow2", "compression_type=zlib", "q.qcow2"),
        ("vmdk", "subformat=streamOptimized", "q.vmdk"),
        ("vpc", "force_size=on", "q.vhd"),
        ("vhdx", "subformat=dynamic", "q.vhdx"),
        ("vdi", "static=off", "q.vdi"),
    ] {
        tool_output("qemu-img", &["convert", "-O", format, "-o", options, &path("disk.raw"), &path(name)]);
        convert(&room, name, "back.raw");
        tool_output("cmp", &[&raw, &room.path("back.raw")]);
    }
    let over = ["create", "-q", "-f", "qcow2", "-b", "q.qcow2", "-F", "qcow2", &path("over.qcow2")];
    tool_output("qemu-img", &over);
    convert(&room, "over.qcow2", "back.raw");
    tool_output("cmp", &[&raw, &room.path("back.raw")]);
}

#[test]
fn what_is_no_disk_is_refused() {
    let room = Room::new();
    room.write("broken.qcow2", [b"QFI\xfb".as_slice(), &[0xff; 600]].concat());
    let path = |name: &str| room.path(name).display().to_string();
    let words = ["convert", &path("broken.qcow2"), &path("out.raw")];
    room.kiln().args(words).run().fails().says("broken.qcow2").leaves_nothing();
    assert!(!room.path("out.raw").exists());
    room.kiln()
        .args(["convert", &path("broken.qcow2"), &path("out.exe")])
        .run()
        .fails()
        .says("does not end as any disk");
}

#[test]
fn appliances_have_their_members_in_order() {
    let room = Room::new();
    disk(&room);
    let path = |name: &str| room.path(name).display().to_string();
    let lines = |bytes: Vec<u8>| String::from_utf8(bytes).expect("plain text");
    convert(&room, "disk.raw", "machine.xva,memory=2GiB,cpus=2");
    let members = lines(tool_output("tar", &["-tf", &path("machine.xva")]));
    let chunks: Vec<String> = (0..4).map(|number| format!("xvda/chunk-{number:09}.gz\n")).collect();
    assert_eq!(members, format!("ova.xml\n{}", chunks.concat()));
    tool_output("tar", &["-xf", &path("machine.xva"), "-C", &path("")]);
    tool_output("xmllint", &["--noout", &path("ova.xml")]);
    let restored = "zcat xvda/chunk-*.gz | cmp - disk.raw";
    tool_output("sh", &["-ec", &format!("cd {} && {restored}", path(""))]);

    convert(&room, "disk.raw", "machine.zip");
    let members = lines(tool_output("unzip", &["-Z1", &path("machine.zip")]));
    assert!(
        members.contains("machine/machine.vmx\n") && members.contains("machine/machine.vmdk\n"),
        "{members}"
    );
    convert(&room, "disk.raw", "machine.tgz");
    let members = lines(tool_output("tar", &["-tzf", &path("machine.tgz")]));
    assert!(
        members.contains("machine/machine.vmx\n") && members.contains("machine/machine.vmdk\n"),
        "{members}"
    );
    tool_output("tar", &["-xzf", &path("machine.tgz"), "-C", &path("")]);
    same_disk(&room.path("machine/machine.vmdk"), "vmdk", &room.path("disk.raw"));
}

/// Scripts tell damaged disks from other failures by the exit code.
#[test]
fn damaged_disks_have_exit_codes_of_their_own() {
    let room = Room::new();
    let image = room.path("disk.qcow2");
    tool_output("qemu-img", &["create", "-q", "-f", "qcow2", image.to_str().expect("plain"), "8M"]);
    let whole = fs::read(&image).expect("it was made");
    let mut corrupt = whole.clone();
    // The table's offset, which is no multiple of a cluster then.
    corrupt[40..48].copy_from_slice(&77_u64.to_be_bytes());
    for (name, bytes, code) in [("corrupt.qcow2", &corrupt[..], 20), ("short.qcow2", &whole[..70_000], 22)] {
        let damaged = room.write(name, bytes);
        room.kiln().arg("convert").arg(damaged).arg(room.path("out.raw")).run().exits_with(code);
        assert!(!room.path("out.raw").exists());
    }
}
