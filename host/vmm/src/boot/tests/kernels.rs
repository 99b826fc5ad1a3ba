//! Tiny kernels, written field by field as their specifications have them.

pub const PVH_ENTRY: u64 = 0x10_0010;
pub const ELF_ENTRY: u64 = 0x10_0020;
/// What the first segment holds from 1 MiB on.
pub const TEXT: &[u8] = b"the code of a tiny vmlinux, long enough for both of its entries";
/// What the second segment holds from 4 MiB on.
pub const DATA: &[u8] = b"its data";

/// Where [`vmlinux`] has its parts.
pub const PHDR_OFFSET: usize = 64;
pub const PHDR_BYTES: usize = 56;
pub const TEXT_OFFSET: usize = 0x1000;
pub const DATA_OFFSET: usize = 0x2000;
pub const NOTE_OFFSET: usize = 0x3000;
/// Where the note segment has the note of Xen, behind one of somebody else.
pub const XEN_NOTE: usize = NOTE_OFFSET + 20;

/// A vmlinux of three segments: text at 1 MiB, data at 4 MiB with 1 MiB in memory, notes.
/// [ELF-64](https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html): "ELF Header", "Program Header".
pub fn vmlinux() -> Vec<u8> {
    let mut file = vec![0; NOTE_OFFSET];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &2u16.to_le_bytes());
    put(&mut file, 18, &62u16.to_le_bytes());
    put(&mut file, 24, &ELF_ENTRY.to_le_bytes());
    put(&mut file, 32, &(PHDR_OFFSET as u64).to_le_bytes());
    put(&mut file, 54, &(PHDR_BYTES as u16).to_le_bytes());
    put(&mut file, 56, &3u16.to_le_bytes());
    put(&mut file, TEXT_OFFSET, TEXT);
    put(&mut file, DATA_OFFSET, DATA);
    let notes = notes();
    let text = segment(1, TEXT_OFFSET, 0x10_0000, TEXT.len(), TEXT.len());
    let data = segment(1, DATA_OFFSET, 0x40_0000, DATA.len(), 0x10_0000);
    let note = segment(4, NOTE_OFFSET, 0x10_0000, notes.len(), notes.len());
    put(&mut file, PHDR_OFFSET, &[text, data, note].concat());
    file.extend(notes);
    file
}

/// The same without notes.
pub fn vmlinux_without_note() -> Vec<u8> {
    let mut file = vmlinux();
    put(&mut file, 56, &2u16.to_le_bytes());
    file
}

fn segment(p_type: u32, offset: usize, address: u64, file_bytes: usize, memory_bytes: usize) -> Vec<u8> {
    let mut header = vec![0; PHDR_BYTES];
    put(&mut header, 0, &p_type.to_le_bytes());
    put(&mut header, 8, &(offset as u64).to_le_bytes());
    put(&mut header, 24, &address.to_le_bytes());
    put(&mut header, 32, &(file_bytes as u64).to_le_bytes());
    put(&mut header, 40, &(memory_bytes as u64).to_le_bytes());
    put(&mut header, 48, &4u64.to_le_bytes());
    header
}

/// "Note Section": lengths of name and descriptor, type, name, descriptor, each padded to four bytes.
fn notes() -> Vec<u8> {
    let mut notes = Vec::new();
    for (name, n_type, descriptor) in
        [(b"GNU\0", 3u32, &b"abc"[..]), (b"Xen\0", 18, &PVH_ENTRY.to_le_bytes())]
    {
        notes.extend((name.len() as u32).to_le_bytes());
        notes.extend((descriptor.len() as u32).to_le_bytes());
        notes.extend(n_type.to_le_bytes());
        notes.extend(name);
        notes.extend(descriptor);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

/// Where [`bzimage`] wants to be.
pub const BZIMAGE_ADDRESS: u64 = 0x100_0000;
/// Memory from there on that it needs.
pub const BZIMAGE_INIT_BYTES: u64 = 0x60_0000;
/// Its code: as long as `syssize` says.
pub const BZIMAGE_CODE_BYTES: usize = 0x400;
pub const BZIMAGE_CODE_OFFSET: usize = 3 * 512;

/// A bzImage of protocol 2.15 whose code is counted bytes
/// ([boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html), "The Real-Mode Kernel Header").
pub fn bzimage() -> Vec<u8> {
    let mut file = vec![0xee; BZIMAGE_CODE_OFFSET];
    file[0x1f1..0x26c].fill(0);
    put(&mut file, 0x1f1, &[2]);
    put(&mut file, 0x1f4, &((BZIMAGE_CODE_BYTES / 16) as u32).to_le_bytes());
    put(&mut file, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut file, 0x200, &[0xeb, 0x6a]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x020fu16.to_le_bytes());
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut file, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut file, 0x230, &0x20_0000u32.to_le_bytes());
    put(&mut file, 0x234, &[1, 21]);
    put(&mut file, 0x236, &0x7fu16.to_le_bytes());
    put(&mut file, 0x238, &2047u32.to_le_bytes());
    put(&mut file, 0x258, &BZIMAGE_ADDRESS.to_le_bytes());
    put(&mut file, 0x260, &(BZIMAGE_INIT_BYTES as u32).to_le_bytes());
    file.extend((0..BZIMAGE_CODE_BYTES).map(|index| index as u8));
    file
}

/// Overwrites the bytes from `offset` on.
pub fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// `file` with other bytes from `offset` on.
pub fn with(mut file: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    put(&mut file, offset, bytes);
    file
}
