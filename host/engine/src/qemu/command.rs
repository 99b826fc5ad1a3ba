//! QEMU's command line.

use crate::MachineSpec;
use std::ffi::OsString;
use std::os::fd::RawFd;

/// Without PCI, ACPI and option ROMs, which take longer than all the rest.
const MACHINE: &str =
    "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on,x-option-roms=off,memory-backend=memory";

/// What a QEMU that was taken over by its guest cannot do: start programs, change its user.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The kernel's own output goes to the serial port. A panic restarts, a restart ends the machine
/// (`-no-reboot`), over the keyboard controller's triple-fault stand-in. The APIC timer would be
/// calibrated for a quarter of a second.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 reboot=t nolapic_timer";

/// What kind of device is behind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Blk,
    Vsock,
    Rng,
}

/// Descriptors QEMU gets, under the numbers they have here.
pub(super) struct Inherited {
    pub initramfs: RawFd,
    pub devices: Vec<(DeviceKind, RawFd)>,
}

impl Inherited {
    pub fn descriptors(&self) -> Vec<RawFd> {
        let devices = self.devices.iter().map(|(_, link)| *link);
        std::iter::once(self.initramfs).chain(devices).collect()
    }
}

/// All arguments for a machine.
pub(super) fn arguments(spec: &MachineSpec, inherited: &Inherited) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        SANDBOX,
        "-machine",
        MACHINE,
        "-accel",
        "tcg",
        "-cpu",
        "max,-erms,-smap",
        "-global",
        "virtio-mmio.force-legacy=false",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]
    .map(OsString::from)
    .into();
    let mut add = |option: &str, value: OsString| arguments.extend([option.into(), value]);
    let memory = spec.memory_mib;
    add("-smp", spec.cpus.to_string().into());
    add("-m", format!("{memory}M").into());
    add("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on").into());
    add("-kernel", spec.kernel.clone().into());
    add("-initrd", format!("/proc/self/fd/{}", inherited.initramfs).into());
    add("-append", command_line(spec).into());
    for (index, (kind, link)) in inherited.devices.iter().enumerate() {
        add("-chardev", format!("socket,id=link{index},fd={link}").into());
        add("-device", device(*kind, index).into());
    }
    arguments
}

fn command_line(spec: &MachineSpec) -> String {
    let quiet = spec.console.is_none().then_some("quiet");
    let extra = spec.extra_command_line.iter().map(String::as_str);
    let words: Vec<&str> = [COMMAND_LINE].into_iter().chain(quiet).chain(extra).collect();
    words.join(" ")
}

fn device(kind: DeviceKind, index: usize) -> String {
    let (name, more) = match kind {
        DeviceKind::Blk => ("vhost-user-blk", ",num-queues=1,queue-size=256,config-wce=off"),
        DeviceKind::Vsock => ("vhost-user-vsock-device", ""),
        DeviceKind::Rng => ("vhost-user-rng", ""),
    };
    format!("{name},chardev=link{index}{more}")
}
