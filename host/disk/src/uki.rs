//! Unified kernel images: a kernel, its initrd and its command line in one UEFI program.
//!
//! systemd's stub is a UEFI program, in Microsoft's PE format, that looks for a kernel among its own sections and starts it.
//! So an image is the stub with sections added: `.osrel`, `.cmdline`, `.uname`, `.initrd` and `.linux`, as
//! <https://uapi-group.org/specifications/specs/unified_kernel_image/> names them.
//!
//! A PE file is a DOS header that points to the *PE header*; right behind follow the *optional header*, which no program goes
//! without, and the table of sections. A new section needs room for 40 bytes at the end of the table, an address in memory
//! behind all others, and its contents at the end of the file.
//! Format: <https://learn.microsoft.com/en-us/windows/win32/debug/pe-format>.

use crate::Error;
use crate::field::{put_u16, put_u32};

#[cfg(test)]
mod tests;

/// A section to add.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Up to 8 ASCII characters, with the dot.
    pub name: &'a str,
    /// What the stub finds there.
    pub contents: &'a [u8],
}

/// The stub with `sections` added in this order. `.linux` should be the last: old kernels unpack themselves where they
/// lie, over what follows. A signature of the stub, which would be wrong then, is left out, as are symbols.
///
/// # Errors
/// When the stub is not a 64-bit UEFI program, has no room for more sections, or has one of these already.
pub fn build(stub: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, Error> {
    let stub = Stub::parse(stub)?;
    stub.check(sections)?;
    let mut image = stub.bytes[..stub.end_of_file].to_vec();
    let mut table = Table { stub: &stub, address: stub.end_of_memory, added: 0, code: 0, data: 0 };
    for section in sections {
        table.add(&mut image, section)?;
    }
    table.finish(&mut image);
    Ok(image)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the stub is no UEFI program: {0} at byte {1}")]
    Stub(&'static str, usize),
    #[error(
        "the stub has room for {room} more sections, not for {asked}: use another stub, or leave some out"
    )]
    Room { room: usize, asked: usize },
    #[error("{0:?} is no name of a section: it has a dot and up to 7 more ASCII characters")]
    Name(String),
    #[error("section {0} is there twice, or in the stub already")]
    Twice(String),
    #[error("section {0} is empty: leave it out")]
    Empty(String),
    #[error("section {0} makes the image larger than 4 GiB")]
    TooLarge(String),
}

const DOS_MAGIC: &[u8] = b"MZ";
/// Where the DOS header says where the PE header is.
const E_LFANEW: usize = 0x3c;
const PE_MAGIC: &[u8] = b"PE\0\0";
/// The magic and the file header.
const PE_HEADER_BYTES: usize = 4 + 20;
/// The optional header's magic, of 64-bit programs.
const PE32_PLUS: u16 = 0x20b;
const SECTION_HEADER_BYTES: usize = 40;
/// The most sections that the specification allows.
const MAX_SECTIONS: u16 = 96;
/// Sections start on pages, so that firmware can give each its own rights.
const PAGE_BYTES: u32 = 4096;

/// Fields by their offset in the PE header, from its magic.
mod file_header {
    pub const NUMBER_OF_SECTIONS: usize = 6;
    pub const TIME_DATE_STAMP: usize = 8;
    pub const POINTER_TO_SYMBOL_TABLE: usize = 12;
    pub const NUMBER_OF_SYMBOLS: usize = 16;
    pub const SIZE_OF_OPTIONAL_HEADER: usize = 20;
}

/// Fields by their offset in the optional header.
mod optional_header {
    pub const MAGIC: usize = 0;
    pub const SIZE_OF_CODE: usize = 4;
    pub const SIZE_OF_INITIALIZED_DATA: usize = 8;
    pub const SECTION_ALIGNMENT: usize = 32;
    pub const FILE_ALIGNMENT: usize = 36;
    pub const SIZE_OF_IMAGE: usize = 56;
    pub const SIZE_OF_HEADERS: usize = 60;
    pub const CHECK_SUM: usize = 64;
    pub const SUBSYSTEM: usize = 68;
    pub const NUMBER_OF_RVA_AND_SIZES: usize = 108;
    pub const DATA_DIRECTORY: usize = 112;
    /// Its directory of signatures, an offset in the file and a length.
    pub const CERTIFICATE_TABLE: usize = DATA_DIRECTORY + 4 * 8;
    pub const CERTIFICATE_TABLE_INDEX: u32 = 4;
}

/// Fields by their offset in a section's header, and what it may be.
mod section_header {
    pub const VIRTUAL_SIZE: usize = 8;
    pub const VIRTUAL_ADDRESS: usize = 12;
    pub const SIZE_OF_RAW_DATA: usize = 16;
    pub const POINTER_TO_RAW_DATA: usize = 20;
    pub const CHARACTERISTICS: usize = 36;

    pub const CNT_CODE: u32 = 0x20;
    pub const CNT_INITIALIZED_DATA: u32 = 0x40;
    pub const MEM_EXECUTE: u32 = 0x2000_0000;
    pub const MEM_READ: u32 = 0x4000_0000;
}

/// Subsystem of a UEFI application.
const EFI_APPLICATION: u16 = 10;

/// A stub that was found to be one.
struct Stub<'a> {
    bytes: &'a [u8],
    /// Where the PE header is.
    header: usize,
    optional: usize,
    table: usize,
    count: usize,
    section_alignment: u32,
    file_alignment: u32,
    /// How many more sections there is room for.
    room: usize,
    /// Where the last section ends in the file.
    end_of_file: usize,
    /// Where the last section ends in memory.
    end_of_memory: u32,
}

impl<'a> Stub<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        expect(bytes, 0, DOS_MAGIC, "no DOS header")?;
        let header = u32_at(bytes, E_LFANEW)? as usize;
        expect(bytes, header, PE_MAGIC, "no PE header")?;
        let optional = header + PE_HEADER_BYTES;
        if u16_at(bytes, optional + optional_header::MAGIC)? != PE32_PLUS {
            return Err(Problem::Stub("no optional header of 64 bits", optional).into());
        }
        if u16_at(bytes, optional + optional_header::SUBSYSTEM)? != EFI_APPLICATION {
            return Err(Problem::Stub("another subsystem", optional + optional_header::SUBSYSTEM).into());
        }
        let optional_bytes = optional_header_bytes(bytes, header)?;
        let mut stub = Self {
            bytes,
            header,
            optional,
            table: optional + optional_bytes,
            count: 0,
            section_alignment: alignment(bytes, optional + optional_header::SECTION_ALIGNMENT)?,
            file_alignment: alignment(bytes, optional + optional_header::FILE_ALIGNMENT)?,
            room: 0,
            end_of_file: 0,
            end_of_memory: 0,
        };
        stub.measure()?;
        Ok(stub)
    }

    /// Finds where its sections end.
    fn measure(&mut self) -> Result<(), Error> {
        let count = u16_at(self.bytes, self.header + file_header::NUMBER_OF_SECTIONS)?;
        let headers = u32_at(self.bytes, self.optional + optional_header::SIZE_OF_HEADERS)? as usize;
        self.count = count.into();
        self.end_of_file = headers;
        let mut end_of_headers = headers.min(self.bytes.len());
        for index in 0..self.count {
            let at = self.table + index * SECTION_HEADER_BYTES;
            let virtual_size = u32_at(self.bytes, at + section_header::VIRTUAL_SIZE)?;
            let address = u32_at(self.bytes, at + section_header::VIRTUAL_ADDRESS)?;
            let raw_bytes = u32_at(self.bytes, at + section_header::SIZE_OF_RAW_DATA)?;
            let raw = u32_at(self.bytes, at + section_header::POINTER_TO_RAW_DATA)?;
            let end = address.checked_add(virtual_size.max(raw_bytes));
            self.end_of_memory =
                self.end_of_memory.max(end.ok_or(Problem::Stub("a section behind 4 GiB", at))?);
            if raw_bytes > 0 {
                self.end_of_file = self.end_of_file.max(raw as usize + raw_bytes as usize);
                end_of_headers = end_of_headers.min(raw as usize);
            }
        }
        if self.end_of_file > self.bytes.len() {
            return Err(Problem::Stub("a section behind its end", self.table).into());
        }
        let end_of_table = self.table + self.count * SECTION_HEADER_BYTES;
        if end_of_table > headers {
            return Err(Problem::Stub("a table of sections outside of its headers", self.table).into());
        }
        self.room = end_of_headers.saturating_sub(end_of_table) / SECTION_HEADER_BYTES;
        self.room = self.room.min(usize::from(MAX_SECTIONS.saturating_sub(count)));
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        (0..self.count).any(|index| {
            let at = self.table + index * SECTION_HEADER_BYTES;
            self.bytes[at..at + 8] == padded(name)
        })
    }

    fn check(&self, sections: &[Section<'_>]) -> Result<(), Error> {
        for (index, Section { name, contents }) in sections.iter().enumerate() {
            let shown = (*name).to_owned();
            let is_name = (2..=8).contains(&name.len()) && name.starts_with('.');
            if !is_name || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Problem::Name(shown).into());
            }
            if self.has(name) || sections[..index].iter().any(|before| before.name == *name) {
                return Err(Problem::Twice(shown).into());
            }
            if contents.is_empty() {
                return Err(Problem::Empty(shown).into());
            }
        }
        if sections.len() > self.room {
            return Err(Problem::Room { room: self.room, asked: sections.len() }.into());
        }
        Ok(())
    }
}

/// The table of sections while it grows.
struct Table<'a> {
    stub: &'a Stub<'a>,
    /// Where the last section ends in memory.
    address: u32,
    added: usize,
    /// Bytes added to the file.
    code: u32,
    data: u32,
}

impl Table<'_> {
    fn add(&mut self, image: &mut Vec<u8>, section: &Section<'_>) -> Result<(), Error> {
        let placed = self.place(image.len(), section);
        let (address, raw, raw_bytes) = placed.ok_or_else(|| Problem::TooLarge(section.name.to_owned()))?;
        image.resize(raw as usize, 0);
        image.extend_from_slice(section.contents);
        image.resize(raw as usize + raw_bytes as usize, 0);
        let characteristics = self.count(section.name, raw_bytes);
        let at = self.stub.table + (self.stub.count + self.added) * SECTION_HEADER_BYTES;
        let header = &mut image[at..at + SECTION_HEADER_BYTES];
        header.fill(0);
        header[..8].copy_from_slice(&padded(section.name));
        put_u32(header, section_header::VIRTUAL_SIZE, section.contents.len() as u32);
        put_u32(header, section_header::VIRTUAL_ADDRESS, address);
        put_u32(header, section_header::SIZE_OF_RAW_DATA, raw_bytes);
        put_u32(header, section_header::POINTER_TO_RAW_DATA, raw);
        put_u32(header, section_header::CHARACTERISTICS, characteristics);
        self.address = address + raw_bytes;
        self.added += 1;
        Ok(())
    }

    /// Address in memory, offset and length in the file; `None` when they, or the sums of the optional header, do not fit in 32 bits.
    fn place(&self, file_length: usize, section: &Section<'_>) -> Option<(u32, u32, u32)> {
        let alignment = self.stub.section_alignment.max(PAGE_BYTES);
        let address = self.address.checked_next_multiple_of(alignment)?;
        let raw = u32::try_from(file_length).ok()?.checked_next_multiple_of(self.stub.file_alignment)?;
        let length = u32::try_from(section.contents.len()).ok()?;
        let raw_bytes = length.checked_next_multiple_of(self.stub.file_alignment)?;
        raw.checked_add(raw_bytes)?;
        address.checked_add(raw_bytes)?.checked_next_multiple_of(alignment)?;
        Some((address, raw, raw_bytes))
    }

    /// Old kernels run where they lie, so `.linux` is code, as ukify has it.
    fn count(&mut self, name: &str, raw_bytes: u32) -> u32 {
        use section_header::{CNT_CODE, CNT_INITIALIZED_DATA, MEM_EXECUTE, MEM_READ};
        if name == ".linux" {
            self.code += raw_bytes;
            return CNT_CODE | MEM_EXECUTE | MEM_READ;
        }
        self.data += raw_bytes;
        CNT_INITIALIZED_DATA | MEM_READ
    }

    fn finish(&self, image: &mut [u8]) {
        let (header, optional) = (self.stub.header, self.stub.optional);
        put_u16(image, header + file_header::NUMBER_OF_SECTIONS, (self.stub.count + self.added) as u16);
        put_u32(image, header + file_header::TIME_DATE_STAMP, 0);
        put_u32(image, header + file_header::POINTER_TO_SYMBOL_TABLE, 0);
        put_u32(image, header + file_header::NUMBER_OF_SYMBOLS, 0);
        add_u32(image, optional + optional_header::SIZE_OF_CODE, self.code);
        add_u32(image, optional + optional_header::SIZE_OF_INITIALIZED_DATA, self.data);
        let size = self.address.next_multiple_of(self.stub.section_alignment);
        put_u32(image, optional + optional_header::SIZE_OF_IMAGE, size);
        let directories = le_u32(image, optional + optional_header::NUMBER_OF_RVA_AND_SIZES);
        if directories > optional_header::CERTIFICATE_TABLE_INDEX {
            let certificates = optional + optional_header::CERTIFICATE_TABLE;
            image[certificates..certificates + 8].fill(0);
        }
        put_u32(image, optional + optional_header::CHECK_SUM, 0);
        let sum = check_sum(image);
        put_u32(image, optional + optional_header::CHECK_SUM, sum);
    }
}

/// The sum of all 16-bit words, with its carries added back, and the length.
fn check_sum(image: &[u8]) -> u32 {
    let word = |pair: &[u8]| u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 8;
    let mut sum: u64 = image.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u32).wrapping_add(image.len() as u32)
}

/// Adds to what the stub says of itself, which nobody relies on.
fn add_u32(image: &mut [u8], offset: usize, more: u32) {
    let sum = le_u32(image, offset).wrapping_add(more);
    put_u32(image, offset, sum);
}

fn le_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn padded(name: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn expect(bytes: &[u8], offset: usize, magic: &[u8], what: &'static str) -> Result<(), Error> {
    let found = bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if found { Ok(()) } else { Err(Problem::Stub(what, offset).into()) }
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Error> {
    let array = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    array.copied().ok_or_else(|| Problem::Stub("its end", offset).into())
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Error> {
    Ok(u16::from_le_bytes(array_at(bytes, offset)?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Error> {
    Ok(u32::from_le_bytes(array_at(bytes, offset)?))
}

/// How long the optional header is, when that is enough for all that it is said to have.
fn optional_header_bytes(bytes: &[u8], header: usize) -> Result<usize, Error> {
    let at = header + file_header::SIZE_OF_OPTIONAL_HEADER;
    let length = u16_at(bytes, at)? as usize;
    let directories = u32_at(bytes, header + PE_HEADER_BYTES + optional_header::NUMBER_OF_RVA_AND_SIZES)?;
    if length as u64 >= optional_header::DATA_DIRECTORY as u64 + 8 * u64::from(directories) {
        return Ok(length);
    }
    Err(Problem::Stub("an optional header that is too short", at).into())
}

/// The specification allows powers of two; what is larger than 1 MiB would make a huge file of a few small sections.
fn alignment(bytes: &[u8], offset: usize) -> Result<u32, Error> {
    let value = u32_at(bytes, offset)?;
    if value.is_power_of_two() && (16..=1 << 20).contains(&value) {
        return Ok(value);
    }
    Err(Problem::Stub("an alignment that cannot be", offset).into())
}
