//! The main job: a script that does everything an image build asks of a real root, on a real Debian base. The result
//! is read by tools that are not ours. Then again as nobody, under other circumstances: the same bytes.
//!
//! The build itself is `tests/real-input`; the benchmark uses it too. `$KILN_TEST_SMALL` makes its largest files a
//! hundredth as large, for machines that are slow; `$KILN_TEST_SAME_IMAGE` names an image that those of other engines
//! and machines must be the same as: the first run makes it.

use crate::reproducible::assert_same_bytes;
use kiln_tests::{
    Archive, Confinement, Debian, Engine, Kiln, Listed, Room, is_root, on_every_engine, repository,
    tool_output,
};
use std::{
    env, fs,
    os::unix::fs::{FileTypeExt, MetadataExt, symlink},
    path::{Path, PathBuf},
};

on_every_engine!(everything_root_does_arrives_and_is_the_same_for_nobody);

fn everything_root_does_arrives_and_is_the_same_for_nobody(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let context = assemble(&room.path("context"), &debian);

    room.build(&context, "first.tar", ",compression=gzip")
        .engine(engine)
        .args(["--cpus", "1"])
        .run()
        .succeeds();
    let archive = Archive::at(&room.path("first.tar"));
    check_image(&archive);
    check_layer(&archive.list_last_layer());
    check_unpacked(&archive.unpack(&room.path("unpacked")));

    let second = build_otherwise(engine, &room, &debian);
    assert_same_bytes(&room.path("first.tar"), &second);
    assert_same_elsewhere(&second);
}

fn assert_same_elsewhere(image: &Path) {
    let Some(other) = env::var_os("KILN_TEST_SAME_IMAGE").map(PathBuf::from) else { return };
    if other.exists() {
        assert_same_bytes(image, &other);
    } else {
        fs::copy(image, other).expect("the image can be copied");
    }
}

/// Of the largest files.
struct Sizes {
    /// Bytes of one letter that `large` begins with.
    letters: &'static str,
    /// Numbered lines that follow.
    lines: &'static str,
    /// Bytes of `sparse`.
    sparse: &'static str,
    /// Where its middle and its end are.
    middle: &'static str,
    end: &'static str,
}

/// What `job.sh` says.
const LARGE: Sizes = Sizes {
    letters: "100000000",
    lines: "3000000",
    sparse: "1073741824",
    middle: "536870000",
    end: "1073741821",
};

const SMALL: Sizes =
    Sizes { letters: "1000000", lines: "30000", sparse: "16777216", middle: "8380000", end: "16777213" };

fn sizes() -> Sizes {
    if env::var_os("KILN_TEST_SMALL").is_some() { SMALL } else { LARGE }
}

/// Makes the files of `job.sh` as large as wanted.
fn resize(job: &Path) {
    let mut script = fs::read_to_string(job).expect("it was copied");
    let (large, wanted) = (LARGE, sizes());
    for (before, old, new) in [
        ("head -c ", large.letters, wanted.letters),
        ("seq ", large.lines, wanted.lines),
        ("truncate -s ", large.sparse, wanted.sparse),
        ("seek=", large.middle, wanted.middle),
        ("seek=", large.end, wanted.end),
    ] {
        let old = format!("{before}{old}");
        assert!(script.contains(&old), "no {old:?} in job.sh");
        script = script.replace(&old, &format!("{before}{new}"));
    }
    fs::write(job, script).expect("it is ours");
}

/// Lays base and packages beside the build file.
fn assemble(dir: &Path, debian: &Debian) -> PathBuf {
    tool_output("cp", &[Path::new("-r"), &repository().join("tests/real-input"), dir]);
    resize(&dir.join("job.sh"));
    symlink(debian.image(), dir.join("base.tar")).expect("a link can be made");
    tool_output("cp", &[Path::new("-r"), &debian.packages(), &dir.join("debs")]);
    dir.to_owned()
}

/// Another user without any right (when the tests run as root), directory, umask, time zone, clock, language, number
/// of processors, and an empty cache.
fn build_otherwise(engine: Engine, room: &Room, debian: &Debian) -> PathBuf {
    let theirs = room.path("nobody");
    fs::create_dir(&theirs).expect("a directory can be made");
    // All files below are copies: nobody cannot read where this user's are.
    let context = theirs.join("some").join("where else");
    fs::create_dir_all(context.parent().expect("it has one")).expect("a directory can be made");
    assemble(&context, debian);
    fs::remove_file(context.join("base.tar")).expect("it was linked");
    fs::copy(debian.image(), context.join("base.tar")).expect("the base can be copied");
    tool_output("cp", &[Path::new("-rL"), &repository().join("out"), &theirs.join("installation")]);
    for name in ["cache", "tmp", "mount-point"] {
        fs::create_dir(theirs.join(name)).expect("a directory can be made");
    }
    let confinement = Confinement::find(&theirs.join("mount-point"));
    if confinement.is_some() {
        tool_output("chown", &["-R", "65534:65534", theirs.to_str().expect("a plain path")]);
    } else {
        eprintln!("not root: the second build runs as the same user, with user namespaces as they are");
    }

    let image = context.join("result.tar");
    let output = format!("type=docker-archive,dest={},compression=gzip", image.display());
    // 400 days ahead; the monotonic clock stays, as nobody's differs. The VMs' real-time clock is the host's all the same.
    let otherwise = r#"umask 077; exec faketime --exclude-monotonic -f +400d "$@""#;
    let kiln = Kiln::new(&theirs.join("cache"), &theirs.join("tmp"), &theirs)
        .binary(&theirs.join("installation/bin/kiln"))
        .args(["build", "-o", &output, "--cpus", "2"])
        .engine(engine)
        .arg("where else")
        .directory(&theirs.join("some"))
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/nonexistent")
        .through(["sh", "-c", otherwise, "sh"]);
    let kiln = match confinement {
        Some(confinement) => kiln.confined(confinement),
        None => kiln,
    };
    kiln.run().succeeds().leaves_no_process();
    image
}

fn check_image(archive: &Archive) {
    let inspected = archive.inspect();
    assert_eq!(inspected["Labels"]["purpose"], "test");
    assert_eq!(inspected["Os"], "linux");
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(inspected["Layers"].as_array().expect("layers").len(), 2, "the base's and the new one");

    let config = archive.config();
    assert_eq!(config["config"]["User"], "app");
    assert_eq!(config["config"]["WorkingDir"], "/home/app");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/opt/app/serve"]));
    assert!(config["config"]["Env"][0].as_str().expect("the base's").starts_with("PATH="));
    assert_eq!(archive.manifest()["RepoTags"], serde_json::json!(["example/real:1"]));
}

/// Modes, owners, types and whiteouts, from GNU tar's listing.
fn check_layer(listed: &[Listed]) {
    let paths: Vec<&str> = listed.iter().map(|entry| entry.path.trim_end_matches('/')).collect();
    let find = |path: &str| {
        let index = paths.iter().position(|&listed| listed == path);
        &listed[index.unwrap_or_else(|| panic!("{path} is not in the layer: {paths:#?}"))]
    };

    let expected = EXPECTED.replace("SPARSE", sizes().sparse);
    for line in expected.lines().filter(|line| !line.is_empty()) {
        let [mode, owner, size, path, link] = fields(line);
        let entry = find(path);
        let size_is_right = size == "*" || size == entry.size;
        assert!(entry.mode == mode && entry.owner == owner && size_is_right, "wanted {line}, got {entry:?}");
        assert_eq!(entry.link.as_deref().unwrap_or(""), link, "{path}");
    }
    for path in ABSENT {
        let inside = format!("{path}/");
        let found = paths.iter().find(|listed| *listed == path || listed.starts_with(&inside));
        assert_eq!(found, None, "must not be in the layer");
    }
    let mut whiteouts: Vec<&str> = paths.iter().copied().filter(|path| path.contains(".wh.")).collect();
    whiteouts.sort_unstable();
    assert_eq!(whiteouts, WHITEOUTS);
    assert_eq!(listed.iter().filter(|entry| entry.mode.starts_with('h')).count(), 3, "hard links");
    check_order_and_times(listed, &paths);
}

fn fields(line: &str) -> [&str; 5] {
    let mut words = line.split_ascii_whitespace();
    std::array::from_fn(|_| words.next().unwrap_or(""))
}

/// Mode, owner, size (`*`: any), path and, for links, target.
const EXPECTED: &str = "
-rwxr-xr-x 1500/1500 21 opt/app/serve
drwxr-xr-x 1500/1500 0 opt/app
drwxr-xr-x 1500/1500 0 home/app
-rw-r--r-- 3000000/4000000 6 srv/real/big-owner
crw-r--r-- 0/0 1,3 srv/real/character
brw-r----- 0/0 7,300 srv/real/block
prw-r--r-- 0/0 0 srv/real/fifo
-rwsr-xr-x 0/0 * srv/real/setuid
-rwxr-sr-x 0/1500 * srv/real/setgid
drwxrwxrwt 0/0 0 srv/real/sticky
-rw-rw-r-- 0/0 4 srv/real/acl
-rw-r--r-- 0/0 * etc/issue
-rw------- 0/0 * etc/host.conf
drwxr-xr-x 0/0 0 etc/motd
-rw-r--r-- 0/0 16 etc/motd/file
-rw-r--r-- 0/0 11 etc/terminfo
-rw-r--r-- 0/0 4 usr/share/debianutils/only
drwxr-xr-x 0/0 0 usr/share/menu
-rw-r--r-- 0/0 * usr/share/tabset-moved/std
-rw-r--r-- 0/0 5 srv/real/hard-1
hrw-r--r-- 0/0 0 srv/real/hard-2 srv/real/hard-1
hrw-r--r-- 0/0 0 srv/real/sub/hard-3 srv/real/hard-1
hrwsr-xr-x 0/0 0 srv/real/setuid-link srv/real/setuid
lrwxrwxrwx 0/0 0 srv/real/relative hard-1
lrwxrwxrwx 0/0 0 srv/real/dangling /no/such/target
-rw-r--r-- 0/0 0 srv/real/latin-\\351
-rw-r--r-- 0/0 0 srv/real/new\\nline
-rw-r--r-- 0/0 0 srv/real/unicode-\\303\\251
-rw-r--r-- 0/0 0 srv/real/wh.not
-rw-r--r-- 0/0 0 srv/real/empty
-rw-r--r-- 0/0 513 srv/real/odd
-rw-r--r-- 0/0 SPARSE srv/real/sparse
-rwxr-xr-x 0/0 * usr/bin/hello
-rwxr-xr-x 0/0 * usr/bin/less
";

/// Never touched, only read, or gone again; mount points; what the run itself needs.
const ABSENT: &[&str] = &[
    "dev",
    "proc",
    "sys",
    "run",
    "boot",
    "etc/profile",
    "etc/gone",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/machine-id",
    "usr/bin/dash",
    "usr/share/perl5",
    "var/tmp/debs",
];

/// Sorted. A directory that the base does not have needs no opaque mark, nor does one that was a file there.
const WHITEOUTS: &[&str] = &[
    "etc/.wh.issue.net",
    "usr/bin/.wh.more",
    "usr/share/.wh.pixmaps",
    "usr/share/.wh.tabset",
    "usr/share/debianutils/.wh..wh..opq",
    "usr/share/menu/.wh.bash",
    "usr/share/menu/.wh.dash",
];

fn check_order_and_times(listed: &[Listed], paths: &[&str]) {
    for (index, path) in paths.iter().enumerate() {
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert!(paths[..index].contains(&parent), "{path} comes before its directory");
        }
    }
    // The base's creation time.
    let newest = listed.iter().map(|entry| &entry.time).max().expect("there are entries");
    assert_eq!(newest, "2026-01-01 00:00:00");
}

/// Contents, links, and what tar does not show, in the root file system that umoci unpacked.
fn check_unpacked(root: &Path) {
    let real = root.join("srv/real");
    check_changes_of_the_base(root);
    check_names(&real);
    check_large_files(&real);
    assert_eq!(fs::read_to_string(real.join("sub/hard-3")).expect("it is there"), "hard\n");
    assert_eq!(inode(&real.join("hard-1")), inode(&real.join("sub/hard-3")));
    assert_eq!(inode(&real.join("setuid")), inode(&real.join("setuid-link")));
    assert_eq!(fs::read_link(real.join("long-target")).expect("a link").as_os_str().len(), 200);
    let passwd = fs::read_to_string(root.join("etc/passwd")).expect("it is there");
    assert!(passwd.contains("app:x:1500:1500::/home/app:/bin/sh\n"), "{passwd}");
    let status = fs::read_to_string(root.join("var/lib/dpkg/status")).expect("it is there");
    assert!(status.contains("Package: hello\nStatus: install ok installed\n"));
    if is_root() {
        check_what_only_root_can_unpack(&real);
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("it is there").ino()
}

fn check_changes_of_the_base(root: &Path) {
    for gone in ["etc/issue.net", "usr/bin/more", "usr/share/pixmaps", "usr/share/tabset", "var/tmp/debs"] {
        assert!(!root.join(gone).exists(), "{gone} is still there");
    }
    for kept in ["etc/profile", "usr/bin/dash", "usr/share/tabset-moved/vt100"] {
        assert!(root.join(kept).exists(), "{kept} is not there");
    }
    assert_eq!(names(&root.join("usr/share/debianutils")), ["only"]);
    assert_eq!(names(&root.join("usr/share/menu")), [""; 0]);
    assert_eq!(names(&root.join("etc/motd")), ["file"]);
    assert!(fs::read_to_string(root.join("etc/issue")).expect("it is there").ends_with("changed\n"));
    assert_eq!(fs::read_to_string(root.join("etc/terminfo")).expect("a file"), "now-a-file\n");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

fn check_names(real: &Path) {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let component = format!("{:0100}", 2);
    let deep = real.join(&component).join(&component).join(&component).join("file");
    assert_eq!(fs::read_to_string(deep).expect("a path over 255 bytes"), "deep\n");
    for name in [&b"latin-\xe9"[..], b"new\nline", b" spaces ", format!("{:0250}", 1).as_bytes()] {
        assert!(real.join(OsStr::from_bytes(name)).is_file(), "{}", name.escape_ascii());
    }
}

fn check_large_files(real: &Path) {
    let script = r#"
        cd "$1"
        { head -c "$2" /dev/zero | tr '\0' k; seq "$3"; } | cmp - large
        cmp -n 5 - sparse <<<begin
        cmp -n 6 -i "0:$4" - sparse <<<middle
        cmp -n 3 -i "0:$5" - sparse <<<end
        test "$(tr -d '\0' <sparse)" = beginmiddleend
    "#;
    let real = real.to_str().expect("a plain path");
    let Sizes { letters, lines, middle, end, .. } = sizes();
    tool_output("bash", &["-euo", "pipefail", "-c", script, "bash", real, letters, lines, middle, end]);
}

fn check_what_only_root_can_unpack(real: &Path) {
    let metadata = |name: &str| fs::symlink_metadata(real.join(name)).expect("it is there");
    let (owner, character, block) = (metadata("big-owner"), metadata("character"), metadata("block"));
    assert_eq!((owner.uid(), owner.gid()), (3_000_000, 4_000_000));
    assert!(character.file_type().is_char_device() && character.rdev() == 0x103, "{:x}", character.rdev());
    // Linux's dev_t: minor 300 is split around the major number.
    assert!(block.file_type().is_block_device() && block.rdev() == 0x10_072c, "{:x}", block.rdev());
    assert_eq!(metadata("setuid").mode() & 0o7777, 0o4755);
    assert_eq!(metadata("setgid").mode() & 0o7777, 0o2755);
    assert_eq!(metadata("sticky").mode() & 0o7777, 0o1777);

    let says = |program: &str, options: &[&str], name: &str| {
        let path = real.join(name);
        let arguments: Vec<&str> = options.iter().copied().chain(path.to_str()).collect();
        String::from_utf8_lossy(&tool_output(program, &arguments)).into_owned()
    };
    let capabilities = says("getcap", &[], "capable");
    assert!(capabilities.ends_with("cap_net_bind_service,cap_net_raw=ep\n"), "{capabilities}");
    let acl = says("getfacl", &["-cnE", "--absolute-names"], "acl");
    assert_eq!(acl, "user::rw-\nuser:1500:rw-\ngroup::r--\ngroup:42:r--\nmask::rw-\nother::r--\n\n");
    let default = says("getfacl", &["-cndE", "--absolute-names"], "acl-default");
    assert_eq!(default, "user::rwx\nuser:1500:rwx\ngroup::r-x\nmask::rwx\nother::r-x\n\n");
    let note = says("getfattr", &["--only-values", "--absolute-names", "-n", "user.note"], "attribute");
    assert_eq!(note, "a=b\n19 path=/etc/evil");
}
