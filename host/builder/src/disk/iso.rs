//! A live system on an ISO 9660 file system that boots from CDs and from disks, with BIOS and UEFI.
//!
//! The file system, with Rock Ridge, is the system's root, read-only; `systemd.volatile=state` gives it a `/var` in memory.
//! xorriso makes it from the tree as it is. GRUB's images are in it for CDs (El Torito), in its first sector for disks, and on
//! an appended EFI system partition for UEFI.

use super::{
    DiskMaker, MadeDisk,
    identity::Identity,
    loader::{DEVICE, TREE, Task},
    make::SEED,
    plan::{DiskPlan, Initrd, Table},
    shell::quote,
    survey::{self, Kernel},
};
use crate::{Error, error::Kind, event::Event, packing, scratch};
use kiln_image::tree::Tree;
use kiln_protocol::Stage;
use kiln_store::StoredImage;
use std::{fs::File, io, os::unix::fs::FileExt};

/// The volume's name, by which the kernel finds its root, unless the plan's root partition has a label.
const LABEL: &str = "KILN-LIVE";
/// A volume's name has at most 32 characters, of these
/// ([ECMA-119, 8.4.7](https://ecma-international.org/publications-and-standards/standards/ecma-119/)).
const LABEL_MAX: usize = 32;
/// Of the primary volume descriptor, in bytes, and in it of the volume's size in blocks.
const DESCRIPTOR: u64 = 16 * BLOCK;
const VOLUME_SIZE: u64 = DESCRIPTOR + 80;
const BLOCK: u64 = 2048;
/// The second entry of the MBR, with the appended partition: its first sector and their number.
const APPENDED: u64 = 446 + 16 + 8;
const SECTOR: u64 = 512;
/// More than GRUB and the tables need, in bytes.
const OVERHEAD: u64 = 96 << 20;

/// The plan of the tree on it.
pub(crate) fn plan(of_disk: &DiskPlan) -> DiskPlan {
    DiskPlan {
        table: Table::None,
        size: None,
        partitions: Vec::new(),
        boot: Vec::new(),
        toolbox: of_disk.toolbox.clone(),
        system: of_disk.system.clone(),
        scripts: of_disk.scripts.clone(),
        kernel_options: of_disk.kernel_options.clone(),
        boot_timeout: of_disk.boot_timeout,
        initrd: of_disk.initrd,
        ..DiskPlan::default()
    }
}

impl DiskMaker<'_> {
    /// Makes a live system of the image, on an ISO 9660 file system. The plan is [`plan`]'s.
    pub fn make_iso(&self, image: &StoredImage, label: &str) -> Result<MadeDisk, Error> {
        let toolbox = self.tree(self.toolbox)?;
        let tree = self.tree(image)?;
        check(self.plan, &tree, &toolbox)?;
        let identity = Identity { image: &image.image_id, seed: SEED };
        let work = self.work(&tree, &toolbox, &survey::kernels(&tree), identity, &[])?;
        let edited = self.edit(image, &[], &work)?;
        let file = packing::temporary_file(self.surroundings.store)?;
        let failed = |source| scratch::write_failed(self.surroundings.store, source);
        file.set_len(room(self, &edited)?).map_err(failed)?;
        let finished = self.prepare(&edited, &file, identity, &[], &work)?;
        let tree = self.tree(&finished)?;
        if let Some(notice) = what_is_lost(&tree) {
            self.surroundings.observer.event(Event::Notice(&notice));
        }
        let kernels = survey::kernels(&tree);
        // What was prepared may be larger than what it was prepared from.
        file.set_len(room(self, &finished)?).map_err(failed)?;
        let uuid = Identity { image: &finished.image_id, seed: "file" }.uuid("iso");
        let serial = u32::from_be_bytes([uuid[0], uuid[1], uuid[2], uuid[3]]);
        let script = script(self.plan, &kernels, label, self.epoch.unix_seconds(), serial);
        let step = self.step(Stage::Disk, &Task { name: "live system".to_owned(), script }, &[]);
        self.surroundings.phase("making the live system");
        self.run_on_disk(&finished, &file, vec![step])?;
        cut(&file).map_err(failed)?;
        let command_line = String::new();
        Ok(MadeDisk { file, kernels, command_line, uuid, image: finished, epoch: self.epoch })
    }
}

/// Checks what can be known to fail.
fn check(plan: &DiskPlan, tree: &Tree, toolbox: &Tree) -> Result<(), Error> {
    let refused = |message: &str| Err(Kind::Plan(message.to_owned()).into());
    let kernels = survey::kernels(tree);
    if kernels.is_empty() {
        return refused("there is no kernel in the image, which a live system starts with");
    }
    if plan.initrd == Initrd::Never && kernels.iter().all(|kernel| kernel.initrd.is_none()) {
        return refused("a live system needs an initial RAM disk, which finds its root");
    }
    for tool in ["xorriso", "grub-mkimage", "mkfs.vfat", "mcopy"] {
        if survey::program(toolbox, &[tool]).is_none() {
            return refused(&format!("the toolbox has no {tool}, which a live system is made with"));
        }
    }
    Ok(())
}

/// Its volume's name.
pub(crate) fn label(of_disk: &DiskPlan) -> Result<String, Error> {
    let given = of_disk.root().and_then(|root| of_disk.partitions[root].label.clone());
    let label = given.unwrap_or_else(|| LABEL.to_owned());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if label.is_empty() || label.len() > LABEL_MAX || !label.chars().all(is_plain) {
        let message =
            format!("`{label}` is no name of an ISO 9660 volume: up to 32 letters, digits, `_` and `-`");
        return Err(Kind::Plan(message).into());
    }
    Ok(label)
}

/// Rock Ridge has no extended attributes: what the user should know of that.
fn what_is_lost(tree: &Tree) -> Option<String> {
    let mut losing = tree.walk().filter(|(_, id)| !tree.node(*id).metadata.xattrs.is_empty());
    let (first, _) = losing.next()?;
    let (first, others) = (String::from_utf8_lossy(&first).escape_debug().to_string(), losing.count());
    let and_others = if others == 0 { String::new() } else { format!(" and {others} more") };
    Some(format!(
        "ISO 9660 has no extended attributes: /{first}{and_others} will be without theirs (capabilities, access control lists)"
    ))
}

/// As large as it may become.
fn room(maker: &DiskMaker, image: &StoredImage) -> Result<u64, Error> {
    Ok(maker.room_of_tree(image, 0)? + OVERHEAD)
}

/// What writes it to the disk.
fn script(plan: &DiskPlan, kernels: &[Kernel], label: &str, epoch_s: u64, serial: u32) -> String {
    let configuration = configuration(plan, kernels, label);
    let early = format!("search --no-floppy --set=root --label {label}\nset prefix=($root)/.kiln/grub\n");
    let modules =
        "iso9660 part_msdos part_gpt fat search search_label linux normal configfile serial terminal echo";
    // The last touch is for `.kiln`, which xorriso gives the times of the directory that `grub` lies in.
    format!(
        "set -eu\nexport SOURCE_DATE_EPOCH={epoch_s} TZ=UTC LC_ALL=C\nw=/tmp/iso\nmkdir -p $w/grub $w/efi\ncat >$w/grub/grub.cfg \
         <<'END'\n{configuration}END\ncat >$w/early.cfg <<'END'\n{early}END\ngrub-mkimage -O i386-pc-eltorito -p /.kiln/grub -c \
         $w/early.cfg -o $w/grub/eltorito.img biosdisk {modules}\ngrub-mkimage -O x86_64-efi -p /.kiln/grub -c $w/early.cfg -o \
         $w/efi/BOOTX64.EFI efi_gop efi_uga {modules}\ntouch -d @{epoch_s} $w/efi/BOOTX64.EFI $w/grub/* $w/grub $w\nmkfs.vfat -C \
         --invariant -i {serial:08x} $w/efi.img 4096 >/dev/null\nmmd -i $w/efi.img ::/EFI ::/EFI/BOOT\nmcopy -Q -m -i $w/efi.img \
         $w/efi/BOOTX64.EFI ::/EFI/BOOT/BOOTX64.EFI\ntouch -d @{epoch_s} $w\nxorriso -as mkisofs -quiet -iso-level 3 -R -J -joliet-long -V {label} \
         -b .kiln/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info --grub2-mbr \
         /usr/lib/grub/i386-pc/boot_hybrid.img -append_partition 2 0xef $w/efi.img -eltorito-alt-boot -e \
         --interval:appended_partition_2:all:: -no-emul-boot -graft-points -o - /={TREE} .kiln/grub=$w/grub 2>/tmp/iso.log >{DEVICE} \
         || {{ cat /tmp/iso.log; exit 1; }}\n"
    )
}

fn configuration(plan: &DiskPlan, kernels: &[Kernel], label: &str) -> String {
    let mut text = format!("set timeout={}\nset default=0\n", plan.boot_timeout);
    if plan.kernel_options.contains("console=ttyS0") {
        text.push_str(
            "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n",
        );
    }
    for kernel in kernels {
        let options = format!(
            "root=LABEL={label} rootfstype=iso9660 ro systemd.volatile=state {}",
            plan.kernel_options
        );
        text.push_str(&format!(
            "menuentry {} {{\n\tlinux {} {}\n",
            quote(&format!("Linux {}, live", kernel.version)),
            quote(&format!("/{}", kernel.path)),
            options.trim_end()
        ));
        if let Some(initrd) = &kernel.initrd {
            text.push_str(&format!("\tinitrd {}\n", quote(&format!("/{initrd}"))));
        }
        text.push_str("}\n");
    }
    text
}

/// Cuts the file behind the volume and the appended partition.
fn cut(file: &File) -> io::Result<()> {
    let number = |offset| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).map(|()| u64::from(u32::from_le_bytes(bytes)))
    };
    let volume = number(VOLUME_SIZE)? * BLOCK;
    let appended = (number(APPENDED)? + number(APPENDED + 4)?) * SECTOR;
    let length = volume.max(appended).next_multiple_of(BLOCK);
    // The guest wrote these numbers.
    if length == 0 || length > file.metadata()?.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "xorriso's volume has an impossible size"));
    }
    file.set_len(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::{
        entry::Metadata,
        tree::{Content, Node},
    };

    #[test]
    fn no_directory_has_the_time_of_the_build() {
        let script = script(&DiskPlan::default(), &[], "LIVE", 17, 1);
        let (before, _) = script.split_once("\nxorriso ").unwrap();
        assert_eq!(before.lines().last(), Some("touch -d @17 $w"));
    }

    #[test]
    fn what_is_lost_is_named() {
        let mut tree = Tree::new();
        assert_eq!(what_is_lost(&tree), None);
        let xattrs = [(b"security.capability".to_vec(), vec![1])].into();
        let metadata = Metadata { xattrs, ..Metadata::default() };
        let id = tree.insert(Node { metadata, content: Content::Fifo });
        tree.children_mut(Tree::ROOT).unwrap().insert(b"pi\x1bng".to_vec(), id);
        let wanted = "ISO 9660 has no extended attributes: /pi\\u{1b}ng will be without theirs (capabilities, access control \
                      lists)";
        assert_eq!(what_is_lost(&tree).as_deref(), Some(wanted));
    }
}
