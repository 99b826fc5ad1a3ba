//! The checksums of superblocks and nodes: the first bytes of a field of 32, the rest zero.

use super::fault::Fault;
use super::xxhash::xxhash64;
use sha2::{Digest as _, Sha256};

/// Bytes of the field that the checksum is in, at the start of what it is of.
pub(super) const FIELD: usize = 32;

/// `csum_type` of the superblock
/// ([on-disk format](https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#superblock)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Crc32c,
    Xxhash64,
    Sha256,
}

impl Checksum {
    pub(super) fn of_type(csum_type: u16) -> Result<Self, Fault> {
        match csum_type {
            0 => Ok(Self::Crc32c),
            1 => Ok(Self::Xxhash64),
            2 => Ok(Self::Sha256),
            3 => Err(Fault::Unsupported("checksums of BLAKE2b")),
            _ => Err(Fault::Unsupported("checksums of an unknown kind")),
        }
    }

    /// The field for a block, whose own field does not count.
    fn field(self, block: &[u8]) -> [u8; FIELD] {
        let mut field = [0; FIELD];
        match self {
            Self::Crc32c => field[..4].copy_from_slice(&crc32c(&block[FIELD..]).to_le_bytes()),
            Self::Xxhash64 => field[..8].copy_from_slice(&xxhash64(&block[FIELD..]).to_le_bytes()),
            Self::Sha256 => field.copy_from_slice(&Sha256::digest(&block[FIELD..])),
        }
        field
    }

    /// Puts the checksum into a block, which has to be longer than the field.
    pub(super) fn seal(self, block: &mut [u8]) {
        let field = self.field(block);
        block[..FIELD].copy_from_slice(&field);
    }

    pub(super) fn is_right(self, block: &[u8]) -> bool {
        block[..FIELD] == self.field(block)
    }
}

/// CRC-32C as [RFC 3720](https://www.rfc-editor.org/rfc/rfc3720#section-12.1) has it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = crc.to_le_bytes()[0] ^ byte;
        TABLE[usize::from(index)] ^ (crc >> 8)
    })
}

/// The reflected polynomial of Castagnoli.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0_u32; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_check_value_of_its_catalogue_entry() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_sealed_is_right_until_a_byte_changes() {
        for checksum in [Checksum::Crc32c, Checksum::Xxhash64, Checksum::Sha256] {
            let mut block = vec![7; 100];
            checksum.seal(&mut block);
            assert!(checksum.is_right(&block));
            block[99] = 8;
            assert!(!checksum.is_right(&block));
        }
    }
}
