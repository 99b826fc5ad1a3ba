//! Leaf 0xd: the states that `xsave` saves, and where (Intel SDM volume 1, chapter 13).

use super::subleaf;
use kvm_bindings::kvm_cpuid_entry2;

/// XCR0: x87 and SSE registers, which are always there.
const X87_AND_SSE: u32 = 0b011;
/// XCR0: the upper halves of the AVX registers.
const AVX_HIGH: u32 = 0b100;

/// Bytes that come first: what `fxsave` saves, and a header.
const LEGACY_AND_HEADER_BYTES: u32 = 512 + 64;
/// Bytes of the upper halves of 16 registers, behind it.
const AVX_HIGH_BYTES: u32 = 16 * 16;

/// Which of leaf 0xd a processor with `xsave` has; `features` is EAX of its first subleaf.
pub fn leaves(has_avx: bool, features: u32) -> Vec<kvm_cpuid_entry2> {
    let (states, bytes) = if has_avx {
        (X87_AND_SSE | AVX_HIGH, LEGACY_AND_HEADER_BYTES + AVX_HIGH_BYTES)
    } else {
        (X87_AND_SSE, LEGACY_AND_HEADER_BYTES)
    };
    // EBX is what is needed for the states that are enabled: none yet. KVM keeps it up to date.
    let mut leaves = vec![
        subleaf(0xd, 0, [states, LEGACY_AND_HEADER_BYTES, bytes, 0]),
        subleaf(0xd, 1, [features, 0, 0, 0]),
    ];
    if has_avx {
        leaves.push(subleaf(0xd, 2, [AVX_HIGH_BYTES, LEGACY_AND_HEADER_BYTES, 0, 0]));
    }
    leaves
}
