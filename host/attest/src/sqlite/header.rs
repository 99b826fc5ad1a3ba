//! The header of an SQLite file. <https://www.sqlite.org/fileformat2.html#the_database_header>

use super::bytes::{byte, u16_at, u32_at};
use crate::error::Problem;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Offsets of the header's fields.
const PAGE_SIZE: usize = 16;
const RESERVED: usize = 20;
const TEXT_ENCODING: usize = 56;
/// A page size of 65,536 does not fit into its field.
const PAGE_SIZE_65536: u16 = 1;
const MIN_PAGE_SIZE: usize = 512;
/// SQLite asks for this much of a page, whatever is reserved.
const MIN_USABLE_SIZE: usize = 480;
/// The text encoding UTF-8, and that of a database that has no table yet.
const UTF_8: [u32; 2] = [1, 0];

/// What of a file's header is needed to read its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// A power of two from 512 to 65,536.
    pub page_size: usize,
    /// Without what is reserved at a page's end; 480 at least.
    pub usable_size: usize,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if !bytes.starts_with(MAGIC) {
            return Err(Problem::byte(0, "not an SQLite database"));
        }
        let short = || Problem::byte(bytes.len(), "the file ends in its header");
        let page_size = match u16_at(bytes, PAGE_SIZE).ok_or_else(short)? {
            PAGE_SIZE_65536 => 1 << 16,
            size => usize::from(size),
        };
        if page_size < MIN_PAGE_SIZE || !page_size.is_power_of_two() {
            return Err(Problem::byte(PAGE_SIZE, "not a page size"));
        }
        let usable_size = page_size - usize::from(byte(bytes, RESERVED).ok_or_else(short)?);
        if usable_size < MIN_USABLE_SIZE {
            return Err(Problem::byte(RESERVED, "too much of each page is reserved"));
        }
        if !UTF_8.contains(&u32_at(bytes, TEXT_ENCODING).ok_or_else(short)?) {
            return Err(Problem::byte(TEXT_ENCODING, "text that is not UTF-8"));
        }
        Ok(Self { page_size, usable_size })
    }

    /// How many bytes of a row of this size are in its page.
    /// <https://www.sqlite.org/fileformat2.html#b_tree_pages>, "cell payload overflow"
    pub(super) fn local_size(&self, size: usize) -> usize {
        let most = self.usable_size - 35;
        let least = (self.usable_size - 12) * 32 / 255 - 23;
        if size <= most {
            return size;
        }
        let local = least + (size - least) % (self.usable_size - 4);
        if local <= most { local } else { least }
    }
}
