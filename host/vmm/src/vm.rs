//! The virtual machine as KVM knows it: memory, interrupt controllers, timers.
#![allow(unsafe_code)] // KVM is told addresses of our memory.

use crate::layout;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use std::io;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What cannot be done without: all there since Linux 4.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "interrupt controllers in the kernel"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Pit2, "a timer in the kernel"),
    (Cap::UserMemory, "user memory"),
    (Cap::ExtCpuid, "CPUID"),
    (Cap::SetTssAddr, "a TSS address"),
];

/// A machine without processors, `memory` at its place.
///
/// # Errors
/// When KVM lacks something or refuses.
pub fn create(kvm: &Kvm, memory: &GuestMemoryMmap) -> Result<VmFd, Failure> {
    if let Some((_, name)) = NEEDED.iter().find(|(capability, _)| !kvm.check_extension(*capability)) {
        return Err(Failure::Lacks(name));
    }
    let vm = uninterrupted(|| kvm.create_vm()).map_err(Failure::of("create a machine"))?;
    vm.set_tss_address(usize::try_from(layout::KVM_TSS.raw_value()).expect("below 4 GiB"))
        .map_err(Failure::of("set the TSS address"))?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP.raw_value())
        .map_err(Failure::of("set the identity map's address"))?;
    vm.create_irq_chip().map_err(Failure::of("create the interrupt controllers"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(Failure::of("create the timer"))?;
    for (slot, region) in (0..).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is mapped, and stays so: `GuestMemoryMmap` counts its users, and the
        // machine keeps one until the process ends.
        unsafe { vm.set_user_memory_region(region) }.map_err(Failure::of("give the machine its memory"))?;
    }
    Ok(vm)
}

/// A signal, such as one of a debugger, makes KVM give up the creation of a machine.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, kvm_ioctls::Error>) -> Result<T, kvm_ioctls::Error> {
    loop {
        match call() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => return other,
        }
    }
}

/// KVM refused.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("this host's KVM lacks {0}")]
    Lacks(&'static str),
    #[error("KVM cannot {0}")]
    Call(&'static str, #[source] io::Error),
}

impl Failure {
    /// For `map_err`.
    pub fn of(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Call(what, io::Error::from_raw_os_error(error.errno()))
    }
}
