//! System calls that rustix does not offer as safe functions. The only `unsafe` of the agent: one
//! safe wrapper per call.
//!
//! The agent has one thread, always. [`fork`] relies on it: its child may do whatever its parent may.
#![allow(
    unsafe_code,
    reason = "clone3, execve, signal handlers, AF_VSOCK and interface flags have no safe wrapper"
)]

use rustix::process::Pid;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

/// Which side of a [`fork`] this is.
pub enum Fork {
    /// The parent, with the new process.
    Parent {
        /// Its process ID.
        child: Pid,
        /// Readable once it has ended.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// New namespaces for a forked process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// The parent's.
    Inherited,
    /// Its own PID, mount, IPC and UTS namespaces.
    Own,
}

/// Forks, as [clone3(2)](https://man7.org/linux/man-pages/man2/clone3.2.html) does without a stack.
///
/// # Errors
/// That of clone3: out of memory or processes.
pub fn fork(namespaces: Namespaces) -> io::Result<Fork> {
    let own = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let namespace_flags = if namespaces == Namespaces::Own { own } else { 0 };
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero bytes are a valid clone_args: no pointers, no flags.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespace_flags | libc::CLONE_PIDFD).cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: the arguments and the pidfd they point to live until the call returns. Without
    // CLONE_VM the child has a copy of this memory and stack, and no other thread can have held a
    // lock at that moment, as there is none.
    let child = unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut arguments), size_of::<libc::clone_args>())
    };
    let child = i32::try_from(check(child)?).expect("a process ID fits in pid_t");
    Ok(match Pid::from_raw(child) {
        None => Fork::Child,
        // SAFETY: the call succeeded in the parent, so it stored a descriptor there that nobody owns.
        Some(child) => Fork::Parent { child, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } },
    })
}

/// Runs another program in this process. Comes back only with the error.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer, and all strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Gives a program the signals it expects: none blocked, SIGPIPE (which Rust ignores) at its default.
pub fn restore_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is read; SIG_DFL is a valid handler.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Connects a stream to a [vsock(7)](https://man7.org/linux/man-pages/man7/vsock.7.html) address.
///
/// # Errors
/// That of socket(2) or connect(2), for example `ENODEV` without a vsock device.
pub fn connect_vsock(cid: u32, port: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let raw = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(raw.into())?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all-zero bytes are a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address is a sockaddr_vm of that length, alive during the call.
    check(unsafe { libc::connect(raw, ptr::from_ref(&address).cast(), length) }.into())?;
    Ok(socket)
}

/// Brings the loopback interface up; the kernel then gives it 127.0.0.1/8 by itself
/// ([netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html)). `socket` is any of family inet.
///
/// # Errors
/// That of ioctl(2).
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, alive during the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, ptr::from_ref(&request)) }.into())?;
    Ok(())
}

/// Ends this process at once, without unwinding or exit handlers.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes a plain number and does not return.
    unsafe { libc::_exit(code) }
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
