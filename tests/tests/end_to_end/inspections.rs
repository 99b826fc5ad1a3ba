//! `kiln inspect` and `kiln diff`.

use kiln_tests::{Image, Room};
use serde_json::Value;
use std::{fs, os::unix::fs::symlink};

fn image(room: &Room, name: &str, text: &str, label: &str) -> String {
    room.write(&format!("{name}/one/etc/changed"), "as it was");
    room.write(&format!("{name}/one/etc/gone"), "gone");
    room.write(&format!("{name}/two/etc/changed"), text);
    let _ = symlink("changed", room.path(&format!("{name}/two/etc/link")));
    let build_file = format!(
        "
        [[image]]
        name = 'example/inspected'
        author = 'me'
        [[image.layer]]
        contents = ['one']
        [[image.layer]]
        contents = ['two']
        delete = ['/etc/gone']
        comment = 'the second'
        [image.config]
        Env = ['A=1']
        Labels = {{ label = '{label}' }}
        "
    );
    let context = room.context(name, None, &build_file);
    let layout = format!("oci:{}:inspected", room.path(&format!("{name}-layout")).display());
    room.kiln().args(["build", "-o", &layout]).arg(&context).run().succeeds();
    layout
}

fn kiln(room: &Room, words: &[&str]) -> String {
    String::from_utf8(room.kiln().args(words).run().succeeds().stdout).expect("it is text")
}

#[test]
fn an_image_is_inspected() {
    let room = Room::new();
    let reference = image(&room, "one", "new", "x");
    let summary = kiln(&room, &["inspect", &reference]);
    for text in ["linux/amd64", "A=1", "label", "me"] {
        assert!(summary.contains(text), "{text}: {summary}");
    }
    let layers = kiln(&room, &["inspect", "--layers", &reference]);
    let diff_ids = Image::at(&reference).diff_ids();
    for id in &diff_ids {
        assert!(layers.contains(&id[7..19]), "{id}: {layers}");
    }
    let tree = kiln(&room, &["inspect", "--tree", &reference]);
    for text in ["changed", "link", "->"] {
        assert!(tree.contains(text), "{text}: {tree}");
    }
    assert!(!tree.contains("gone"), "{tree}");
}

#[test]
fn json_says_what_skopeo_says() {
    let room = Room::new();
    let reference = image(&room, "one", "new", "x");
    let ours: Value = serde_json::from_str(&kiln(&room, &["inspect", "--json", &reference])).expect("JSON");
    let theirs = Image::at(&reference).inspect();
    for key in ["Digest", "Created", "Architecture", "Os", "Layers", "Env", "Labels"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(kiln(&room, &["inspect", "--raw", &reference]).into_bytes(), Image::at(&reference).raw());
    let config: Value =
        serde_json::from_str(&kiln(&room, &["inspect", "--config", &reference])).expect("JSON");
    assert_eq!(config, Image::at(&reference).config());
}

#[test]
fn two_images_are_compared() {
    let room = Room::new();
    let (one, two) = (image(&room, "one", "new", "x"), image(&room, "two", "newer", "y"));
    room.kiln().args(["diff", &one, &one]).run().exits_with(0);
    let outcome = room.kiln().args(["diff", &one, &two]).run().exits_with(1);
    let text = String::from_utf8(outcome.stdout).expect("it is text");
    assert!(text.contains("etc/changed") && text.contains("label"), "{text}");
    assert!(!text.contains("etc/link"), "{text}");
    let outcome = room.kiln().args(["diff", "--json", &one, &two]).run().exits_with(1);
    let parsed: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert!(parsed.is_object());
    room.kiln().args(["diff", &one, "oci:/nowhere:x"]).run().exits_with(2);
}

/// A directory like any other: what is in it can be looked at at once, and links lead nowhere outside.
#[test]
fn an_image_is_exported_to_a_directory() {
    let room = Room::new();
    room.write("evil/tree/ok", "ok");
    symlink("/", room.path("evil/tree/up")).expect("a link can be made");
    room.write("evil/two/up/pwned", "no");
    let build_file = "
        [[image]]
        name = 'evil'
        [[image.layer]]
        contents = ['tree']
        [[image.layer]]
        contents = ['two']
    ";
    let context = room.context("evil", None, build_file);
    let archive = room.path("evil.tar");
    room.kiln()
        .args(["build", "-o", &format!("docker-archive:{}", archive.display())])
        .arg(&context)
        .run()
        .succeeds();
    let directory = room.path("exported");
    room.kiln()
        .arg("export")
        .arg(&archive)
        .arg("-o")
        .arg(format!("{}/", directory.display()))
        .run()
        .succeeds();
    assert_eq!(fs::read_to_string(directory.join("ok")).expect("it is there"), "ok");
    assert!(!std::path::Path::new("/pwned").exists());
}
