//! A driver for tests: it lays descriptors out as it likes, also as no driver may.

pub(crate) mod bus;

use crate::{Device, GuestMemoryMmap, Interrupt, Queue, Ring};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};

pub(crate) use bus::Bus;

pub(crate) const QUEUE_SIZE: u16 = 64;
pub(crate) const MEMORY_BYTES: usize = 4 << 20;

/// Descriptor flags (virtio 1.2 section 2.7.5).
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Where a queue's parts are, from its start.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const QUEUE_BYTES: u64 = 0x4000;
/// Where the buffers start.
pub(crate) const BUFFERS: u64 = 0x10_0000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// What brings a driver's kicks to its device.
pub(crate) trait Carrier {
    /// Has the device look at all its queues, in the order of the specification.
    fn kick(&mut self, drivers: &mut [&mut Driver]);
}

/// No transport at all: the device is called on the drivers' queues.
impl<D: Device> Carrier for D {
    fn kick(&mut self, drivers: &mut [&mut Driver]) {
        let memory = drivers[0].memory.clone();
        let mut rings: Vec<_> = drivers.iter_mut().map(|driver| driver.ring()).collect();
        self.process(&memory, &mut rings);
    }
}

/// One queue as its driver sees it.
pub(crate) struct Driver {
    pub memory: GuestMemoryMmap,
    pub queue: Queue,
    pub interrupts: Counter,
    base: u64,
    next_descriptor: u16,
    made_available: u16,
    seen_used: u16,
}

#[derive(Default)]
pub(crate) struct Counter(pub AtomicUsize);

impl Interrupt for Counter {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
}

/// Where the `index`th queue has its descriptors, its available and its used ring.
pub(crate) fn addresses(index: u64) -> [u64; 3] {
    let base = 0x1000 + index * QUEUE_BYTES;
    [base, base + AVAILABLE, base + USED]
}

impl Driver {
    /// The `index`th queue in `memory`.
    pub fn new(memory: &GuestMemoryMmap, index: u64) -> Self {
        let [base, available, used] = addresses(index);
        let mut queue = Queue::new(QUEUE_SIZE).unwrap();
        queue.set_size(QUEUE_SIZE);
        queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
        queue.set_ready(true);
        let interrupts = Counter::default();
        let memory = memory.clone();
        Self { memory, queue, interrupts, base, next_descriptor: 0, made_available: 0, seen_used: 0 }
    }

    pub fn ring(&mut self) -> Ring<'_> {
        Ring::new(&mut self.queue, &self.interrupts)
    }

    pub fn process(&mut self, device: &mut impl Carrier) {
        device.kick(&mut [self]);
    }

    pub fn interrupts(&self) -> usize {
        self.interrupts.0.load(Ordering::Relaxed)
    }

    pub fn put(&self, index: u16, descriptor: Descriptor) {
        self.put_at(self.base + u64::from(index) * 16, descriptor);
    }

    pub fn put_at(&self, address: u64, Descriptor { addr, len, flags, next }: Descriptor) {
        let fields = [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.memory.write_slice(&fields.concat(), GuestAddress(address)).unwrap();
    }

    /// A proper chain of buffers: address, length, writable.
    pub fn offer(&mut self, buffers: &[(u64, u32, bool)]) -> u16 {
        let head = self.next_descriptor;
        for (number, (addr, len, writable)) in buffers.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % QUEUE_SIZE;
            let more = if number + 1 < buffers.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            self.put(index, Descriptor { addr: *addr, len: *len, flags, next: self.next_descriptor });
        }
        self.make_available(head);
        head
    }

    pub fn make_available(&mut self, head: u16) {
        let slot = u64::from(self.made_available % QUEUE_SIZE);
        let ring = self.base + AVAILABLE;
        self.memory.write_obj(head.to_le(), GuestAddress(ring + 4 + slot * 2)).unwrap();
        self.made_available = self.made_available.wrapping_add(1);
        self.claim_available(self.made_available);
    }

    /// Sets the available ring's index, true or not.
    pub fn claim_available(&mut self, index: u16) {
        self.memory.write_obj(index.to_le(), GuestAddress(self.base + AVAILABLE + 2)).unwrap();
    }

    /// Sets the available ring's flags: 1 asks for no interrupts.
    pub fn set_available_flags(&mut self, flags: u16) {
        self.memory.write_obj(flags.to_le(), GuestAddress(self.base + AVAILABLE)).unwrap();
    }

    /// The next used element: head and length.
    pub fn used(&mut self) -> Option<(u16, u32)> {
        let ring = self.base + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        if index == self.seen_used {
            return None;
        }
        let element = ring + 4 + u64::from(self.seen_used % QUEUE_SIZE) * 8;
        let head: u32 = self.memory.read_obj(GuestAddress(element)).unwrap();
        let length: u32 = self.memory.read_obj(GuestAddress(element + 4)).unwrap();
        self.seen_used = self.seen_used.wrapping_add(1);
        Some((u16::try_from(head).unwrap(), length))
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}

/// Cuts `length` bytes from `address` on into `pieces` buffers, the last one taking the rest.
pub(crate) fn cut(address: u64, length: usize, pieces: usize, writable: bool) -> Vec<(u64, u32, bool)> {
    let size = length / pieces;
    let piece = |number: usize| {
        let at = number * size;
        let size = if number + 1 == pieces { length - at } else { size };
        (address + at as u64, u32::try_from(size).unwrap(), writable)
    };
    (0..pieces).map(piece).collect()
}
