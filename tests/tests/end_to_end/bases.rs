//! Where bases come from, and what the cache spares.

use kiln_tests::{Archive, Debian, Room, tool, tool_output};
use serde_json::json;
use std::{fs, path::Path};

/// An image of two layers: one with `one`, one that removes it through contents of its own.
fn two_layers(room: &Room) {
    room.write("one/tree/one", "1\n".repeat(1000));
    let context = room.context("one", None, "name = 'one'\ncontents = ['tree']\n");
    room.build(&context, "one.tar", ",compression=none").run().succeeds();
    room.write("two/tree/two", "2\n".repeat(1000));
    let build_file = "from = '../one.tar'\nname = 'two'\ncontents = ['tree']\n[config]\nCmd = ['/two']\n";
    let context = room.context("two", None, build_file);
    room.build(&context, "two.tar", ",compression=none").run().succeeds();
}

/// Builds on a base, and gives what is in the result.
fn build_on(room: &Room, base: &str) -> Vec<String> {
    let name = format!("on-{}", base.replace(':', "-"));
    let context =
        room.context(&name, None, &format!("from = 'docker-archive:../{base}'\ncontents = ['tree']\n"));
    room.write(&format!("{name}/tree/three"), "3");
    let image = format!("{name}.tar");
    room.build(&context, &image, "").run().succeeds();
    let archive = Archive::at(&room.path(&image));
    assert_eq!(archive.config()["config"]["Cmd"], json!(["/two"]), "{base}");
    let root = archive.unpack(&room.path(&format!("{name}-unpacked")));
    let mut names: Vec<String> = fs::read_dir(root)
        .expect("it is a directory")
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn archives_may_be_compressed_as_a_whole() {
    let room = Room::new();
    two_layers(&room);
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let compressed = tool_output(program, &["-c", room.path("two.tar").to_str().expect("a plain path")]);
        room.write(&format!("two.tar.{ending}"), compressed);
        assert_eq!(build_on(&room, &format!("two.tar.{ending}")), ["one", "three", "two"]);
    }
}

#[test]
fn an_image_can_be_chosen_by_its_name() {
    let room = Room::new();
    two_layers(&room);
    assert_eq!(build_on(&room, "two.tar:two:latest"), ["one", "three", "two"]);
}

/// As `docker save` wrote them before 2014: `repositories`, and for each layer a directory with `json` and `layer.tar`.
#[test]
fn a_legacy_archive_is_a_base() {
    let room = Room::new();
    two_layers(&room);
    let archive = Archive::at(&room.path("two.tar"));
    let ids = ["1".repeat(64), "2".repeat(64)];
    for (index, layer) in archive.layers().iter().enumerate() {
        let id = &ids[index];
        let mut json = json!({ "id": id, "created": "2014-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": { "Cmd": ["/two"] } });
        if index > 0 {
            json["parent"] = json!(ids[index - 1]);
        }
        room.write(&format!("legacy/{id}/json"), json.to_string());
        room.write(&format!("legacy/{id}/VERSION"), "1.0");
        room.write(&format!("legacy/{id}/layer.tar"), archive.member(layer));
    }
    room.write("legacy/repositories", json!({ "two": { "latest": ids[1] } }).to_string());
    let (tar, dir) = (room.path("legacy.tar"), room.path("legacy"));
    let words = ["-cf", tar.to_str().expect("a plain path"), "-C", dir.to_str().expect("a plain path"), "."];
    tool_output("tar", &words);
    assert_eq!(build_on(&room, "legacy.tar"), ["one", "three", "two"]);
}

/// Bytes that a build reads from its base, by strace.
fn bytes_read_of_base(room: &Room, context: &Path, image: &str) -> u64 {
    let log = room.path(&format!("{image}.strace"));
    let base = fs::canonicalize(context.join("base.tar")).expect("it is there");
    let calls = "trace=read,pread64,readv,preadv,preadv2,copy_file_range,sendfile,splice,mmap";
    let mut words = vec!["strace".into(), "-f".into(), "-qq".into(), "-e".into(), calls.into(), "-o".into()];
    words.extend([log.clone().into_os_string(), "-P".into(), base.into()]);
    room.build(context, image, "").through(words).run().succeeds();
    let log = fs::read_to_string(log).expect("strace wrote it");
    assert!(!log.contains("mmap"), "mapped, not read: {log}");
    let results = log.lines().filter_map(|line| line.rsplit_once("= ")?.1.parse::<u64>().ok());
    results.sum()
}

#[test]
fn a_base_is_read_once() {
    let debian = Debian::get();
    let room = Room::new();
    let context = room.context("context", Some(&debian), "from = 'base.tar'\n");
    let size = fs::metadata(debian.image()).expect("it is there").len();
    let first = bytes_read_of_base(&room, &context, "first.tar");
    let second = bytes_read_of_base(&room, &context, "second.tar");
    assert!(first >= size, "the first build read {first} of {size} bytes: strace does not see all");
    assert!(second < 64 * 1024, "the second build read {second} bytes of a base that the cache has");
}

#[test]
fn two_builds_may_fill_the_same_cache_at_once() {
    let debian = Debian::get();
    let room = Room::new();
    let context = room.context("context", Some(&debian), "from = 'base.tar'\n");
    let running = ["one.tar", "other.tar"].map(|image| room.build(&context, image, "").spawn());
    for build in running {
        build.wait().succeeds();
    }
    crate::reproducible::assert_same_bytes(&room.path("one.tar"), &room.path("other.tar"));
}

#[test]
fn the_cache_can_be_shown_and_emptied() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let size = || {
        let printed = tool("du").args(["-sk"]).arg(room.cache()).output().expect("du is there").stdout;
        let text = String::from_utf8(printed).expect("it is text");
        text.split_whitespace().next().and_then(|size| size.parse::<u64>().ok()).expect("a number")
    };
    assert!(!room.kiln().args(["cache", "du"]).run().succeeds().stdout.is_empty());
    assert!(size() > 10_000, "KiB, before");
    room.kiln().args(["cache", "prune", "--all"]).run().succeeds();
    assert!(size() < 1_000, "KiB, after");
    let context = room.context("context", Some(&debian), "from = 'base.tar'\n");
    room.build(&context, "image.tar", "").run().succeeds();
}
