//! Fields of on-disk structures by their offsets: VHD and qcow2 are big-endian, the others little-endian.

pub(super) use crate::field::{put_u16, put_u32, put_u64};

/// Bytes of a sector, the unit of every format's sizes.
pub(super) const SECTOR_BYTES: u64 = 512;

/// Puts a big-endian `value` at `offset`.
pub(super) fn put_u16_be(bytes: &mut [u8], offset: usize, value: u16) {
    put(bytes, offset, &value.to_be_bytes());
}

/// Puts a big-endian `value` at `offset`.
pub(super) fn put_u32_be(bytes: &mut [u8], offset: usize, value: u32) {
    put(bytes, offset, &value.to_be_bytes());
}

/// Puts a big-endian `value` at `offset`.
pub(super) fn put_u64_be(bytes: &mut [u8], offset: usize, value: u64) {
    put(bytes, offset, &value.to_be_bytes());
}

/// Puts `value` at `offset`.
pub(super) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// The field of `N` bytes at `offset` of a structure that was read whole.
pub(super) fn get<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("a field has the length of its type")
}

pub(super) fn get_u16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(get(bytes, offset))
}

pub(super) fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(get(bytes, offset))
}

pub(super) fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(get(bytes, offset))
}

pub(super) fn get_u32_be(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(get(bytes, offset))
}

pub(super) fn get_u64_be(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(get(bytes, offset))
}
