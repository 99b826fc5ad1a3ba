//! A vmlinux: an ELF file whose segments have physical addresses
//! ([ELF-64](https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html)).
//!
//! A note of the owner "Xen" tells the PVH entry. Without it, the file's entry is the 64-bit one.

use super::kernel::{Kernel, checked_end};
use super::source_file::SourceFile;
use super::{Entry, Failure};
use crate::layout;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const EHDR_BYTES: usize = 64;
const PHDR_BYTES: u16 = 56;
/// Far more than any kernel has.
const PHDR_COUNT_MAX: u16 = 128;
/// Far more than any kernel has.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Entry in 32-bit mode without paging
/// ([`elfnote.h`](https://xenbits.xen.org/docs/unstable/hypercall/x86_64/include,public,elfnote.h.html)).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const XEN_NAME: &[u8] = b"Xen\0";
const NHDR_BYTES: usize = 12;

/// Of the ELF header, what matters.
#[derive(Debug)]
struct Ehdr {
    e_entry: u64,
    e_phoff: u64,
    e_phnum: u16,
}

impl Ehdr {
    fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        require_field("class", u16::from(bytes[4]), u16::from(ELFCLASS64))?;
        require_field("byte order", u16::from(bytes[5]), u16::from(ELFDATA2LSB))?;
        require_field("machine", u16_at(bytes, 18), EM_X86_64)?;
        let e_phnum = u16_at(bytes, 56);
        match u16_at(bytes, 54) {
            _ if e_phnum == 0 => Err(Failure::ElfEmpty),
            _ if e_phnum > PHDR_COUNT_MAX => {
                Err(Failure::ElfHeaderCount { found: e_phnum, max: PHDR_COUNT_MAX })
            }
            PHDR_BYTES => Ok(Self { e_entry: u64_at(bytes, 24), e_phoff: u64_at(bytes, 32), e_phnum }),
            found => Err(Failure::ElfHeaderSize { found, expected: PHDR_BYTES }),
        }
    }
}

fn require_field(field: &'static str, found: u16, expected: u16) -> Result<(), Failure> {
    if found != expected {
        return Err(Failure::ElfForeign { field, found, expected });
    }
    Ok(())
}

/// Of a program header, what matters.
#[derive(Debug)]
struct Phdr {
    /// Its place among the program headers.
    index: usize,
    p_type: u32,
    p_offset: u64,
    p_paddr: u64,
    p_filesz: u64,
    p_memsz: u64,
    p_align: u64,
}

impl Phdr {
    fn parse(index: usize, bytes: &[u8]) -> Self {
        Self {
            index,
            p_type: u32_at(bytes, 0),
            p_offset: u64_at(bytes, 8),
            p_paddr: u64_at(bytes, 24),
            p_filesz: u64_at(bytes, 32),
            p_memsz: u64_at(bytes, 40),
            p_align: u64_at(bytes, 48),
        }
    }

    fn holds(&self, address: u64) -> bool {
        address >= self.p_paddr && address - self.p_paddr < self.p_memsz
    }
}

/// Puts a vmlinux into `memory`.
pub fn load(memory: &GuestMemoryMmap, mut file: SourceFile<'_>) -> Result<Kernel, Failure> {
    let ehdr = Ehdr::parse(&file.read("ELF header", 0, EHDR_BYTES)?)?;
    let phdrs = read_phdrs(&mut file, &ehdr)?;
    let mut end = 0;
    for phdr in phdrs.iter().filter(|phdr| phdr.p_type == PT_LOAD && phdr.p_memsz > 0) {
        end = end.max(load_segment(memory, &mut file, phdr)?);
    }
    if end == 0 {
        return Err(Failure::ElfEmpty);
    }
    let entry = find_entry(&mut file, &ehdr, &phdrs)?;
    Ok(Kernel {
        entry,
        end,
        initramfs_end_max: layout::DEVICE_HOLE.start,
        command_line_length_max: layout::COMMAND_LINE_BYTES_MAX - 1,
        setup_header: setup_header_of_vmlinux(),
    })
}

fn read_phdrs(file: &mut SourceFile<'_>, ehdr: &Ehdr) -> Result<Vec<Phdr>, Failure> {
    let bytes = usize::from(ehdr.e_phnum) * usize::from(PHDR_BYTES);
    let table = file.read("program header table", ehdr.e_phoff, bytes)?;
    let headers = table.chunks_exact(PHDR_BYTES.into()).enumerate();
    Ok(headers.map(|(index, bytes)| Phdr::parse(index, bytes)).collect())
}

/// Returns where the segment ends in memory. What the file does not hold of it is zero, as all memory is
/// that nobody wrote to.
fn load_segment(memory: &GuestMemoryMmap, file: &mut SourceFile<'_>, phdr: &Phdr) -> Result<u64, Failure> {
    let (index, file_bytes, memory_bytes) = (phdr.index, phdr.p_filesz, phdr.p_memsz);
    if file_bytes > memory_bytes {
        return Err(Failure::ElfSegmentSize { index, file_bytes, memory_bytes });
    }
    let part = format!("segment {index}");
    let end = checked_end(memory, &format!("{part} of the vmlinux"), phdr.p_paddr, memory_bytes)?;
    file.copy(&part, (phdr.p_offset, file_bytes), memory, GuestAddress(phdr.p_paddr))?;
    Ok(end)
}

fn find_entry(file: &mut SourceFile<'_>, ehdr: &Ehdr, phdrs: &[Phdr]) -> Result<Entry, Failure> {
    let (which, entry) = match find_pvh_entry(file, phdrs)? {
        Some(address) => ("PVH", Entry::Pvh(GuestAddress(address))),
        None => ("64-bit", Entry::Linux64(GuestAddress(ehdr.e_entry))),
    };
    let (Entry::Pvh(GuestAddress(address)) | Entry::Linux64(GuestAddress(address))) = entry;
    let loaded = phdrs.iter().any(|phdr| phdr.p_type == PT_LOAD && phdr.holds(address));
    if loaded { Ok(entry) } else { Err(Failure::ElfEntry { which, address }) }
}

fn find_pvh_entry(file: &mut SourceFile<'_>, phdrs: &[Phdr]) -> Result<Option<u64>, Failure> {
    for phdr in phdrs.iter().filter(|phdr| phdr.p_type == PT_NOTE) {
        let (index, bytes) = (phdr.index, phdr.p_filesz);
        if bytes > NOTE_BYTES_MAX {
            return Err(Failure::ElfNoteSize { index, bytes, max: NOTE_BYTES_MAX });
        }
        let notes = file.read(&format!("note segment {index}"), phdr.p_offset, bytes as usize)?;
        let entry = pvh_entry_in(&notes, if phdr.p_align == 8 { 8 } else { 4 });
        if let Some(entry) = entry.map_err(|offset| Failure::ElfNote { index, offset })? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The PVH entry among `notes`, or the offset of the note that is malformed.
fn pvh_entry_in(notes: &[u8], align: usize) -> Result<Option<u64>, usize> {
    let mut offset = 0;
    while offset < notes.len() {
        let note = Note::parse(&notes[offset..], align).ok_or(offset)?;
        if note.name == XEN_NAME && note.n_type == XEN_ELFNOTE_PHYS32_ENTRY {
            return note.address().map(Some).ok_or(offset);
        }
        offset += note.bytes;
    }
    Ok(None)
}

struct Note<'a> {
    name: &'a [u8],
    n_type: u32,
    descriptor: &'a [u8],
    /// From here to the next.
    bytes: usize,
}

impl<'a> Note<'a> {
    /// The first note in `bytes`. Its lengths are 32 bits wide, so that sums of them fit into 64.
    fn parse(bytes: &'a [u8], align: usize) -> Option<Self> {
        let header = bytes.get(..NHDR_BYTES)?;
        let name_end = NHDR_BYTES + u32_at(header, 0) as usize;
        let start = name_end.next_multiple_of(align);
        let end = start + u32_at(header, 4) as usize;
        Some(Self {
            name: bytes.get(NHDR_BYTES..name_end)?,
            n_type: u32_at(header, 8),
            descriptor: bytes.get(start..end)?,
            bytes: end.next_multiple_of(align),
        })
    }

    /// The descriptor as an address: Linux writes it in 4 or, since it can be moved, in 8 bytes.
    fn address(&self) -> Option<u64> {
        match self.descriptor.len() {
            4 => Some(u32_at(self.descriptor, 0).into()),
            8 => Some(u64_at(self.descriptor, 0)),
            _ => None,
        }
    }
}

/// A vmlinux has no setup header; this is the least that Linux looks at.
fn setup_header_of_vmlinux() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: super::bzimage::PROTOCOL_VERSION_MIN,
        loadflags: super::bzimage::LOADED_HIGH,
        kernel_alignment: 0x20_0000,
        cmdline_size: (layout::COMMAND_LINE_BYTES_MAX - 1) as u32,
        ..Default::default()
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

/// Only for headers, which are of known length.
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("a slice is as long as asked for")
}
