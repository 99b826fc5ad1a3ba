//! Whatever a kernel's file holds, the answer is an error or an entry.

use super::kernels::*;
use super::*;
use proptest::prelude::*;

/// Bytes that replace others from an offset on; field-like values more often than noise.
fn patches() -> impl Strategy<Value = Vec<(prop::sample::Index, Vec<u8>)>> {
    const NUMBERS: &[u64] =
        &[0, 1, 4, 0xff, 0x1000, 0x10_0000, 0xffff_ffff, 1 << 63, u64::MAX, u64::MAX - 0xfff];
    let number = (prop::sample::select(NUMBERS), prop::sample::select(&[1usize, 2, 4, 8][..]));
    let number = number.prop_map(|(value, width)| value.to_le_bytes()[..width].to_vec());
    let noise = prop::collection::vec(any::<u8>(), 1..16);
    prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![3 => number, 1 => noise]), 1..8)
}

/// Patches go to where the headers are, as the rest of a file is never looked at; then the file is cut.
fn mutated(kernel: &[u8], headers: &[std::ops::Range<usize>], changes: &Changes) -> Vec<u8> {
    let mut file = kernel.to_vec();
    let places: Vec<usize> = headers.iter().cloned().flatten().collect();
    for (place, bytes) in &changes.patches {
        let offset = *place.get(&places);
        let end = file.len().min(offset + bytes.len());
        file[offset..end].copy_from_slice(&bytes[..end - offset]);
    }
    if let Some(length) = &changes.cut {
        file.truncate(length.index(file.len()));
    }
    file
}

#[derive(Debug)]
struct Changes {
    patches: Vec<(prop::sample::Index, Vec<u8>)>,
    cut: Option<prop::sample::Index>,
}

fn changes() -> impl Strategy<Value = Changes> {
    let cut = prop::option::weighted(0.1, any::<prop::sample::Index>());
    (patches(), cut).prop_map(|(patches, cut)| Changes { patches, cut })
}

/// An entry is in the memory that a kernel may have.
fn boot(kernel: &[u8]) {
    let machine = Machine::new(32);
    if let Ok(Entry::Pvh(address) | Entry::Linux64(address)) = machine.load(kernel, b"initramfs", "quiet") {
        assert!((MIB..32 * MIB).contains(&address.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_vmlinux(changes in changes()) {
        let file = vmlinux();
        boot(&mutated(&file, &[0..PHDR_OFFSET + 3 * PHDR_BYTES, NOTE_OFFSET..file.len()], &changes));
    }

    #[test]
    fn any_bzimage(changes in changes()) {
        boot(&mutated(&bzimage(), std::slice::from_ref(&(0x1f1..0x26c)), &changes));
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        boot(&bytes);
    }
}
