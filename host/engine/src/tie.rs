//! What happens in a child between fork and exec: it is tied to us and loses our descriptors.
#![allow(unsafe_code)] // The standard library cannot set these attributes of a child.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// What a child does to itself before it becomes another program. As after fork only
/// async-signal-safe calls are allowed, it makes system calls and neither allocates nor locks.
pub(crate) type Preparation = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// The first descriptor that is not a standard one.
const FIRST: RawFd = 3;

/// Lets the child of `command` die with the thread that spawns it, and inherit `descriptors`, under
/// the same numbers, but none of our others, whatever their flags. `preparation` comes last.
pub(crate) fn tie_to_this_thread(
    command: &mut Command,
    descriptors: Vec<RawFd>,
    preparation: Option<Preparation>,
) {
    let parent = std::process::id();
    let prepare = move || {
        die_with_parent(parent)?;
        // Before Linux 5.11, and in containers that forbid what they do not know.
        close_all_on_exec().or_else(|_| close_each_on_exec())?;
        keep(&descriptors)?;
        preparation.as_ref().map_or(Ok(()), |prepare| prepare())
    };
    // SAFETY: after fork only async-signal-safe calls are allowed. `prepare` makes system calls and
    // reads what was allocated before, and so does a `Preparation`.
    unsafe { command.pre_exec(prepare) };
}

fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: takes nothing and cannot fail.
    let now = unsafe { libc::getppid() };
    // The parent may have died before the first call; nobody would tell us then.
    if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Closing them at once would close the pipe by which the standard library reports errors.
fn close_all_on_exec() -> io::Result<()> {
    let (first, flags) = (FIRST.cast_unsigned(), libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    // SAFETY: changes flags of descriptors only.
    check(unsafe { libc::close_range(first, libc::c_uint::MAX, flags) })
}

/// The same for every number that a descriptor can have.
fn close_each_on_exec() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is there to be written.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    for descriptor in FIRST..RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX) {
        // SAFETY: changes the flags of a descriptor only. Most are not open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn keep(descriptors: &[RawFd]) -> io::Result<()> {
    for descriptor in descriptors {
        // SAFETY: changes the flags of a descriptor only.
        check(unsafe { libc::fcntl(*descriptor, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn with_and_without_the_newer_call_only_what_is_kept_is_inherited() {
        let (kept, other) = (File::open("/dev/null").unwrap(), File::open("/dev/null").unwrap());
        let (kept_number, number) = (kept.as_raw_fd(), other.as_raw_fd());
        for close in [close_all_on_exec, close_each_on_exec] {
            let mut shell = Command::new("sh");
            let test = format!("test -e /dev/fd/{kept_number} && test ! -e /dev/fd/{number}");
            shell.args(["-c", &test]);
            let prepare = move || {
                keep(&[kept_number, number])?;
                close()?;
                keep(&[kept_number])
            };
            // SAFETY: as in `tie_to_this_thread`.
            unsafe { shell.pre_exec(prepare) };
            assert!(shell.status().unwrap().success());
        }
    }
}
