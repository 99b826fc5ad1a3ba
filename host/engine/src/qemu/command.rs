//! QEMU's command line.

use super::{DESCRIPTORS, processor};
use crate::MachineSpec;
use std::ffi::OsString;
use std::num::NonZeroU8;
use std::os::fd::RawFd;

/// Without PCI, ACPI and option ROMs, which take longer than all the rest.
const MACHINE: &str =
    "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on,x-option-roms=off,memory-backend=memory";

/// Where the guest's clock starts, which shows in times of `/sys` and `/dev`: not today, which is the
/// host's. The kernel waits for a clock that is not there, so it has one.
const RTC: &str = "base=1970-01-01T00:00:00,clock=vm";

/// What a QEMU that was taken over by its guest cannot do: start programs, change its user.
pub(super) const SANDBOX: [&str; 2] =
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];

/// For every kernel. Its own output goes to the serial port; a panic restarts, and a restart ends
/// the machine (`-no-reboot`). The rest saves time: no test of the timer interrupt, no second look
/// for processors, no bounce buffers for devices that need none, no doubts about the time stamp
/// counter.
const COMMAND_LINE: &str =
    "console=ttyS0 panic=-1 reboot=t no_timer_check noreplace-smp swiotlb=noforce tsc=reliable";

/// The APIC timer is calibrated for a quarter of a second, but more than one processor needs it.
const ONE_PROCESSOR: &str = "nolapic_timer";

/// What kind of device is behind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Blk,
    Vsock,
    Rng,
}

/// What QEMU gets from this process besides the specification.
pub(super) struct Inherited {
    /// The rate of the host's time stamp counter, if known.
    pub tsc_khz: Option<u64>,
    /// Descriptors, under the numbers they have here.
    pub initramfs: RawFd,
    pub devices: Vec<(DeviceKind, RawFd)>,
}

/// All arguments for a machine but [`SANDBOX`].
pub(super) fn arguments(spec: &MachineSpec, inherited: &Inherited) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
        MACHINE,
        "-rtc",
        RTC,
        "-accel",
        "tcg",
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
    add("-cpu", processor::argument(spec.cpu_model).into());
    add("-smp", spec.cpus.to_string().into());
    add("-m", format!("{memory}M").into());
    add("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on").into());
    add("-kernel", spec.kernel.clone().into());
    add("-initrd", format!("{DESCRIPTORS}/{}", inherited.initramfs).into());
    add("-append", command_line(spec, inherited.tsc_khz).into());
    for (index, (kind, link)) in inherited.devices.iter().enumerate() {
        add("-chardev", format!("socket,id=link{index},fd={link}").into());
        add("-device", device(*kind, index).into());
    }
    arguments
}

fn command_line(spec: &MachineSpec, tsc_khz: Option<u64>) -> String {
    let mut words = vec![COMMAND_LINE.to_owned()];
    // The guest sees the host's counter, and measures it badly when the host is busy.
    words.extend(tsc_khz.map(|khz| format!("tsc_early_khz={khz}")));
    words.extend((spec.cpus == NonZeroU8::MIN).then(|| ONE_PROCESSOR.to_owned()));
    words.extend(spec.console.is_none().then(|| "quiet".to_owned()));
    words.extend(spec.extra_command_line.iter().cloned());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuModel, MachineSpec};

    fn words(cpus: u8) -> String {
        let spec = MachineSpec {
            kernel: "/boot/a,b".into(),
            initramfs: Vec::new(),
            extra_command_line: vec!["debug=1".into()],
            cpus: NonZeroU8::new(cpus).unwrap(),
            cpu_model: CpuModel::default(),
            memory_mib: 512,
            disks: Vec::new(),
            ports: Vec::new(),
            console: None,
        };
        let devices = vec![(DeviceKind::Blk, 7), (DeviceKind::Vsock, 8)];
        let inherited = Inherited { tsc_khz: Some(2_000_000), initramfs: 5, devices };
        let words: Vec<_> =
            arguments(&spec, &inherited).into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn a_machine_is_all_on_the_command_line() {
        let words = words(1);
        for part in [
            "-rtc base=1970-01-01T00:00:00,clock=vm",
            "-kernel /boot/a,b -initrd /proc/self/fd/5",
            "size=512M,share=on",
            "tsc_early_khz=2000000 nolapic_timer quiet debug=1",
            "-chardev socket,id=link0,fd=7 -device vhost-user-blk,chardev=link0",
            "-chardev socket,id=link1,fd=8 -device vhost-user-vsock-device,chardev=link1",
        ] {
            assert!(words.contains(part), "{part} is not in {words}");
        }
    }

    #[test]
    fn several_processors_need_the_timer() {
        let words = words(2);
        assert!(!words.contains("nolapic_timer"), "{words}");
    }
}
