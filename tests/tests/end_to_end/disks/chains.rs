//! qcow2 files over one another, one for each layer.

use super::{check_file_system, same_disk};
use crate::reproducible::assert_same_bytes;
use kiln_tests::{Engine, Room, disk_kiln, on_every_engine, tool_output};
use std::fs;

on_every_engine! { each_link_is_the_union_of_its_layers }

const BUILD_FILE: &str = "
    [[image]]
    [[image.layer]]
    contents = ['one']
    [[image.layer]]
    contents = ['two']
    delete = ['/etc/gone']
    [image.disk]
    [[image.disk.partition]]
    filesystem = 'ext4'
    mount = '/'
";

fn each_link_is_the_union_of_its_layers(engine: Engine) {
    let room = Room::new();
    room.write("context/one/etc/kept", "kept".repeat(10_000));
    room.write("context/one/etc/gone", "gone");
    room.write("context/one/etc/changed", "before");
    room.write("context/one/etc/large", noise(8 << 20));
    room.write("context/two/etc/changed", "after");
    // It comes before the large one, which stays where it is nevertheless.
    room.write("context/two/etc/a \"quoted\" name", "added");
    fs::hard_link(room.path("context/two/etc/a \"quoted\" name"), room.path("context/two/etc/linked"))
        .expect("a link can be made");
    let context = room.context("context", None, BUILD_FILE);
    for chain in ["chain", "again"] {
        let output = format!("type=qcow2-chain,dest={}", room.path(chain).display());
        disk_kiln(&room).args(["build", "-o", &output]).engine(engine).arg(&context).run().succeeds();
    }
    for link in ["layer-0.qcow2", "layer-1.qcow2"] {
        assert_same_bytes(&room.path("chain").join(link), &room.path("again").join(link));
    }

    let path = |name: &str| room.path(name).display().to_string();
    let info = tool_output("qemu-img", &["info", "--output=json", &path("chain/layer-1.qcow2")]);
    let info: serde_json::Value = serde_json::from_slice(&info).expect("qemu-img writes JSON");
    assert_eq!(info["backing-filename"], "layer-0.qcow2");
    assert_eq!(info["backing-filename-format"], "qcow2");
    let length = |name: &str| fs::metadata(room.path(name)).expect("it was made").len();
    assert!(length("chain/layer-0.qcow2") > 8 << 20);
    assert!(length("chain/layer-1.qcow2") < 2 << 20, "{} bytes", length("chain/layer-1.qcow2"));
    let wanted: [&[(&str, &str)]; 2] = [
        &[("/etc/changed", "before"), ("/etc/gone", "gone"), ("/etc/kept", "kept")],
        &[
            ("/etc/changed", "after"),
            ("/etc/gone", ""),
            ("/etc/kept", "kept"),
            ("\"/etc/a \"\"quoted\"\" name\"", "added"),
            ("/etc/linked", "added"),
        ],
    ];
    for (number, files) in wanted.iter().enumerate() {
        let link = format!("chain/layer-{number}.qcow2");
        let raw = format!("layer-{number}.raw");
        tool_output("qemu-img", &["check", "-q", &path(&link)]);
        tool_output("qemu-img", &["convert", "-O", "raw", &path(&link), &path(&raw)]);
        check_file_system("ext4", &room.path(&raw));
        for (file, text) in *files {
            let found = tool_output("debugfs", &["-R", &format!("cat {file}"), &path(&raw)]);
            let found = String::from_utf8_lossy(&found).into_owned();
            assert!(
                found.starts_with(text) && found.is_empty() == text.is_empty(),
                "{link}: {file}: {found:.20}"
            );
        }
        // kiln reads chains, too.
        room.kiln().args(["convert", &path(&link), &path("back.raw")]).run().succeeds();
        same_disk(&room.path("back.raw"), "raw", &room.path(&raw));
    }
}

/// Bytes that nothing makes smaller, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}
