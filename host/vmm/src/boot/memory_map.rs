//! Which guest physical addresses are memory, for the kernel to know.

use crate::layout;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What a range is for. The numbers are those of
/// [ACPI 6.5, table 15.3](https://uefi.org/specs/ACPI/6.5/15_System_Address_Map_Interfaces.html), in e820
/// and PVH alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Usable = 1,
    Reserved = 2,
}

/// A range of addresses of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub bytes: u64,
    pub kind: Kind,
}

impl Range {
    fn new(addresses: std::ops::Range<u64>, kind: Kind) -> Self {
        Self { start: addresses.start, bytes: addresses.end - addresses.start, kind }
    }
}

/// The ranges of `memory`, in ascending order.
pub fn of(memory: &GuestMemoryMmap) -> Vec<Range> {
    let mut map = vec![
        Range::new(0..layout::BASE_MEMORY_END, Kind::Usable),
        Range::new(layout::BIOS_AREA, Kind::Reserved),
        Range::new(layout::HIGH_MEMORY.0..low_memory_end(memory), Kind::Usable),
    ];
    let high = memory.iter().map(region_addresses).filter(|addresses| addresses.start > 0);
    map.extend(high.map(|addresses| Range::new(addresses, Kind::Usable)));
    map.retain(|range| range.bytes > 0);
    map
}

/// Where the memory that starts at 0 ends: all that the boot has to do with lies there.
pub fn low_memory_end(memory: &GuestMemoryMmap) -> u64 {
    let low = memory.iter().map(region_addresses).find(|addresses| addresses.start == 0);
    low.map_or(0, |addresses| addresses.end).max(layout::HIGH_MEMORY.0)
}

/// All memory in MiB, as the user counts it.
pub fn size_mib(memory: &GuestMemoryMmap) -> u64 {
    super::mebibytes(memory.iter().map(GuestMemoryRegion::len).sum())
}

fn region_addresses(region: &impl GuestMemoryRegion) -> std::ops::Range<u64> {
    let start = region.start_addr().raw_value();
    start..start + region.len()
}
