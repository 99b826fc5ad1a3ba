//! What is done to images on their way: configuration, layers as differences, whiteouts of both dialects, shared layers, users.

use kiln_tests::{Archive, Image, Room, tool_output};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// Builds a context to a docker-archive and gives it.
fn archive(room: &Room, name: &str, build_file: &str) -> Archive {
    let context = room.context(name, None, build_file);
    let path = room.path(&format!("{name}.tar"));
    room.kiln()
        .args(["build", "-o", &format!("docker-archive:{}", path.display())])
        .arg(&context)
        .run()
        .succeeds();
    Archive::at(&path)
}

fn layout(room: &Room, name: &str, build_file: &str) -> Image {
    let context = room.context(name, None, build_file);
    let reference = format!("oci:{}:image", room.path(&format!("{name}-layout")).display());
    room.kiln().args(["build", "-o", &reference]).arg(&context).run().succeeds();
    Image::at(reference)
}

const COMMON: &str = "
    name = 'app'
    author = 'Me <me@example.org>'
    comment = 'a comment'
    created = '2020-02-02T02:02:02Z'
    architecture = 'arm'
    os = 'linux'
    variant = 'v7'
    os-version = '10.0.1'
    os-features = ['a', 'b']
";

const CONFIGURATION: &str = "
    [config]
    User = 'web'
    ExposedPorts = ['80/tcp', '53/udp']
    Env = ['A=1', 'B=two words']
    Entrypoint = ['/bin/app']
    Cmd = ['--flag']
    Volumes = ['/data']
    WorkingDir = '/srv'
    Labels = { 'org.example.label' = 'x' }
    StopSignal = 'SIGUSR1'
";

fn check_common(config: &Value) {
    for (key, expected) in [
        ("author", json!("Me <me@example.org>")),
        ("created", json!("2020-02-02T02:02:02Z")),
        ("architecture", json!("arm")),
        ("variant", json!("v7")),
        ("os", json!("linux")),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let history = &config["history"][0];
    assert_eq!((&history["comment"], &history["empty_layer"]), (&json!("a comment"), &json!(true)));
    let inner = &config["config"];
    for (key, expected) in [
        ("User", json!("web")),
        ("ExposedPorts", json!({ "80/tcp": {}, "53/udp": {} })),
        ("Env", json!(["A=1", "B=two words"])),
        ("Entrypoint", json!(["/bin/app"])),
        ("Cmd", json!(["--flag"])),
        ("Volumes", json!({ "/data": {} })),
        ("WorkingDir", json!("/srv")),
        ("Labels", json!({ "org.example.label": "x" })),
        ("StopSignal", json!("SIGUSR1")),
    ] {
        assert_eq!(inner[key], expected, "{key}");
    }
}

/// A member's JSON, since skopeo's own structure lacks some of the keys.
fn raw_config(archive: &Archive) -> Value {
    let name = archive.manifest()["Config"].as_str().expect("a name").to_owned();
    serde_json::from_slice(&archive.member(&name)).expect("JSON")
}

#[test]
fn every_key_of_docker_arrives() {
    let room = Room::new();
    let build_file = format!(
        "{COMMON}{CONFIGURATION}
        Shell = ['/bin/bash', '-c']
        OnBuild = ['RUN true']
        Memory = '512MiB'
        MemorySwap = -1
        CpuShares = 2
        [config.Healthcheck]
        Test = ['CMD', '/bin/test']
        Interval = '1m30s'
        Timeout = 10000000000
        Retries = 2
        "
    );
    let config = raw_config(&archive(&room, "docker", &build_file));
    check_common(&config);
    let inner = &config["config"];
    for (key, expected) in [
        ("Shell", json!(["/bin/bash", "-c"])),
        ("OnBuild", json!(["RUN true"])),
        ("Memory", json!(536_870_912)),
        ("MemorySwap", json!(-1)),
        ("CpuShares", json!(2)),
        (
            "Healthcheck",
            json!({ "Test": ["CMD", "/bin/test"], "Interval": 90_000_000_000_u64, "Timeout": 10_000_000_000_u64, "Retries": 2 }),
        ),
    ] {
        assert_eq!(inner[key], expected, "{key}");
    }
    assert_eq!((&config["os.version"], &config["os.features"]), (&json!("10.0.1"), &json!(["a", "b"])));
}

#[test]
fn every_key_of_oci_arrives() {
    let room = Room::new();
    let annotations = "
        [annotations.index]
        i = '1'
        [annotations.manifest]
        m = '2'
        [annotations.descriptor]
        d = '3'
    ";
    let image = layout(&room, "oci", &format!("{COMMON}{CONFIGURATION}{annotations}"));
    let layout = room.path("oci-layout");
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(layout.join(name)).expect("it is there")).expect("JSON")
    };
    let index = json("index.json");
    let blob = |digest: &Value| json(&format!("blobs/sha256/{}", &digest.as_str().expect("text")[7..]));
    let descriptor = &index["manifests"][0];
    let manifest = blob(&descriptor["digest"]);
    check_common(&blob(&manifest["config"]["digest"]));
    assert_eq!((&index["annotations"]["i"], &descriptor["annotations"]["d"]), (&json!("1"), &json!("3")));
    assert_eq!(manifest["annotations"], json!({ "m": "2" }));
    assert_eq!(image.inspect()["Architecture"], "arm");
}

#[test]
fn an_option_is_refused_where_its_format_is_not_written() {
    let room = Room::new();
    for (name, more, output, place) in [
        ("memory", "[config]\nMemory = 1048576\n", "oci", "kiln.toml:3:"),
        ("healthcheck", "[config.Healthcheck]\nTest = ['NONE']\n", "oci-archive", "kiln.toml:2:"),
        ("annotation", "[annotations]\n'a.b' = 'c'\n", "docker-archive", "kiln.toml:2:"),
    ] {
        let context = room.context(name, None, &format!("name = 'app'\n{more}"));
        let output = format!("{output}:{}", room.path(&format!("{name}.out")).display());
        room.kiln().args(["build", "-o", &output]).arg(&context).run().exits_with(2).says(place);
        assert!(!room.path(&format!("{name}.out")).exists(), "{name}");
    }
}

fn listed(archive: &Archive) -> Vec<String> {
    archive.list_last_layer().into_iter().map(|entry| entry.path).collect()
}

/// As BuildStream's `oci` element: the tree is given whole, and the layer is what differs.
#[test]
fn a_layer_is_the_difference_to_its_parent() {
    let room = Room::new();
    for (name, text) in [("same", "same"), ("changed", "before"), ("gone", "gone")] {
        room.write(&format!("difference/base/etc/{name}"), text);
    }
    for number in 0..20 {
        room.write(&format!("difference/base/many/{number}"), "");
    }
    for (name, text) in [("same", "same"), ("changed", "after"), ("new", "new")] {
        room.write(&format!("difference/whole/etc/{name}"), text);
    }
    room.write("difference/whole/many/another", "");
    let build_file = "
        [[image]]
        id = 'base'
        [[image.layer]]
        contents = ['base']
        [[image]]
        name = 'child'
        parent = 'base'
        [[image.layer]]
        contents = ['whole']
        difference = true
    ";
    let archive = archive(&room, "difference", build_file);
    let names = listed(&archive);
    for expected in ["etc/changed", "etc/new", "etc/.wh.gone", "many/.wh..wh..opq", "many/another"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name == "etc/same" || name == "many/.wh.7"), "{names:?}");
    let root = archive.unpack(&room.path("root"));
    let mut left: Vec<_> = fs::read_dir(root.join("etc"))
        .expect("it is there")
        .map(|e| e.expect("it can be read").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["changed", "new", "same"]);
    assert_eq!(fs::read_dir(root.join("many")).expect("it is there").count(), 1);
}

/// Makes a layer's tar with python: entries are expressions of `file`, `device` and `opaque`.
fn python_tar(path: &Path, entries: &str) {
    let script = format!(
        "
import io, sys, tarfile
with tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT) as tar:
    def add(name, kind, data=b'', **more):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode = kind, len(data), 0o755
        info.pax_headers = more.get('pax', {{}})
        tar.addfile(info, io.BytesIO(data))
    file = lambda name, text: add(name, tarfile.REGTYPE, text.encode())
    device = lambda name: add(name, tarfile.CHRTYPE)
    directory = lambda name: add(name, tarfile.DIRTYPE)
    opaque = lambda name, attribute: add(name, tarfile.DIRTYPE, pax={{'SCHILY.xattr.' + attribute: 'y'}})
    {entries}
"
    );
    tool_output("python3", &["-c".as_ref(), script.as_ref(), path.as_os_str()]);
}

#[test]
fn both_dialects_of_whiteouts_are_read_and_one_is_written() {
    let room = Room::new();
    for name in ["a/gone", "a/stays", "b/hidden"] {
        room.write(&format!("dialects/base/{name}"), "");
    }
    for (name, entries) in [
        (
            "aufs",
            "directory('a'); file('a/.wh.gone', ''); directory('b'); file('b/.wh..wh..opq', ''); file('b/new', 'n')",
        ),
        (
            "overlay",
            "directory('a'); device('a/gone'); opaque('b', 'trusted.overlay.opaque'); file('b/new', 'n')",
        ),
        ("user", "directory('a'); device('a/gone'); opaque('b', 'user.overlay.opaque'); file('b/new', 'n')"),
    ] {
        room.write(&format!("{name}/keep"), "");
        python_tar(&room.path(&format!("{name}/layer.tar")), entries);
        let base = room.path("dialects/base");
        let build_file = format!(
            "
            [[image]]
            name = 'x'
            [[image.layer]]
            contents = ['{}']
            [[image.layer]]
            tar = 'layer.tar'
            ",
            base.display()
        );
        let archive = archive(&room, name, &build_file);
        let names = listed(&archive);
        assert!(names.iter().any(|path| path == "a/.wh.gone"), "{name}: {names:?}");
        let root = archive.unpack(&room.path(&format!("{name}-root")));
        let files = |directory: &str| -> BTreeSet<_> {
            let entries = fs::read_dir(root.join(directory)).expect("it is there");
            entries
                .map(|entry| entry.expect("it can be read").file_name().into_string().expect("plain"))
                .collect()
        };
        assert_eq!(files("a"), BTreeSet::from(["stays".to_owned()]), "{name}");
        assert_eq!(files("b"), BTreeSet::from(["new".to_owned()]), "{name}");
    }
}

/// dockerTools' `buildLayeredImage`: what did not change is in the same layers.
#[test]
fn layers_are_shared_by_images_of_the_same_packages() {
    let room = Room::new();
    let build = |name: &str, version: &str| {
        for package in ["aaaa-libc", "bbbb-bash", "cccc-tool"] {
            let text = if package == "cccc-tool" { version } else { "1" };
            room.write(&format!("{name}/tree/nix/store/{package}/bin/program"), text.repeat(1000));
        }
        room.write(&format!("{name}/tree/etc/config"), version);
        layout(&room, name, "name = 'x'\ncontents = ['tree']\nlayered = 10\n").diff_ids()
    };
    let (first, second) = (build("first", "1"), build("second", "2"));
    assert!(first.len() >= 4, "{first:?}");
    assert_eq!(build("again", "1"), first);
    let shared = first.iter().filter(|layer| second.contains(layer)).count();
    assert!(shared >= 2 && shared < first.len(), "{shared} of {first:?} are in {second:?}");
}

#[test]
fn an_image_from_scratch_gets_users() {
    let room = Room::new();
    let archive = archive(&room, "shadow", "name = 'x'\nshadow-setup = true\n");
    let root = archive.unpack(&room.path("root"));
    let text = |name: &str| {
        fs::read_to_string(root.join("etc").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(text("passwd").starts_with("root:x:0:0:") && text("group").starts_with("root:x:0:"));
    assert!(text("shadow").starts_with("root:!") && text("gshadow").starts_with("root:"));
    assert!(text("pam.d/other").contains("pam_unix.so") && root.join("etc/login.defs").is_file());
}

/// Trees of several images in one.
#[test]
fn files_come_from_other_images() {
    let room = Room::new();
    room.write("merge/one/usr/bin/one", "1");
    room.write("merge/two/usr/bin/two", "2");
    let build_file = "
        [[image]]
        id = 'one'
        [[image.layer]]
        contents = ['one']
        [[image]]
        id = 'two'
        [[image.layer]]
        contents = ['two']
        [[image]]
        name = 'both'
        [[image.layer]]
        contents = [{ image = 'one' }, { image = 'two', src = '/usr/bin', dest = '/opt' }]
    ";
    let root = archive(&room, "merge", build_file).unpack(&room.path("root"));
    assert!(
        root.join("usr/bin/one").exists()
            && root.join("opt/two").exists()
            && !root.join("usr/bin/two").exists()
    );
}
