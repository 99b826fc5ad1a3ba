//! Every sink, read by tools that are not ours; several from one build; the same bytes each time.

use crate::reproducible::assert_same_bytes;
use kiln_tests::{Image, Room, podman_load, tool_output};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every sink that is a file or directory, as `-o` has it.
const SINKS: [&str; 6] = ["docker-archive", "oci", "oci-archive", "docker", "rootfs", "docker-archive-gz"];

/// A build of two layers.
fn context(room: &Room) -> PathBuf {
    room.write("context/one/etc/first", "first\n".repeat(1000));
    room.write("context/two/etc/second", "second\n");
    let build_file = "
        [[image]]
        name = 'example/sinks'
        tag = '1.0'
        [[image.layer]]
        contents = ['one']
        [[image.layer]]
        contents = ['two']
        [image.config]
        Cmd = ['/bin/true']
        Labels = { a = 'b' }
    ";
    room.context("context", None, build_file)
}

fn spec(room: &Room, sink: &str, number: u32) -> (String, PathBuf) {
    let path = room.path(&format!("{sink}-{number}"));
    let spec = match sink {
        "docker-archive-gz" => format!("type=docker-archive,compression=gzip,dest={}", path.display()),
        _ => format!("type={sink},dest={}", path.display()),
    };
    (spec, path)
}

/// All sinks from one build.
fn build_all(room: &Room, context: &Path, number: u32) {
    let outputs = SINKS.iter().flat_map(|sink| ["-o".to_owned(), spec(room, sink, number).0]);
    room.kiln().arg("build").args(outputs).arg(context).run().succeeds();
}

fn images(room: &Room) -> [(&'static str, Image); 4] {
    let place =
        |transport: &str, sink: &str| Image::at(format!("{transport}:{}", spec(room, sink, 1).1.display()));
    [
        ("docker-archive", place("docker-archive", "docker-archive")),
        ("oci", Image::at(format!("oci:{}:example/sinks:1.0", spec(room, "oci", 1).1.display()))),
        (
            "oci-archive",
            Image::at(format!("oci-archive:{}:example/sinks:1.0", spec(room, "oci-archive", 1).1.display())),
        ),
        ("docker", place("dir", "docker")),
    ]
}

#[test]
fn one_build_goes_to_every_sink() {
    let room = Room::new();
    build_all(&room, &context(&room), 1);
    let config = images(&room)[0].1.config();
    assert_eq!(config["config"]["Labels"], json!({ "a": "b" }));
    for (sink, image) in images(&room) {
        assert_eq!(image.config(), config, "{sink}");
        assert_eq!(image.inspect()["Layers"].as_array().map(Vec::len), Some(2), "{sink}");
        let root = image.unpack(&room.path(&format!("unpacked-{sink}")));
        assert_eq!(fs::read_to_string(root.join("etc/second")).expect("it is there"), "second\n", "{sink}");
        assert_eq!(fs::read(root.join("etc/first")).expect("it is there").len(), 6000, "{sink}");
    }
    let rootfs = spec(&room, "rootfs", 1).1;
    let listed = tool_output("tar", &["-tf", rootfs.to_str().expect("a plain path")]);
    let listed = String::from_utf8(listed).expect("plain names");
    let names: Vec<&str> =
        listed.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/')).collect();
    assert_eq!(
        names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>(),
        ["etc", "etc/first", "etc/second"]
    );
}

#[test]
fn every_sink_gets_the_same_bytes_again() {
    let (room, other) = (Room::new(), Room::new());
    build_all(&room, &context(&room), 1);
    build_all(&other, &context(&other), 1);
    for sink in SINKS {
        let (one, two) = (spec(&room, sink, 1).1, spec(&other, sink, 1).1);
        if one.is_dir() {
            tool_output("diff", &["-r", one.to_str().expect("plain"), two.to_str().expect("plain")]);
        } else {
            assert_same_bytes(&one, &two);
        }
    }
}

#[test]
fn podman_loads_archives() {
    let room = Room::new();
    build_all(&room, &context(&room), 1);
    for sink in ["docker-archive", "oci-archive"] {
        let loaded = podman_load(&spec(&room, sink, 1).1);
        let [image] = &loaded[..] else { panic!("{loaded:#?}") };
        assert_eq!(image["Config"]["Cmd"], json!(["/bin/true"]), "{sink}");
        assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2), "{sink}");
    }
}

#[test]
fn compression_is_that_of_each_output() {
    let room = Room::new();
    let context = context(&room);
    let outputs = [
        ("none", "application/vnd.oci.image.layer.v1.tar"),
        ("gzip:9", ".tar+gzip"),
        ("zstd:19", ".tar+zstd"),
    ];
    let specs = outputs.iter().flat_map(|(compression, _)| {
        let path = room.path(&format!("oci-{}", compression.replace(':', "-")));
        ["-o".to_owned(), format!("type=oci,dest={},compression={compression}", path.display())]
    });
    room.kiln().arg("build").args(specs).arg(&context).run().succeeds();
    let mut diff_ids = Vec::new();
    for (compression, media_type) in outputs {
        let path = room.path(&format!("oci-{}", compression.replace(':', "-")));
        // skopeo 1.9 inspects zstd, and umoci 0.4 does not unpack it.
        let image = Image::at(format!("oci:{}:example/sinks:1.0", path.display()));
        let manifest = image.manifest();
        let layers = manifest["layers"].as_array().expect("a list");
        for layer in layers {
            assert!(layer["mediaType"].as_str().expect("text").ends_with(media_type), "{layer}");
        }
        diff_ids.push(image.diff_ids());
    }
    assert!(diff_ids.iter().all(|ids| *ids == diff_ids[0]));
}

#[test]
fn an_image_is_added_to_a_layout() {
    let room = Room::new();
    let context = context(&room);
    let layout = room.path("layout");
    for tag in ["1", "2", "1"] {
        let spec = format!("oci:{}:{tag}", layout.display());
        room.kiln().args(["build", "-o", &spec]).arg(&context).run().succeeds();
    }
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("it is there")).expect("JSON");
    let tags: Vec<&Value> = index["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|manifest| &manifest["annotations"]["org.opencontainers.image.ref.name"])
        .collect();
    assert_eq!(tags, [&json!("2"), &json!("1")].map(|tag| tag).into_iter().collect::<Vec<_>>().as_slice());
}

#[test]
fn files_name_what_was_built() {
    let room = Room::new();
    let context = context(&room);
    let (iid, metadata) = (room.path("iid"), room.path("metadata.json"));
    let output = format!("oci:{}:1.0", room.path("layout").display());
    room.kiln()
        .args(["build", "-o", &output, "--iidfile"])
        .arg(&iid)
        .arg("--metadata-file")
        .arg(&metadata)
        .arg(&context)
        .run()
        .succeeds();
    let image = Image::at(output);
    let manifest = image.manifest();
    assert_eq!(
        fs::read_to_string(iid).expect("it is there"),
        manifest["config"]["digest"].as_str().expect("text")
    );
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).expect("it is there")).expect("JSON");
    assert_eq!(metadata["containerimage.config.digest"], manifest["config"]["digest"]);
    assert_eq!(metadata["containerimage.digest"], image.inspect()["Digest"]);
}

/// A directory that cannot be written, a full disk: nothing is left, and what was there stays.
#[test]
fn a_sink_that_fails_leaves_what_was_there() {
    let room = Room::new();
    let context = context(&room);
    room.write("there/file", "mine");
    let output = format!("oci:{}:1.0", room.path("there").display());
    room.kiln().args(["build", "-o", &output]).arg(&context).run().fails();
    assert_eq!(fs::read_dir(room.path("there")).expect("it is there").count(), 1);
    let output = format!("docker-archive:{}", room.path("missing/a.tar").display());
    room.kiln().args(["build", "-o", &output]).arg(&context).run().fails().says("missing");
}
