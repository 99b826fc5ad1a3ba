//! A mistake in a build file is shown where it is: file, line and column. Every kind of mistake is tested beside the
//! parser; here is that they arrive.

use kiln_tests::Room;

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, place, message) in [
        ("name = 'a'\nform = 'base.tar'\n", "2:1", "form"),
        ("contents = ['tree', 3]\n", "1:21", "3"),
        ("\n\nfrom = 'missing.tar'\n", "3:8", "missing.tar"),
        ("contents = [\n  { src = 'missing' },\n]\n", "2:11", "missing"),
        ("run-as-root = { file = 'missing.sh' }\n", "1:24", "missing.sh"),
        ("disk-size = 'huge'\n", "1:13", "huge"),
        ("[config]\nEnv = ['A=1', 'B']\n", "2:15", "B"),
        ("name = 'unfinished\n", "1:", ""),
    ] {
        let room = Room::new();
        let context = room.context("context", None, text);
        let place = format!("kiln.toml:{place}");
        room.build(&context, "image.tar", "").run().exits_with(2).says(&place).says(message).leaves_nothing();
    }
}

#[test]
fn the_build_file_can_lie_elsewhere() {
    let room = Room::new();
    room.write("elsewhere/tree/file", "text");
    room.write("elsewhere/other.toml", "contents = ['tree']\n");
    let context = room.context("context", None, "this is not read");
    let other = room.path("elsewhere/other.toml");
    room.build(&context, "image.tar", "").arg("-f").arg(&other).run().succeeds();
    let tar = room.path("image.tar");
    let listed = kiln_tests::Archive::at(&tar).list_last_layer();
    assert_eq!(listed.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["file"]);
}
