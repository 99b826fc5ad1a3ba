//! The agent's real code on real file systems, in namespaces instead of a virtual machine.

mod world;

use kiln_protocol::{Ending, EntryKind, FromGuest, FromHost, LayerEntry, Stage};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};
use world::{CLOCK, World, command, is_privileged, job, make_program, make_userland, script, tool};

/// A world with a base that has a userland and a few files to change.
fn world_with_base(scratch_mib: u64) -> World {
    let mut world = World::new(scratch_mib);
    let tree = world.path("tree");
    make_userland(&tree);
    for directory in ["etc", "data/kept", "data/gone", "replaced/inner", "empty"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n"),
        ("etc/group", "root:x:0:\nadm:x:4:web\nweb:x:33:\n"),
        ("data/kept/same", "same"),
        ("data/kept/other", "other"),
        ("data/gone/file", "gone"),
        ("data/changed", "before"),
        ("replaced/inner/file", "hidden"),
    ] {
        fs::write(tree.join(path), text).unwrap();
    }
    symlink("changed", tree.join("data/link")).unwrap();
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o751)).unwrap();
    world.add_tree("base", &tree);
    world
}

fn run_script(text: &str) -> world::Transcript {
    world_with_base(64).run(&job(vec![script(Stage::Root, text)]))
}

fn assert_done(transcript: &world::Transcript) {
    assert!(matches!(transcript.last, Some(FromGuest::Done { .. })), "{transcript:?}");
    for report in &transcript.reports {
        assert_eq!(report.ending, Ending::Exited(0), "{:?}", transcript.text());
    }
}

#[test]
fn a_step_sees_a_system_of_its_own() {
    if !is_privileged() {
        return;
    }
    let transcript = run_script(
        "echo $$ $(id -u) $(uname -n) $HOME $PWD; ulimit -n; echo error >&2; umask; ls /proc/1/exe >/dev/null
        ls -d /dev/pts/ptmx /dev/mqueue /sys/fs/cgroup/cgroup.procs; stat -c '%F %a %n' /dev/null /dev/loop0 /dev/shm
        echo text >/dev/full && exit 1; head -c 3 /dev/zero | wc -c; readlink() { stat -c %N $1; }; readlink /dev/stdin
        stat -c %a $0; ls /kiln && exit 2; read line || echo no input; exit 0",
    );
    assert_done(&transcript);
    let (stdout, stderr) = transcript.text();
    assert_eq!(
        stdout,
        "2 0 kiln /root /\n1024\n0022\n/dev/mqueue\n/dev/pts/ptmx\n/sys/fs/cgroup/cgroup.procs\n\
        character special file 666 /dev/null\nblock special file 660 /dev/loop0\ndirectory 1777 /dev/shm\n3\n\
        '/dev/stdin' -> '/proc/self/fd/0'\n755\nno input\n"
    );
    assert!(stderr.starts_with("error\n"), "{stderr}");
    assert_eq!(transcript.layer, []);
    assert!(transcript.ended);
}

/// A root made by chroot(2) would forbid it.
#[test]
fn a_step_can_make_user_namespaces() {
    if !is_privileged() {
        return;
    }
    let unshare = ["--user", "--map-root-user", "true"];
    if !std::process::Command::new("unshare").args(unshare).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here, as in a chroot or where they are switched off");
        return;
    }
    assert_done(&run_script(&format!("unshare {}", unshare.join(" "))));
}

#[test]
fn what_changed_becomes_the_layer() {
    if !is_privileged() {
        return;
    }
    let transcript = run_script(
        "cd /data; echo after >changed; rm -r gone; touch kept/same; chmod 644 kept/other; chmod 600 kept/other; chmod 644 kept/other
        rm -r /replaced; mkdir /replaced; echo new >/replaced/file
        mkdir -p /new/deep; cd /new; echo one >first; ln first second; ln second deep/third; ln -s first soft; mknod null c 1 3
        mkfifo pipe; truncate -s 10M sparse; echo end >>sparse; cp /bin/cat /new/cat; chown 33:4 cat; chmod 4755 cat
        echo x >made; rm made; chown 33 /empty; touch -d @5 old; mkdir /tmp; rmdir /tmp",
    );
    assert_done(&transcript);
    let wanted = [
        "data",
        "data/changed",
        "data/gone",
        "empty",
        "new",
        "new/cat",
        "new/deep",
        "new/deep/third",
        "new/first",
        "new/null",
        "new/old",
        "new/pipe",
        "new/second",
        "new/soft",
        "new/sparse",
        "replaced",
        "replaced/file",
    ];
    assert_eq!(transcript.paths(), wanted);
    let kind = |path| &transcript.entry(path).unwrap().kind;
    assert_eq!(kind("data"), &EntryKind::Directory { opaque: false });
    assert_eq!(kind("data/gone"), &EntryKind::Whiteout);
    assert_eq!(kind("new/deep/third"), &EntryKind::File { size: 4 });
    assert_eq!(kind("new/first"), &EntryKind::HardLink { target: b"new/deep/third".to_vec() });
    assert_eq!(kind("new/second"), &EntryKind::HardLink { target: b"new/deep/third".to_vec() });
    assert_eq!(kind("new/null"), &EntryKind::CharacterDevice { major: 1, minor: 3 });
    assert_eq!(kind("new/pipe"), &EntryKind::Fifo);
    assert_eq!(kind("new/soft"), &EntryKind::Symlink { target: b"first".to_vec() });
    assert_eq!(kind("replaced"), &EntryKind::Directory { opaque: true });
    let LayerEntry { mode, uid, gid, .. } = transcript.entry("new/cat").unwrap();
    assert_eq!((*mode, *uid, *gid), (0o4755, 33, 4));
    assert_eq!(transcript.entry("new/old").unwrap().mtime, 5);
    let data =
        |path: &str| &transcript.layer.iter().find(|(entry, _)| entry.path == path.as_bytes()).unwrap().1;
    assert!(*data("new/cat") == fs::read("/bin/cat").unwrap());
    let sparse = data("new/sparse");
    assert_eq!((sparse.len(), &sparse[10 << 20..]), ((10 << 20) + 4, &b"end\n"[..]));
    assert!(sparse[..10 << 20].iter().all(|&byte| byte == 0));
}

#[test]
fn contents_go_in_with_all_they_have() {
    if !is_privileged() {
        return;
    }
    let mut world = world_with_base(64);
    let tree = world.path("contents");
    fs::create_dir_all(tree.join("opt/deep")).unwrap();
    fs::write(tree.join("opt/file"), "text").unwrap();
    fs::hard_link(tree.join("opt/file"), tree.join("opt/deep/link")).unwrap();
    chown(tree.join("opt/file"), Some(12), Some(34)).unwrap();
    fs::set_permissions(tree.join("opt/file"), PermissionsExt::from_mode(0o6755)).unwrap();
    symlink("nowhere", tree.join("opt/soft")).unwrap();
    let (path, tree_text) =
        (|name: &str| tree.join(name).to_str().unwrap().to_owned(), tree.to_str().unwrap());
    tool("mknod", &[&path("opt/disk"), "b", "7", "300"]);
    fs::File::create(tree.join("opt/sparse")).unwrap().set_len(3 << 20).unwrap();
    rustix::fs::setxattr(
        path("opt/file"),
        "security.capability",
        CAPABILITY,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(path("opt/deep"), "user.note", b"value", rustix::fs::XattrFlags::empty()).unwrap();
    tool("touch", &["-h", "-d", "@1234", &path("opt/soft"), &path("opt/deep"), &path("opt/file"), tree_text]);
    world.add_tree("contents", &tree);
    let transcript = world.run(&kiln_protocol::Job { contents: Some("contents".into()), ..job(vec![]) });
    assert_done(&transcript);
    assert_eq!(
        transcript.paths(),
        ["opt", "opt/deep", "opt/deep/link", "opt/disk", "opt/file", "opt/soft", "opt/sparse"]
    );
    let file = transcript.entry("opt/deep/link").unwrap();
    assert_eq!((file.mode, file.uid, file.gid, file.mtime), (0o6755, 12, 34, 1234));
    assert_eq!(file.xattrs, [(b"security.capability".to_vec().into(), CAPABILITY.to_vec().into())]);
    let deep = transcript.entry("opt/deep").unwrap();
    assert_eq!(
        (deep.mtime, &deep.xattrs[..]),
        (1234, &[(b"user.note".to_vec().into(), b"value".to_vec().into())][..])
    );
    assert_eq!(transcript.entry("opt/soft").unwrap().mtime, 1234);
    assert_eq!(transcript.entry("opt/disk").unwrap().kind, EntryKind::BlockDevice { major: 7, minor: 300 });
    assert_eq!(
        transcript.entry("opt/file").unwrap().kind,
        EntryKind::HardLink { target: b"opt/deep/link".to_vec() }
    );
}

/// `cap_net_raw=ep`, as [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html) keeps it on disk.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn hooks_have_a_userland_apart_from_the_layer() {
    if !is_privileged() {
        return;
    }
    let transcript = world_with_base(64).run(&job(vec![
        script(Stage::PreMount, "pwd; ls $layer; ls -A $mnt; echo pre >$layer/pre; echo hook >/left-behind"),
        script(Stage::Root, "cat /pre; ls /left-behind 2>&1; rm /data/changed; ls -d /dev"),
        script(Stage::PostMount, "pwd; ls $mnt; cat $layer/pre; echo post >$mnt/post; cat /left-behind"),
        script(Stage::PostUmount, "pwd; ls -A . $mnt; cat post; rm pre"),
    ]));
    let (stdout, stderr) = transcript.text();
    let failing = [(0, Ending::Exited(0)), (1, Ending::Exited(2))];
    assert_eq!(
        transcript.reports.iter().map(|r| (r.step, r.ending.clone())).collect::<Vec<_>>(),
        failing,
        "{stderr}"
    );
    assert_eq!(stdout, "/kiln\npre\nls: cannot access '/left-behind': No such file or directory\n");

    let transcript = world_with_base(64).run(&job(vec![
        script(Stage::PreMount, "pwd; ls $layer; ls -A $mnt; echo pre >$layer/pre; echo hook >/left-behind"),
        script(Stage::Root, "cat /pre; rm /data/changed; ls -d /dev"),
        script(Stage::PostMount, "pwd; ls $mnt; cat $layer/pre; echo post >$mnt/post; cat /left-behind"),
        script(Stage::PostUmount, "pwd; ls -A . $mnt; cat post; rm pre"),
    ]));
    assert_done(&transcript);
    let (stdout, _) = transcript.text();
    let tree = stdout.split("/dev\n/\n").nth(1).unwrap();
    assert!(tree.contains("\netc\n") && tree.contains("\npre\n") && !tree.contains("\nproc\n"), "{stdout}");
    assert!(
        stdout.ends_with("pre\nhook\n/kiln/layer\n.:\ndata\npost\npre\n\n/kiln/mnt:\npost\n"),
        "{stdout}"
    );
    assert_eq!(transcript.paths(), ["data", "data/changed", "post"]);
}

#[test]
fn from_scratch_everything_is_new() {
    if !is_privileged() {
        return;
    }
    let mut world = World::new(64);
    let tree = world.path("contents");
    make_userland(&tree);
    world.add_tree("contents", &tree);
    let steps = vec![script(
        Stage::Root,
        "ls -d /dev /proc /sys; echo new >/new; mkdir /gone; rmdir /gone; chmod 700 /",
    )];
    let job = kiln_protocol::Job { base: None, contents: Some("contents".into()), ..job(steps) };
    let transcript = world.run(&job);
    assert_done(&transcript);
    assert_eq!(transcript.text().0, "/dev\n/proc\n/sys\n");
    let paths = transcript.paths();
    assert_eq!(paths[..2], ["", "bin"]);
    assert!(paths.contains(&"usr/bin/cat".into()) && paths.contains(&"new".into()), "{paths:?}");
    assert!(!paths.iter().any(|p| ["dev", "proc", "sys", "gone"].contains(&p.as_str())), "{paths:?}");
    assert_eq!(transcript.entry("").unwrap().mode, 0o700);

    let hook = kiln_protocol::Job { steps: vec![script(Stage::PreMount, "true")], ..job };
    let transcript = world.run(&hook);
    assert!(
        matches!(&transcript.reports[0].ending, Ending::NotStarted { what, errno: 2 } if what.contains("`tools`"))
    );
}

#[test]
fn every_way_a_step_can_end_is_told() {
    if !is_privileged() {
        return;
    }
    let not_started = |what: &str, errno| Ending::NotStarted { what: what.into(), errno };
    // More than the pipe holds in which the agent's processes tell each other.
    let endless = format!("/{}", "n".repeat(100_000));
    let table = [
        (script(Stage::Root, "exit 7"), Ending::Exited(7)),
        (script(Stage::Root, "false() { return 3; }; false; echo not reached"), Ending::Exited(3)),
        (script(Stage::Root, "kill -9 $$"), Ending::Signaled(9)),
        (script(Stage::Root, "kill -15 $$"), Ending::Signaled(15)),
        (
            script(Stage::Root, "#!/no/shell\n"),
            not_started("/no/shell, the interpreter of /dev/.kiln/test_step", 2),
        ),
        (command(&["/no/program"]), not_started("/no/program", 2)),
        (command(&["missing"]), not_started("missing: not found in /usr/bin:/bin", 2)),
        (command(&["/etc/passwd"]), not_started("/etc/passwd", 13)),
        (command(&[&endless]), not_started(&endless[..3072], 36)),
    ];
    let world = world_with_base(64);
    for (step, wanted) in table {
        let transcript = world.run(&job(vec![step, command(&["true"])]));
        assert!(matches!(transcript.last, Some(FromGuest::Done { .. })), "{transcript:?}");
        assert_eq!(transcript.reports.iter().map(|r| &r.ending).collect::<Vec<_>>(), [&wanted]);
        assert_eq!(transcript.layer, []);
    }
}

/// A layer holds no sockets. Where the base has a file of that name, it must not come back.
#[test]
fn a_socket_in_the_place_of_a_base_file_hides_it() {
    if !is_privileged() {
        return;
    }
    let mut world = World::new(64);
    let tree = world.path("tree");
    make_userland(&tree);
    fs::write(tree.join("file"), "base").unwrap();
    let source = "#include <sys/socket.h>\n#include <sys/un.h>\n#include <unistd.h>
        int listen_at(const char *path) { struct sockaddr_un at = { AF_UNIX }; unlink(path);
        for (int i = 0; path[i]; i++) at.sun_path[i] = path[i];
        return bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *) &at, sizeof at); }
        int main() { return listen_at(\"/file\") || listen_at(\"/other\"); }";
    make_program(&tree.join("usr/bin/listen"), source);
    world.add_tree("base", &tree);
    let transcript = world.run(&job(vec![command(&["listen"])]));
    assert_done(&transcript);
    assert_eq!(transcript.paths(), ["file"]);
    assert_eq!(transcript.entry("file").unwrap().kind, EntryKind::Whiteout);
}

#[test]
fn reboot_ends_only_the_step() {
    if !is_privileged() {
        return;
    }
    let mut world = World::new(64);
    let tree = world.path("tree");
    make_userland(&tree);
    make_program(
        &tree.join("usr/bin/reboot"),
        "#include <sys/reboot.h>\nint main() { return reboot(RB_AUTOBOOT); }",
    );
    world.add_tree("base", &tree);
    let transcript = world.run(&job(vec![script(Stage::Root, "echo before; reboot; sleep 1; echo after")]));
    assert!(matches!(transcript.last, Some(FromGuest::Done { .. })), "{transcript:?}");
    assert_eq!(
        (&transcript.reports[0].ending, transcript.text().0.as_str()),
        (&Ending::Rebooted, "before\n")
    );
}

#[test]
fn processes_left_behind_do_not_outlive_the_step() {
    if !is_privileged() {
        return;
    }
    let transcript = run_script("sleep 1000 & setsid sleep 1000 & (sleep 1000 & ); echo started");
    assert_done(&transcript);
    assert_eq!(transcript.text().0, "started\n");
}

#[test]
fn users_groups_directories_and_environment_are_as_asked() {
    if !is_privileged() {
        return;
    }
    let mut step = script(Stage::Root, "id -u; id -G; echo $HOME $layer $A; pwd; touch /x || echo refused");
    step.user = Some("web".into());
    step.environment.push("A=b".into());
    step.working_directory = Some("/data/kept".into());
    let world = world_with_base(64);
    let transcript = world.run(&job(vec![step.clone()]));
    assert_done(&transcript);
    assert_eq!(transcript.text().0, "33\n33 4\n/var/www b\n/data/kept\nrefused\n");

    for (user, directory, what, errno) in [
        ("nobody", "/", "user \"nobody\" is not in /etc/passwd", libc::EINVAL),
        ("4294967295", "/", "user 4294967295 is not an ID: to Linux it means no change", libc::EINVAL),
        ("web", "/nowhere", "working directory /nowhere", libc::ENOENT),
    ] {
        let step = kiln_protocol::Step {
            user: Some(user.into()),
            working_directory: Some(directory.into()),
            ..step.clone()
        };
        let transcript = world.run(&job(vec![step]));
        let Ending::NotStarted { what: told, errno: told_errno } = &transcript.reports[0].ending else {
            panic!("{transcript:?}")
        };
        assert_eq!((told.as_str(), *told_errno), (what, errno));
    }
}

#[test]
fn input_goes_through_however_it_is_cut() {
    if !is_privileged() {
        return;
    }
    let mut step = command(&["cat"]);
    step.stdin = true;
    let world = world_with_base(64);
    let mut running = world.start(&job(vec![step]));
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();
    let mut output = Vec::new();
    for piece in input.chunks(100_000) {
        running.send(&FromHost::Stdin(piece.to_vec()));
        while output.len() < piece.as_ptr() as usize - input.as_ptr() as usize {
            output.extend(received_output(&mut running));
        }
    }
    running.send(&FromHost::StdinEnd);
    let transcript = running.finish();
    output.extend(&transcript.stdout);
    assert!(output == input);
    assert_eq!(transcript.reports[0].ending, Ending::Exited(0));
}

#[test]
fn input_that_comes_with_the_job_is_not_waited_for() {
    if !is_privileged() {
        return;
    }
    let mut step = command(&["cat"]);
    step.stdin = true;
    let input = [FromHost::Stdin(b"one ".into()), FromHost::Stdin(b"two".into()), FromHost::StdinEnd];
    let world = world_with_base(64);
    let running = world.start_with(&job(vec![step]), &input);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(running.finish()).ok());
    let transcript = is_done.recv_timeout(std::time::Duration::from_secs(20)).expect("the step hangs");
    assert_done(&transcript);
    assert_eq!(transcript.text().0, "one two");
}

fn received_output(running: &mut world::Running) -> Vec<u8> {
    match running.receive() {
        Some(FromGuest::Output { bytes, .. }) => bytes,
        Some(FromGuest::StepStarted { .. }) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn input_that_nobody_reads_does_not_hang() {
    if !is_privileged() {
        return;
    }
    let mut step = script(Stage::Root, "exec <&-; sleep 0.1; echo done");
    step.stdin = true;
    let world = world_with_base(64);
    let mut running = world.start(&job(vec![step]));
    running.send(&FromHost::Stdin(vec![0; 100_000]));
    let transcript = running.finish();
    assert_eq!((transcript.text().0.as_str(), &transcript.reports[0].ending), ("done\n", &Ending::Exited(0)));
}

#[test]
fn a_full_scratch_disk_is_told() {
    if !is_privileged() {
        return;
    }
    let world = world_with_base(16);
    let transcript =
        world.run(&job(vec![script(Stage::Root, "dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null")]));
    let report = &transcript.reports[0];
    assert_eq!(report.ending, Ending::Exited(1));
    assert!(
        report.scratch.available < report.scratch.size / 20 && report.scratch.size > 8 << 20,
        "{report:?}"
    );

    let mut world = world_with_base(16);
    let tree = world.path("contents");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("big"), vec![1; 32 << 20]).unwrap();
    world.add_tree("contents", &tree);
    let transcript = world.run(&kiln_protocol::Job { contents: Some("contents".into()), ..job(vec![]) });
    let Some(FromGuest::Failed(failure)) = &transcript.last else { panic!("{transcript:?}") };
    assert_eq!(failure.errno, 28);
    assert!(failure.what.ends_with("/scratch/layer/big"), "{}", failure.what);
    assert!(failure.scratch.unwrap().available < 1 << 20);
}

#[test]
fn what_the_host_got_wrong_is_told() {
    if !is_privileged() {
        return;
    }
    let world = world_with_base(16);
    let backwards = job(vec![script(Stage::PostUmount, ":"), script(Stage::Root, ":")]);
    let unknown = kiln_protocol::Job { base: Some("other".into()), ..job(vec![]) };
    for (job, stage, what) in [
        (backwards, Some(Stage::Root), "the job's stages go backwards"),
        (unknown, None, "mount the base disk"),
    ] {
        let transcript = world.run(&job);
        let Some(FromGuest::Failed(failure)) = &transcript.last else { panic!("{transcript:?}") };
        assert_eq!((failure.stage, failure.what.as_str()), (stage, what));
    }
}

#[test]
fn touched_at_the_clock_is_unchanged() {
    if !is_privileged() {
        return;
    }
    let transcript = run_script(&format!(
        "touch -d @{CLOCK} /data/kept/same; touch -d @{} /data/kept/other; touch -h /data/link; chown -h 5 /data/link",
        CLOCK - 1
    ));
    assert_done(&transcript);
    assert_eq!(transcript.paths(), ["data", "data/kept", "data/kept/other", "data/link"]);
}

#[test]
fn directories_deeper_than_any_path_are_walked() {
    if !is_privileged() {
        return;
    }
    let mut world = World::new(64);
    let tree = world.path("tree");
    make_userland(&tree);
    let source = "#include <sys/stat.h>\n#include <unistd.h>\n#include <fcntl.h>
        int main() { for (int i = 0; i < 2000; i++) if (mkdir(\"deep\", 0755) || chdir(\"deep\")) return 1;
        return close(creat(\"end\", 0644)); }";
    make_program(&tree.join("usr/bin/dig"), source);
    world.add_tree("base", &tree);
    let transcript = world.run(&job(vec![command(&["dig"])]));
    assert_done(&transcript);
    assert_eq!(transcript.layer.len(), 2001);
    assert_eq!(transcript.layer[2000].0.path.len(), 2000 * 5 + 3);
}

#[test]
fn it_does_nothing_on_a_host() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kiln-agent")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(Path::new(env!("CARGO_BIN_EXE_kiln-agent")).exists());
}
