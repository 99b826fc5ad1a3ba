use super::*;
use crate::password::HashedPassword;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# people\nann:x:1000:1000:Ann:/home/ann:/bin/bash\nsshd:x:999:65534::/run/sshd:/usr/sbin/nologin\n+::::::\n";
const GROUP: &str = "root:x:0:\nsudo:x:27:ann\nann:x:1000:\nusers:x:1001:\n+:::\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\nann:$6$old$h:19000:0:99999:7:::\nsshd:!:19000::::::\n";
const GSHADOW: &str = "root:*::\nsudo:*::ann\nann:!::\nusers:!::\n";

fn accounts() -> Accounts {
    let [passwd, group, shadow, gshadow] =
        [PASSWD, GROUP, SHADOW, GSHADOW].map(|text| text.as_bytes().to_vec());
    Accounts { passwd, group, shadow, gshadow: Some(gshadow) }
}

fn user(name: &str) -> User {
    User { name: name.to_owned(), ..User::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lines that are in one text and not in the other.
fn added(before: &str, after: &[u8]) -> Vec<String> {
    let after = text(after);
    after.lines().filter(|line| !before.lines().any(|old| old == *line)).map(str::to_owned).collect()
}

#[test]
fn new_users_get_the_first_free_numbers() {
    let users = [
        User {
            groups: vec!["sudo".to_owned()],
            authorized_keys: vec!["ssh-ed25519 AAAA bob".to_owned()],
            ..user("bob")
        },
        User { uid: Some(1002), shell: Some("/bin/zsh".to_owned()), ..user("eve") },
        User { is_system: true, ..user("web") },
        User {
            group: Some(PrimaryGroup::Name("users".to_owned())),
            home: Some("/srv/joe/".to_owned()),
            ..user("joe")
        },
    ];
    let (after, homes) = accounts().declare(&[], &users).unwrap();
    assert_eq!(
        added(PASSWD, &after.passwd),
        [
            "bob:x:1003:1003::/home/bob:/bin/sh",
            "eve:x:1002:1002::/home/eve:/bin/zsh",
            "web:x:998:998::/nonexistent:/usr/sbin/nologin",
            "joe:x:1001:1001::/srv/joe/:/bin/sh",
        ]
    );
    assert_eq!(added(GROUP, &after.group), ["sudo:x:27:ann,bob", "bob:x:1003:", "eve:x:1002:", "web:x:998:"]);
    assert!(
        text(&after.passwd).ends_with("/bin/sh\n+::::::\n") && text(&after.group).ends_with("998:\n+:::\n")
    );
    assert!(added(SHADOW, &after.shadow).contains(&"bob:*::0:99999:7:::".to_owned()));
    let expected = ["sudo:*::ann,bob", "bob:!::", "eve:!::", "web:!::"];
    assert_eq!(added(GSHADOW, after.gshadow.as_deref().unwrap()), expected);
    let places: Vec<_> =
        homes.iter().map(|home| (home.path.as_str(), home.mode, home.uid, home.gid)).collect();
    assert_eq!(
        places,
        [("home/bob", 0o700, 1003, 1003), ("home/eve", 0o700, 1002, 1002), ("srv/joe", 0o700, 1001, 1001)]
    );
    let files: Vec<_> = homes[0].files.iter().map(|file| (file.path.as_str(), file.mode, file.uid)).collect();
    assert_eq!(files, [("home/bob/.ssh", 0o700, 1003), ("home/bob/.ssh/authorized_keys", 0o600, 1003)]);
    assert_eq!(homes[0].files[1].content, SystemContent::File(b"ssh-ed25519 AAAA bob\n".to_vec()));
    // Declaring once more what is there changes nothing.
    let users = users.map(|user| User { password: None, ..user });
    assert_eq!(after.declare(&[], &users).unwrap().0, after);
}

#[test]
fn users_that_are_there_are_changed() {
    let hash = HashedPassword::from_crypt("$6$new$h").unwrap();
    let ann = User {
        shell: Some("/bin/zsh".to_owned()),
        password: Some(Password::Hashed(hash)),
        groups: vec!["sudo".to_owned(), "docker".to_owned()],
        ..user("ann")
    };
    let root =
        User { password: Some(Password::Locked), authorized_keys: vec![" key ".to_owned()], ..user("root") };
    let docker = Group { name: "docker".to_owned(), gid: None, is_system: true };
    let (after, homes) = accounts().declare(&[docker], &[ann, root]).unwrap();
    assert_eq!(added(PASSWD, &after.passwd), ["ann:x:1000:1000:Ann:/home/ann:/bin/zsh"]);
    assert_eq!(added(GROUP, &after.group), ["docker:x:999:ann"]);
    assert_eq!(added(SHADOW, &after.shadow), ["ann:$6$new$h:19000:0:99999:7:::"]);
    assert_eq!(added(GSHADOW, after.gshadow.as_deref().unwrap()), ["docker:!::ann"]);
    assert_eq!((homes.len(), homes[0].path.as_str(), homes[0].uid), (1, "root", 0));
    assert_eq!(homes[0].files[1].path, "root/.ssh/authorized_keys");
}

#[test]
fn files_that_are_not_as_they_should_be_are_kept() {
    let before = Accounts {
        passwd: b"\xff\xfe\nshort:x\nroot:x:0:0:root:/root:/bin/sh\nlast:x:1000:1000::/:/bin/sh".to_vec(),
        ..Accounts::default()
    };
    let (after, _) = before.declare(&[], &[user("bob")]).unwrap();
    let expected = [&before.passwd[..], b"\nbob:x:1001:1001::/home/bob:/bin/sh\n"].concat();
    assert_eq!(after.passwd, expected);
    assert_eq!(
        (text(&after.group), text(&after.shadow)),
        ("bob:x:1001:\n".to_owned(), "bob:*::0:99999:7:::\n".to_owned())
    );
    assert_eq!(after.gshadow, None);
    let error = before.declare(&[], &[user("short")]).unwrap_err().to_string();
    assert_eq!(error, "\"short\" is there, but has no uid that is a number");
}

#[test]
fn hostile_homes_are_refused() {
    for (home, why) in [
        ("../../etc", "it must begin with `/`"),
        ("/home/../../etc", "it has `.` or `..` in it"),
        ("", "it must begin with `/`"),
    ] {
        let passwd = format!("bob:x:1000:1000::{home}:/bin/sh\n").into_bytes();
        let before = Accounts { passwd, ..Accounts::default() };
        let bob = User { authorized_keys: vec!["key".to_owned()], ..user("bob") };
        let error = before.declare(&[], &[bob]).unwrap_err().to_string();
        assert_eq!(error, format!("{home:?} is not a home directory: {why}"));
    }
}

#[test]
fn declarations_that_cannot_be_are_refused() {
    let some = |text: &str| Some(text.to_owned());
    let letters = "it must be of letters, digits, `_`, `.` and `-`, and not begin with `-`";
    for (declared, why) in [
        (user(""), "\"\" is not a user's name: it must have 1 to 32 letters".to_owned()),
        (
            user(&"a".repeat(33)),
            format!("{:?} is not a user's name: it must have 1 to 32 letters", "a".repeat(33)),
        ),
        (user("a:b"), format!("\"a:b\" is not a user's name: {letters}")),
        (user("-a"), format!("\"-a\" is not a user's name: {letters}")),
        (user("+a"), format!("\"+a\" is not a user's name: {letters}")),
        (user("$"), format!("\"$\" is not a user's name: {letters}")),
        (
            user("123"),
            "\"123\" is not a user's name: it would be taken for a directory or a number".to_owned(),
        ),
        (user(".."), "\"..\" is not a user's name: it would be taken for a directory or a number".to_owned()),
        (
            User { home: some("home"), ..user("a") },
            "\"home\" is not a home directory: it must begin with `/`".to_owned(),
        ),
        (
            User { shell: some("/a:b"), ..user("a") },
            "\"/a:b\" is not a shell: it has a colon or a control character".to_owned(),
        ),
        (
            User { comment: some("a\nroot::0:0"), ..user("a") },
            "\"a\\nroot::0:0\" is not a user's comment: it has a colon or a control character".to_owned(),
        ),
        (
            User { authorized_keys: vec!["a\nb".to_owned()], ..user("a") },
            "\"a\\nb\" is not a line of authorized keys: it has a control character".to_owned(),
        ),
        (User { uid: Some(0), ..user("a") }, "\"a\" cannot have uid 0: \"root\" has it".to_owned()),
        (User { uid: Some(5), ..user("ann") }, "\"ann\" has uid 1000 already, not 5".to_owned()),
        (
            User { uid: Some(u32::MAX), ..user("a") },
            "\"a\" cannot have the uid 4294967295, which means none".to_owned(),
        ),
        (
            User { groups: vec!["nowhere".to_owned()], ..user("a") },
            "\"a\" is to be in group \"nowhere\", which is neither there nor declared".to_owned(),
        ),
    ] {
        assert_eq!(accounts().declare(&[], &[declared]).unwrap_err().to_string(), why);
    }
    let twice = accounts().declare(&[], &[user("a"), user("a")]).unwrap_err().to_string();
    assert_eq!(twice, "\"a\" is declared twice");
    assert!(
        accounts()
            .declare(&[], &[user("machine$"), user("a.b"), user("Über".trim_start_matches('Ü'))])
            .is_ok()
    );
}

#[test]
fn machine_ids_are_removed_or_fixed() {
    let text_of = |text: &str, init| {
        let (files, removals) = MachineId::parse(text).unwrap().changes(init, true);
        let texts = files.into_iter().map(|file| match file.content {
            SystemContent::File(text) => (file.path, String::from_utf8(text).unwrap()),
            SystemContent::Symlink(target) => (file.path, format!("-> {target}")),
            SystemContent::Directory => panic!("no directory"),
        });
        (texts.collect::<Vec<_>>(), removals.len())
    };
    let id = "0123456789abcdef0123456789abcdef";
    for (declared, expected) in
        [("removed", ""), ("first-boot", "uninitialized\n"), (id, &*format!("{id}\n"))]
    {
        let (files, removals) = text_of(declared, Init::Systemd);
        assert_eq!(files[0], ("etc/machine-id".to_owned(), expected.to_owned()));
        assert_eq!(files[1], ("var/lib/dbus/machine-id".to_owned(), "-> /etc/machine-id".to_owned()));
        assert_eq!(removals, 0);
    }
    assert_eq!(text_of("removed", Init::Sysvinit), (vec![], 2));
    assert_eq!(text_of(&id.to_uppercase(), Init::Sysvinit).0[0].1, format!("{id}\n"));
    for (text, why) in [
        ("", "it must be `removed`, `first-boot` or 32 hexadecimal digits"),
        (&id[1..], "it must be `removed`, `first-boot` or 32 hexadecimal digits"),
        (&*"0".repeat(32), "its digits are all zero"),
    ] {
        let error = MachineId::parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("{text:?} is not a machine id: {why}"));
    }
}

#[test]
fn removals_match_names_only() {
    let matches = |name: &[u8]| host_keys().iter().any(|removal| removal.matches(name));
    for name in ["ssh_host_rsa_key", "ssh_host_ed25519_key.pub", "ssh_host_key", "ssh_host__key"] {
        assert!(matches(name.as_bytes()), "{name}");
    }
    for name in
        ["sshd_config", "ssh_host_rsa_key.bak", "ssh_host_key_", "xssh_host_rsa_key", "ssh_host_ke", ""]
    {
        assert!(!matches(name.as_bytes()), "{name}");
    }
    let several = Removal { directory: "", name: "a*b*b" };
    assert!(several.matches(b"abb") && several.matches(b"a-b-b") && !several.matches(b"ab"));
    let lease = Removal { directory: "", name: "*.lease*" };
    assert!(lease.matches(b"dhclient.eth0.leases") && !lease.matches(b"release"));
}

#[test]
fn names_of_identities_are_apart_and_paths_are_from_the_root() {
    let mut names: Vec<_> = Identity::ALL.iter().map(|identity| identity.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Identity::ALL.len());
    for removal in Identity::ALL.iter().flat_map(|identity| identity.removals()) {
        assert!(!removal.directory.starts_with('/') && !removal.name.contains('/') && removal.name != "*");
    }
}

fn scripts() -> Vec<FirstBootScript> {
    let script =
        |name: &str, text: &str| FirstBootScript { name: name.to_owned(), text: text.as_bytes().to_vec() };
    vec![
        script("one", "#!/bin/sh\necho out; echo err >&2\n"),
        script("two", "#!/bin/sh\necho \"$0\"; [ -e ${0%/*}/../allowed ] || exit 7\n"),
        script("three", "#!/bin/sh\ncat; echo last\n"),
    ]
}

fn all_files(init: Init) -> Vec<SystemFile> {
    [first_boot(&scripts(), init).unwrap(), grow_root(init), host_keys_at_first_boot(init)].concat()
}

fn put(root: &Path, files: &[SystemFile]) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in files {
        let path = root.join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &file.content {
            SystemContent::File(text) => {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(u32::from(file.mode))).unwrap();
            }
            SystemContent::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            SystemContent::Directory => fs::create_dir_all(path).unwrap(),
        }
    }
}

/// A tool of the administrator's, which the PATH of others may not have.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("{program} is needed: {error}"))
}

#[test]
fn all_scripts_are_of_the_shells_standard_language_and_all_links_lead_somewhere() {
    for init in [Init::Systemd, Init::Sysvinit, Init::OpenRc] {
        let root = tempfile::tempdir().unwrap();
        let files = all_files(init);
        put(root.path(), &files);
        for file in &files {
            let path = root.path().join(&file.path);
            if let SystemContent::Symlink(target) = &file.content {
                let absolute = target.strip_prefix('/').map(|target| root.path().join(target));
                let aim = absolute.unwrap_or_else(|| path.parent().unwrap().join(target));
                assert!(aim.exists(), "{path:?} leads nowhere");
                continue;
            }
            if fs::read(&path).unwrap().starts_with(b"#!/") {
                let checked = run(Command::new("dash").arg("-n").arg(&path));
                assert!(checked.status.success(), "{}: {checked:?}", file.path);
            }
        }
        let links = files.iter().filter(|file| matches!(file.content, SystemContent::Symlink(_))).count();
        assert_eq!(links, 3, "{init:?}");
    }
}

#[test]
fn a_script_of_sysvinit_runs_on_start_only() {
    let files = host_keys_at_first_boot(Init::Sysvinit);
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &files);
    let script = root.path().join("etc/init.d/kiln-ssh-host-keys");
    let said = run(Command::new("dash").arg(&script).arg("status"));
    assert_eq!((said.status.code(), said.stdout.len() + said.stderr.len()), (Some(0), 0));
}

#[test]
fn first_boot_runs_each_script_once_in_order_and_stops_at_a_failure() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &first_boot(&scripts(), Init::Systemd).unwrap());
    let directory = root.path().join("usr/lib/kiln/first-boot.d");
    let (state, log) = (root.path().join("state"), root.path().join("log"));
    let boot = || {
        let script = root.path().join("usr/lib/kiln/first-boot");
        run(Command::new("dash").arg(script).args([&directory, &state, &log]))
    };
    let first = boot();
    let two = directory.join("02-two");
    let said = format!(
        "first-boot: 01-one\nout\nerr\nfirst-boot: 02-two\n{}\nfirst-boot: 02-two failed with status 7; what it printed is in {}\n",
        two.display(),
        log.display()
    );
    assert_eq!((first.status.code(), text(&first.stdout)), (Some(7), said.clone()));
    assert_eq!(fs::read_to_string(&log).unwrap(), said);
    assert!(!state.join("first-boot.done").exists());
    fs::write(directory.join("../allowed"), "").unwrap();
    let second = boot();
    let said = format!("first-boot: 02-two\n{}\nfirst-boot: 03-three\nlast\n", two.display());
    assert_eq!((second.status.code(), text(&second.stdout)), (Some(0), said));
    assert!(state.join("first-boot.done").exists());
    assert_eq!(text(&boot().stdout), "");
}

#[test]
fn first_boot_does_not_wait_for_what_a_script_leaves_running() {
    let root = tempfile::tempdir().unwrap();
    let script =
        FirstBootScript { name: "daemon".to_owned(), text: b"#!/bin/sh\necho begun\nsleep 60 &\n".to_vec() };
    put(root.path(), &first_boot(&[script], Init::Systemd).unwrap());
    let (state, log) = (root.path().join("state"), root.path().join("log"));
    let program = root.path().join("usr/lib/kiln/first-boot");
    let directory = root.path().join("usr/lib/kiln/first-boot.d");
    let begin = std::time::Instant::now();
    let ended = run(Command::new("dash").arg(program).args([&directory, &state, &log]));
    assert_eq!(text(&ended.stdout), "first-boot: 01-daemon\nbegun\n");
    assert!(begin.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn scripts_of_the_first_boot_have_names_and_interpreters() {
    for (name, body, why) in [
        (
            "",
            "#!/bin/sh",
            "\"\" is not the name of a script of the first boot: it must have 1 to 200 letters",
        ),
        (
            "a/b",
            "#!/bin/sh",
            "\"a/b\" is not the name of a script of the first boot: it must be of letters, digits, `.`, `_` and `-`, and not begin with `.`",
        ),
        (
            ".a",
            "#!/bin/sh",
            "\".a\" is not the name of a script of the first boot: it must be of letters, digits, `.`, `_` and `-`, and not begin with `.`",
        ),
        ("a", "echo", "script \"a\" of the first boot does not begin with `#!`"),
    ] {
        let script = FirstBootScript { name: name.to_owned(), text: body.as_bytes().to_vec() };
        assert_eq!(first_boot(&[script], Init::Systemd).unwrap_err().to_string(), why);
    }
    let many = vec![scripts()[0].clone(); 100];
    let error = first_boot(&many, Init::Systemd).unwrap_err().to_string();
    assert_eq!(error, "there are more than 99 scripts of the first boot");
}

#[test]
fn systems_are_known_by_their_init() {
    for (program, files, expected) in [
        (None, &["lib/systemd/systemd", "etc/rcS.d"][..], Some(Init::Systemd)),
        (Some("usr/lib/systemd/systemd"), &["lib/systemd/systemd", "etc/rcS.d"], Some(Init::Systemd)),
        (Some("sbin/init"), &["lib/systemd/systemd", "etc/rcS.d"], Some(Init::Sysvinit)),
        (Some("bin/busybox"), &["sbin/openrc-run", "etc/inittab"], Some(Init::OpenRc)),
        (Some("sbin/init"), &["etc/rcS.d"], Some(Init::Sysvinit)),
        // As of Red Hat up to 6, and of Buildroot: nothing reads `rcS.d`.
        (Some("sbin/init"), &["etc/inittab"], None),
        (None, &["bin/sh"], None),
    ] {
        assert_eq!(Init::of(program, |path| files.contains(&path)), expected, "{program:?} {files:?}");
    }
    let removals = Init::Sysvinit.removals();
    assert!(removals.len() == 1 && removals[0].matches(b".depend.boot"));
    assert_eq!((Init::Systemd.removals(), Init::OpenRc.removals()), (vec![], vec![]));
}

/// systemd's own reading of the units.
#[test]
fn units_are_what_systemd_takes() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &all_files(Init::Systemd));
    for (path, text) in [("usr/bin/ssh-keygen", "#!/bin/sh\n"), ("etc/machine-id", "")] {
        let mut file = SystemFile::file(path, 0o755, text);
        file.mode = 0o755;
        put(root.path(), &[file]);
    }
    for unit in ["multi-user.target", "network.target", "sysinit.target", "basic.target", "shutdown.target"] {
        put(root.path(), &[SystemFile::file(&format!("usr/lib/systemd/system/{unit}"), 0o644, "[Unit]\n")]);
    }
    let units = ["kiln-first-boot.service", "kiln-grow-root.service", "kiln-ssh-host-keys.service"];
    let root = format!("--root={}", root.path().display());
    let checked = run(Command::new("systemd-analyze").args(["verify", "--man=no", &root]).args(units));
    let said = text(&checked.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("kiln-")).collect();
    assert!(checked.status.success() && ours.is_empty(), "{said}");
}

/// What shadow-utils say of files with declared users.
#[test]
fn accounts_are_what_shadow_utils_take() {
    let root = tempfile::tempdir().unwrap();
    let before = Accounts {
        passwd: PASSWD.replace("+::::::\n", "").replace("# people\n", "").into(),
        group: GROUP.replace("+:::\n", "").into(),
        ..accounts()
    };
    let users = [
        user("bob"),
        User { is_system: true, ..user("web") },
        User { groups: vec!["sudo".to_owned()], ..user("ann") },
    ];
    let (after, _) = before.declare(&[], &users).unwrap();
    let place = |name: &str, text: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let [passwd, shadow] = [place("passwd", &after.passwd), place("shadow", &after.shadow)];
    let [group, gshadow] =
        [place("group", &after.group), place("gshadow", after.gshadow.as_deref().unwrap())];
    for (program, one, other) in [("pwck", passwd, shadow), ("grpck", group, gshadow)] {
        let checked = run(tool(program).args(["-r", "-q"]).args([one, other]));
        let said = text(&checked.stdout);
        // Homes and shells are not on this system, nor are all the users of its groups.
        let known = ["does not exist", "no changes", "no matching", "no user", "delete member"];
        let is_known = |line: &&str| known.iter().any(|known| line.contains(known));
        let wrong: Vec<_> = said.lines().filter(|line| !is_known(line)).collect();
        assert!(wrong.is_empty(), "{program}: {said} {}", text(&checked.stderr));
    }
}

/// Runs the script for `/` in a system that is made up: its tools say what they are called with.
fn grow_made_up(
    device: &str,
    mount: &str,
    block: &str,
    partition: Option<u32>,
    tools: &[&str],
) -> (i32, String) {
    let root = tempfile::tempdir().unwrap();
    let place = |path: &str| root.path().join(path).to_str().unwrap().to_owned();
    put(root.path(), &grow_root(Init::Systemd));
    let file = |path: &str, mode, text: &str| SystemFile::file(path, mode, text);
    let calls = place("calls");
    let mut files = vec![
        file("proc/self/mountinfo", 0o644, mount),
        file(&format!("sys/devices/{block}/size"), 0o644, "1\n"),
        file(&format!("dev/{device}"), 0o644, ""),
        SystemFile::symlink("sys/dev/block/254:2".to_owned(), place(&format!("sys/devices/{block}"))),
        SystemFile::symlink(format!("sys/class/block/{device}"), place(&format!("sys/devices/{block}"))),
    ];
    for tool in tools {
        let text = format!("#!/bin/sh\necho \"{tool} $*\" >>{calls}\n");
        files.push(file(&format!("bin/{tool}"), 0o755, &text));
    }
    if let Some(number) = partition {
        files.push(file(&format!("sys/devices/{block}/partition"), 0o644, &format!("{number}\n")));
    }
    put(root.path(), &files);
    let script = place("usr/lib/kiln/grow-root");
    let tool_path = format!("PATH={}:/usr/bin:/bin", place("bin"));
    let made_up = fs::read_to_string(&script)
        .unwrap()
        .replace("PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", &tool_path)
        .replace("/usr/lib/systemd", "/nowhere")
        .replace("/lib/systemd", "/nowhere");
    let made_up =
        [("/proc/self", "proc/self"), ("\"/sys/", "sys/"), ("/dev/$(", "dev/$("), ("/var/lib", "var/lib")]
            .iter()
            .fold(made_up, |text, (from, to)| {
                let quote = if from.starts_with('"') { "\"" } else { "" };
                text.replace(from, &format!("{quote}{}", place(to)))
            });
    fs::write(&script, made_up).unwrap();
    let grown = run(Command::new("dash").arg(&script));
    let done = root.path().join("var/lib/kiln/grow-root.done").exists();
    assert_eq!(done, grown.status.success(), "{grown:?}");
    let calls = fs::read_to_string(calls).unwrap_or_default();
    (grown.status.code().unwrap(), calls.replace(&place(""), "/"))
}

#[test]
fn the_root_file_system_is_grown_by_its_own_tools() {
    let ext4 = "20 1 0:2 / / rw - rootfs none rw\n21 1 254:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n22 21 0:5 / /proc rw - proc proc rw\n";
    let xfs = "21 1 254:2 / / rw - xfs /dev/vda2 rw\n";
    // It has a number that no device has.
    let btrfs = "21 1 0:25 /@ / rw - btrfs /dev/vda2 rw,subvol=/@\n";
    let all = &["sfdisk", "partx", "resize2fs", "xfs_growfs", "btrfs"][..];
    let sfdisk = "sfdisk --quiet --no-reread --force -N 2 /dev/vda\n";
    for (device, mount, block, partition, tools, expected) in [
        ("vda2", ext4, "pci/vda/vda2", Some(2), all, (0, format!("{sfdisk}resize2fs /dev/vda2\n"))),
        ("vda2", xfs, "pci/vda/vda2", Some(2), all, (0, format!("{sfdisk}xfs_growfs /\n"))),
        ("vda", ext4, "pci/vda", None, all, (0, "resize2fs /dev/vda\n".to_owned())),
        (
            "vda2",
            xfs,
            "pci/vda/vda2",
            Some(2),
            &["growpart", "xfs_growfs"],
            (0, "growpart /dev/vda 2\nxfs_growfs /\n".to_owned()),
        ),
        (
            "vda2",
            btrfs,
            "pci/vda/vda2",
            Some(2),
            all,
            (0, format!("{sfdisk}btrfs filesystem resize max /\n")),
        ),
        ("vda2", xfs, "pci/vda/vda2", Some(2), &["sfdisk"], (1, sfdisk.to_owned())),
        ("vda2", xfs, "pci/vda/vda2", Some(2), &["xfs_growfs"], (1, String::new())),
    ] {
        assert_eq!(grow_made_up(device, mount, block, partition, tools), expected, "{mount}");
    }
    let tmpfs = "21 1 0:25 / / rw - tmpfs tmpfs rw\n";
    assert_eq!(grow_made_up("vda2", tmpfs, "pci/vda/vda2", Some(2), all), (1, String::new()));
}

const SECTORS: u64 = 2048;

/// Runs sfdisk on a disk.
fn sfdisk(disk: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = tool("sfdisk")
        .args(arguments)
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sfdisk of util-linux is needed: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Start and size of each partition, in sectors.
fn partitions(disk: &Path) -> Vec<(u64, u64)> {
    let dump = sfdisk(disk, &["--dump"], "");
    let field = |line: &str, name: &str| {
        let rest = line.split(name).nth(1).unwrap();
        rest.split(',').next().unwrap().trim().parse().unwrap()
    };
    dump.lines()
        .filter(|line| line.contains("start="))
        .map(|line| (field(line, "start="), field(line, "size=")))
        .collect()
}

#[test]
fn partitions_grow_to_their_disk() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &grow_root(Init::Systemd));
    for (table, number, disk_size, expected) in [
        ("label: gpt\n,10M\n,20M\n", 2, 100, vec![(2048, 20480), (22528, 100 * SECTORS - 34 + 1 - 22528)]),
        ("label: gpt\n,10M\n,20M\n", 1, 100, vec![(2048, 20480), (22528, 40960)]),
        ("label: dos\n,10M\n,20M\n", 2, 100, vec![(2048, 20480), (22528, 100 * SECTORS - 22528)]),
        (
            "label: dos\n,10M,83,*\n,,E\n,20M\n",
            5,
            100,
            vec![(2048, 20480), (22528, 100 * SECTORS - 22528), (24576, 100 * SECTORS - 24576)],
        ),
        ("label: dos\n,10M\n,20M\n", 2, 40, vec![(2048, 20480), (22528, 40 * SECTORS - 22528)]),
    ] {
        let disk = directory.path().join("disk");
        let file = fs::File::create(&disk).unwrap();
        file.set_len(40 << 20).unwrap();
        sfdisk(&disk, &["--quiet"], table);
        let ids = sfdisk(&disk, &["--dump"], "");
        file.set_len(disk_size << 20).unwrap();
        let script = directory.path().join("usr/lib/kiln/grow-root");
        for _ in 0..2 {
            let grown =
                run(Command::new("dash").arg(&script).arg("partition").arg(&disk).arg(number.to_string()));
            assert!(grown.status.success(), "{table:?}: {grown:?}");
        }
        let found = partitions(&disk);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.0, expected.0, "{table:?}");
            // A partition may end where the next unit of alignment would begin.
            assert!(
                found.1 <= expected.1 && found.1 + SECTORS > expected.1,
                "{table:?}: {found:?} {expected:?}"
            );
        }
        let kept = |text: &str| text.lines().filter(|line| line.starts_with("label-id")).collect::<String>();
        assert_eq!(kept(&ids), kept(&sfdisk(&disk, &["--dump"], "")));
        sfdisk(&disk, &["--verify", "--quiet"], "");
    }
}

proptest::proptest! {
    /// Whatever the files hold, there is an answer, and lines of others stay.
    #[test]
    fn any_bytes_are_accounts(lines in proptest::collection::vec("[a-c+:0-9\\xff#,]{0,12}\n?", 0..12)) {
        let bytes = lines.concat().into_bytes();
        let before = Accounts { passwd: bytes.clone(), group: bytes.clone(), shadow: bytes.clone(), gshadow: Some(bytes.clone()) };
        let bob = User { groups: vec!["wheel".to_owned()], ..user("bob") };
        let wheel = Group { name: "wheel".to_owned(), ..Group::default() };
        let (after, _) = before.declare(&[wheel], &[bob]).unwrap();
        for text in [&after.passwd, &after.group, &after.shadow, after.gshadow.as_ref().unwrap()] {
            let others: Vec<_> = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"bob:") && !line.starts_with(b"wheel:")).collect();
            let expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
            let full = |lines: Vec<&[u8]>| lines.into_iter().filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>();
            proptest::prop_assert_eq!(full(others), full(expected));
        }
        let again = after.declare(&[], &[user("bob")]).unwrap().0;
        proptest::prop_assert_eq!(again, after);
    }

    /// Whatever is in `/etc/hosts`, the name is in it once.
    #[test]
    fn any_bytes_are_hosts(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), own in 0..3_usize) {
        let hosts = [&bytes[..], &b"\n127.0.1.1 x\n".repeat(own)].concat();
        let hostname = Hostname::parse("web").unwrap();
        let after = hostname.hosts(&hosts);
        let lines = after.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"127.0.1.1"));
        proptest::prop_assert_eq!(lines.count(), 1);
        proptest::prop_assert_eq!(hostname.hosts(&after), after);
    }
}
