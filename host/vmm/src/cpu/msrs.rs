//! The model-specific registers that must be other than KVM makes them.
//!
//! The ones for system calls, `STAR` and `SYSENTER_*` and their like, are 0 as after a reset, and a kernel
//! sets them before it needs them; likewise `PAT` and `APIC_BASE` are right.

use super::Failure;
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// A register (Intel SDM volume 4) and its value.
struct Msr {
    name: &'static str,
    index: u32,
    data: u64,
}

/// Memory is write-back unless the page tables say otherwise (`E`, and type 6): firmware does this.
/// Without, all of it is uncached, which KVM obeys with assigned devices, and kernels believe.
const MTRR_DEF_TYPE: Msr = Msr { name: "IA32_MTRR_DEF_TYPE", index: 0x2ff, data: 1 << 11 | 6 };

/// `rep movs` and `rep stos` are fast (bit 0), without which Linux does not use them. There is neither
/// branch trace storage nor event-based sampling (bits 11 and 12, which KVM has set).
const MISC_ENABLE: Msr = Msr { name: "IA32_MISC_ENABLE", index: 0x1a0, data: 1 << 12 | 1 << 11 | 1 };

/// All processors count from 0; KVM takes a 0 as the order to synchronize them.
const TIME_STAMP_COUNTER: Msr = Msr { name: "IA32_TIME_STAMP_COUNTER", index: 0x10, data: 0 };

const MSRS: [Msr; 3] = [MTRR_DEF_TYPE, MISC_ENABLE, TIME_STAMP_COUNTER];

/// Sets them.
pub fn set(vcpu: &VcpuFd) -> Result<(), Failure> {
    let entries = MSRS.map(|msr| kvm_msr_entry { index: msr.index, data: msr.data, ..Default::default() });
    let entries = Msrs::from_entries(&entries).expect("three are fewer than kvm takes at once");
    all_set(vcpu.set_msrs(&entries).map_err(Failure::MsrsRefused)?)
}

/// KVM sets one after the other, stops at the first that it does not take, and returns how many it took.
fn all_set(count: usize) -> Result<(), Failure> {
    match MSRS.get(count) {
        Some(&Msr { name, index, .. }) => Err(Failure::MsrRefused { name, index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_that_kvm_refuses_is_named() {
        let message = |count| all_set(count).unwrap_err().to_string();
        assert_eq!(message(0), "kvm refuses the model-specific register IA32_MTRR_DEF_TYPE (0x2ff)");
        assert_eq!(message(2), "kvm refuses the model-specific register IA32_TIME_STAMP_COUNTER (0x10)");
        all_set(MSRS.len()).unwrap();
    }
}
