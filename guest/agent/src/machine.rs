//! The virtual machine around the job: what a kernel leaves to its first process.

use crate::{
    failure::{Failure, Result, Trying},
    sys,
};
use kiln_protocol::{AGENT_PORT, HOST_CID, Job};
use rustix::{
    fs::{Mode, mkdir},
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    system::{RebootCommand, reboot, sethostname},
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use std::{ffi::CStr, os::fd::OwnedFd};

/// Most open files of a process.
const OPEN_FILES_MAX: u64 = 524_288;
/// Open files of a step that does not ask for more: few, as some programs close each possible one.
const OPEN_FILES_OF_STEPS: u64 = 1024;
/// How much of memory may wait to be written to the scratch disk, in per cent, before writing begins,
/// and before writers wait for it. What still waits at the end is never written
/// ([vm](https://docs.kernel.org/admin-guide/sysctl/vm.html)).
const WRITE_BACK: [(&str, &str); 2] =
    [("/proc/sys/vm/dirty_ratio", "70"), ("/proc/sys/vm/dirty_background_ratio", "50")];
/// Never chosen when memory runs out.
const NEVER_KILLED: &str = "-1000";

/// Makes a panic of process 1 end the VM, after its message: the kernel would only print more.
/// Steps' processes take this back: there reboot(2) means another thing.
pub fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("kiln-agent: {panic}");
        power_off();
    }));
}

/// Connects to the host. Needs nothing mounted.
///
/// # Errors
/// When there is no vsock device or nobody listens.
pub fn connect() -> Result<OwnedFd> {
    sys::connect_vsock(HOST_CID, AGENT_PORT).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(0);
        let hint =
            missing_driver(errno).map_or(String::new(), |hint| format!(" ({hint}; see docs/kernel.md)"));
        Failure { what: format!("connect to the host{hint}"), errno }
    })
}

/// What a kernel that is not ours may lack. Short: the host keeps 240 characters of a console's line.
fn missing_driver(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EAFNOSUPPORT => Some("the kernel has no vsock built in: CONFIG_VIRTIO_VSOCKETS"),
        // With neither the driver nor the device; without /sys nothing tells them apart.
        libc::ENODEV => Some(
            "the kernel lacks built-in virtio-vsock or virtio-mmio devices: CONFIG_VIRTIO_VSOCKETS, \
            CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES",
        ),
        _ => None,
    }
}

/// Mounts what the agent itself needs.
///
/// # Errors
/// That of mount(2).
pub fn mount_system() -> Result<()> {
    umask(Mode::empty());
    for (target, file_system) in [(c"/dev", c"devtmpfs"), (c"/proc", c"proc"), (c"/sys", c"sysfs")] {
        mount_at(target, file_system)?;
    }
    Ok(())
}

fn mount_at(target: &CStr, file_system: &CStr) -> Result<()> {
    let describe = || format!("mount {}", target.to_string_lossy());
    match mkdir(target, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => {}
        other => other.trying(describe)?,
    }
    mount(file_system, target, file_system, MountFlags::empty(), None).trying(describe)
}

/// Sets clock, host name, network and limits.
///
/// # Errors
/// What could not be set.
pub fn set_up(job: &Job) -> Result<()> {
    set_clock(job.clock)?;
    set_host_name(&job.hostname)?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let socket = socket.trying(|| "make a socket")?;
    sys::loopback_up(std::os::fd::AsFd::as_fd(&socket)).trying(|| "bring up the loopback interface")?;
    tune()
}

/// Sets the host name that steps see.
///
/// # Errors
/// That of sethostname(2).
pub fn set_host_name(name: &str) -> Result<()> {
    sethostname(name.as_bytes()).trying(|| format!("set the host name {name:?}"))
}

/// Sets the clock; near the epoch to what the kernel takes: it was never before the machine's start.
fn set_clock(seconds: u64) -> Result<()> {
    let uptime = clock_gettime(ClockId::Monotonic).tv_sec;
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(uptime + 1);
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 }).trying(|| "set the clock")
}

fn tune() -> Result<()> {
    let open_files = Rlimit { current: Some(OPEN_FILES_MAX), maximum: Some(OPEN_FILES_MAX) };
    setrlimit(Resource::Nofile, open_files).trying(|| "set the limit of open files")?;
    for (setting, value) in WRITE_BACK {
        std::fs::write(setting, value).trying(|| format!("set {setting}"))?;
    }
    std::fs::write("/proc/self/oom_score_adj", NEVER_KILLED).trying(|| "set oom_score_adj")
}

/// Lets the agent open as many files as it may: walking a tree takes two for each level.
///
/// # Errors
/// That of setrlimit(2).
pub fn allow_all_open_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, all).trying(|| "raise the limit of open files")
}

/// What a step may open, unless it asks for more.
///
/// # Errors
/// That of setrlimit(2).
pub fn limit_open_files_of_step() -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let few = maximum.map_or(OPEN_FILES_OF_STEPS, |maximum| maximum.min(OPEN_FILES_OF_STEPS));
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), maximum })
}

/// Ends the VM. QEMU's `-no-reboot` and kiln's own engine take a restart as the end, and it is the
/// shortest way there. No file system is synced: nothing on them is wanted any more.
pub fn power_off() -> ! {
    _ = reboot(RebootCommand::Restart);
    // Only when it is not allowed to.
    sys::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_drivers_is_told_what_it_lacks() {
        let table = [
            (libc::EAFNOSUPPORT, Some("CONFIG_VIRTIO_VSOCKETS")),
            (libc::ENODEV, Some("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES")),
            (libc::ECONNRESET, None),
        ];
        for (errno, option) in table {
            let told = missing_driver(errno);
            assert_eq!(told.is_some(), option.is_some());
            assert!(told.unwrap_or_default().contains(option.unwrap_or_default()), "{told:?}");
        }
    }
}
