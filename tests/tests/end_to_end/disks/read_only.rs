//! The root file system alone.

use crate::reproducible::assert_same_bytes;
use kiln_tests::{Engine, Room, disk_kiln, on_every_engine, tool_output};
use std::fs;

on_every_engine! { root_file_systems_are_outputs_of_their_own }

/// Without a kernel, and on a disk that has other partitions.
const BUILD_FILE: &str = "
    contents = ['tree']
    [disk]
    hostname = 'alone'
    [[disk.partition]]
    size = '16MiB'
    filesystem = 'swap'
    [[disk.partition]]
    filesystem = 'ext4'
    mount = '/'
";

fn root_file_systems_are_outputs_of_their_own(engine: Engine) {
    let room = Room::new();
    room.write("context/tree/opt/file", "kept".repeat(10_000));
    let context = room.context("context", None, BUILD_FILE);
    let path = |name: &str| room.path(name).display().to_string();
    for run in ["one", "two"] {
        fs::create_dir(room.path(run)).expect("it can be made");
        let mut kiln = disk_kiln(&room).arg("build");
        for kind in ["squashfs", "erofs"] {
            kiln = kiln.args(["-o", &format!("type={kind},dest={}", path(&format!("{run}/root.{kind}")))]);
        }
        kiln.engine(engine).arg(&context).run().succeeds();
    }
    for kind in ["squashfs", "erofs"] {
        assert_same_bytes(&room.path(&format!("one/root.{kind}")), &room.path(&format!("two/root.{kind}")));
    }
    tool_output("unsquashfs", &["-q", "-n", "-d", &path("unpacked"), &path("one/root.squashfs")]);
    tool_output("fsck.erofs", &[&format!("--extract={}", path("extracted")), &path("one/root.erofs")]);
    for tree in ["unpacked", "extracted"] {
        let read = |name: &str| fs::read_to_string(room.path(tree).join(name)).expect("it is there");
        assert_eq!(read("opt/file"), "kept".repeat(10_000));
        assert_eq!(read("etc/hostname"), "alone\n");
    }
}
