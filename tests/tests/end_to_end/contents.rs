//! What goes in without a script: no VM is started for it.

use kiln_tests::{Archive, Debian, Listed, Room, tool_output};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

fn lines(listed: &[Listed]) -> Vec<String> {
    let line = |entry: &Listed| format!("{} {} {} {}", entry.mode, entry.owner, entry.size, entry.path);
    listed.iter().map(line).collect()
}

#[test]
fn contents_are_merged_and_no_vm_is_started() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = room.context("context", Some(&debian), MERGED);
    room.write("context/tree/lib/x", "through the base's link");
    room.write("context/tree/opt/twice", "first");
    let script = room.write("context/tree/opt/run.sh", "#!/bin/sh\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o4750)).expect("it is ours");
    symlink("twice", context.join("tree/opt/link")).expect("a link can be made");
    room.write("context/owned/data", "12345678");
    make_tar(&room);

    let build =
        room.build(&context, "image.tar", "").env("KILN_QEMU", "/bin/false").env("PATH", "/nonexistent");
    // Nor are the guest's kernel and agent needed.
    let build = build.env("KILN_LIB", "/nonexistent");
    build.env("SOURCE_DATE_EPOCH", "1000000000").run().succeeds().leaves_no_process();
    let archive = Archive::at(&room.path("image.tar"));
    let listed = archive.list_last_layer();
    assert_eq!(lines(&listed), MERGED_LINES.lines().collect::<Vec<_>>());
    let times = |path: &str| &listed.iter().find(|entry| entry.path == path).expect("it is there").time;
    assert_eq!(times("opt/run.sh"), "2001-09-09 01:46:40", "a checked-out file's time says nothing");
    assert_eq!(times("opt/twice"), "1999-12-31 00:00:00", "an archived file's does");
    assert_eq!(times("opt/future"), "2001-09-09 01:46:40", "unless it is newer than the build");
}

const MERGED: &str = r#"
from = "base.tar"
contents = [
    "tree",
    "more.tar.gz",
    { src = "owned", dest = "/srv/data", owner = "1000:2000" },
    { src = "more.tar.gz", dest = "/srv/kept", owner = "keep" },
]
"#;

const MERGED_LINES: &str = "\
drwxr-xr-x 0/0 0 opt/
-rw-r--r-- 0/0 6 opt/future
lrwxrwxrwx 0/0 0 opt/link
-rwsr-x--- 0/0 10 opt/run.sh
-rw-r--r-- 0/0 6 opt/twice
drwxr-xr-x 0/0 0 srv/
drwxr-xr-x 1000/2000 0 srv/data/
-rw-r--r-- 1000/2000 8 srv/data/data
drwxr-xr-x 0/0 0 srv/kept/
drwxr-xr-x 77/88 0 srv/kept/opt/
-rw-r--r-- 77/88 6 srv/kept/opt/future
-rw-r--r-- 77/88 6 srv/kept/opt/twice
drwxr-xr-x 0/0 0 usr/
drwxr-xr-x 0/0 0 usr/lib/
-rw-r--r-- 0/0 23 usr/lib/x";

/// `opt/twice` of 1999 and `opt/future` of 2100, owned by 77:88.
fn make_tar(room: &Room) {
    for (name, time) in [("twice", "1999-12-31"), ("future", "2100-01-01")] {
        let path = room.write(&format!("tar/opt/{name}"), "second");
        tool_output("touch", &["-d", &format!("{time} 00:00:00 UTC"), path.to_str().expect("a plain path")]);
    }
    let (tar, dir) = (room.path("context/more.tar.gz"), room.path("tar"));
    let paths = [tar.to_str(), dir.to_str()].map(|path| path.expect("a plain path"));
    let owner = ["--owner=u:77", "--group=g:88", "--format=gnu", "--mode=go=rX"];
    tool_output("tar", &[&owner[..], &["-czf", paths[0], "-C", paths[1], "opt"]].concat());
}

#[test]
fn from_scratch_with_a_name_on_the_command_line() {
    let room = Room::new();
    let context = room.context("context", None, "name = 'one'\ntag = '1'\ncontents = ['tree']\n");
    room.write("context/tree/file", "text");
    room.build(&context, "image.tar", "").args(["-t", "example/two:2"]).run().succeeds();
    let manifest = Archive::at(&room.path("image.tar")).manifest();
    assert_eq!(manifest["RepoTags"], serde_json::json!(["example/two:2"]));
}

/// The base's configuration: lists and tables are merged, the rest replaced; a new entry point clears the command.
#[test]
fn configurations_are_merged() {
    let room = Room::new();
    let base = "[config]\nEnv = ['A=1', 'B=2']\nCmd = ['old']\nUser = 'u'\nLabels = { a = '1', b = '2' }\n";
    let context = room.context("base", None, base);
    room.build(&context, "base.tar", "").run().succeeds();
    let new =
        "from = '../base.tar'\n[config]\nEnv = ['B=3', 'C=4']\nEntrypoint = ['new']\nLabels = { b = '3' }\n";
    let context = room.context("new", None, new);
    room.build(&context, "new.tar", "").run().succeeds();
    let config = Archive::at(&room.path("new.tar")).config();
    let config = &config["config"];
    assert_eq!(config["Env"], serde_json::json!(["A=1", "B=3", "C=4"]));
    assert_eq!(config["Labels"], serde_json::json!({ "a": "1", "b": "3" }));
    assert_eq!(config["Entrypoint"], serde_json::json!(["new"]));
    assert_eq!(config["User"], "u");
    assert!(config.get("Cmd").is_none(), "{config}");
}
