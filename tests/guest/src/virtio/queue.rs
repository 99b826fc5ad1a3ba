//! A split virtqueue (virtio 1.2 section 2.7) in plain sight: everything in it can be set, to anything.

use crate::clock;
use crate::physical::{self, Buffer};
use alloc::string::String;

/// Flags of a descriptor.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u64 = 16;

/// Offsets in the driver's and the device's part.
const FLAGS: u64 = 0;
const INDEX: u64 = 2;
const ENTRIES: u64 = 4;
const AVAILABLE_ENTRY_BYTES: u64 = 2;
const USED_ENTRY_BYTES: u64 = 8;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;

/// `struct virtq_desc`
#[derive(Debug, Clone, Copy, Default)]
pub struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
    pub next: u16,
}

impl Descriptor {
    /// For the device to read.
    pub fn readable(address: u64, length: usize) -> Self {
        Self { address, length: length as u32, flags: 0, next: 0 }
    }

    /// For the device to write.
    pub fn writable(address: u64, length: usize) -> Self {
        Self { flags: WRITE, ..Self::readable(address, length) }
    }

    /// Puts it into a table in memory.
    pub fn store(self, table: u64, index: u16) {
        let at = table + u64::from(index) * DESCRIPTOR_BYTES;
        physical::write(at, self.address);
        physical::write(at + 8, self.length);
        physical::write(at + 12, self.flags);
        physical::write(at + 14, self.next);
    }
}

/// What the device says of a chain it is through with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The chain's first descriptor.
    pub head: u32,
    /// Bytes it wrote.
    pub length: u32,
}

/// One queue and its memory.
pub struct Queue {
    size: u16,
    descriptors: Buffer,
    available: Buffer,
    used: Buffer,
    /// The next free descriptor; they are taken round about, so a chain must be through before its turn comes
    /// again.
    next_descriptor: u16,
    available_index: u16,
    used_index: u16,
}

impl Queue {
    pub fn new(size: u16) -> Self {
        let size_usize = usize::from(size);
        Self {
            size,
            descriptors: Buffer::new(size_usize * DESCRIPTOR_BYTES as usize),
            available: Buffer::new(size_usize * AVAILABLE_ENTRY_BYTES as usize + 6),
            used: Buffer::new(size_usize * USED_ENTRY_BYTES as usize + 6),
            next_descriptor: 0,
            available_index: 0,
            used_index: 0,
        }
    }

    /// Descriptors, driver's part, device's part.
    pub fn addresses(&self) -> [u64; 3] {
        [self.descriptors.address, self.available.address, self.used.address]
    }

    /// Makes a chain of these available; gives its head.
    pub fn offer(&mut self, chain: &[Descriptor]) -> u16 {
        let head = self.next_descriptor;
        for (position, descriptor) in chain.iter().enumerate() {
            let next = (self.next_descriptor + 1) % self.size;
            let has_next = position + 1 < chain.len();
            let flags = descriptor.flags | if has_next { NEXT } else { 0 };
            self.put(self.next_descriptor, Descriptor { flags, next, ..*descriptor });
            self.next_descriptor = next;
        }
        self.make_available(head);
        head
    }

    /// Sets one descriptor.
    pub fn put(&self, index: u16, descriptor: Descriptor) {
        descriptor.store(self.descriptors.address, index);
    }

    /// Makes the chain that starts at this descriptor available.
    pub fn make_available(&mut self, head: u16) {
        let slot = u64::from(self.available_index % self.size);
        physical::write(self.available.address + ENTRIES + slot * AVAILABLE_ENTRY_BYTES, head);
        self.available_index = self.available_index.wrapping_add(1);
        self.claim_available(self.available_index);
    }

    /// Sets the index of what is available to anything, for the moment.
    pub fn claim_available(&self, index: u16) {
        // On this kind of processor, writes are seen in their order.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        physical::write(self.available.address + INDEX, index);
    }

    /// The true index of what is available.
    pub fn available_index(&self) -> u16 {
        self.available_index
    }

    /// The next chain that the device is through with, if there is one.
    pub fn take_used(&mut self) -> Option<Used> {
        let index: u16 = physical::read(self.used.address + INDEX);
        if index == self.used_index {
            return None;
        }
        let slot = u64::from(self.used_index % self.size);
        let entry = self.used.address + ENTRIES + slot * USED_ENTRY_BYTES;
        self.used_index = self.used_index.wrapping_add(1);
        Some(Used { head: physical::read(entry), length: physical::read(entry + 4) })
    }

    /// Waits for that.
    pub fn wait_used(&mut self) -> Result<Used, String> {
        clock::wait_for("a used buffer", || self.take_used())
    }

    /// Asks for no interrupts, or for them again. Only without [`EVENT_IDX`](super::EVENT_IDX).
    pub fn suppress_interrupts(&self, suppressed: bool) {
        physical::write(self.available.address + FLAGS, if suppressed { NO_INTERRUPT } else { 0 });
    }

    /// Asks for an interrupt when the chain of this number, from zero and modulo 2^16, is used. Only with
    /// [`EVENT_IDX`](super::EVENT_IDX).
    pub fn interrupt_after(&self, number: u16) {
        let used_event = ENTRIES + u64::from(self.size) * AVAILABLE_ENTRY_BYTES;
        physical::write(self.available.address + used_event, number);
    }
}
