//! As nobody: uid 65534, no capabilities, `no_new_privs`, no user namespaces. The same bytes as root's.

use crate::reproducible::assert_same_bytes;
use kiln_test_registry::Registry;
use kiln_tests::{Confinement, Kiln, NOBODY, Room, is_root, tool_output};
use std::{fs, os::unix::fs::chown, path::Path};

/// Gives everything of a room to nobody.
fn give_away(room: &Room) {
    let dir = room.dir().to_str().expect("plain");
    tool_output("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), dir]);
    chown(room.dir(), Some(NOBODY), Some(NOBODY)).expect("root may");
}

fn context(room: &Room) -> std::path::PathBuf {
    room.write("context/one/etc/one", "one".repeat(10_000));
    room.write("context/two/etc/two", "two");
    let build_file = "
        [[image]]
        id = 'base'
        name = 'base'
        shadow-setup = true
        [[image.layer]]
        contents = ['one']
        [[image]]
        name = 'child'
        parent = 'base'
        [[image.layer]]
        contents = [{ src = 'two', owner = '1000:1000' }]
        delete = ['/etc/one']
    ";
    room.context("context", None, build_file)
}

/// Everything that needs no VM; scripts are in `real_input`.
fn do_everything(room: &Room, registry: &Registry, context: &Path, confine: &dyn Fn(Kiln) -> Kiln) {
    let path = |name: &str| room.path(name).display().to_string();
    let run = |words: &[&str]| confine(room.kiln().env("HOME", room.dir()).args(words)).run().succeeds();
    let context = context.to_str().expect("plain");
    let outputs = [format!("docker-archive:{}", path("all.tar")), format!("oci-archive:{}", path("oci.tar"))];
    run(&["build", "-o", &outputs[0], "-o", &outputs[1], context]);
    let pushed = format!("docker://{}/child:1", registry.address());
    let from = format!("docker-archive:{}:child", path("all.tar"));
    run(&["copy", "--tls-verify=false", &from, &pushed]);
    run(&["copy", "--tls-verify=false", &pushed, &format!("oci-archive:{}", path("pulled.tar"))]);
    run(&["inspect", "--tree", &format!("oci-archive:{}", path("pulled.tar"))]);
    run(&["diff", &from, &format!("oci-archive:{}", path("pulled.tar"))]);
    run(&["export", &from, "-o", &path("rootfs.tar")]);
    run(&["export", &from, "-o", &format!("{}/", path("rootfs"))]);
}

#[test]
fn nobody_makes_what_root_makes() {
    if !is_root() {
        println!("SKIPPED: an ordinary user cannot become nobody");
        return;
    }
    let (ours, theirs) = (Room::new(), Room::new());
    let (mine, registry) = (context(&ours), Registry::plain());
    do_everything(&ours, &registry, &mine, &|kiln| kiln);
    let context = context(&theirs);
    fs::create_dir(theirs.path("mount")).expect("a directory can be made");
    give_away(&theirs);
    let confinement = Confinement::find(&theirs.path("mount")).expect("root can give up its rights");
    do_everything(&theirs, &registry, &context, &|kiln| kiln.confined(confinement.clone()));
    for name in ["all.tar", "oci.tar", "pulled.tar", "rootfs.tar"] {
        assert_same_bytes(&ours.path(name), &theirs.path(name));
    }
    let exported = |room: &Room| fs::read(room.path("rootfs/etc/two")).expect("it is there");
    assert_eq!(exported(&ours), exported(&theirs));
}
