//! CPUID: what a virtual processor says it is.

mod cache;
mod host;
mod level;
mod topology;
mod xsave;

pub use level::missing;

use super::Processor;
use super::feature::{Level, Register};
use super::supported::Supported;
use crate::channel::CpuModel;
use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// "KVMKVMKVM", and the highest leaf of its range
/// ([KVM CPUID bits](https://www.kernel.org/doc/html/latest/virt/kvm/x86/cpuid.html)).
const KVM_SIGNATURE: [u32; 4] = [
    0x4000_0001,
    u32::from_le_bytes(*b"KVMK"),
    u32::from_le_bytes(*b"VMKV"),
    u32::from_le_bytes(*b"M\0\0\0"),
];

/// All leaves of a processor, in ascending order.
pub fn leaves(supported: &Supported, processor: Processor, model: CpuModel) -> Vec<kvm_cpuid_entry2> {
    let mut leaves = match Level::of(model) {
        Some(level) => level::leaves(supported, processor, level),
        None => host::leaves(supported, processor),
    };
    leaves.sort_by_key(|leaf| (leaf.function, leaf.index));
    leaves
}

/// A leaf without subleaves: EAX, EBX, ECX, EDX.
fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

/// One subleaf of a leaf.
fn subleaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { index, flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ..leaf(function, registers) }
}

/// Leaf 0 and its like: the highest leaf, and the host's vendor.
///
/// The vendor stays: KVM itself and the guest's kernel behave after it (which `syscall` variants there
/// are, how to call the hypervisor, which quirks to work around), and the instructions are the host's.
fn vendor_leaf(supported: &Supported, function: u32, highest: u32) -> kvm_cpuid_entry2 {
    let vendor = |register| supported.register(0, 0, register);
    leaf(function, [highest, vendor(Register::Ebx), vendor(Register::Ecx), vendor(Register::Edx)])
}

#[cfg(test)]
mod tests;
