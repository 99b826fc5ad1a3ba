use super::*;
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
    assert_eq!(file.from.unwrap().path, directory.path().join("base.tar"));
    let dests: Vec<_> = file.contents.iter().map(|content| content.dest.as_slice()).collect();
    assert_eq!(dests, [&b""[..], b"", b"opt/app"]);
    assert_eq!(file.contents[2].owner, Owner::Set { uid: 10, gid: 20 });
    let hooks: Vec<_> = file.scripts.iter().map(|script| script.hook).collect();
    assert_eq!(hooks, [Hook::PreMount, Hook::RunAsRoot, Hook::ExtraCommands]);
    assert_eq!(file.scripts[1].text, b"#!/bin/bash\ntrue\n");
    assert_eq!(file.disk_size, Some(1 << 30));
    assert_eq!(file.name.unwrap().to_string(), "example/app:1.0");
    assert!(file.config.exposed_ports.unwrap().keys().eq(["80/tcp"]));
    assert!(file.config.volumes.unwrap().keys().eq(["/data"]));
}

#[test]
fn an_empty_file_is_an_empty_image() {
    let file = read("");
    assert!(file.from.is_none() && file.contents.is_empty() && file.scripts.is_empty());
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, place, message) in [
        ("form = \"base.tar\"\n", "1:1", "unknown field `form`"),
        ("name = 3\n", "1:8", "invalid type: integer `3`, expected a string"),
        ("\nfrom = \"missing.tar\"\n", "2:8", "No such file or directory"),
        ("\nfrom = \"tree\"\n", "2:8", "is a directory, not an archive"),
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
        ("name = \"a\n", "1:10", ""),
    ] {
        let (_directory, path) = context(text);
        let error = BuildFile::read(&path).unwrap_err().to_string();
        let expected = format!("{}:{place}: ", path.display());
        assert!(error.starts_with(&expected), "{text:?}: expected {expected}, got {error}");
        assert!(error.contains(message), "{text:?}: expected {message}, got {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = BuildFile::read(Path::new("/nowhere/kiln.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the build file /nowhere/kiln.toml");
    assert_eq!(error.class(), crate::Class::Usage);
}
