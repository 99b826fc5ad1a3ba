//! The global descriptor table: flat segments
//! ([Intel SDM](https://www.intel.com/sdm), volume 3, sections 3.4.5 and 8.2).
//!
//! The selectors are those of the [64-bit boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html#id1);
//! PVH has no wish.

use super::Entry;
use kvm_bindings::kvm_segment;

/// `__BOOT_CS` of the 64-bit boot protocol.
pub const CODE_SELECTOR: u16 = 0x10;
/// `__BOOT_DS` of the 64-bit boot protocol.
pub const DATA_SELECTOR: u16 = 0x18;
/// The task state segment, which a processor in protected mode must have.
pub const TASK_SELECTOR: u16 = 0x20;

/// Base 0, limit 4 GiB, execute and read, 64-bit.
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
/// Base 0, limit 4 GiB, execute and read, 32-bit.
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
/// Base 0, limit 4 GiB, read and write.
const DATA: u64 = 0x00cf_9300_0000_ffff;
/// Base 0, limit 0x67, busy.
const TASK: u64 = 0x0000_8b00_0000_0067;

/// Two unused ones, code, data, and the task state segment, which in 64-bit mode takes two.
const COUNT: usize = 6;

/// The last byte of the table, counted from its first.
pub const LIMIT: u16 = (COUNT * size_of::<u64>() - 1) as u16;

/// The table for [`layout::GDT`](crate::layout::GDT).
pub fn bytes(entry: Entry) -> Vec<u8> {
    descriptors(entry).into_iter().flat_map(u64::to_le_bytes).collect()
}

/// A descriptor of the table as the processor holds it once `selector` is loaded.
pub fn segment(entry: Entry, selector: u16) -> kvm_segment {
    let descriptor = descriptors(entry)[usize::from(selector >> 3)];
    let bits = |first: u32, count: u32| (descriptor >> first) as u32 & ((1 << count) - 1);
    let limit = bits(0, 16) | bits(48, 4) << 16;
    let granular = bits(55, 1) == 1;
    kvm_segment {
        base: u64::from(bits(16, 24) | bits(56, 8) << 24),
        limit: if granular { limit << 12 | 0xfff } else { limit },
        selector,
        type_: bits(40, 4) as u8,
        s: bits(44, 1) as u8,
        dpl: bits(45, 2) as u8,
        present: bits(47, 1) as u8,
        avl: bits(52, 1) as u8,
        l: bits(53, 1) as u8,
        db: bits(54, 1) as u8,
        g: granular.into(),
        unusable: 0,
        padding: 0,
    }
}

fn descriptors(entry: Entry) -> [u64; COUNT] {
    let code = match entry {
        Entry::Pvh(_) => CODE_32,
        Entry::Linux64(_) => CODE_64,
    };
    [0, 0, code, DATA, TASK, 0]
}
