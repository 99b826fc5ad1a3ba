//! The guest's wall clock starts at 1970-01-01T00:00:00 on every host.
//!
//! A guest of KVM that wants to know the time of day writes an address to a model-specific register;
//! KVM writes there what the date was when the machine was made
//! ([KVM-specific MSRs](https://www.kernel.org/doc/html/latest/virt/kvm/x86/msr.html)). The host's date must
//! not bear on a build, so a filter makes these writes exits, and the answer is ours.
//!
//! Limits: kvm-clock counts from the making of the machine, so that the guest's first look at the clock is
//! some milliseconds after the epoch. And a guest that wants the host's date can have it, by a hypercall
//! that no filter stops (`KVM_HC_CLOCK_PAIRING`): it is no secret, it only must not come unasked.

use super::Failure;
use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Where a guest asks for the date.
const MSR_KVM_WALL_CLOCK_NEW: u32 = 0x4b56_4d00;
/// Its older number. The CPUID does not offer it, but a guest might try.
const MSR_KVM_WALL_CLOCK: u32 = 0x11;

/// `struct pvclock_wall_clock`: `version`, `sec`, `nsec`, of 32 bits each. The version is even when the
/// rest is whole: readers compare it before and after. Two processors that ask for the same
/// address are given the same bytes, so that here it need not change.
const PVCLOCK_WALL_CLOCK: [u32; 3] = [2, 0, 0];

/// Makes the date of `vm` ours to tell. To be called before its first run. Whether the host's KVM can do it:
/// older kernels than 5.10 cannot, and the guest then sees the host's date.
///
/// # Errors
/// When KVM says that it can, but refuses.
pub fn fix(vm: &VmFd) -> Result<bool, Failure> {
    if !vm.check_extension(Cap::X86UserSpaceMsr) || !vm.check_extension(Cap::X86MsrFilter) {
        return Ok(false);
    }
    let exits = kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0],
        ..Default::default()
    };
    vm.enable_cap(&exits).map_err(Failure::WallClockNotFiltered)?;
    let denied = [MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_WALL_CLOCK].map(denied_write);
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &denied).map_err(Failure::WallClockNotFiltered)?;
    Ok(true)
}

/// Answers a processor's exit for the write of `data` to the register `index`. Returns whether the write is
/// valid; if not, the exit's `error` must be set to 1, by which the guest gets a general-protection fault.
#[must_use]
pub fn answer(memory: &GuestMemoryMmap, index: u32, data: u64) -> bool {
    let is_ours = [MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_WALL_CLOCK].contains(&index);
    is_ours && write(memory, GuestAddress(data))
}

/// The whole structure must be in guest memory.
fn write(memory: &GuestMemoryMmap, address: GuestAddress) -> bool {
    let mut bytes = [0; size_of_val(&PVCLOCK_WALL_CLOCK)];
    for (field, value) in bytes.chunks_exact_mut(4).zip(PVCLOCK_WALL_CLOCK) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    memory.write_slice(&bytes, address).is_ok()
}

/// A bitmap of one register, without leave.
fn denied_write(base: u32) -> MsrFilterRange<'static> {
    MsrFilterRange { flags: MsrFilterRangeFlags::WRITE, base, msr_count: 1, bitmap: &[0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_BYTES: u64 = 0x1000;

    fn memory() -> GuestMemoryMmap {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES as usize)]).unwrap();
        memory.write_slice(&[0xaa; MEMORY_BYTES as usize], GuestAddress(0)).unwrap();
        memory
    }

    #[test]
    fn the_date_is_the_epoch() {
        for index in [MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_WALL_CLOCK] {
            let memory = memory();
            assert!(answer(&memory, index, 0x100));
            let mut bytes = [0; 14];
            memory.read_slice(&mut bytes, GuestAddress(0xff)).unwrap();
            assert_eq!(bytes, [0xaa, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xaa]);
        }
    }

    #[test]
    fn addresses_outside_memory_are_refused() {
        let memory = memory();
        for address in [MEMORY_BYTES - 11, MEMORY_BYTES, u64::MAX - 3, u64::MAX, 0xd000_0000] {
            assert!(!answer(&memory, MSR_KVM_WALL_CLOCK_NEW, address), "{address:#x}");
        }
        assert!(answer(&memory, MSR_KVM_WALL_CLOCK_NEW, MEMORY_BYTES - 12));
    }

    #[test]
    fn other_registers_are_refused() {
        for index in [0, 0x10, 0x12, 0x4b56_4d01] {
            assert!(!answer(&memory(), index, 0x100), "{index:#x}");
        }
    }
}
