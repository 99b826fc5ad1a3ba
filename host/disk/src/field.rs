//! Little-endian fields of fixed-size on-disk structures, placed by their offsets in the
//! specification.

/// The value at `offset`, here and below; the caller knows that there are as many bytes.
pub(crate) fn get_u16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// The value at `offset`.
pub(crate) fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("a slice of this size"))
}

/// The value at `offset`.
pub(crate) fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("a slice of this size"))
}

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
