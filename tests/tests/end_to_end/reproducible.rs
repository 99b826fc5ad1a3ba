//! Same inputs, same bytes. With a script: in `real_input`.

use kiln_tests::{Debian, Room, tool};
use std::path::Path;

/// # Panics
/// When they differ, with the offset.
pub fn assert_same_bytes(one: &Path, other: &Path) {
    let compared = tool("cmp").args([one, other]).output().expect("cmp is installed");
    let text =
        String::from_utf8_lossy(&compared.stdout).into_owned() + &String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{text}");
}

/// Compression must not depend on the number of threads, and what is not compressed on nothing at all.
#[test]
fn processors_and_caches_do_not_matter() {
    let debian = Debian::get();
    for compression in ["gzip", "zstd", "none"] {
        let options = format!(",compression={compression}");
        let image = |room: &Room, words: &[&str]| {
            let context = room.context("context", None, CONTEXT);
            std::os::unix::fs::symlink(debian.rootfs(), context.join("rootfs.tar"))
                .expect("a link can be made");
            room.build(&context, "image.tar", &options).through(words).run().succeeds();
            room.path("image.tar")
        };
        let (room, another_room) = (Room::new(), Room::new());
        let one = image(&room, &["taskset", "-c", "0"]);
        let other = image(&another_room, &["env"]);
        assert_same_bytes(&one, &other);
    }
}

const CONTEXT: &str = r#"contents = [{ src = "rootfs.tar", owner = "keep" }]"#;
