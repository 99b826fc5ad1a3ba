//! `KVM_GET_SUPPORTED_CPUID` of some processors, after QEMU's models of them and what Linux lets through.

use crate::cpu::cpuid::{leaf, subleaf};
use crate::cpu::supported::Supported;
use kvm_bindings::kvm_cpuid_entry2;

/// What tells processors apart.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub name: &'static str,
    vendor: &'static [u8; 12],
    highest: u32,
    leaf_1: [u32; 4],
    leaf_7: [u32; 4],
    leaf_7_1_eax: u32,
    leaf_d_0: [u32; 4],
    leaf_d_1_eax: u32,
    highest_extended: u32,
    extended_1: [u32; 4],
    address_bits: u32,
    speculation: u32,
}

const INTEL: &[u8; 12] = b"GenuineIntel";
const AMD: &[u8; 12] = b"AuthenticAMD";

/// The first with x86-64-v3.
pub const HASWELL: Host = Host {
    name: "Haswell",
    vendor: INTEL,
    highest: 0xd,
    leaf_1: [0x306c3, 0x0710_0800, 0x76fa_3203, 0x0f8b_fbff],
    leaf_7: [0, 0x0000_27ab, 0, 0x9c00_0400],
    leaf_7_1_eax: 0,
    leaf_d_0: [7, 0x340, 0x340, 0],
    leaf_d_1_eax: 1,
    highest_extended: 0x8000_0008,
    extended_1: [0, 0, 0x21, 0x2c10_0800],
    address_bits: 0x3027,
    speculation: 0,
};

/// With AVX-512, TSX, protection keys.
pub const SKYLAKE_SERVER: Host = Host {
    name: "Skylake-Server",
    highest: 0x16,
    leaf_1: [0x50654, 0x1020_0800, 0x76fa_3203, 0x0f8b_fbff],
    leaf_7: [0, 0xd19f_2ffb, 0x0000_000c, 0xac00_0400],
    leaf_d_0: [0x2e7, 0xa88, 0xa88, 0],
    leaf_d_1_eax: 0xf,
    extended_1: [0, 0, 0x121, 0x2c10_0800],
    address_bits: 0x302e,
    ..HASWELL
};

/// With AMX and five-level page tables; under a newer kernel, which puts what it emulates into the leaves.
pub const SAPPHIRE_RAPIDS: Host = Host {
    name: "SapphireRapids",
    highest: 0x20,
    leaf_1: [0x806f8, 0x2020_0800, 0xf7fa_3203, 0x0f8b_fbff],
    leaf_7: [2, 0xf1bf_2fbb, 0x1b41_5f5e, 0xafc1_4412],
    leaf_7_1_eax: 0x1c30,
    leaf_d_0: [0x602e7, 0x2b00, 0x2b00, 0],
    leaf_d_1_eax: 0x1f,
    address_bits: 0x3934,
    ..SKYLAKE_SERVER
};

/// Without AVX2.
pub const IVY_BRIDGE: Host = Host {
    name: "IvyBridge",
    leaf_1: [0x306a9, 0x0310_0800, 0x76ba_2203, 0x0f8b_fbff],
    leaf_7: [0, 0x0000_0283, 0, 0x9c00_0400],
    extended_1: [0, 0, 0x1, 0x2810_0800],
    address_bits: 0x3024,
    ..HASWELL
};

/// The first of Intel's with x86-64-v2; has no leaf 7.
pub const NEHALEM: Host = Host {
    name: "Nehalem",
    highest: 0xb,
    leaf_1: [0x106a5, 0x0010_0800, 0x00b8_2201, 0x0f8b_fbff],
    extended_1: [0, 0, 0x1, 0x2810_0800],
    address_bits: 0x3028,
    ..HASWELL
};

/// The first of AMD's with x86-64-v3.
pub const EXCAVATOR: Host = Host {
    name: "Excavator",
    vendor: AMD,
    highest: 0xd,
    leaf_1: [0x0066_0f01, 0x0204_0800, 0x76f8_3203, 0x078b_fbff],
    leaf_7: [0, 0x0000_01ab, 0, 0],
    leaf_7_1_eax: 0,
    leaf_d_0: [7, 0x340, 0x340, 0],
    leaf_d_1_eax: 1,
    highest_extended: 0x8000_001f,
    extended_1: [0x0066_0f01, 0x2000_0000, 0x0061_0bf3, 0x2fd3_fbff],
    address_bits: 0x3030,
    speculation: 0x1000,
};

/// With AVX-512, SHA, and much more.
pub const ZEN_4: Host = Host {
    name: "Genoa",
    highest: 0x10,
    leaf_1: [0x00a1_0f11, 0x0514_0800, 0xf7fa_3203, 0x078b_fbff],
    leaf_7: [1, 0xf1bf_07ab, 0x0040_5fce, 0x1000_0010],
    leaf_7_1_eax: 0x20,
    leaf_d_0: [0x2e7, 0x988, 0x988, 0],
    leaf_d_1_eax: 0xf,
    highest_extended: 0x8000_0028,
    extended_1: [0x00a1_0f11, 0x4000_0000, 0x0040_03f3, 0x2fd3_fbff],
    address_bits: 0x3934,
    speculation: 0x791e_f257,
    ..EXCAVATOR
};

/// All that have x86-64-v3.
pub const WITH_V3: [Host; 5] = [HASWELL, SKYLAKE_SERVER, SAPPHIRE_RAPIDS, EXCAVATOR, ZEN_4];
/// All that have x86-64-v2 and no more, beside those.
pub const WITH_V2_ONLY: [Host; 2] = [IVY_BRIDGE, NEHALEM];

impl Host {
    pub fn supported(&self) -> Supported {
        Supported::new(self.leaves(), true)
    }

    /// With host's topology, caches, counters and whatever else a guest must not see.
    pub fn leaves(&self) -> Vec<kvm_cpuid_entry2> {
        let mut leaves = vec![
            self.vendor_leaf(0, self.highest),
            leaf(1, self.leaf_1),
            leaf(2, [0x7603_6301, 0x00f0_b5ff, 0, 0x00c3_0000]),
            subleaf(4, 0, [0x7c00_4121, 0x01c0_003f, 0x3f, 0]),
            subleaf(4, 3, [0x7c07_c163, 0x0280_003f, 0x6fff, 4]),
            leaf(5, [0x40, 0x40, 3, 0x2020]),
            leaf(6, [4, 0, 0, 0]),
            leaf(0xa, [0x0730_0404, 0, 0, 0x603]),
            subleaf(0xb, 0, [1, 2, 0x100, 0x2b]),
            subleaf(0xb, 1, [6, 0x38, 0x201, 0x2b]),
            leaf(0x15, [2, 0xa8, 0x017d_7840, 0]),
            subleaf(0x1f, 0, [1, 2, 0x100, 0x2b]),
            leaf(0x4000_0000, super::KVM_SIGNATURE),
            leaf(0x4000_0001, [0x0100_7efb, 0, 0, 1]),
            self.vendor_leaf(0x8000_0000, self.highest_extended),
            leaf(0x8000_0001, self.extended_1),
            leaf(0x8000_0002, [u32::from_le_bytes(*b"host"); 4]),
            leaf(0x8000_0007, [0, 0, 0, 0x100]),
            leaf(0x8000_0008, [self.address_bits, self.speculation, 0x703f, 0]),
            subleaf(0x8000_001d, 0, [0x4121, 0x01c0_003f, 0x3f, 0]),
            subleaf(0x8000_001d, 3, [0x3c163, 0x03c0_003f, 0x7fff, 1]),
            leaf(0x8000_001e, [0x2b, 0x115, 0x300, 0]),
            leaf(0x8000_0021, [0x4d, 0, 0, 0]),
        ];
        if self.highest >= 0xd {
            leaves.extend([
                subleaf(7, 0, self.leaf_7),
                subleaf(7, 1, [self.leaf_7_1_eax, 0, 0, 0]),
                subleaf(0xd, 0, self.leaf_d_0),
                subleaf(0xd, 1, [self.leaf_d_1_eax, 0, 0, 0]),
                subleaf(0xd, 2, [0x100, 0x240, 0, 0]),
            ]);
        }
        leaves.retain(|leaf| self.has(leaf.function));
        leaves
    }

    fn has(&self, function: u32) -> bool {
        let highest = if function < 0x4000_0000 { self.highest } else { self.highest_extended };
        let is_for_this_vendor = match function {
            2 | 4 => self.vendor == INTEL,
            _ => true,
        };
        function <= highest && is_for_this_vendor
    }

    fn vendor_leaf(&self, function: u32, highest: u32) -> kvm_cpuid_entry2 {
        let part = |start: usize| u32::from_le_bytes(self.vendor[start..start + 4].try_into().unwrap());
        leaf(function, [highest, part(0), part(8), part(4)])
    }
}
