//! Where images go, and in what form.

use crate::reproducible::assert_same_bytes;
use kiln_tests::{Archive, Debian, Engine, Room, on_every_engine};
use std::fs;

on_every_engine!(a_file_larger_than_the_old_size_field);

fn small(room: &Room) -> std::path::PathBuf {
    room.write("context/tree/file", "text\n".repeat(10_000));
    room.context("context", None, "name = 'small'\ncontents = ['tree']\n")
}

#[test]
fn every_compression_is_read_by_others() {
    let room = Room::new();
    let context = small(&room);
    for (compression, program) in [("gzip", "gzip -dc"), ("zstd", "zstd -dc"), ("none", "cat")] {
        let image = format!("{compression}.image");
        room.build(&context, &image, &format!(",compression={compression}")).run().succeeds();
        let archive = Archive::at(&room.path(&image));
        assert_eq!(archive.compression(), program);
        assert_eq!(archive.inspect()["Layers"].as_array().map(Vec::len), Some(1));
        let root = archive.unpack(&room.path(compression));
        assert_eq!(fs::read(root.join("file")).expect("it is there").len(), 50_000);
    }
}

#[test]
fn the_ending_of_the_name_chooses_the_compression() {
    let room = Room::new();
    let context = small(&room);
    for (image, program) in [("a.tar.gz", "gzip -dc"), ("a.tar.zst", "zstd -dc"), ("a.tar", "cat")] {
        room.build(&context, image, "").run().succeeds();
        assert_eq!(Archive::at(&room.path(image)).compression(), program, "{image}");
    }
}

#[test]
fn standard_output_gets_the_same_bytes() {
    let room = Room::new();
    let context = small(&room);
    room.build(&context, "file.tar", ",compression=gzip").run().succeeds();
    let output = "type=docker-archive,dest=-,compression=gzip";
    let outcome = room.kiln().args(["build", "-o", output]).arg(&context).run().succeeds();
    let image = room.write("stdout.tar", &outcome.stdout);
    assert_same_bytes(&image, &room.path("file.tar"));
    Archive::at(&image).inspect();
}

/// A reader of the old file sees all of it, whenever it looks.
#[test]
fn an_older_output_is_replaced_at_once() {
    let room = Room::new();
    let context = small(&room);
    let image = room.write("image.tar", "older");
    let older = fs::File::open(&image).expect("it is there");
    room.build(&context, "image.tar", "").run().succeeds();
    assert_eq!(std::io::read_to_string(older).expect("it can be read"), "older");
    Archive::at(&image).inspect();
}

#[test]
fn progress_as_json_is_json() {
    let room = Room::new();
    let context = small(&room);
    let outcome = room.build(&context, "image.tar", "").args(["--progress", "json"]).run().succeeds();
    assert!(!outcome.stderr.is_empty());
    for line in outcome.stderr.lines() {
        let value: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(value.is_ok_and(|value| value.is_object()), "{line}");
    }
}

/// Tar's size field of 11 octal digits ends at 8 GiB. A hole costs nothing but to hash and to compress it.
fn a_file_larger_than_the_old_size_field(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let build_file = "from = 'base.tar'\nrun-as-root = 'truncate -s 9G /large; echo end >>/large'\n";
    let context = room.context("context", Some(&debian), build_file);
    room.build(&context, "image.tar", ",compression=zstd").engine(engine).run().succeeds();
    let listed = Archive::at(&room.path("image.tar")).list_last_layer();
    let [large] = &listed[..] else { panic!("{listed:#?}") };
    assert_eq!((large.path.as_str(), large.size.as_str()), ("large", "9663676420"));
}
