//! Systems that disks are made of, and machines that boot them.

use crate::{
    kiln::Kiln,
    repository::repository,
    room::Room,
    tool::{succeed, tool},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

/// What a system prints on its console once its init has started everything.
pub const MARKER: &str = "KILN-MARKER";

/// No boot takes longer, even emulated on a busy machine; in seconds.
const PATIENCE: &str = "400";

/// A system with kernel and init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Debian with initramfs-tools.
    Debian,
    /// Debian with dracut, as Fedora has it.
    Dracut,
    /// Debian with GRUB 0.97.
    Legacy,
}

impl System {
    /// The root file system's tar, made by `scripts/debian-base` when no variable names it.
    pub fn rootfs(self) -> PathBuf {
        let (variable, flag) = match self {
            Self::Debian => ("KILN_TEST_BOOTABLE", "--bootable"),
            Self::Dracut => ("KILN_TEST_DRACUT", "--dracut"),
            Self::Legacy => ("KILN_TEST_LEGACY", "--legacy"),
        };
        if let Some(path) = env::var_os(variable) {
            return path.into();
        }
        let script = repository().join("scripts/debian-base");
        let printed = succeed(tool(script.to_str().expect("a plain path")).arg(flag));
        String::from_utf8(printed).expect("plain text").trim_end().into()
    }
}

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Efi,
}

/// A unit that prints the marker, with what is mounted where, and powers off. By way of the kernel's log: a getty that starts
/// meanwhile would hang up the terminal.
const UNIT: &str = r#"[Unit]
Description=Tells that the system is up
After=local-fs.target kiln-grow-root.service kiln-first-boot.service kiln-ssh-host-keys.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "<1>KILN-MARKER root=$$(findmnt -no FSTYPE /) mounts=$$(findmnt -rno TARGET --real | tr "\n" ",") host=$$(cat /etc/hostname 2>/dev/null) id=$$(cat /etc/machine-id) failed=$$(systemctl --failed --no-legend --plain | cut -d" " -f1 | tr "\n" ",") size=$$(df --output=size -BM / | tail -1 | tr -d " ") efi=$$(test -d /sys/firmware/efi && echo yes || echo no)" > /dev/kmsg'
ExecStartPost=/bin/systemctl poweroff --no-block
"#;

/// Kernel options under which a boot can be watched.
pub const KERNEL_OPTIONS: &str = "console=ttyS0 systemd.show_status=0";

/// A build context in the room: an image of the system that prints [`MARKER`], and `disk`, the lines of `[disk]`.
pub fn disk_context(room: &Room, name: &str, system: System, disk: &str) -> PathBuf {
    let unit = "tree/etc/systemd/system/kiln-marker.service";
    room.write(&format!("{name}/{unit}"), UNIT);
    let wants = room.path(name).join("tree/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("a directory can be made");
    let link = wants.join("kiln-marker.service");
    if !link.is_symlink() {
        std::os::unix::fs::symlink("../kiln-marker.service", link).expect("a link can be made");
    }
    let base = system.rootfs();
    // New ones take a minute of an emulated machine.
    let keys = if disk.contains("ssh-host-keys") { "" } else { "ssh-host-keys = 'keep'\n" };
    let text = format!(
        "from = \"rootfs:{}\"\ncontents = [\"tree\"]\n[disk]\nkernel-options = \"{KERNEL_OPTIONS}\"\n{keys}{disk}\n",
        base.display()
    );
    room.write(&format!("{name}/kiln.toml"), text);
    room.path(name)
}

/// A cache that all tests of disks have in common, so that the toolbox is assembled once.
pub fn disk_cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let cache = target.join("kiln-tests-disks");
    fs::create_dir_all(&cache).expect("the target directory can be written");
    cache
}

/// A kiln with that cache.
pub fn disk_kiln(room: &Room) -> Kiln {
    room.kiln().env("KILN_CACHE", disk_cache()).env("SOURCE_DATE_EPOCH", "1767225600")
}

/// Boots a disk in QEMU, emulated, until the system powers off; gives the line with [`MARKER`].
///
/// # Panics
/// With the end of the console, when the system does not come up.
pub fn boot(disk: &Path, format: &str, firmware: Firmware) -> String {
    boot_machine(
        &["-drive", &format!("file={},format={format},if=virtio,snapshot=on", disk.display())],
        firmware,
    )
}

/// Boots a machine with these arguments of QEMU's; gives the line with [`MARKER`].
///
/// # Panics
/// With the end of the console, when the system does not come up.
pub fn boot_machine(arguments: &[&str], firmware: Firmware) -> String {
    let mut command = tool("timeout");
    command.args([PATIENCE, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "1024"]);
    command.args(["-nographic", "-no-reboot", "-net", "none"]).args(arguments);
    if firmware == Firmware::Efi {
        command.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
    }
    let output = command.stdin(Stdio::null()).output().expect("QEMU is installed");
    let console = String::from_utf8_lossy(&output.stdout);
    let line = console.lines().find(|line| line.contains(MARKER) && line.contains("root="));
    let tail = console.len().saturating_sub(3000);
    let shown = || {
        let start = (tail..console.len()).find(|at| console.is_char_boundary(*at)).unwrap_or(0);
        format!("the system did not come up ({}):\n{}", output.status, &console[start..])
    };
    line.unwrap_or_else(|| panic!("{}\n{}", shown(), String::from_utf8_lossy(&output.stderr)))
        .trim()
        .to_owned()
}
