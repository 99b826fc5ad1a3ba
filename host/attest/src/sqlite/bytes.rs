//! Numbers of an SQLite file, all big-endian; `None` beyond the end.

pub(super) fn byte(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Longest varint, whose last byte has eight bits of the number, the others seven.
const MAX_VARINT: usize = 9;

/// A number of one to nine bytes, and the offset after it.
/// <https://www.sqlite.org/fileformat2.html#varint>
pub(super) fn varint(bytes: &[u8], offset: usize) -> Option<(i64, usize)> {
    let mut number: u64 = 0;
    for index in 0..MAX_VARINT {
        let next = byte(bytes, offset.checked_add(index)?)?;
        if index + 1 == MAX_VARINT {
            number = number << 8 | u64::from(next);
        } else {
            number = number << 7 | u64::from(next & 0x7f);
        }
        if next & 0x80 == 0 || index + 1 == MAX_VARINT {
            return Some((number.cast_signed(), offset + index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        type Case = (&'static [u8], Option<(i64, usize)>);
        let cases: &[Case] = &[
            (&[], None),
            (&[0x80], None),
            (&[0], Some((0, 1))),
            (&[0x7f, 9], Some((127, 1))),
            (&[0x81, 0x00], Some((128, 2))),
            (&[0xff; 9], Some((-1, 9))),
            (&[0xff; 8], None),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x85], Some((0x85, 9))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(varint(bytes, 0), *expected, "{bytes:x?}");
        }
        assert_eq!(varint(&[0], usize::MAX), None);
    }
}
