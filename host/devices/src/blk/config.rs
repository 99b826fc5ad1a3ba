//! The configuration space, `struct virtio_blk_config` (virtio 1.2 section 5.2.4).

use std::mem::offset_of;
use virtio_bindings::virtio_blk::virtio_blk_config as Layout;

/// Bytes of the configuration space up to the fields we have.
pub(super) const BYTES: usize = offset_of!(Layout, unused1) + 3;

/// Most sectors of one discard or write-zeroes segment: 1 GiB.
pub(super) const HOLE_SECTORS_MAX: u32 = 1 << 21;

/// Most segments of one discard or write-zeroes request.
pub(super) const HOLE_SEGMENTS_MAX: u32 = 16;

/// File systems of the host free space in pages.
const HOLE_ALIGNMENT_SECTORS: u32 = 8;

/// Fills in a disk of `capacity` sectors. Of a queue's descriptors, two are for header and status.
pub(super) fn build(capacity: u64, queue_size: u16) -> [u8; BYTES] {
    let mut space = [0; BYTES];
    let mut put = |offset: usize, value: &[u8]| space[offset..offset + value.len()].copy_from_slice(value);
    let mut put_u32 = |offset, value: u32| put(offset, &value.to_le_bytes());
    put_u32(offset_of!(Layout, seg_max), u32::from(queue_size) - 2);
    put_u32(offset_of!(Layout, blk_size), 512);
    put_u32(offset_of!(Layout, max_discard_sectors), HOLE_SECTORS_MAX);
    put_u32(offset_of!(Layout, max_discard_seg), HOLE_SEGMENTS_MAX);
    put_u32(offset_of!(Layout, discard_sector_alignment), HOLE_ALIGNMENT_SECTORS);
    put_u32(offset_of!(Layout, max_write_zeroes_sectors), HOLE_SECTORS_MAX);
    put_u32(offset_of!(Layout, max_write_zeroes_seg), HOLE_SEGMENTS_MAX);
    put(offset_of!(Layout, num_queues), &1_u16.to_le_bytes());
    put(offset_of!(Layout, capacity), &capacity.to_le_bytes());
    put(offset_of!(Layout, write_zeroes_may_unmap), &[1]);
    space
}
