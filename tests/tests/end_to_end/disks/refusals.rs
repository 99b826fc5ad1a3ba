//! What cannot be is refused before any work is done, each with its own words.

use kiln_tests::{Room, System, disk_cache, disk_context, disk_kiln};

fn refused(disk: &str) -> String {
    let room = Room::new();
    let context = disk_context(&room, "context", System::Debian, disk);
    refused_in(&room, &context)
}

fn refused_in(room: &Room, context: &std::path::Path) -> String {
    let output = format!("type=raw,dest={}", room.path("disk.raw").display());
    // There is no VM to be started: the kernel is none.
    let nothing = room.write("no-kernel", "");
    let kiln = disk_kiln(room).args(["build", "-o", &output, "--kernel"]).arg(nothing).arg(context);
    let outcome = kiln.run().fails().leaves_nothing();
    assert!(!room.path("disk.raw").exists());
    let _ = disk_cache();
    outcome.stderr
}

#[test]
fn each_mistake_has_its_own_words() {
    let root = "[[disk.partition]]\nfilesystem = 'ext4'\nmount = '/'\n";
    let table: [(&str, String, &[&str]); 10] = [
        (
            "contents too large for the rest",
            format!("size = '64MiB'\n{}", root.replace("filesystem", "size = 'rest'\nfilesystem")),
            &["is too small for the", "MiB of / that go onto it"],
        ),
        ("too small", format!("size = '100MiB'\n{root}"), &["too small", "MiB"]),
        (
            "contents too large for their partition",
            "[[disk.partition]]\nsize = '64MiB'\nfilesystem = 'ext4'\nmount = '/'\n".to_owned(),
            &["partition 1 of 64 MiB is too small"],
        ),
        (
            "a label too long",
            "[[disk.partition]]\nfilesystem = 'xfs'\nlabel = 'much-too-long-a-label'\nmount = '/'\n".to_owned(),
            &["kiln.toml:", "label"],
        ),
        (
            "overlapping",
            "[[disk.partition]]\nsize = '64MiB'\nstart = '1MiB'\n[[disk.partition]]\nsize = '64MiB'\nstart = '2MiB'\n".to_owned(),
            &["overlap"],
        ),
        (
            "a table that does not fit",
            "[[disk.partition]]\nsize = '64MiB'\nstart = '512'\n".to_owned(),
            &["partition 1"],
        ),
        (
            "tools that are nowhere",
            format!("table = 'mbr'\nboot = ['grub-legacy']\n{}", root.replace("ext4", "ext3")),
            &["no GRUB 0.97", "grub-legacy"],
        ),
        ("no ESP", format!("boot = ['grub-efi']\n{root}"), &["EFI system partition"]),
        ("no place for GRUB", format!("boot = ['grub-bios']\n{root}"), &["bios-boot"]),
        ("an unknown loader", format!("boot = ['lilo']\n{root}"), &["kiln.toml:", "`lilo`", "grub-bios"]),
    ];
    for (what, disk, wanted) in table {
        let message = refused(&disk);
        for words in wanted {
            assert!(message.contains(words), "{what}: {words:?} is not in:\n{message}");
        }
    }
}

#[test]
fn an_image_without_a_kernel_does_not_boot() {
    let room = Room::new();
    room.write("context/tree/etc/hostname", "empty");
    let build_file = "contents = ['tree']\n[disk]\ntable = 'mbr'\nboot = ['grub-bios']\n[[disk.partition]]\nfilesystem = 'ext4'\nmount = '/'\n";
    let context = room.context("context", None, build_file);
    assert!(refused_in(&room, &context).contains("there is no kernel in the image"));
}
