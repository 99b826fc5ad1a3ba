//! Caches: the same on all hosts, as C libraries and numeric programs choose their ways by the sizes.

use super::{Processor, leaf, subleaf};
use kvm_bindings::kvm_cpuid_entry2;

/// Bytes of a line of every cache.
const LINE_BYTES: u32 = 64;

/// What a cache holds: the type field of leaf 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Data = 1,
    Instructions = 2,
    Both = 3,
}

/// A cache.
#[derive(Debug, Clone, Copy)]
struct Cache {
    level: u32,
    holds: Holds,
    kib: u32,
    ways: u32,
    /// All processors have it together.
    is_shared: bool,
}

/// First level, data. Sizes are those that processors of x86-64-v3 have at least.
const L1D: Cache = Cache { level: 1, holds: Holds::Data, kib: 32, ways: 8, is_shared: false };
/// First level, instructions.
const L1I: Cache = Cache { level: 1, holds: Holds::Instructions, kib: 32, ways: 8, is_shared: false };
/// Second level.
const L2: Cache = Cache { level: 2, holds: Holds::Both, kib: 256, ways: 8, is_shared: false };
/// Third level.
const L3: Cache = Cache { level: 3, holds: Holds::Both, kib: 8192, ways: 16, is_shared: true };

/// Leaf 2 of Intel: one byte says how often to ask (once), another that leaf 4 knows.
const SEE_LEAF_4: u32 = 0xff01;

/// Leaves 2 and 4 of Intel.
pub fn intel(processor: Processor) -> Vec<kvm_cpuid_entry2> {
    let caches = (0..).zip([L1D, L1I, L2, L3]);
    let mut leaves = vec![leaf(2, [SEE_LEAF_4, 0, 0, 0])];
    leaves.extend(caches.map(|(index, cache)| subleaf(4, index, cache.leaf_4(processor))));
    leaves.push(subleaf(4, 4, [0; 4]));
    leaves
}

/// Leaves 0x80000005 and 0x80000006 of AMD.
pub fn amd() -> [kvm_cpuid_entry2; 2] {
    [
        leaf(0x8000_0005, [0, 0, L1D.leaf_8000_0005(), L1I.leaf_8000_0005()]),
        leaf(0x8000_0006, [0, 0, L2.leaf_8000_0006(), L3.leaf_8000_0006()]),
    ]
}

impl Cache {
    /// Intel SDM volume 2A, CPUID, "deterministic cache parameters".
    fn leaf_4(self, processor: Processor) -> [u32; 4] {
        const SELF_INITIALIZING: u32 = 1 << 8;
        let sharing = if self.is_shared { processor.span() } else { 1 };
        let eax = processor.leaf_4_cores() | (sharing - 1) << 14 | SELF_INITIALIZING | self.level << 5;
        let sets = self.kib * 1024 / LINE_BYTES / self.ways;
        [eax | self.holds as u32, (self.ways - 1) << 22 | (LINE_BYTES - 1), sets - 1, 0]
    }

    /// AMD APM volume 3, appendix E: KiB, ways, lines per tag, bytes of a line.
    fn leaf_8000_0005(self) -> u32 {
        self.kib << 24 | self.ways << 16 | 1 << 8 | LINE_BYTES
    }

    /// Like it, with the ways in a code, and the third level in units of 512 KiB.
    fn leaf_8000_0006(self) -> u32 {
        let size = if self.level == 3 { (self.kib / 512) << 18 } else { self.kib << 16 };
        let ways_code = if self.ways == 16 { 8 } else { 6 };
        size | ways_code << 12 | 1 << 8 | LINE_BYTES
    }
}
