//! Why a virtual processor cannot go on, in words that name the instruction.
//!
//! KVM runs most of a guest on the processor itself, but not everything: accesses to devices, code in
//! modes that the hardware cannot run, and on some hosts of virtual machines all of ring 0, go through
//! its instruction emulator, which does not know every instruction. Then, and when the hardware or the
//! guest's tables are not as they should be, `KVM_RUN` comes back with a reason that only the vCPU's
//! registers and memory explain.

mod exit_data;
mod exit_reason;
mod instruction;

use exit_data::InternalError;
use instruction::Width;
use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_sregs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::GuestMemoryMmap;

/// What no machine survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fatal {
    /// `KVM_EXIT_INTERNAL_ERROR`: KVM itself does not know how to go on.
    InternalError,
    /// `KVM_EXIT_FAIL_ENTRY`: the processor refuses to enter the guest.
    FailEntry {
        /// `hardware_entry_failure_reason`, as the processor gave it.
        reason: u64,
        /// The host's processor.
        cpu: u32,
    },
    /// `KVM_EXIT_SHUTDOWN`: a triple fault.
    Shutdown,
    /// An exit that the caller has no answer to; `kvm_run` knows which.
    Unexpected,
}

impl From<&VcpuExit<'_>> for Fatal {
    /// For whatever the caller does not handle.
    fn from(exit: &VcpuExit<'_>) -> Self {
        match *exit {
            VcpuExit::InternalError => Self::InternalError,
            VcpuExit::FailEntry(reason, cpu) => Self::FailEntry { reason, cpu },
            VcpuExit::Shutdown => Self::Shutdown,
            _ => Self::Unexpected,
        }
    }
}

/// What `KVM_RUN` came back with that no machine survives, in lower case without a final stop.
///
/// To be called before the vCPU runs again, as `kvm_run` is read.
pub fn describe(vcpu: &mut VcpuFd, memory: &GuestMemoryMmap, exit: Fatal) -> String {
    match exit {
        Fatal::InternalError => match InternalError::read(vcpu.get_kvm_run()) {
            Some(error) => internal_error(&error, vcpu, memory),
            None => "KVM met an internal error without saying which".to_owned(),
        },
        Fatal::FailEntry { reason, cpu } => {
            format!("the host's processor {cpu} refuses to enter the guest: {}", entry_failure(reason))
        }
        Fatal::Shutdown => shutdown(Place::of(vcpu)),
        Fatal::Unexpected => {
            let name = exit_reason::name(vcpu.get_kvm_run().exit_reason);
            format!("KVM stopped for {name}, which nobody asked for, {}", at(vcpu))
        }
    }
}

/// Where the processor is, naming the instruction: "the instruction `int3` (cc) at 0x1000 in ring 0".
pub fn here(vcpu: &VcpuFd, memory: &GuestMemoryMmap) -> String {
    let Some(place) = Place::of(vcpu) else { return "an unknown place".to_owned() };
    named(&place.code(vcpu, memory), place)
}

/// The same for an address that the processor came from, in 64-bit code of that ring.
pub fn there(vcpu: &VcpuFd, memory: &GuestMemoryMmap, rip: u64, ring: u8) -> String {
    let place = Place { rip, linear: rip, ring, width: Width::Bits64, is_at_reset: false };
    named(&place.code(vcpu, memory), place)
}

/// A processor's place in its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Within the code segment.
    rip: u64,
    /// Where that is in the address space.
    linear: u64,
    /// 0 is the kernel's, 3 the programs'.
    ring: u8,
    width: Width,
    /// Where a processor is after power-on.
    is_at_reset: bool,
}

impl Place {
    fn of(vcpu: &VcpuFd) -> Option<Self> {
        Some(Self::from_registers(vcpu.get_regs().ok()?.rip, &vcpu.get_sregs().ok()?))
    }

    fn from_registers(rip: u64, sregs: &kvm_sregs) -> Self {
        let width = match (sregs.efer & EFER_LMA != 0 && sregs.cs.l != 0, sregs.cs.db != 0) {
            (true, _) => Width::Bits64,
            (false, true) => Width::Bits32,
            (false, false) => Width::Bits16,
        };
        // The bases of code segments are not used in 64-bit mode.
        let base = if width == Width::Bits64 { 0 } else { sregs.cs.base };
        let is_at_reset = rip == RESET_RIP && sregs.cs.base == RESET_CS_BASE;
        // A conforming code segment says nothing of the ring, the stack's always does.
        Self { rip, linear: base.wrapping_add(rip), ring: sregs.ss.dpl & 3, width, is_at_reset }
    }

    /// The bytes from the instruction on.
    fn code(&self, vcpu: &VcpuFd, memory: &GuestMemoryMmap) -> Vec<u8> {
        instruction::read(memory, self.linear, |linear| {
            let translation = vcpu.translate_gva(linear).ok()?;
            (translation.valid != 0).then_some(translation.physical_address)
        })
    }
}

/// "Long mode active" in the extended feature register (AMD64 manual, volume 2, section 3.1.7).
const EFER_LMA: u64 = 1 << 10;

/// Where processors start (Intel SDM, volume 3, section 10.1.4).
const RESET_RIP: u64 = 0xfff0;
const RESET_CS_BASE: u64 = 0xffff_0000;

fn named(code: &[u8], place: Place) -> String {
    let name = instruction::name(code, place.width, place.rip);
    format!("{name} at {:#x} in ring {}", place.rip, place.ring)
}

fn at(vcpu: &VcpuFd) -> String {
    Place::of(vcpu).map_or_else(
        || "at an unknown place".to_owned(),
        |place| format!("at {:#x} in ring {}", place.rip, place.ring),
    )
}

fn internal_error(error: &InternalError, vcpu: &VcpuFd, memory: &GuestMemoryMmap) -> String {
    match error.suberror {
        KVM_INTERNAL_ERROR_EMULATION => {
            format!("KVM cannot execute {}", failed_emulation(error, vcpu, memory))
        }
        KVM_INTERNAL_ERROR_SIMUL_EX => {
            format!("KVM met exceptions at the same time that it cannot order, at {}", here(vcpu, memory))
        }
        KVM_INTERNAL_ERROR_DELIVERY_EV => {
            format!("KVM cannot deliver {}, {}", undelivered(&error.data), at(vcpu))
        }
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => {
            let reason = error.data.first().copied().unwrap_or_default();
            format!(
                "KVM does not know the host processor's exit reason {reason:#x}, at {}",
                here(vcpu, memory)
            )
        }
        unknown => format!("KVM met its internal error {unknown}, at {}", here(vcpu, memory)),
    }
}

fn failed_emulation(error: &InternalError, vcpu: &VcpuFd, memory: &GuestMemoryMmap) -> String {
    let Some(place) = Place::of(vcpu) else { return "an instruction at an unknown place".to_owned() };
    // What KVM fetched is what it failed at; memory may have changed since.
    named(&error.instruction().unwrap_or_else(|| place.code(vcpu, memory)), place)
}

/// What KVM was about to deliver, in the processor's format, which Intel and AMD share: the vector
/// below, then the kind (Intel SDM, volume 3, section 25.8.3; AMD64 manual, volume 2, section 15.20).
fn undelivered(data: &[u64]) -> String {
    let Some(event) = data.first() else { return "an interrupt or exception".to_owned() };
    let vector = event & 0xff;
    let kind = match event >> 8 & 7 {
        0 => "interrupt",
        2 => "non-maskable interrupt",
        3 => "exception",
        4..=6 => "software interrupt",
        _ => "event",
    };
    match data.get(1) {
        Some(reason) => {
            format!("{kind} {vector}, as the host's processor stopped for its reason {reason:#x}")
        }
        None => format!("{kind} {vector}"),
    }
}

/// The reasons that are seen in practice (Intel SDM, volume 3, sections 27.8 and 31.4, and appendix C;
/// AMD64 manual, volume 2, appendix C).
fn entry_failure(reason: u64) -> String {
    let meaning = match reason {
        7 => "it or its hypervisor does not know a setting that KVM makes",
        8 => "the host's own state is not as it must be",
        0x8000_0021 => "the guest's registers are in a state that it does not accept",
        0x8000_0022 => "a model-specific register has a value that it does not accept",
        0x8000_0029 => "it met a machine check",
        0xffff_ffff | u64::MAX => "the guest's state is not valid",
        _ => return format!("hardware reason {reason:#x}"),
    };
    format!("{meaning} (hardware reason {reason:#x})")
}

fn shutdown(place: Option<Place>) -> String {
    let cause =
        "the guest's processor met a fault while handling a fault while handling a fault (triple fault)";
    match place {
        None => cause.to_owned(),
        // Some processors forget their state by it, so that KVM resets them.
        Some(place) if place.is_at_reset => format!("{cause}, nobody knows where"),
        Some(place) => format!("{cause} at {:#x} in ring {}", place.rip, place.ring),
    }
}

#[cfg(test)]
mod tests;
