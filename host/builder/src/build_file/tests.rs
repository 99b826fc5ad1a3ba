use super::*;
use crate::DiskForm;
use kiln_image::contents::Owner;
use std::fs;
use tempfile::TempDir;

/// A directory with `tree/`, `x.tar`, `job.sh`, `base.tar` and a build file of this text.
fn context(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("x.tar"), "").unwrap();
    fs::write(at("base.tar"), "").unwrap();
    fs::write(at("job.sh"), "#!/bin/bash\ntrue\n").unwrap();
    fs::write(at("kiln.toml"), text).unwrap();
    let path = at("kiln.toml");
    (directory, path)
}

fn read(text: &str) -> BuildFile {
    let (_directory, path) = context(text);
    BuildFile::read(&path).unwrap()
}

#[test]
fn a_whole_file() {
    let (directory, path) = context(
        r#"
from = "docker-archive:base.tar"
name = "example/app"
tag = "1.0"
contents = ["tree", "x.tar", { src = "tree", dest = "/opt/./app/", owner = "10:20" }]
run-as-root = { file = "job.sh" }
pre-mount = "true"
extra-commands = "ls"
disk-size = "1GiB"

[config]
Cmd = ["/app"]
Env = ["A=b"]
ExposedPorts = { "80" = {} }
Volumes = ["/data"]
"#,
    );
    let file = BuildFile::read(&path).unwrap();
    assert!(file.is_short);
    assert_eq!(file.base().unwrap().location.path(), directory.path().join("base.tar").to_str());
    assert_eq!(
        (file.disk_size, file.name().unwrap().to_string()),
        (Some(1 << 30), "example/app:1.0".to_owned())
    );
    let [image] = &file.images[..] else { panic!("one image") };
    let [layer] = &image.layers[..] else { panic!("one layer") };
    let dests: Vec<_> = layer.contents.iter().map(|content| content.dest.as_slice()).collect();
    assert_eq!(dests, [&b""[..], b"", b"opt/app"]);
    assert_eq!(layer.contents[2].owner, Owner::Set { uid: 10, gid: 20 });
    let hooks: Vec<_> = layer.scripts.iter().map(|script| script.hook).collect();
    assert_eq!(hooks, [Hook::PreMount, Hook::RunAsRoot, Hook::ExtraCommands]);
    assert_eq!(layer.scripts[1].text, b"#!/bin/bash\ntrue\n");
    assert!(image.config.exposed_ports.as_ref().unwrap().keys().eq(["80/tcp"]));
    assert!(image.config.volumes.as_ref().unwrap().keys().eq(["/data"]));
}

#[test]
fn an_empty_file_is_an_empty_image() {
    let file = read("");
    let [image] = &file.images[..] else { panic!("one image") };
    assert!(file.base().is_none() && image.layers.is_empty());
}

#[test]
fn a_whole_file_of_images() {
    let file = read(
        r#"
disk-size = "1GiB"

[[image]]
id = "base"
platform = "linux/arm64/v8"
os-version = "1"
os-features = ["a"]
author = "me"
created = "2020-01-01T00:00:00Z"
shadow-setup = true
root-password = { hash = "$6$salt$hash" }
uid-map = ["0:1000:10"]
squash = "all"

[[image]]
id = "app"
parent = "base"
name = "example/app"
tags = ["1", "1.0", "example.org/app:latest"]
layered = { max-layers = 20 }
annotations = { plain = "text" }

[[image.layer]]
tar = "x.tar"
comment = "finished"
created-by = "somebody"

[[image.layer]]
contents = [{ image = "base", src = "/etc", dest = "/copy" }, { image = "oci:tree" }]
delete = ["/usr/share/doc"]
difference = true

[image.config]
Labels = { a = "b" }

[[image]]
parent = 1
format = "docker"
[image.config]
Healthcheck = { Test = ["CMD", "true"], Interval = "1m30s", Timeout = 5000000, Retries = 3 }
Shell = ["/bin/bash", "-c"]
OnBuild = ["RUN x"]
StopTimeout = 5
Memory = "512MiB"
MemorySwap = -1
CpuShares = 512

[[image]]
parent = { from = "oci:tree", index = 1 }
squash = true

[[output]]
type = "oci"
dest = "out"
images = ["app", "2"]
compression = "zstd"

[[output]]
dest = "docker://example.org/app:1"
"#,
    );
    assert!(!file.is_short);
    let ids: Vec<_> = file.images.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(ids, ["base", "app", "2", "3"]);
    let [base, app, limited, other] = &file.images[..] else { unreachable!() };
    assert_eq!(base.platform.as_ref().unwrap().to_string(), "linux/arm64/v8");
    assert_eq!(base.about.created.unwrap().to_string(), "2020-01-01T00:00:00Z");
    assert_eq!((base.finish.squash, base.finish.shadow_setup), (Some(Squash::All), true));
    assert_eq!(base.finish.uid_map, [IdRange { from: 0, to: 1000, count: 10 }]);
    assert_eq!(format!("{:?}", base.finish.root_password), "Some(Hash(..))");
    assert_eq!((&app.parent, app.finish.max_layers), (&Parent::Image(0), Some(20)));
    let names: Vec<_> = app.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["example/app:1", "example/app:1.0", "example.org/app:latest"]);
    assert_eq!(app.annotations.manifest["plain"], "text");
    assert_eq!(app.layers[0].created_by.as_deref(), Some("somebody"));
    assert_eq!(
        (app.layers[1].is_difference, &app.layers[1].delete),
        (true, &vec![b"usr/share/doc".to_vec()])
    );
    let Origin::Image { image: Source::Image(0), path } = &app.layers[1].contents[0].origin else { panic!() };
    assert_eq!(path, b"etc");
    assert!(matches!(app.layers[1].contents[1].origin, Origin::Image { image: Source::From(_), .. }));
    let check = limited.config.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval, check.timeout), (Some(90_000_000_000), Some(5_000_000)));
    let json = serde_json::to_value(&limited.config).unwrap();
    assert_eq!((json["Memory"].as_i64(), json["MemorySwap"].as_i64()), (Some(512 << 20), Some(-1)));
    assert_eq!((json["CpuShares"].as_i64(), json["StopTimeout"].as_i64()), (Some(512), Some(5)));
    assert_eq!(limited.particular.len(), 7);
    let Parent::From(reference) = &other.parent else { panic!() };
    assert!(reference.location.to_string().ends_with("tree:@1"), "{}", reference.location);
    assert!(file.outputs[0].spec.dest.location.path().unwrap().ends_with("/out"));
    assert_eq!(file.outputs[0].images, ["app", "2"]);
    assert_eq!(file.outputs[1].spec.dest.to_string(), "docker://example.org/app:1");
    assert_eq!(file.default_images(), [1]);
}

#[test]
fn without_names_the_last_of_each_line_is_meant() {
    let file = read("[[image]]\n[[image]]\nparent = 0\n[[image]]\nparent = 0\n");
    assert_eq!(file.default_images(), [1, 2]);
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, place, message) in [
        ("form = \"base.tar\"\n", "1:1", "unknown field `form`"),
        ("name = 3\n", "1:8", "invalid type: integer `3`, expected a string"),
        ("\nfrom = \"missing.tar\"\n", "2:8", "No such file or directory"),
        ("from = \"docker:x\"\n", "1:8", "a registry is written `docker://NAME`"),
        ("contents = [\"tree\",\n  \"nothing\"]\n", "2:3", "No such file or directory"),
        ("contents = [{ src = \"tree\", dest = \"opt\" }]\n", "1:36", "`opt` must be an absolute path"),
        ("contents = [{ src = \"tree\", dest = \"/a/../b\" }]\n", "1:36", "must not contain `..`"),
        ("contents = [{ src = \"tree\", ower = \"0:0\" }]\n", "1:29", "unknown field `ower`"),
        ("contents = [{ src = \"tree\", owner = \"me\" }]\n", "1:37", "`me` is no owner"),
        ("contents = [{ dest = \"/\" }]\n", "1:13", "missing field `src`"),
        ("run-as-root = { file = \"no.sh\" }\n", "1:24", "No such file or directory"),
        ("run-as-root = [\"ls\"]\n", "1:15", "expected a string or a table"),
        ("disk-size = \"big\"\n", "1:13", "`big` is no size"),
        ("tag = \"1.0\"\n", "1:7", "a tag needs a `name`"),
        ("name = \"x\"\ntag = \"a b\"\n", "2:7", "a tag has 1 to 128 letters"),
        ("name = \"x:1\"\ntag = \"2\"\n", "2:7", "the `name` has a tag already"),
        ("name = \"UPPER\"\n", "1:8", "lower-case letters"),
        ("[config]\ncmd = [\"x\"]\n", "2:1", "unknown field `cmd`"),
        ("[config]\nEnv = [\"A\"]\n", "2:8", "NAME=value"),
        ("[config]\nWorkingDir = \"x\"\n", "2:14", "begins with /"),
        ("[config]\nExposedPorts = [\"http\"]\n", "2:17", "`http` is no port"),
        ("[disk]\nsizes = \"1GiB\"\n", "2:1", "unknown field `sizes`, expected one of `size`, `table`"),
        (
            "[disk]\n[[disk.partition]]\nfilesystem = \"ext4\"\nuuid = \"12\"\nmount = \"/\"\n",
            "2:1",
            "`12` is no UUID",
        ),
        (
            "[[output]]\ntype = \"oci\"\ndest = \"x\"\nadapter = \"ide\"\n",
            "4:11",
            "`adapter` is said of disks",
        ),
        ("[[output]]\ntype = \"ova\"\ndest = \"x\"\ncpus = true\n", "4:8", "`cpus` is a word or a number"),
        (&"[[image]]\n".repeat(1001), "1001:1", "a file has no more than 1000 images"),
        ("name = \"a\n", "1:10", ""),
        ("name = 'a'\n[[image]]\n", "1:1", "`name` belongs into an [[image]], where there are any"),
        ("[image]\nname = 'a'\n", "1:1", "these are tables, each under [[image]]"),
        ("[[image]]\ncontents = []\n[[image.layer]]\n", "2:1", "`contents` belongs into a [[layer]]"),
        ("[[image]]\nparent = 'x'\n", "2:10", "there is no image `x`; one from elsewhere is `from`"),
        ("[[image]]\nparent = 0\n", "1:1", "image `0` would be made of itself"),
        (
            "[[image]]\nid = 'a'\nparent = 'b'\n[[image]]\nid = 'b'\nparent = 'a'\n",
            "1:1",
            "image `a` would be made of itself",
        ),
        ("[[image]]\nid = 'a'\n[[image]]\nid = 'a'\n", "4:6", "there is an image `a` already"),
        ("[[image]]\nid = '1'\n", "2:6", "a number as id would be taken for the image of this index"),
        ("[[image]]\nid = 'a b'\n", "2:6", "an id has letters, digits"),
        ("from = 'base.tar'\nparent = 0\n", "2:10", "an image has `from` or `parent`, not both"),
        ("parent = { from = 'base.tar', index = 1 }\n", "1:39", "an index needs `oci:`"),
        ("platform = 'linux'\n", "1:12", ""),
        ("architecture = 'ARM'\n", "1:16", "`ARM` is none of Go's words"),
        ("created = 'today'\n", "1:11", "it must be like 2006-01-02T15:04:05Z"),
        ("layered = 0\n", "1:11", "`layered` is a number of layers from 1 to 127"),
        ("layered = 2\nsquash = true\n", "1:11", "not both"),
        ("squash = 'some'\n", "1:10", "`squash` is true, false or \"all\""),
        ("root-password = { }\n", "1:17", "a password is { file = PATH }"),
        ("root-password = { hash = 'secret' }\n", "1:26", "a hash begins with $"),
        ("uid-map = ['0:1']\n", "1:12", "`0:1` is no range"),
        ("gid-map = ['0:1:4294967295']\n", "1:12", "is no range"),
        ("tar = 'tree'\n", "1:7", "is no tar"),
        ("tar = 'x.tar'\ncontents = ['tree']\n", "1:7", "a finished layer (`tar`) has no `contents`"),
        ("difference = true\n", "1:14", "of which there are none"),
        ("delete = ['usr']\n", "1:11", "`usr` must be an absolute path"),
        ("delete = ['/']\n", "1:11", "the root cannot be deleted"),
        ("tags = ['1']\n", "1:9", "a tag needs a `name`"),
        (
            "format = 'oci'\n[config]\nMemory = 1\n",
            "3:10",
            "`Memory` is docker's; OCI images have no such option",
        ),
        ("format = 'docker'\n[annotations]\na = 'b'\n", "2:1", "annotations are OCI's"),
        ("[annotations.layer]\na = 'b'\n", "1:2", "`layer` has no annotations"),
        ("format = 'x'\n", "1:10", "unknown format `x`"),
        ("[config]\nHealthcheck = { Test = ['true'] }\n", "2:24", "a test is [\"NONE\"]"),
        ("[config]\nHealthcheck = { Interval = '5' }\n", "2:28", "`5` is no duration"),
        ("[config]\nHealthcheck = { Interval = 5 }\n", "2:28", "a duration is 0 or at least 1ms"),
        ("[config]\nMemory = 'x'\n", "2:10", "`x` is no size"),
        ("[config]\nCpuShares = -1\n", "2:13", "this is at least 0"),
        ("[[output]]\ntype = 'floppy'\ndest = 'x'\n", "2:8", "unknown type `floppy`"),
        ("[[output]]\ntype = 'oci'\ndest = 'x'\nimages = ['y']\n", "4:11", "there is no image `y`"),
        ("contents = [{ image = 'missing' }]\n", "1:23", "No such file or directory"),
    ] {
        let (_directory, path) = context(text);
        let error = BuildFile::read(&path).unwrap_err().to_string();
        let expected = format!("{}:{place}: ", path.display());
        assert!(error.starts_with(&expected), "{text:?}: expected {expected}, got {error}");
        assert!(error.contains(message), "{text:?}: expected {message}, got {error}");
    }
}

#[test]
fn what_may_be_a_secret_is_not_shown() {
    let (_directory, path) = context("root-password = { hash = 'secret' }\n");
    let error = BuildFile::read(&path).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}

#[test]
fn unknown_keys_are_compared_with_a_layers_too() {
    let (_directory, path) = context("content = []\n");
    let error = BuildFile::read(&path).unwrap_err().to_string();
    assert!(error.contains("unknown field `content`, expected one of `contents`, `tar`"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = BuildFile::read(Path::new("/nowhere/kiln.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the build file /nowhere/kiln.toml");
    assert_eq!(error.class(), crate::Class::Usage);
}

#[test]
fn outputs_of_disks_have_all_their_keys() {
    let file = read(
        "[disk]\n[[output]]\ntype = \"ova\"\ndest = \"a,b.ova\"\nname = \"A, B\"\nmemory = \"2GiB\"\ncpus = 3\nfirmware = \"efi\"\n\
         adapter = \"ide\"\nhardware-version = 13\n",
    );
    let output = &file.disk_outputs[0];
    assert!(output.dest.ends_with("a,b.ova"), "{output:?}");
    let DiskForm::Appliance(appliance) = &output.form else { panic!("{output:?}") };
    assert_eq!((appliance.name.as_deref(), appliance.memory, appliance.cpus), (Some("A, B"), 2 << 30, 3));
    assert!(appliance.is_efi && appliance.vmware.hardware_version == Some(13), "{appliance:?}");
}
