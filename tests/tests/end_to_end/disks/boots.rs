//! Systems boot to their own init.

use super::{BIOS_BOOT, ESP, build, check_file_system, partition, root, same_disk};
use kiln_tests::{Engine, Firmware, Room, System, boot, boot_machine, on_every_engine, tool_output};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

fn assert_up(line: &str, wanted: &[&str]) {
    for word in wanted {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    assert!(line.contains("failed= "), "units failed: {line}");
}

on_every_engine! {
    grub_for_bios_on_an_mbr_boots_from_every_format, grub_for_uefi_and_bios_on_one_gpt, extlinux_on_an_mbr,
    extlinux_with_a_boot_partition_on_a_gpt, systemd_boot_with_kernels_on_the_esp, a_unified_kernel_image,
    xfs_root_with_swap, btrfs_root, dracut_makes_the_initial_ram_disk, grub_legacy, squashfs_root_without_a_table,
    the_toolbox_serves_images_without_loaders, a_live_system_boots_from_cds_and_disks,
}

fn grub_for_bios_on_an_mbr_boots_from_every_format(engine: Engine) {
    let room = Room::new();
    let disk = format!("table = 'mbr'\nboot = ['grub-bios']\n{}", root("ext4"));
    let outputs = [
        "type=raw,dest=disk.raw",
        "type=qcow2,dest=disk.qcow2,compression=zlib",
        "type=vmdk,dest=disk.vmdk",
        "type=vhd,dest=disk.vhd",
        "type=vdi,dest=disk.vdi",
        "type=vhdx,dest=disk.vhdx",
        "type=ova,dest=machine.ova,name=Machine",
    ];
    build(&room, System::Debian, engine, &disk, &outputs);
    let raw = room.path("disk.raw");
    check_file_system("ext4", &partition(&room, &raw, 0));
    let list =
        String::from_utf8(tool_output("tar", &["-tf", room.path("machine.ova").to_str().expect("plain")]));
    assert_eq!(list.expect("plain"), "machine.ovf\nmachine.mf\nmachine-disk1.vmdk\n");
    let room_path = room.path("");
    let dir = room_path.to_str().expect("plain");
    tool_output("tar", &["-xf", room.path("machine.ova").to_str().expect("plain"), "-C", dir]);
    tool_output("xmllint", &["--noout", room.path("machine.ovf").to_str().expect("plain")]);
    let files = [
        ("disk.raw", "raw"),
        ("disk.qcow2", "qcow2"),
        ("disk.vmdk", "vmdk"),
        ("disk.vhd", "vpc"),
        ("disk.vdi", "vdi"),
        ("disk.vhdx", "vhdx"),
        ("machine-disk1.vmdk", "vmdk"),
    ];
    for (name, format) in files {
        let file = room.path(name);
        same_disk(&file, format, &raw);
        if matches!(format, "qcow2" | "vdi" | "vmdk" | "vhdx") {
            tool_output("qemu-img", &["check", "-q", "-f", format, file.to_str().expect("plain")]);
        }
        assert_up(&boot(&file, format, Firmware::Bios), &["root=ext4", "mounts=/,", "efi=no"]);
    }
}

fn grub_for_uefi_and_bios_on_one_gpt(engine: Engine) {
    let room = Room::new();
    let disk = format!("boot = ['grub-bios', 'grub-efi']\n{BIOS_BOOT}{ESP}{}", root("ext4"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("vfat", &partition(&room, &raw, 1));
    check_file_system("ext4", &partition(&room, &raw, 2));
    tool_output("sgdisk", &["-v", raw.to_str().expect("plain")]);
    assert_up(&boot(&raw, "raw", Firmware::Efi), &["root=ext4", "/boot/efi,", "efi=yes"]);
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=ext4", "/boot/efi,", "efi=no"]);
}

fn extlinux_on_an_mbr(engine: Engine) {
    let room = Room::new();
    let disk = format!("table = 'mbr'\nboot = ['extlinux']\n{}", root("ext4"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("ext4", &partition(&room, &raw, 0));
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=ext4", "efi=no"]);
}

fn extlinux_with_a_boot_partition_on_a_gpt(engine: Engine) {
    let room = Room::new();
    let boot_partition = "[[disk.partition]]\nsize = 'fit+16MiB'\nfilesystem = 'ext2'\nmount = '/boot'\n";
    let disk = format!("boot = ['extlinux']\n{boot_partition}{}", root("xfs"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("ext2", &partition(&room, &raw, 0));
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=xfs", "/boot,", "efi=no"]);
}

fn systemd_boot_with_kernels_on_the_esp(engine: Engine) {
    let room = Room::new();
    let disk = format!("boot = ['systemd-boot']\n{ESP}{}", root("ext4"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("vfat", &partition(&room, &raw, 0));
    assert_up(&boot(&raw, "raw", Firmware::Efi), &["root=ext4", "efi=yes"]);
}

fn a_unified_kernel_image(engine: Engine) {
    let room = Room::new();
    let disk = format!("boot = ['uki']\n{ESP}{}", root("ext4"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("vfat", &partition(&room, &raw, 0));
    assert_up(&boot(&raw, "raw", Firmware::Efi), &["root=ext4", "efi=yes"]);
}

fn xfs_root_with_swap(engine: Engine) {
    let room = Room::new();
    let swap = "[[disk.partition]]\nsize = '64MiB'\nfilesystem = 'swap'\nlabel = 'swap'\n";
    let disk = format!("boot = ['grub-bios']\n{BIOS_BOOT}{swap}{}", root("xfs"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("xfs", &partition(&room, &raw, 2));
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=xfs"]);
}

fn btrfs_root(engine: Engine) {
    let room = Room::new();
    let disk = format!("boot = ['grub-bios']\n{BIOS_BOOT}{}", root("btrfs"));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("btrfs", &partition(&room, &raw, 1));
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=btrfs"]);
}

/// As Fedora has it: dracut, made anew, and the kernel on a partition of its own.
fn dracut_makes_the_initial_ram_disk(engine: Engine) {
    let room = Room::new();
    let boot_partition = "[[disk.partition]]\nsize = 'fit+64MiB'\nfilesystem = 'ext4'\nmount = '/boot'\n";
    let disk = format!("initrd = 'always'\nboot = ['grub-efi']\n{ESP}{boot_partition}{}", root("xfs"));
    build(&room, System::Dracut, engine, &disk, &["type=raw,dest=disk.raw"]);
    assert_up(&boot(&room.path("disk.raw"), "raw", Firmware::Efi), &["root=xfs", "/boot,", "efi=yes"]);
}

fn grub_legacy(engine: Engine) {
    let room = Room::new();
    let disk = format!("table = 'mbr'\nboot = ['grub-legacy']\n{}", root("ext3"));
    build(&room, System::Legacy, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    check_file_system("ext3", &partition(&room, &raw, 0));
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=ext3"]);
}

/// Without a loader: kernel and initial RAM disk lie beside the disk.
fn squashfs_root_without_a_table(engine: Engine) {
    let room = Room::new();
    let disk = format!("table = 'none'\nboot = []\n{}", root("squashfs").replace("size = 'fit+64MiB'\n", ""));
    build(&room, System::Debian, engine, &disk, &["type=raw,dest=disk.squashfs", "type=kernel,dest=direct"]);
    let written = fs::metadata(room.path("disk.squashfs")).expect("it was made");
    assert!(
        written.blocks() * 512 > written.len() / 10 * 9,
        "it ends where the file system does: {written:?}"
    );
    let list = tool_output("unsquashfs", &["-l", room.path("disk.squashfs").to_str().expect("plain")]);
    assert!(String::from_utf8_lossy(&list).contains("squashfs-root/etc/systemd/system/kiln-marker.service"));
    let direct = room.path("direct");
    let names: Vec<_> = ["vmlinuz", "initrd", "cmdline"].map(|name| direct.join(name)).into();
    assert!(names.iter().all(|path| path.exists()));
    assert_boots_directly(&room.path("disk.squashfs"), &direct);
}

fn assert_boots_directly(disk: &Path, direct: &Path) {
    let options = fs::read_to_string(direct.join("cmdline")).expect("it was written");
    let options = format!("{} root=/dev/vda rootfstype=squashfs", options.trim_end());
    let file = |name: &str| direct.join(name).display().to_string();
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
    let words =
        ["-kernel", &file("vmlinuz"), "-initrd", &file("initrd"), "-append", &options, "-drive", &drive];
    let line = boot_machine(&words, Firmware::Bios);
    assert!(line.contains("root=squashfs"), "{line}");
}

/// Debian with GRUB 0.97 only, booted by the toolbox's GRUB 2 with a configuration of kiln's.
fn the_toolbox_serves_images_without_loaders(engine: Engine) {
    let room = Room::new();
    let disk = format!("boot = ['grub-bios', 'grub-efi']\n{BIOS_BOOT}{ESP}{}", root("ext4"));
    build(&room, System::Legacy, engine, &disk, &["type=raw,dest=disk.raw"]);
    let raw = room.path("disk.raw");
    assert_up(&boot(&raw, "raw", Firmware::Bios), &["root=ext4", "efi=no"]);
    assert_up(&boot(&raw, "raw", Firmware::Efi), &["root=ext4", "efi=yes"]);
}

/// One file, as a CD and as a disk, with BIOS and UEFI.
fn a_live_system_boots_from_cds_and_disks(engine: Engine) {
    let room = Room::new();
    build(
        &room,
        System::Debian,
        engine,
        &format!("boot = []\n{}", root("ext4")),
        &["type=iso,dest=live.iso"],
    );
    let iso = room.path("live.iso");
    // Debian's kernel for clouds knows no other CD drives.
    let cd = format!("file={},format=raw,media=cdrom,readonly=on,if=none,id=cd", iso.display());
    for firmware in [Firmware::Bios, Firmware::Efi] {
        let words = ["-device", "virtio-scsi-pci", "-drive", &cd, "-device", "scsi-cd,drive=cd"];
        let line = boot_machine(&words, firmware);
        assert!(line.contains("root=iso9660"), "{line}");
    }
    let line = boot(&iso, "raw", Firmware::Bios);
    assert!(line.contains("root=iso9660"), "{line}");
}
