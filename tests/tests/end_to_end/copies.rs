//! `kiln copy`: from every place to every other, byte for byte where nothing asks for a change.

use kiln_tests::{Image, Room, podman_load};
use serde_json::{Value, json};
use std::fs;

/// An image made by skopeo out of one of ours, so that its compression is not ours: `oci:layout:base`.
fn foreign(room: &Room) -> String {
    room.write("base/one/etc/lower", "lower".repeat(5000));
    room.write("base/two/etc/upper", "upper");
    let build_file = "
        [[image]]
        name = 'base'
        [[image.layer]]
        contents = ['one']
        [[image.layer]]
        contents = ['two']
        [image.config]
        Env = ['A=1', 'PATH=/bin']
        Labels = { x = 'y' }
    ";
    let context = room.context("base", None, build_file);
    let archive = format!("docker-archive:{}", room.path("base.tar").display());
    room.kiln().args(["build", "-o", &archive]).arg(&context).run().succeeds();
    let layout = format!("oci:{}:base", room.path("foreign").display());
    Image::at(archive).copy_to(&layout, &[]);
    layout
}

fn copy(room: &Room, words: &[&str]) {
    room.kiln().arg("copy").args(words).run().succeeds();
}

#[test]
fn a_copy_has_the_same_digest() {
    let room = Room::new();
    let source = foreign(&room);
    let raw = Image::at(&source).raw();
    let mut from = source;
    for (transport, suffix) in [("dir", ""), ("oci-archive", ":again"), ("oci", ":again")] {
        let to = format!("{transport}:{}{suffix}", room.path(&format!("copy-{transport}")).display());
        copy(&room, &[&from, &to]);
        assert_eq!(Image::at(&to).raw(), raw, "{from} {to}");
        from = to;
    }
}

#[test]
fn a_copy_goes_through_archives_of_docker_and_back() {
    let room = Room::new();
    let source = foreign(&room);
    let config = Image::at(&source).config();
    let archive = format!("docker-archive:{}:base:latest", room.path("copy.tar").display());
    copy(&room, &[&source, &archive]);
    assert_eq!(Image::at(format!("docker-archive:{}", room.path("copy.tar").display())).config(), config);
    assert_eq!(podman_load(&room.path("copy.tar"))[0]["Config"]["Env"], json!(["A=1", "PATH=/bin"]));
    let back = format!("oci:{}:back", room.path("back").display());
    copy(&room, &[&archive, &back]);
    assert_eq!(Image::at(back).config(), config);
}

#[test]
fn formats_and_compressions_are_changed_on_request() {
    let room = Room::new();
    let source = foreign(&room);
    let docker = format!("dir:{}", room.path("docker").display());
    copy(&room, &["--format", "docker", &source, &docker]);
    let manifest = Image::at(&docker).manifest();
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    let zstd = format!("oci:{}:zstd", room.path("zstd").display());
    copy(&room, &["--compression", "zstd:19", "--force-compression", &source, &zstd]);
    for layer in Image::at(&zstd).manifest()["layers"].as_array().expect("a list") {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    assert_eq!(Image::at(&zstd).diff_ids(), Image::at(&source).diff_ids());
    room.kiln()
        .args(["copy", "--preserve-digests", "--format", "docker", &source, &docker])
        .run()
        .fails()
        .says("without changing the manifest");
}

#[test]
fn an_image_is_squashed() {
    let room = Room::new();
    let source = foreign(&room);
    let squashed = format!("oci:{}:squashed", room.path("squashed").display());
    copy(&room, &["--squash", &source, &squashed]);
    let image = Image::at(squashed);
    assert_eq!(image.diff_ids().len(), 1);
    assert_eq!(image.config()["config"], Image::at(source).config()["config"]);
    let root = image.unpack(&room.path("root"));
    assert!(root.join("etc/lower").exists() && root.join("etc/upper").exists());
}

/// dockerTools' `mergeImages`: several images in one archive.
#[test]
fn several_images_go_into_one_archive() {
    let room = Room::new();
    let first = foreign(&room);
    let archives = [room.path("one.tar"), room.path("two.tar")];
    for (archive, name) in archives.iter().zip(["first:1", "second:2"]) {
        copy(&room, &["-t", name, &first, &format!("docker-archive:{}", archive.display())]);
    }
    let merged = room.path("merged.tar");
    let [one, two] = archives.map(|path| path.display().to_string());
    copy(&room, &[&one, &two, &format!("docker-archive:{}", merged.display())]);
    let loaded = podman_load(&merged);
    let mut names: Vec<&Value> =
        loaded.iter().flat_map(|image| image["RepoTags"].as_array().expect("a list")).collect();
    names.sort_by_key(|name| name.to_string());
    names.dedup();
    assert_eq!(names, [&json!("localhost/first:1"), &json!("localhost/second:2")]);
}

/// Onto a newer parent, without running anything again.
#[test]
fn an_image_is_rebased() {
    let room = Room::new();
    let layout = |name: &str| format!("oci:{}:{name}", room.path(&format!("layout-{name}")).display());
    for (name, version) in [("old", "1"), ("new", "2")] {
        room.write(&format!("{name}/tree/etc/version"), version);
        let build_file =
            format!("name = 'base'\ncontents = ['tree']\n[config]\nEnv = ['VERSION={version}']\n");
        let context = room.context(name, None, &build_file);
        room.kiln().args(["build", "-o", &layout(name)]).arg(&context).run().succeeds();
    }
    room.write("app/tree/app", "app");
    let build_file = format!(
        "from = '{}'\nname = 'app'\ncontents = ['tree']\n[config]\nEnv = ['APP=yes']\n",
        layout("old")
    );
    let context = room.context("app", None, &build_file);
    room.kiln().args(["build", "-o", &layout("app-old")]).arg(&context).run().succeeds();
    let rebase = |reference: &str, old: &str| {
        let output = layout("app-new");
        room.kiln().args([
            "rebase",
            reference,
            "--old-base",
            old,
            "--new-base",
            &layout("new"),
            "-o",
            &output,
        ])
    };
    rebase(&layout("app-old"), &layout("old")).run().succeeds();
    let image = Image::at(layout("app-new"));
    assert_eq!(image.config()["config"]["Env"], json!(["VERSION=2", "APP=yes"]));
    let root = image.unpack(&room.path("root"));
    assert_eq!(fs::read_to_string(root.join("etc/version")).expect("it is there"), "2");
    assert!(root.join("app").exists());
    rebase(&layout("app-old"), &layout("new")).run().fails();
}
