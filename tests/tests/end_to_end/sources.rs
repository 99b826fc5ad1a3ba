//! Every source that images come from, made by tools that are not ours, as the base of a build.

use kiln_tests::{Image, Room, tool_output};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An image of two layers as an OCI layout, `layout:base`.
fn base(room: &Room) -> Image {
    room.write("base/one/etc/lower", "lower");
    room.write("base/one/etc/gone", "gone");
    room.write("base/two/etc/upper", "upper");
    let build_file = "
        [[image]]
        name = 'base'
        [[image.layer]]
        contents = ['one']
        [[image.layer]]
        contents = ['two']
        delete = ['/etc/gone']
        [image.config]
        Env = ['A=1']
    ";
    let context = room.context("base", None, build_file);
    let layout = format!("oci:{}:base", room.path("layout").display());
    room.kiln().args(["build", "-o", &layout]).arg(&context).run().succeeds();
    Image::at(layout)
}

/// Builds a child of a base, and gives its image.
fn child_of(room: &Room, name: &str, from: &str, more: &str) -> Image {
    room.write(&format!("{name}/tree/etc/child"), "child");
    let build_file = format!("from = '{from}'\nname = 'child'\ncontents = ['tree']\n{more}");
    let context = room.context(name, None, &build_file);
    let layout = format!("oci:{}:child", room.path(&format!("{name}-layout")).display());
    room.kiln().args(["build", "-o", &layout]).arg(&context).run().succeeds();
    Image::at(layout)
}

fn files(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root.join("etc"))
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("plain names")).collect();
    names.sort();
    names
}

#[test]
fn images_of_every_place_are_bases() {
    let room = Room::new();
    let base = base(&room);
    let ids = base.diff_ids();
    for (name, transport, suffix) in [
        ("docker-archive", "docker-archive", ":base:latest"),
        ("oci", "oci", ":base"),
        ("oci-archive", "oci-archive", ":base"),
        ("dir", "dir", ""),
    ] {
        let path = room.path(&format!("from-{name}"));
        base.copy_to(&format!("{transport}:{}{suffix}", path.display()), &[]);
        for (spelling, from) in [
            ("transport", format!("{transport}:{}{suffix}", path.display())),
            ("path", path.display().to_string()),
        ] {
            let child = child_of(&room, &format!("{name}-{spelling}"), &from, "");
            assert_eq!(child.diff_ids()[..2], ids, "{name} {spelling}");
            assert_eq!(child.config()["config"]["Env"], json!(["A=1"]), "{name} {spelling}");
            let root = child.unpack(&room.path(&format!("{name}-{spelling}-root")));
            assert_eq!(files(&root), ["child", "lower", "upper"], "{name} {spelling}");
        }
    }
}

/// The layers of a base that is compressed already are passed on byte for byte.
#[test]
fn layers_of_a_base_are_passed_through() {
    let room = Room::new();
    let base = base(&room);
    // By skopeo, which compresses in its own way.
    base.copy_to(&format!("docker-archive:{}:base:latest", room.path("plain.tar").display()), &[]);
    let other = Image::at(format!("docker-archive:{}", room.path("plain.tar").display()))
        .copy_to(&format!("oci:{}:base", room.path("compressed").display()), &[]);
    let of_base = other.manifest()["layers"].clone();
    let child = child_of(&room, "child", &format!("oci:{}:base", room.path("compressed").display()), "");
    let layers = child.manifest()["layers"].clone();
    assert_eq!(layers.as_array().expect("a list")[..2], of_base.as_array().expect("a list")[..]);
}

#[test]
fn docker_on_oci_and_oci_on_docker() {
    let room = Room::new();
    let base = base(&room);
    let docker = base.copy_to(&format!("dir:{}", room.path("docker").display()), &["--format", "v2s2"]);
    assert_eq!(docker.manifest()["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    let child = child_of(&room, "oci-on-docker", &format!("dir:{}", room.path("docker").display()), "");
    assert_eq!(child.manifest()["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(files(&child.unpack(&room.path("one"))), ["child", "lower", "upper"]);
    // And back: an OCI base under a docker image.
    let context = room.path("oci-on-docker");
    let build_file =
        format!("from = 'oci:{}:base'\nname = 'child'\ncontents = ['tree']\n", room.path("layout").display());
    fs::write(context.join("kiln.toml"), build_file).expect("it can be written");
    let output = format!("type=docker,dest={}", room.path("docker-on-oci").display());
    room.kiln().args(["build", "-o", &output]).arg(&context).run().succeeds();
    let child = Image::at(format!("dir:{}", room.path("docker-on-oci").display()));
    assert_eq!(child.manifest()["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(files(&child.unpack(&room.path("two"))), ["child", "lower", "upper"]);
}

fn rootfs(room: &Room) -> PathBuf {
    let root = room.path("root");
    room.write("root/etc/file", "file");
    tool_output(
        "tar",
        &["-C", root.to_str().expect("plain"), "-cf", room.path("root.tar").to_str().expect("plain"), "."],
    );
    root
}

#[test]
fn root_file_systems_are_bases() {
    let room = Room::new();
    let root = rootfs(&room);
    tool_output("gzip", &["-k", room.path("root.tar").to_str().expect("plain")]);
    for (name, from) in [
        ("directory", format!("rootfs:{}", root.display())),
        ("path", root.display().to_string()),
        ("tar", room.path("root.tar").display().to_string()),
        ("gzip", format!("rootfs:{}.gz", room.path("root.tar").display())),
        ("scratch", "scratch".to_owned()),
    ] {
        let child = child_of(&room, name, &from, "");
        let layers = if name == "scratch" { 1 } else { 2 };
        assert_eq!(child.diff_ids().len(), layers, "{name}");
        let found = files(&child.unpack(&room.path(&format!("{name}-root"))));
        assert_eq!(found.contains(&"file".to_owned()), name != "scratch", "{name}");
    }
}

/// An index in an index, with an image for each of two platforms.
#[test]
fn an_image_of_a_nested_index_is_chosen_by_platform() {
    let room = Room::new();
    let layout = room.path("layout");
    for architecture in ["amd64", "arm64"] {
        room.write(&format!("{architecture}/tree/etc/{architecture}"), architecture);
        let build_file = format!("name = 'x'\nplatform = 'linux/{architecture}'\ncontents = ['tree']\n");
        let context = room.context(architecture, None, &build_file);
        let output = format!("oci:{}:{architecture}", layout.display());
        room.kiln().args(["build", "-o", &output]).arg(&context).run().succeeds();
    }
    let path = layout.join("index.json");
    let nested: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("JSON");
    let digest = |bytes: &[u8]| {
        let sums = room.write("to-be-hashed", bytes);
        let printed = tool_output("sha256sum", &[&sums]);
        String::from_utf8(printed).expect("text")[..64].to_owned()
    };
    let mut inner = nested;
    inner["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    for _ in 0..2 {
        let entry = serde_json::to_vec(&inner).expect("JSON");
        let hex = digest(&entry);
        fs::write(layout.join("blobs/sha256").join(&hex), &entry).expect("it can be written");
        inner = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{hex}"),
            "size": entry.len(), "annotations": { "org.opencontainers.image.ref.name": "both" } }] });
    }
    fs::write(&path, serde_json::to_vec(&inner).expect("JSON")).expect("it can be written");
    for architecture in ["amd64", "arm64"] {
        let from = format!("oci:{}:both", layout.display());
        let more = format!("platform = 'linux/{architecture}'\n");
        let child = child_of(&room, &format!("child-{architecture}"), &from, &more);
        assert_eq!(child.config()["architecture"], architecture);
        let root = child.unpack(&room.path(&format!("root-{architecture}")));
        assert_eq!(files(&root), [architecture, "child"]);
    }
    let context = room.context(
        "none",
        None,
        &format!("from = 'oci:{}:both'\nplatform = 'linux/s390x'\n", layout.display()),
    );
    room.build(&context, "none.tar", "").run().fails().says("linux/arm64");
}

#[test]
fn a_base_with_another_digest_is_refused() {
    let room = Room::new();
    base(&room);
    let from = format!("oci:{}:base@sha256:{}", room.path("layout").display(), "0".repeat(64));
    let context = room.context("child", None, &format!("from = '{from}'\n"));
    room.build(&context, "image.tar", "").run().exits_with(21).says("digest mismatch");
    // A flipped bit in a layer's blob.
    let blobs = fs::read_dir(room.path("layout/blobs/sha256")).expect("it is there");
    let largest = blobs
        .map(|entry| entry.expect("it can be read").path())
        .max_by_key(|path| fs::metadata(path).expect("it is there").len());
    let largest = largest.expect("there are blobs");
    let mut bytes = fs::read(&largest).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("it can be written");
    let fresh = Room::new();
    // Makes the cache.
    fresh.kiln().args(["cache", "du"]).run().succeeds();
    let context =
        fresh.context("child", None, &format!("from = 'oci:{}:base'\n", room.path("layout").display()));
    fresh.build(&context, "image.tar", "").run().fails().leaves_nothing();
}
