//! GRUB 2.
//!
//! `grub-install` asks `grub-probe` where `/boot/grub` lies, which the agent's mounts answer with the disk's own partition
//! (see the agent's `target`). It then writes `core.img` to the gap behind the MBR or to a BIOS boot partition of the real
//! disk, and its modules to the tree. `core.img` finds `/boot/grub` by partition or UUID, so the file system may be made
//! afterwards.

use super::{DEVICE, Scene, TREE, Task, Work};
use crate::disk::{
    edit::Edit,
    plan::{PartitionPlan, Table},
    shell::{line, quote},
    survey,
};

/// Where distributions put GRUB's modules.
const MODULES: [&str; 2] = ["usr/lib/grub", "usr/share/grub2"];
const INSTALL: [&str; 2] = ["grub-install", "grub2-install"];
const CONFIGURE: [&str; 2] = ["grub-mkconfig", "grub2-mkconfig"];
const DEFAULTS: &str = "etc/default/grub";

pub(super) fn bios(scene: &Scene) -> Result<Work, String> {
    let has_gap = scene.plan.partitions.iter().any(PartitionPlan::is_bios_boot);
    match scene.plan.table {
        Table::Gpt if !has_gap => {
            return Err(
                "`grub-bios` on a GPT needs a partition for its core image: type = \"bios-boot\", size = \
                        \"1MiB\", before those that fit their contents"
                    .to_owned(),
            );
        }
        Table::None => {
            return Err(
                "`grub-bios` needs a partition table, which leaves room for its core image".to_owned()
            );
        }
        _ => {}
    }
    install(scene, "i386-pc", &[], &[DEVICE])
}

pub(super) fn efi(scene: &Scene) -> Result<Work, String> {
    let esp = scene.esp.as_deref().unwrap_or_default();
    let directory = |root: &str| format!("--efi-directory={root}/{esp}");
    let (inside, outside) = (directory(""), directory(TREE));
    let own = has_own(scene, "x86_64-efi");
    let options = [if own { inside.as_str() } else { outside.as_str() }, "--removable", "--no-nvram"];
    install(scene, "x86_64-efi", &options, &[])
}

fn has_own(scene: &Scene, platform: &str) -> bool {
    survey::program(scene.tree, &INSTALL).is_some() && modules(scene.tree, platform)
}

fn modules(tree: &kiln_image::tree::Tree, platform: &str) -> bool {
    MODULES.iter().any(|directory| survey::has(tree, &format!("{directory}/{platform}/normal.mod")))
}

fn install(scene: &Scene, platform: &str, options: &[&str], device: &[&str]) -> Result<Work, String> {
    let target = format!("--target={platform}");
    let mut work = Work::default();
    if has_own(scene, platform) {
        let program = survey::program(scene.tree, &INSTALL).expect("just found");
        let words = [program.as_str(), &target].into_iter().chain(options.iter().copied());
        let script = format!("set -e\n{}\n", line(words.chain(device.iter().copied())));
        work.in_image.push(Task { name: format!("grub-install ({platform})"), script });
    } else if survey::program(scene.toolbox, &INSTALL).is_some() && modules(scene.toolbox, platform) {
        let boot = format!("--boot-directory={TREE}/boot");
        let words = ["grub-install", &target, &boot].into_iter().chain(options.iter().copied());
        let script = format!("set -e\n{}\n", line(words.chain(device.iter().copied())));
        work.in_toolbox.push(Task { name: format!("grub-install ({platform}, toolbox)"), script });
    } else {
        return Err(format!(
            "neither the image nor the toolbox has grub-install with its modules for {platform} \
             (/usr/lib/grub/{platform}); Debian's package is grub-{}-bin",
            if platform == "i386-pc" { "pc" } else { "efi-amd64" }
        ));
    }
    if let Some(program) = survey::program(scene.tree, &CONFIGURE) {
        if let Some(edit) = defaults(scene) {
            work.edits.push(edit);
        }
        let place = if program.contains("grub2") { "/boot/grub2/grub.cfg" } else { "/boot/grub/grub.cfg" };
        // Nothing of the builder is to be found by it: there is only the disk in the VM.
        let script = format!(
            "set -e\nexport GRUB_DISABLE_OS_PROBER=true\nmkdir -p {}\n{} -o {place}\n",
            place.trim_end_matches("/grub.cfg"),
            quote(&program)
        );
        work.in_image.push(Task { name: "grub-mkconfig".to_owned(), script });
    }
    Ok(work)
}

/// Marks what is ours, so that it is not appended twice.
const MARK: &str = "# Set by kiln";

fn defaults(scene: &Scene) -> Option<Edit> {
    let escaped: String = scene
        .plan
        .kernel_options
        .chars()
        .flat_map(|c| matches!(c, '"' | '$' | '`' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    let mut text =
        format!("{MARK}.\nGRUB_DISABLE_OS_PROBER=true\nGRUB_TIMEOUT={}\n", scene.plan.boot_timeout);
    if !escaped.is_empty() {
        text = format!("{text}GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {escaped}\"\n");
    }
    // Debian reads these after the file itself; elsewhere the file is all there is.
    let is_debian =
        survey::has(scene.tree, "usr/share/debconf") || survey::has(scene.tree, "etc/debian_version");
    match is_debian {
        true => {
            Some(Edit::File { path: format!("{DEFAULTS}.d/kiln.cfg"), mode: 0o644, bytes: text.into_bytes() })
        }
        false => Some(Edit::Append { path: DEFAULTS.to_owned(), mark: MARK, text }),
    }
}

/// Words of the kernel as GRUB's shell leaves them. Quotes mean the same to both.
fn escape(options: &str) -> String {
    let mut quote = None;
    let mut text = String::new();
    for c in options.chars() {
        let is_special = match quote {
            Some('\'') => false,
            Some(_) => "$\\".contains(c),
            None => "$\\;|&<>{}#`".contains(c),
        };
        if is_special {
            text.push('\\');
        }
        text.push(c);
        quote = match quote {
            Some(open) => Some(open).filter(|open| *open != c),
            None => Some(c).filter(|c| matches!(c, '\'' | '"')),
        };
    }
    text
}

/// A configuration of ours, where the image has nothing that makes one.
pub(super) fn configuration(scene: &Scene) -> Vec<Edit> {
    if survey::program(scene.tree, &CONFIGURE).is_some() {
        return Vec::new();
    }
    let mut text = format!("set timeout={}\nset default=0\n", scene.plan.boot_timeout);
    if scene.plan.kernel_options.contains("console=ttyS0") {
        text.push_str(
            "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n",
        );
    }
    text.push_str(&format!("search --no-floppy --fs-uuid --set=root {}\n", scene.boot_uuid));
    for kernel in scene.kernels {
        text.push_str(&format!(
            "menuentry {} {{\n\tlinux {} {}\n",
            quote(&format!("{}, Linux {}", scene.title, kernel.version)),
            quote(&scene.seen_from_boot(&kernel.path)),
            escape(&scene.command_line())
        ));
        if let Some(initrd) = &kernel.initrd {
            text.push_str(&format!("\tinitrd {}\n", quote(&scene.seen_from_boot(initrd))));
        }
        text.push_str("}\n");
    }
    let directory = if survey::has(scene.tree, "boot/grub2/i386-pc") { "boot/grub2" } else { "boot/grub" };
    vec![Edit::File { path: format!("{directory}/grub.cfg"), mode: 0o600, bytes: text.into_bytes() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_what_was_said() {
        let table = [
            ("root=UUID=1 ro console=ttyS0,115200n8", "root=UUID=1 ro console=ttyS0,115200n8"),
            ("memmap=64M$4G a;b", "memmap=64M\\$4G a\\;b"),
            ("dyndbg=\"file a.c +p; file $b +p\" x&y", "dyndbg=\"file a.c +p; file \\$b +p\" x\\&y"),
            ("a='$b' $c", "a='$b' \\$c"),
        ];
        for (options, wanted) in table {
            assert_eq!(escape(options), wanted);
        }
    }
}
