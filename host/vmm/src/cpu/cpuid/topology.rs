//! Which processors there are: all are cores with one thread each, in one package, numbered from 0.

use super::{Processor, subleaf};
use kvm_bindings::kvm_cpuid_entry2;

/// Bytes of a cache line, in the unit of leaf 1 (8 bytes).
const CLFLUSH_UNITS: u32 = 64 / 8;

/// Kinds of levels in leaf 0xb (Intel SDM volume 2A, CPUID, "V2 Extended Topology").
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

impl Processor {
    /// How many APIC numbers the package takes: a power of two, as the lower bits of a number name the
    /// core.
    pub fn span(self) -> u32 {
        u32::from(self.cpus.max(1)).next_power_of_two()
    }

    /// How many bits these are.
    fn bits(self) -> u32 {
        self.span().trailing_zeros()
    }

    /// Leaf 1, EBX: a byte each for the number of the local APIC, how many there may be in the package,
    /// the size of a cache line, and a brand that nobody uses.
    pub fn leaf_1_ebx(self) -> u32 {
        u32::from(self.id) << 24 | self.span().min(0xff) << 16 | CLFLUSH_UNITS << 8
    }

    /// Leaf 0xb. The APIC's number is in each.
    pub fn leaf_b(self) -> [kvm_cpuid_entry2; 3] {
        let (id, cpus) = (u32::from(self.id), u32::from(self.cpus));
        [
            subleaf(0xb, 0, [0, 1, LEVEL_THREAD << 8, id]),
            subleaf(0xb, 1, [self.bits(), cpus, LEVEL_CORE << 8 | 1, id]),
            subleaf(0xb, 2, [0, 0, 2, id]),
        ]
    }

    /// Leaf 0x80000008, ECX, of AMD: how many processors there are, less 1, and how many bits of an APIC
    /// number tell them apart.
    pub fn leaf_8000_0008_ecx(self) -> u32 {
        self.bits() << 12 | u32::from(self.cpus.saturating_sub(1))
    }

    /// Leaf 4, EAX 31:26: how many cores there may be in the package, less 1; the field ends at 63.
    pub fn leaf_4_cores(self) -> u32 {
        (self.span() - 1).min(0x3f) << 26
    }
}
