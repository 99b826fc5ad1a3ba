//! A processor of a microarchitecture level: the same on every host, but for the vendor.

use super::{KVM_SIGNATURE, Processor, cache, leaf, subleaf, vendor_leaf, xsave};
use crate::cpu::feature::{AVX, FEATURES, Feature, HT, Level, Needed, Register, Word, XSAVE};
use crate::cpu::supported::{Supported, Vendor};
use kvm_bindings::kvm_cpuid_entry2;

/// Highest leaf of a level that has extended states to save (leaf 0xd), and of one that has none. What is
/// behind only tells of features that are off; the rates in 0x15 and 0x16 are known from kvm-clock.
const HIGHEST_WITH_XSAVE: u32 = 0xd;
const HIGHEST_WITHOUT_XSAVE: u32 = 0xb;

/// Highest of the extended leaves: the sizes of addresses.
const HIGHEST_EXTENDED: u32 = 0x8000_0008;

/// Bits of a physical address that the guest may use: those that all processors of x86-64-v3 have.
/// The kernel makes data structures and KVM the page tables by it. Memory ends at 512 GiB.
const PHYSICAL_BITS_MAX: u32 = 39;
/// Bits of a virtual address: four levels of page tables.
const VIRTUAL_BITS: u32 = 48;

/// Family, model and stepping of leaf 1. Kernels look for the quirks of a processor by it, so it must
/// be one that had all the features, and few quirks.
const fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (family, extended) = if family > 0xf { (0xf, family - 0xf) } else { (family, 0) };
    extended << 20 | (model >> 4) << 16 | family << 8 | (model & 0xf) << 4 | stepping
}

/// Haswell.
const INTEL: u32 = signature(6, 60, 4);
/// Rome, the second Zen. For the first, Linux flushes the divider at every return from the kernel.
const AMD: u32 = signature(23, 49, 0);
/// Dhyana.
const HYGON: u32 = signature(24, 0, 1);

/// The leaves of a processor, in no order.
pub fn leaves(supported: &Supported, processor: Processor, level: Level) -> Vec<kvm_cpuid_entry2> {
    let word = |word| features(supported, level, word);
    let has = |feature: Feature| word(feature.word) & feature.mask != 0;
    let ht = if processor.cpus > 1 { HT } else { 0 };
    let leaf_1 = [family(supported), processor.leaf_1_ebx(), word(Word::Leaf1Ecx), word(Word::Leaf1Edx) | ht];
    let mut leaves = vec![
        vendor_leaf(supported, 0, highest(level)),
        leaf(1, leaf_1),
        leaf(6, [word(Word::Leaf6Eax), 0, 0, 0]),
        subleaf(7, 0, [0, word(Word::Leaf7Ebx), 0, 0]),
        leaf(0x4000_0000, KVM_SIGNATURE),
        leaf(0x4000_0001, [kvm_features(supported), 0, 0, 0]),
        vendor_leaf(supported, 0x8000_0000, HIGHEST_EXTENDED),
        leaf(0x8000_0001, [0, 0, word(Word::Extended1Ecx), word(Word::Extended1Edx)]),
        leaf(0x8000_0007, [0, 0, 0, word(Word::Extended7Edx)]),
        leaf(0x8000_0008, [address_bits(supported), 0, 0, 0]),
    ];
    leaves.extend(processor.leaf_b());
    leaves.extend(brand(level));
    if has(XSAVE) {
        leaves.extend(xsave::leaves(has(AVX), word(Word::LeafD1Eax)));
    }
    add_vendors_own(supported.vendor(), processor, &mut leaves);
    leaves
}

/// The names of the features of the level that the host lacks and a program would miss.
pub fn missing(supported: &Supported, level: Level) -> Vec<&'static str> {
    let needed =
        FEATURES.iter().filter(|feature| matches!(feature.needed, Needed::From(first) if first <= level));
    let lacking = needed.filter(|feature| supported.word(feature.word) & feature.mask == 0);
    lacking.map(|feature| feature.name).collect()
}

/// The features of a register that are in the level and on the host.
fn features(supported: &Supported, level: Level, word: Word) -> u32 {
    let of_level = FEATURES.iter().filter(|feature| feature.word == word && feature.is_in(level));
    of_level.fold(0, |mask, feature| mask | feature.mask) & supported.word(word)
}

/// Which of KVM's interfaces a guest has, whatever its processor.
pub fn kvm_features(supported: &Supported) -> u32 {
    features(supported, Level::V2, Word::KvmEax)
}

fn highest(level: Level) -> u32 {
    if XSAVE.is_in(level) { HIGHEST_WITH_XSAVE } else { HIGHEST_WITHOUT_XSAVE }
}

fn family(supported: &Supported) -> u32 {
    match supported.vendor() {
        Vendor::Intel => INTEL,
        Vendor::Amd => AMD,
        Vendor::Hygon => HYGON,
        Vendor::Other => supported.register(1, 0, Register::Eax),
    }
}

fn address_bits(supported: &Supported) -> u32 {
    let physical = supported.register(0x8000_0008, 0, Register::Eax) & 0xff;
    VIRTUAL_BITS << 8 | physical.min(PHYSICAL_BITS_MAX)
}

/// Leaves 0x80000002 to 0x80000004: the model's name as `/proc/cpuinfo` shows it, zeroes behind.
fn brand(level: Level) -> [kvm_cpuid_entry2; 3] {
    let name: &[u8] = match level {
        Level::V2 => b"kiln x86-64-v2",
        Level::V3 => b"kiln x86-64-v3",
    };
    let byte = |index: usize| name.get(index).copied().unwrap_or(0);
    let register = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|offset| byte(4 * index + offset)));
    let registers = |index: usize| [0, 1, 2, 3].map(|offset| register(4 * index + offset));
    [leaf(0x8000_0002, registers(0)), leaf(0x8000_0003, registers(1)), leaf(0x8000_0004, registers(2))]
}

/// Intel and AMD describe caches in different leaves, and only AMD has topology in 0x80000008.
fn add_vendors_own(vendor: Vendor, processor: Processor, leaves: &mut Vec<kvm_cpuid_entry2>) {
    if !vendor.is_like_amd() {
        leaves.extend(cache::intel(processor));
        return;
    }
    leaves.extend(cache::amd());
    for leaf in leaves.iter_mut().filter(|leaf| leaf.function == 0x8000_0008) {
        leaf.ecx = processor.leaf_8000_0008_ecx();
    }
}
