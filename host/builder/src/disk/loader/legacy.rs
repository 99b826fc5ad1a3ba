//! GRUB 0.97, for images that carry it.
//!
//! Its shell reads `stage2` from the file system by itself and writes the blocks it found into what it embeds behind the MBR. So
//! it runs last, on the finished file systems, and mounts nothing.

use super::{DEVICE, Scene, TREE, Task, Work};
use crate::disk::{
    edit::Edit,
    plan::{FileSystem, Table},
    survey,
};

const DIRECTORY: &str = "boot/grub";
/// Where distributions have its stages.
const STAGES: [&str; 4] = [
    "usr/lib/grub/x86_64-pc",
    "usr/lib/grub/i386-pc",
    "usr/share/grub/x86_64-redhat",
    "usr/share/grub/i386-redhat",
];

pub(super) fn work(scene: &Scene) -> Result<Work, String> {
    if scene.plan.table != Table::Mbr {
        return Err("`grub-legacy` needs table = \"mbr\"".to_owned());
    }
    let holder = scene.plan.holder("boot").map(|index| &scene.plan.partitions[index]);
    if !holder.is_some_and(|holder| matches!(holder.file_system, Some(FileSystem::Ext2 | FileSystem::Ext3))) {
        return Err("`grub-legacy` needs /boot on ext2 or ext3, which is all it can read".to_owned());
    }
    let has_stages = |directory: &&&str| survey::has(scene.tree, &format!("{directory}/stage2"));
    let stages = STAGES.iter().find(has_stages);
    // Debian has it in /usr/sbin, Red Hat in /sbin.
    let (Some(stages), Some(program)) = (stages, survey::program(scene.tree, &["grub"])) else {
        return Err(
            "the image has no GRUB 0.97 (/usr/sbin/grub or /sbin/grub with its stages); Debian's package is grub-legacy"
                .to_owned(),
        );
    };
    let copies = survey::names(scene.tree, stages);
    let copies = copies.iter().filter(|name| name.starts_with("stage") || name.ends_with("stage1_5"));
    let edits = copies
        .map(|name| Edit::Copy { from: format!("{stages}/{name}"), to: format!("{DIRECTORY}/{name}") })
        .collect();
    // GRUB counts partitions from 0.
    let partition = scene.boot_partition.saturating_sub(1);
    let script = format!(
        "set -eu\nmount --rbind /dev {TREE}/dev\nmount -t proc proc {TREE}/proc\nmount -t tmpfs tmpfs {TREE}/tmp\n\
         printf '(hd0) {DEVICE}\\n' >{TREE}/tmp/device.map\nchroot {TREE} {program} --batch --device-map=/tmp/device.map \
         >/tmp/grub.log 2>&1 <<END || {{ cat /tmp/grub.log; exit 1; }}\nroot (hd0,{partition})\nsetup (hd0)\nquit\nEND\n\
         if grep -q 'Error [0-9]' /tmp/grub.log; then cat /tmp/grub.log; exit 1; fi\n"
    );
    Ok(Work { edits, on_disk: vec![Task { name: "grub (0.97)".to_owned(), script }], ..Work::default() })
}

pub(super) fn configuration(scene: &Scene) -> Vec<Edit> {
    let partition = scene.boot_partition.saturating_sub(1);
    let mut text = format!("default 0\ntimeout {}\n", scene.plan.boot_timeout);
    if scene.plan.kernel_options.contains("console=ttyS0") {
        text.push_str("serial --unit=0 --speed=115200\nterminal --timeout=1 serial console\n");
    }
    for kernel in scene.kernels {
        text.push_str(&format!(
            "title {}, Linux {}\n\troot (hd0,{partition})\n\tkernel {} {}\n",
            scene.title,
            kernel.version,
            scene.seen_from_boot(&kernel.path),
            scene.command_line()
        ));
        if let Some(initrd) = &kernel.initrd {
            text.push_str(&format!("\tinitrd {}\n", scene.seen_from_boot(initrd)));
        }
    }
    // Debian reads the one, Red Hat the other.
    vec![
        Edit::File { path: format!("{DIRECTORY}/menu.lst"), mode: 0o600, bytes: text.into_bytes() },
        Edit::Symlink { path: format!("{DIRECTORY}/grub.conf"), target: "menu.lst".to_owned() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{
        plan::{DiskPlan, PartitionPlan},
        survey::tests::tree,
    };

    #[test]
    fn its_shell_is_found_where_distributions_put_it() {
        let root = PartitionPlan {
            file_system: Some(FileSystem::Ext3),
            mount: Some("/".to_owned()),
            ..PartitionPlan::default()
        };
        let plan = DiskPlan { table: Table::Mbr, partitions: vec![root], ..DiskPlan::default() };
        let script = |program: &str, stages: &str| {
            let tree = tree(&[(program, ""), (&format!("{stages}/stage2"), "")]);
            let scene = Scene {
                plan: &plan,
                tree: &tree,
                toolbox: &tree,
                kernels: &[],
                root: String::new(),
                boot_uuid: String::new(),
                boot_partition: 1,
                boot_prefix: "/boot",
                esp: None,
                title: String::new(),
            };
            work(&scene).map(|work| work.on_disk[0].script.clone())
        };
        for (program, stages) in [("usr/sbin/grub", STAGES[0]), ("sbin/grub", STAGES[2])] {
            let script = script(program, stages).unwrap();
            assert!(script.contains(&format!("chroot {TREE} /{program} --batch")), "{script}");
        }
        assert!(script("usr/sbin/grub2-install", STAGES[0]).unwrap_err().contains("no GRUB 0.97"));
    }
}
