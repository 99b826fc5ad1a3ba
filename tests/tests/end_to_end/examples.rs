//! Everything in `examples/`, built as it stands there: the examples of the systems that kiln replaces.

use kiln_tests::{Debian, Engine, Image, Room, on_every_engine, repository, tool_output};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

on_every_engine!(redis_from_scratch, bash_is_exported, a_parent_with_run_as_root);

/// A copy of `examples/`, with `out/base` beside it as `scripts/quickstart` makes it.
fn examples(room: &Room, debian: &Debian) -> PathBuf {
    let examples = room.path("examples");
    tool_output("cp", &[Path::new("-r"), &repository().join("examples"), &examples]);
    let base = room.path("out/base");
    fs::create_dir_all(&base).expect("a directory can be made");
    let beside = debian.packages();
    let packages = beside.parent().expect("the packages lie beside the tar");
    for (name, path) in [
        ("debian.tar", debian.image()),
        ("rootfs.tar", debian.rootfs().to_owned()),
        ("debs", packages.join("debs")),
        ("redis", packages.join("redis")),
    ] {
        symlink(path, base.join(name)).expect("a link can be made");
    }
    examples
}

fn layout(room: &Room, name: &str) -> String {
    format!("oci:{}:{name}", room.path(&format!("layout-{name}")).display())
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// dockerTools' `redis`: what is in the image is enough to run the server.
fn redis_from_scratch(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = examples(&room, &debian).join("redis");
    let archive = format!("docker-archive:{}", room.path("redis.tar").display());
    room.kiln()
        .args(["build", "-o", &archive, "--target", "redis"])
        .arg(&context)
        .engine(engine)
        .run()
        .succeeds();
    let image = Image::at(archive);
    assert_eq!(image.config()["config"]["Volumes"], json!({ "/data": {} }));
    let root = image.unpack(&room.path("redis"));
    assert!(text(root.join("etc/passwd")).starts_with("root:x:0:0:"));
    assert!(!root.join("bin/sh").exists() && !root.join("usr/bin/ls").exists());
    let base = room.path("redis.tar");
    let outcome = room
        .kiln()
        .args(["run", "--base", base.to_str().expect("plain")])
        .engine(engine)
        .args(["--", "/usr/bin/redis-server", "--version"])
        .run()
        .succeeds();
    assert!(String::from_utf8_lossy(&outcome.stdout).starts_with("Redis server v="), "{:?}", outcome.stdout);
}

fn build_bash(room: &Room, examples: &Path, engine: Engine) -> PathBuf {
    let tar = room.path("out/bash.tar");
    let output = format!("docker-archive:{}", tar.display());
    room.kiln()
        .args(["build", "-o", &output, "--target", "bash"])
        .arg(examples.join("bash"))
        .engine(engine)
        .run()
        .succeeds();
    tar
}

/// dockerTools' `exportImage` of `bash`: one root file system, as a tar and as a directory.
fn bash_is_exported(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let tar = build_bash(&room, &examples(&room, &debian), engine);
    let (rootfs, directory) = (room.path("rootfs.tar"), room.path("rootfs"));
    for output in [&rootfs, &directory] {
        let export = room.kiln().arg("export").arg(&tar).arg("-o");
        let output = if output == &directory {
            format!("{}/", output.display())
        } else {
            output.display().to_string()
        };
        export.arg(output).run().succeeds();
    }
    let listed = String::from_utf8(tool_output("tar", &["-tf", rootfs.to_str().expect("plain")]))
        .expect("plain names");
    assert!(listed.lines().any(|line| line.trim_start_matches("./") == "bin/bash"), "{listed}");
    assert!(directory.join("bin/bash").exists());
    assert_eq!(fs::read_link(directory.join("bin/sh")).expect("it is a link"), Path::new("bash"));
}

/// dockerTools' `runAsRootParentImage`.
fn a_parent_with_run_as_root(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let examples = examples(&room, &debian);
    build_bash(&room, &examples, engine);
    let output = layout(&room, "child");
    room.kiln()
        .args(["build", "-o", &output])
        .arg(examples.join("run-as-root-parent"))
        .engine(engine)
        .run()
        .succeeds();
    let root = Image::at(output).unpack(&room.path("root"));
    assert!(root.join("example-file").exists() && root.join("bin/bash").exists());
}

/// dockerTools' `layersOrder`.
#[test]
fn layers_order() {
    let room = Room::new();
    let output = layout(&room, "l3");
    let context = repository().join("examples/layers-order");
    room.kiln().args(["build", "-o", &output, "--target", "l3"]).arg(context).run().succeeds();
    let image = Image::at(output);
    assert_eq!(image.diff_ids().len(), 3);
    let root = image.unpack(&room.path("root"));
    for (file, contents) in [("layer1", "layer1\n"), ("layer2", "layer2\n"), ("layer3", "layer3\n")] {
        assert_eq!(text(root.join("tmp").join(file)), contents, "{file}");
    }
}

/// BuildStream's `oci` element: an index of two architectures, with annotations.
#[test]
fn an_index_of_two_architectures() {
    let room = Room::new();
    let directory = room.path("layout");
    let output = format!("oci:{}:example/hello:latest", directory.display());
    let context = repository().join("examples/oci-architectures");
    room.kiln().args(["build", "-o", &output]).arg(context).run().succeeds();
    for (architecture, variant) in [("amd64", None), ("arm64", Some("v8"))] {
        let mut options = vec!["--override-arch", architecture];
        options.extend(variant.iter().flat_map(|variant| ["--override-variant", variant]));
        let image = Image::at(output.clone()).with_options(options);
        let config = image.config();
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["author"], "Example <author@example.org>");
    }
    let index = Image::at(output).manifest();
    assert_eq!(index["annotations"]["org.opencontainers.image.vendor"], "Example");
    let manifests = index["manifests"].as_array().expect("a list");
    assert_eq!(manifests.len(), 2);
    assert_eq!(manifests[0]["annotations"]["org.example.tested"], "yes");
    assert_eq!(manifests[1]["platform"], json!({ "architecture": "arm64", "os": "linux", "variant": "v8" }));
}

/// The rPath generator's hierarchies: each image built once, children on their parents' layers.
#[test]
fn a_family_of_images() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = examples(&room, &debian).join("family");
    let archive = room.path("family.tar");
    let output = format!("docker-archive:{}", archive.display());
    room.kiln().args(["build", "-o", &output]).arg(&context).run().succeeds();
    let image = |name: &str| Image::at(format!("docker-archive:{}:{name}", archive.display()));
    let (base, app, worker) =
        (image("family/base:latest"), image("family/app:1.0"), image("family/worker:latest"));
    assert_eq!(app.config()["config"]["Env"].as_array().expect("a list").last(), Some(&json!("ROLE=app")));
    assert_eq!(app.config()["config"]["ExposedPorts"], json!({ "80/tcp": {}, "443/tcp": {} }));
    assert_eq!(app.diff_ids()[..2], base.diff_ids());
    assert_eq!(worker.diff_ids(), app.diff_ids());
    assert_eq!(
        worker.config()["history"].as_array().expect("a list").last().expect("one")["empty_layer"],
        true
    );
    let root = app.unpack(&room.path("app"));
    assert!(root.join("etc/family/app").exists() && !root.join("etc/family/draft").exists());
}

/// virt-bootstrap's Docker source: an image of several layers becomes one root, with owners mapped and a root password.
#[test]
fn a_root_for_a_container_of_libvirt() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = examples(&room, &debian).join("family");
    let archive = room.path("family.tar");
    let output = format!("docker-archive:{}", archive.display());
    room.kiln().args(["build", "-o", &output, "--target", "app"]).arg(&context).run().succeeds();
    let password = room.write("password", "correct horse\n");
    let rootfs = room.path("rootfs.tar");
    room.kiln()
        .arg("export")
        .arg(&archive)
        .args(["--uid-map", "0:100000:65536", "--gid-map", "0:200000:65536", "--root-password-file"])
        .arg(&password)
        .arg("-o")
        .arg(&rootfs)
        .run()
        .succeeds();
    let list = ["--numeric-owner", "-tvf", rootfs.to_str().expect("plain")];
    let listed = String::from_utf8_lossy(&tool_output("tar", &list)).into_owned();
    assert!(listed.lines().all(|line| line.contains(" 1000") && line.contains("/2000")), "{listed}");
    assert!(!listed.contains("etc/family/draft"));
    let shadow = ["-xOf", rootfs.to_str().expect("plain"), "--wildcards", "*etc/shadow"];
    let shadow = String::from_utf8(tool_output("tar", &shadow)).expect("text");
    let hash = shadow.lines().find_map(|line| line.strip_prefix("root:")).expect("a line of root's");
    let hash = hash.split(':').next().expect("a field");
    let salt = hash.split('$').nth(2).expect("a salt");
    let again = tool_output("openssl", &["passwd", "-6", "-salt", salt, "correct horse"]);
    assert_eq!(String::from_utf8(again).expect("text").trim_end(), hash);
}
