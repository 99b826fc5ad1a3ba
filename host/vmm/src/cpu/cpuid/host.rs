//! A processor like the host's: all that KVM can give, but with this machine's topology.

use super::{KVM_SIGNATURE, Processor, leaf};
use crate::cpu::feature::{HT, Word};
use crate::cpu::supported::Supported;
use kvm_bindings::kvm_cpuid_entry2;

/// Leaves that describe the host's topology or KVM's interfaces; ours take their place. In 0x1f and
/// 0x80000026 a kernel then finds nothing, and looks into 0xb.
const REPLACED: [u32; 5] = [0xb, 0x1f, 0x4000_0000, 0x4000_0001, 0x8000_0026];

/// Leaves 4 and 0x8000001d, EAX 25:14: how many processors share a cache, less 1.
const SHARING: u32 = 0xfff << 14;
/// Leaf 4, EAX 31:26.
const CORES: u32 = 0x3f << 26;
/// The same leaves, EAX 7:5: the cache's level.
const CACHE_LEVEL: u32 = 0b111 << 5;

/// The leaves of a processor, in no order.
pub fn leaves(supported: &Supported, processor: Processor) -> Vec<kvm_cpuid_entry2> {
    let kept = supported.leaves().iter().filter(|leaf| !REPLACED.contains(&leaf.function));
    let mut leaves: Vec<_> = kept.map(|leaf| adapted(leaf, supported, processor)).collect();
    leaves.extend(processor.leaf_b());
    leaves.push(leaf(0x4000_0000, KVM_SIGNATURE));
    leaves.push(leaf(0x4000_0001, [super::level::kvm_features(supported), 0, 0, 0]));
    leaves
}

/// A leaf of the host as this processor has it.
fn adapted(leaf: &kvm_cpuid_entry2, supported: &Supported, processor: Processor) -> kvm_cpuid_entry2 {
    let mut leaf = *leaf;
    match leaf.function {
        0x0 => leaf.eax = leaf.eax.max(0xb),
        0x1 => adapt_leaf_1(&mut leaf, supported, processor),
        0x4 => leaf.eax = cache_sharing(leaf.eax & !CORES, processor) | cores(leaf.eax, processor),
        0x8000_0008 if supported.vendor().is_like_amd() => leaf.ecx = processor.leaf_8000_0008_ecx(),
        0x8000_001d => leaf.eax = cache_sharing(leaf.eax, processor),
        // AMD: the number of the local APIC, that of the core, one thread, one node.
        0x8000_001e => {
            (leaf.eax, leaf.ebx, leaf.ecx) = (processor.id.into(), processor.id.into(), 0);
        }
        _ => {}
    }
    leaf
}

fn adapt_leaf_1(leaf: &mut kvm_cpuid_entry2, supported: &Supported, processor: Processor) {
    leaf.ebx = processor.leaf_1_ebx();
    leaf.ecx = supported.word(Word::Leaf1Ecx);
    leaf.edx &= !HT;
    if processor.cpus > 1 {
        leaf.edx |= HT;
    }
}

/// EAX of a cache with its sharing: from the third level on all processors have it together. 0 ends the
/// list of caches.
fn cache_sharing(eax: u32, processor: Processor) -> u32 {
    let is_shared = (eax & CACHE_LEVEL) >> 5 >= 3;
    let others = if is_shared { processor.span() - 1 } else { 0 };
    eax & !SHARING | others << 14
}

fn cores(eax: u32, processor: Processor) -> u32 {
    if eax == 0 { 0 } else { processor.leaf_4_cores() }
}
