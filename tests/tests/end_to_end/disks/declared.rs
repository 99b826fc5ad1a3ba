//! What people declare of a system holds when it boots.

use super::{build, check_file_system, partition, root};
use kiln_tests::{Engine, Firmware, Room, System, boot, on_every_engine, tool_output};
use std::path::Path;

on_every_engine! {
passwords_and_owners_are_on_the_disk, what_is_declared_holds, mounts_and_processes_left_behind_harm_nobody, output_of_failed_scripts_is_kept }

const DECLARED: &str = r#"
table = 'mbr'
boot = ['grub-bios']
hostname = 'declared'
ssh-host-keys = 'remove'
machine-id = '0123456789abcdef0123456789abcdef'
grow = true
first-boot = ['echo first-boot-was-here > /etc/hostname']
scripts = ['echo scripted > /etc/scripted']
[[disk.user]]
name = 'alice'
uid = 1234
groups = ['users']
shell = '/bin/bash'
authorized-keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mVRhAu4ztpMPM2CC6jNvE7bzrNAqLr4dqkLQhDmYh alice']
"#;

/// A file's text in an ext4 file system.
fn cat(file: &Path, path: &str) -> String {
    let request = format!("cat {path}");
    let output = tool_output("debugfs", &["-R", &request, file.to_str().expect("plain")]);
    String::from_utf8_lossy(&output).into_owned()
}

fn stat(file: &Path, path: &str) -> String {
    let request = format!("stat {path}");
    let output = tool_output("debugfs", &["-R", &request, file.to_str().expect("plain")]);
    String::from_utf8_lossy(&output).into_owned()
}

fn what_is_declared_holds(engine: Engine) {
    let room = Room::new();
    build(&room, System::Debian, engine, &format!("{DECLARED}{}", root("ext4")), &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    let root = partition(&room, &raw, 0);
    check_file_system("ext4", &root);
    assert_eq!(cat(&root, "/etc/hostname"), "declared\n");
    assert_eq!(cat(&root, "/etc/scripted"), "scripted\n");
    assert!(cat(&root, "/etc/passwd").contains("alice:x:1234:1234:"), "{}", cat(&root, "/etc/passwd"));
    assert!(stat(&root, "/home/alice/.ssh/authorized_keys").contains("Mode:  0600"));
    assert!(stat(&root, "/home/alice/.bashrc").contains("User:  1234"));
    assert!(cat(&root, "/etc/ssh/ssh_host_ed25519_key").is_empty(), "host keys are in the image");
    let uuid = String::from_utf8(tool_output(
        "blkid",
        &["-p", "-s", "UUID", "-o", "value", root.to_str().expect("plain")],
    ));
    let uuid = uuid.expect("plain");
    assert_eq!(cat(&root, "/etc/fstab"), format!("UUID={} / ext4 defaults 0 1\n", uuid.trim()));
    // Never checked because of its age.
    let superblock =
        String::from_utf8_lossy(&tool_output("dumpe2fs", &["-h", root.to_str().expect("plain")]))
            .into_owned();
    for line in ["Maximum mount count:      -1", "Check interval:           0"] {
        assert!(superblock.contains(line), "{superblock}");
    }
    tool_output("truncate", &["-s", "2G", raw.to_str().expect("plain")]);
    let line = boot(&raw, "raw", Firmware::Bios);
    // What the script of the first boot wrote.
    for wanted in ["host=first-boot-was-here", "id=0123456789abcdef0123456789abcdef", "failed= "] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    let size: u64 =
        line.split("size=").nth(1).and_then(|rest| rest.split('M').next()?.parse().ok()).expect("a size");
    assert!(size > 1700, "the root did not grow: {line}");
}

/// Each script has a mount namespace and processes of its own: what it mounts is gone with it, the last first.
fn mounts_and_processes_left_behind_harm_nobody(engine: Engine) {
    let room = Room::new();
    let disk = format!(
        "table = 'mbr'\nboot = ['grub-bios']\nscripts = ['''\nmkdir -p /srv/a\nmount -t tmpfs tmpfs /srv/a\nmkdir /srv/a/b\nmount -t \
         tmpfs tmpfs /srv/a/b\ncd /srv/a/b\nsleep 1000 &\n''']\n{}",
        root("ext4")
    );
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    check_file_system("ext4", &partition(&room, &room.path("disk.raw"), 0));
}

fn output_of_failed_scripts_is_kept(engine: Engine) {
    let room = Room::new();
    let disk = format!("table = 'mbr'\nscripts = ['true', 'echo what went wrong; exit 3']\n{}", root("ext4"));
    let context = kiln_tests::disk_context(&room, "context", System::Debian, &disk);
    let output = format!("type=raw,dest={}", room.path("disk.raw").display());
    let kiln = kiln_tests::disk_kiln(&room).args(["build", "-o", &output]).engine(engine).arg(context);
    kiln.run().fails().says("script 2 exited with code 3").says("what went wrong").leaves_nothing();
}

/// Keys of the image, as the disk has them.
fn passwords_and_owners_are_on_the_disk(engine: Engine) {
    let room = Room::new();
    room.write("context/tree/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    room.write("context/tree/etc/owned", "owned");
    let hash =
        "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";
    let build_file = format!(
        "contents = ['tree']\nroot-password = {{ hash = '{hash}' }}\nuid-map = ['0:1000:1']\ngid-map = ['0:1000:1']\n[disk]\ntable = \
         'none'\n[[disk.partition]]\nfilesystem = 'ext4'\nmount = '/'\n"
    );
    let context = room.context("context", None, &build_file);
    let raw = room.path("disk.raw");
    let output = format!("type=raw,dest={}", raw.display());
    kiln_tests::disk_kiln(&room).args(["build", "-o", &output]).engine(engine).arg(context).run().succeeds();
    check_file_system("ext4", &raw);
    assert!(cat(&raw, "/etc/shadow").starts_with(&format!("root:{hash}:")), "{}", cat(&raw, "/etc/shadow"));
    assert!(stat(&raw, "/etc/owned").contains("User:  1000   Group:  1000"), "{}", stat(&raw, "/etc/owned"));
}
