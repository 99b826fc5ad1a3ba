//! Little-endian fields of fixed-size on-disk structures, placed by their offsets in the
//! specification.

/// Puts `value` at `offset`.
pub(crate) fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

/// Puts `value` at `offset`.
pub(crate) fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Puts `value` at `offset`.
pub(crate) fn put_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// The low 32 bits of a number that is stored in two fields.
pub(crate) fn low_u32(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

/// The high 32 bits of a number that is stored in two fields.
pub(crate) fn high_u32(value: u64) -> u32 {
    (value >> u32::BITS) as u32
}
