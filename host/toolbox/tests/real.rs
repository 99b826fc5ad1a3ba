//! The toolbox as it is, of Debian's packages fetched by this system's apt: it needs apt-get, a network, tar and a chroot (as root, or by
//! a user namespace of unshare).

use kiln_store::{Store, StoredImage};
use kiln_toolbox::{Error, Event, Lock, Observer, Settings};
use std::path::Path;
use std::process::Command;

/// Every tool that is promised, how it is asked to do next to nothing, and what it then says.
const TOOLS: [(&str, &str, &str); 64] = [
    ("awk", "-W version", "mawk"),
    ("bash", "--version", "GNU bash"),
    ("blkid", "-V", "util-linux"),
    ("blockdev", "-V", "util-linux"),
    ("btrfs", "version", "btrfs-progs"),
    ("btrfstune", "--help", "btrfstune"),
    ("chroot", "--version", "coreutils"),
    ("cpio", "--version", "GNU cpio"),
    ("dash", "-c set", "IFS"),
    ("dd", "--version", "coreutils"),
    ("debugfs", "-V", "debugfs"),
    ("dump.erofs", "-V", "erofs-utils"),
    ("dumpe2fs", "-V", "dumpe2fs"),
    ("e2fsck", "-V", "e2fsck"),
    ("extlinux", "-v", "extlinux"),
    ("fallocate", "-V", "util-linux"),
    ("fatlabel", "--help", "Usage"),
    ("fdisk", "-V", "util-linux"),
    ("find", "--version", "GNU findutils"),
    ("findmnt", "-V", "util-linux"),
    ("fsck.erofs", "-V", "erofs-utils"),
    ("fsck.fat", "--help", "Usage"),
    ("grep", "--version", "GNU grep"),
    ("grub-bios-setup", "-V", "GRUB"),
    ("grub-editenv", "-V", "GRUB"),
    ("grub-install", "-V", "GRUB"),
    ("grub-mkconfig", "-V", "GRUB"),
    ("grub-mkimage", "-V", "GRUB"),
    ("grub-mkstandalone", "-V", "GRUB"),
    ("grub-probe", "-V", "GRUB"),
    ("grub-script-check", "-V", "GRUB"),
    ("gzip", "--version", "gzip"),
    ("losetup", "-V", "util-linux"),
    ("ls", "--version", "coreutils"),
    ("lsblk", "-V", "util-linux"),
    ("mcopy", "-V", "GNU mtools"),
    ("mke2fs", "-V", "mke2fs"),
    ("mkfs.btrfs", "-V", "btrfs-progs"),
    ("mkfs.erofs", "-V", "erofs-utils"),
    ("mkfs.ext4", "-V", "mke2fs"),
    ("mkfs.vfat", "--help", "Usage"),
    ("mkfs.xfs", "-V", "mkfs.xfs version"),
    ("mkswap", "-V", "util-linux"),
    ("mksquashfs", "-version", "mksquashfs version"),
    ("mlabel", "-V", "GNU mtools"),
    ("mmd", "-V", "GNU mtools"),
    ("mount", "-V", "util-linux"),
    ("resize2fs", "-h", "resize2fs"),
    ("sed", "--version", "GNU sed"),
    ("sfdisk", "-v", "util-linux"),
    ("sh", "-c set", "IFS"),
    ("sha256sum", "--version", "coreutils"),
    ("sort", "--version", "coreutils"),
    ("sync", "--version", "coreutils"),
    ("syslinux", "-v", "syslinux"),
    ("tar", "--version", "GNU tar"),
    ("tune2fs", "-h", "tune2fs"),
    ("umount", "-V", "util-linux"),
    ("unsquashfs", "-version", "unsquashfs version"),
    ("wipefs", "-V", "util-linux"),
    ("xfs_admin", "-V", "xfs_admin version"),
    ("xfs_db", "-V", "xfs_db version"),
    ("xfs_repair", "-V", "xfs_repair version"),
    ("xorriso", "-version", "xorriso"),
];

/// What boot loaders install, relative to the root.
const PARTS: [&str; 15] = [
    "usr/lib/EXTLINUX/mbr.bin",
    "usr/lib/ISOLINUX/isohdpfx.bin",
    "usr/lib/ISOLINUX/isolinux.bin",
    "usr/lib/SYSLINUX/gptmbr.bin",
    "usr/lib/SYSLINUX/mbr.bin",
    "usr/lib/grub/i386-efi/normal.mod",
    "usr/lib/grub/i386-pc/boot.img",
    "usr/lib/grub/i386-pc/normal.mod",
    "usr/lib/grub/x86_64-efi/normal.mod",
    "usr/lib/syslinux/modules/bios/ldlinux.c32",
    "usr/lib/syslinux/modules/bios/menu.c32",
    "usr/lib/syslinux/modules/efi64/ldlinux.e64",
    "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
    "usr/share/grub/unicode.pf2",
];

/// A script that fills file systems and makes boot images, each by its tool, and checks what can be checked.
const WORK: &str = r#"set -eux
mkdir /tmp/tree && echo data >/tmp/tree/file && cd /tmp
truncate -s 40M ext4 vfat && truncate -s 400M xfs btrfs && truncate -s 1M swap
mke2fs -q -t ext4 -d tree ext4 && e2fsck -fn ext4
mkfs.xfs -q -p tree xfs && xfs_repair -n xfs
mkfs.btrfs -q --rootdir tree btrfs
mkfs.vfat -F 32 -n BOOT vfat && mmd -i vfat ::/EFI && mcopy -i vfat tree/file ::/EFI/ && fsck.fat -n vfat
export LC_ALL=C.UTF-8 && touch tree/Grüße && mcopy -i vfat tree/Grüße ::/ && mdir -i vfat -b ::/ | grep Grüße
mkswap swap
mksquashfs tree squashfs -quiet && unsquashfs -l squashfs
mkfs.erofs erofs tree && fsck.erofs erofs
xorriso -as mkisofs -quiet -o iso tree
printf 'label: gpt\nsize=10M\n' | sfdisk -q ext4 && sfdisk --verify ext4
for format in i386-pc x86_64-efi i386-efi; do grub-mkimage -O $format -o core -p /boot/grub ext2 fat normal; done
"#;

struct Log;

impl Observer for Log {
    fn event(&self, event: Event<'_>) {
        println!("{event:?}");
    }
}

/// What Debian has now may be newer than what this kiln was locked to.
fn assemble(store: &Store, settings: &mut Settings) -> Result<StoredImage, Error> {
    match kiln_toolbox::assemble(store, settings, &Log) {
        Err(error) if error.is_not_offered() => {
            eprintln!("NOTICE: {error}");
            settings.lock = kiln_toolbox::renew(settings, &Log)?;
            kiln_toolbox::assemble(store, settings, &Log)
        }
        assembled => assembled,
    }
}

fn in_root(root: &Path, command: &[&str]) -> (bool, String) {
    let mut run = match rustix::process::geteuid().is_root() {
        true => Command::new("chroot"),
        false => {
            let mut run = Command::new("unshare");
            run.args(["--map-root-user", "chroot"]);
            run
        }
    };
    run.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg(root).args(command);
    let output = run.output().expect("this test needs chroot, or unshare");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn unpack(layer: &Path, root: &Path) {
    std::fs::create_dir(root).unwrap();
    let status =
        Command::new("tar").arg("-C").arg(root).arg("-xf").arg(layer).status().expect("this test needs tar");
    assert!(status.success());
    // What a chroot that mounts nothing can have of these.
    std::fs::create_dir(root.join("proc/self")).unwrap();
    for empty in ["dev/null", "proc/self/mounts"] {
        std::fs::write(root.join(empty), "").unwrap();
    }
}

#[test]
fn every_tool_starts_and_works() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut settings = Settings::new(directory.path().into());
    if let Some(path) = std::env::var_os("KILN_TOOLBOX_LOCK") {
        settings.lock = std::fs::read_to_string(path).unwrap().parse::<Lock>().unwrap();
    }
    settings.mirror = std::env::var("KILN_TOOLBOX_MIRROR").ok().filter(|mirror| !mirror.is_empty());
    let image = assemble(&store, &mut settings).unwrap();
    // A second time it is known; what is in the store can be attached.
    assert_eq!(kiln_toolbox::assemble(&store, &settings, &Log).unwrap().image_id, image.image_id);
    store.base(&image).unwrap();

    let root = directory.path().join("root");
    unpack(&store.path().join("layers").join(format!("{}.tar", image.layers[0].diff_id.hex())), &root);
    for part in PARTS {
        assert!(root.join(part).exists(), "{part}");
    }
    let mut wrong = Vec::new();
    for (tool, arguments, expected) in TOOLS {
        let command: Vec<&str> = std::iter::once(tool).chain(arguments.split(' ')).collect();
        let (_, said) = in_root(&root, &command);
        if !said.contains(expected)
            || said.contains("not found")
            || said.contains("cannot open shared object")
        {
            wrong.push(format!("{tool} {arguments}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (worked, said) = in_root(&root, &["bash", "-c", WORK]);
    assert!(worked, "{said}");
}
