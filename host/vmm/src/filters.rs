//! Which system calls each thread of the VMM may make once the guest runs, beside what any thread of a
//! Rust program may ([`kiln_jail::Filter`]).
//!
//! By then everything is open and every thread is there, so no list has a call that opens a file, starts
//! something or connects to somebody. A device that learns to do more needs its call here; a machine that
//! ends with "made a system call that it may not" tells which.

use kiln_jail::Condition::OneOf;
use kiln_jail::Rule::{Any, If, Ioctl};
use kiln_jail::{Error, Filter, Rule};
use kvm_bindings::{kvm_regs, kvm_sregs, kvm_translation};
use libc::{
    AF_UNIX, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FIONBIO, SO_SNDBUF, SOCK_CLOEXEC, SOCK_STREAM,
    SOL_SOCKET, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_wait, SYS_fallocate,
    SYS_fdatasync, SYS_preadv, SYS_pwritev, SYS_read, SYS_readv, SYS_sendmsg, SYS_sendto, SYS_setsockopt,
    SYS_shutdown, SYS_socketpair,
};
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_RNG, VIRTIO_ID_VSOCK};
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

/// KVM's requests, numbered in `<linux/kvm.h>` ([api.rst](https://docs.kernel.org/virt/kvm/api.html)).
const KVMIO: u32 = 0xae;
const KVM_RUN: u64 = ioctl_expr(_IOC_NONE, KVMIO, 0x80, 0);
const KVM_GET_REGS: u64 = ioctl_expr(_IOC_READ, KVMIO, 0x81, size_of::<kvm_regs>() as u32);
const KVM_GET_SREGS: u64 = ioctl_expr(_IOC_READ, KVMIO, 0x83, size_of::<kvm_sregs>() as u32);
const KVM_TRANSLATE: u64 =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0x85, size_of::<kvm_translation>() as u32);

/// Enters the guest, takes what a port has counted, wakes others and writes the console (by `write`,
/// which all may). The other requests are for the message about a guest that KVM cannot run.
const VCPU: &[Rule<'_>] = &[Ioctl(&[KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS, KVM_TRANSLATE]), Any(SYS_read)];

/// Waits for its driver and takes what was counted; interrupts by `write`.
const DEVICE: [Rule<'_>; 3] = [Any(SYS_epoll_wait), Any(SYS_epoll_pwait), Any(SYS_read)];

const PUNCH_HOLE: u32 = (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE).cast_unsigned();

/// Reads and writes in place, makes holes, and tells kiln of the host's errors.
const BLOCK: [Rule<'_>; 5] = [
    Any(SYS_preadv),
    Any(SYS_pwritev),
    If(SYS_fallocate, &[OneOf(1, &[PUNCH_HOLE])]),
    Any(SYS_fdatasync),
    Any(SYS_sendto),
];

const CONNECTED_PAIR: u32 = (SOCK_STREAM | SOCK_CLOEXEC).cast_unsigned();

/// Makes streams of two connected ends, one of which it hands to kiln. No other kind of socket: one of
/// datagrams could be talked through to anybody's.
const VSOCK: [Rule<'_>; 7] = [
    If(SYS_socketpair, &[OneOf(0, &[AF_UNIX.cast_unsigned()]), OneOf(1, &[CONNECTED_PAIR])]),
    If(SYS_setsockopt, &[OneOf(1, &[SOL_SOCKET.cast_unsigned()]), OneOf(2, &[SO_SNDBUF.cast_unsigned()])]),
    Ioctl(&[FIONBIO]),
    Any(SYS_epoll_ctl),
    Any(SYS_readv),
    Any(SYS_sendmsg),
    Any(SYS_shutdown),
];

/// The host's random bytes, straight into the guest's memory.
const RANDOM: [Rule<'_>; 1] = [Any(SYS_readv)];

/// Waits for the end of the machine or of kiln, and reports it.
const MAIN: &[Rule<'_>] = &[
    Any(SYS_epoll_create1),
    Any(SYS_epoll_ctl),
    Any(SYS_epoll_wait),
    Any(SYS_epoll_pwait),
    Any(SYS_read),
    Any(SYS_sendto),
];

/// For the thread of a virtual processor.
///
/// # Errors
/// See [`Filter::compile`].
pub fn vcpu() -> Result<Filter, Error> {
    Filter::compile("processor", VCPU)
}

/// For the thread of a device of this type (virtio 1.2 section 5).
///
/// # Errors
/// See [`Filter::compile`].
pub fn device(device_type: u32) -> Result<Filter, Error> {
    let (name, rules): (_, &[Rule<'_>]) = match device_type {
        VIRTIO_ID_BLOCK => ("disk", &BLOCK),
        VIRTIO_ID_VSOCK => ("vsock", &VSOCK),
        VIRTIO_ID_RNG => ("random numbers", &RANDOM),
        _ => ("device", &[]),
    };
    Filter::compile(name, &[&DEVICE, rules].concat())
}

/// For the first thread, when all others are there.
///
/// # Errors
/// See [`Filter::compile`].
pub fn main() -> Result<Filter, Error> {
    Filter::compile("main", MAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_filter() {
        vcpu().unwrap();
        main().unwrap();
        for device_type in [VIRTIO_ID_BLOCK, VIRTIO_ID_VSOCK, VIRTIO_ID_RNG, 0] {
            device(device_type).unwrap();
        }
    }

    /// As `strace` knows them.
    #[test]
    fn requests_have_the_numbers_of_the_kernel() {
        let numbers = [KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS, KVM_TRANSLATE];
        assert_eq!(numbers, [0xae80, 0x8090_ae81, 0x8138_ae83, 0xc018_ae85]);
    }
}
