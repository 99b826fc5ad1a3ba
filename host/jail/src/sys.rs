//! System calls without a safe wrapper.
#![allow(unsafe_code)] // See the module.

use crate::filter;
use std::ffi::{c_int, c_long, c_uint, c_void};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The first descriptor that is not a standard one.
const FIRST: c_uint = 3;

/// Exit status of a process that a filter ended: as shells give it for death by SIGSYS.
const VIOLATION_STATUS: c_int = 128 + libc::SIGSYS;

/// A SIGSYS of a filter, in [`si_code`](https://man7.org/linux/man-pages/man2/sigaction.2.html).
const SYS_SECCOMP: c_int = 1;

/// `LANDLOCK_CREATE_RULESET_VERSION` in `<linux/landlock.h>`.
const LANDLOCK_CREATE_RULESET_VERSION: c_uint = 1;

/// Lets all threads allocate from the program's break and from mappings. The arenas that glibc gives
/// threads cost address space, and it opens a file of `/proc` before it shrinks one, which no filter
/// allows.
pub(crate) fn allocate_from_one_arena() {
    // SAFETY: sets a number. It fails for other parameters only.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Closes all descriptors but the standard ones and those in `keep`.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<c_uint> = keep.iter().filter_map(|number| c_uint::try_from(*number).ok()).collect();
    keep.sort_unstable();
    let mut first = FIRST;
    for kept in keep.into_iter().filter(|number| *number >= FIRST) {
        if kept > first {
            close(first, kept - 1)?;
        }
        first = kept + 1;
    }
    close(first, c_uint::MAX)
}

fn close(first: c_uint, last: c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only; the caller of `confine` sees to it that nobody uses these.
    match check(unsafe { libc::close_range(first, last, 0) }.into()) {
        // Before Linux 5.9, and in containers that forbid what they do not know.
        Err(_) => close_each(first, last),
        Ok(_) => Ok(()),
    }
}

/// The same for every number that a descriptor can have.
fn close_each(first: c_uint, last: c_uint) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is there to be written.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }.into())?;
    let end = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX);
    let last = c_int::try_from(last).unwrap_or(c_int::MAX);
    for number in first.cast_signed()..end.min(last.saturating_add(1)) {
        // SAFETY: as above. Most are not open.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Without it, the first write past the limit ends the process.
pub(crate) fn ignore_the_signal_of_large_files() -> io::Result<()> {
    // SAFETY: no handler is involved.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of the kernel's Landlock.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    let (attributes, size) = (std::ptr::null::<c_void>(), 0_usize);
    // SAFETY: with this flag the call takes no attributes and answers with a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, LANDLOCK_CREATE_RULESET_VERSION)
    };
    Ok(u32::try_from(check(version)?).unwrap_or(u32::MAX))
}

/// Restricts the calling thread by a Landlock ruleset. Async-signal-safe.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    let flags: c_uint = 0;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) })?;
    Ok(())
}

/// Lets a process that a [`Filter`](crate::Filter) ends say so: `the block device thread made a system
/// call that it may not: openat`, on its standard error.
pub fn report_violations() {
    // SAFETY: all zeroes is an action without flags, with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *const SystemCallInfo, *const c_void) = report;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `report` has the signature that SA_SIGINFO asks for, `SystemCallInfo` is the start of
    // `siginfo_t`, and `report` does what is async-signal-safe only. Only for a signal that does not
    // exist would it fail.
    unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
}

/// The start of `siginfo_t` for SIGSYS, which the libc crate does not spell out
/// ([siginfo.h](https://elixir.bootlin.com/linux/v6.12/source/include/uapi/asm-generic/siginfo.h)).
#[repr(C)]
struct SystemCallInfo {
    si_signo: c_int,
    si_errno: c_int,
    si_code: c_int,
    si_call_addr: *const c_void,
    si_syscall: c_int,
    si_arch: c_uint,
}

/// Allocates nothing and takes no lock, as the thread may be anywhere.
extern "C" fn report(_signal: c_int, info: *const SystemCallInfo, _context: *const c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `siginfo_t`.
    let info = unsafe { &*info };
    let mut line = Line { bytes: [0; 256], length: 0 };
    let thread = filter::name_of_this_thread();
    let call = filter::syscall_name(info.si_syscall.into());
    // A line that is full loses its end.
    let _ = match info.si_code {
        SYS_SECCOMP => writeln!(line, "the {thread} thread made a system call that it may not: {call}"),
        _ => writeln!(line, "somebody sent SIGSYS to the {thread} thread"),
    };
    // SAFETY: the bytes are there, and both calls are async-signal-safe.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.length);
        libc::_exit(VIOLATION_STATUS)
    }
}

/// Text of limited length.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
