//! Memory and device registers by physical address.
//!
//! Everything below 4 GiB is mapped where it is. A device sees the same memory at the same time, so all of it is
//! read and written volatile, one access per call.

use core::arch::asm;
use core::ptr;

/// Highest address that is mapped, and one more.
const MAPPED_END: u64 = 1 << 32;

/// Bytes of a page, to which queues and heap keep.
pub const PAGE_BYTES: usize = 4096;

/// Reads a value; a device register wants its own width.
pub fn read<T: Copy>(address: u64) -> T {
    // SAFETY: `pointer` gives mapped memory. The value is one of integers, for which any bytes will do.
    unsafe { ptr::read_volatile(pointer(address)) }
}

/// Writes a value; a device register wants its own width.
pub fn write<T: Copy>(address: u64, value: T) {
    // SAFETY: `pointer` gives mapped memory. Callers write to registers and to buffers that the heap gave them.
    unsafe { ptr::write_volatile(pointer(address), value) }
}

/// Reads and writes eight bytes at any address, aligned or not.
pub fn touch_u64(address: u64, value: u64) {
    let pointer = pointer::<u64>(address);
    // SAFETY: mapped, and nothing of Rust's is there: callers touch device registers.
    unsafe {
        asm!("mov {old}, [{at}]", "mov [{at}], {new}", old = out(reg) _, at = in(reg) pointer, new = in(reg) value)
    }
}

fn pointer<T>(address: u64) -> *mut T {
    assert!(address + size_of::<T>() as u64 <= MAPPED_END, "{address:#x} is not mapped");
    address as usize as *mut T
}

/// Memory that a device may be told of; whole pages of zeroes at first.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    pub address: u64,
    pub bytes: usize,
}

impl Buffer {
    /// A new one. It is given back when the scenario is over.
    pub fn new(bytes: usize) -> Self {
        Self { address: crate::heap::pages(bytes.div_ceil(PAGE_BYTES)) as u64, bytes }
    }

    /// A new one with this content.
    pub fn with(content: &[u8]) -> Self {
        let buffer = Self::new(content.len());
        buffer.write(0, content);
        buffer
    }

    /// Writes `content` at `offset`.
    pub fn write(&self, offset: usize, content: &[u8]) {
        assert!(offset + content.len() <= self.bytes, "a write of {} at {offset}", content.len());
        let target = pointer::<u8>(self.address + offset as u64);
        // SAFETY: the target is inside this buffer, of which no Rust reference exists.
        unsafe { ptr::copy_nonoverlapping(content.as_ptr(), target, content.len()) }
    }

    /// Fills `target` from `offset` on.
    pub fn read(&self, offset: usize, target: &mut [u8]) {
        assert!(offset + target.len() <= self.bytes, "a read of {} at {offset}", target.len());
        let source = pointer::<u8>(self.address + offset as u64);
        // SAFETY: the source is inside this buffer; the target is a Rust object, hence not in it.
        unsafe { ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) }
    }

    /// The first `length` bytes.
    pub fn bytes(&self, length: usize) -> alloc::vec::Vec<u8> {
        let mut bytes = alloc::vec![0; length];
        self.read(0, &mut bytes);
        bytes
    }

    /// Fills all of it.
    pub fn fill(&self, byte: u8) {
        // SAFETY: as in `write`.
        unsafe { ptr::write_bytes(pointer::<u8>(self.address), byte, self.bytes) }
    }

    /// Cuts it into so many pieces, the last with the rest: addresses and lengths.
    pub fn cut(&self, pieces: usize) -> impl Iterator<Item = (u64, usize)> + use<> {
        let Self { address, bytes } = *self;
        let piece = bytes / pieces;
        (0..pieces).map(move |index| {
            let length = if index + 1 == pieces { bytes - piece * index } else { piece };
            (address + (piece * index) as u64, length)
        })
    }
}
