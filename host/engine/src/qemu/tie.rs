//! What happens in a child between fork and exec: it is tied to us and loses our descriptors.
#![allow(unsafe_code)] // The standard library cannot set these attributes of a child.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child of `command` die with the thread that spawns it, and inherit `descriptors`, under
/// the same numbers, but none of our others, whatever their flags.
pub(super) fn tie_to_this_thread(command: &mut Command, descriptors: Vec<RawFd>) {
    let parent = std::process::id();
    let prepare = move || {
        die_with_parent(parent)?;
        keep_only(&descriptors)
    };
    // SAFETY: after fork only async-signal-safe calls are allowed. `prepare` makes system calls and
    // reads what was allocated before.
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

fn keep_only(descriptors: &[RawFd]) -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: changes flags of descriptors only. Closing them at once would close the pipe by which
    // the standard library reports errors.
    check(unsafe { libc::close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) })?;
    for descriptor in descriptors {
        // SAFETY: changes the flags of a descriptor only.
        check(unsafe { libc::fcntl(*descriptor, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
