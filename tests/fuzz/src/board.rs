//! A driver's side of a device behind virtio-mmio: registers, rings, memory. It knows no more than a guest does.

use kiln_devices::mmio::MmioTransport;
use kiln_devices::{Device, GuestMemoryMmap, Interrupt};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use virtio_bindings::{virtio_config as config, virtio_mmio as spec};
use vm_memory::{Bytes, GuestAddress};

/// Descriptors of each queue. Few, so that they are soon used up and used again.
pub const QUEUE_SIZE: u16 = 32;
/// Descriptor flags (virtio 1.2 section 2.7.5).
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
pub const DESCRIPTOR_BYTES: u64 = 16;

/// Where a queue has its parts, from its start: descriptors, available ring, used ring.
const PARTS: [u64; 3] = [0, 0x1000, 0x2000];
/// None is longer: descriptors are the longest.
const PART_BYTES: usize = QUEUE_SIZE as usize * DESCRIPTOR_BYTES as usize;
const QUEUE_BYTES: u64 = 0x4000;
/// Where buffers start, above all queues.
pub const BUFFERS: u64 = 0x1_0000;

const ACKNOWLEDGE: u32 = config::VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = ACKNOWLEDGE | config::VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK: u32 = DRIVER | config::VIRTIO_CONFIG_S_FEATURES_OK;
const DRIVER_OK: u32 = FEATURES_OK | config::VIRTIO_CONFIG_S_DRIVER_OK;

/// Where the `index`th queue has its parts.
pub fn addresses(index: u32) -> [u64; 3] {
    PARTS.map(|part| QUEUE_BYTES * u64::from(index) + 0x1000 + part)
}

#[derive(Default)]
struct Line(AtomicUsize);

impl Interrupt for Line {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A device, its driver and their memory.
pub struct Board {
    pub transport: MmioTransport,
    pub memory: GuestMemoryMmap,
    line: Arc<Line>,
    queues: Vec<Queue>,
}

/// How far the driver of a queue is.
#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    made_available: u16,
    seen_used: u16,
}

/// A descriptor as the driver writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

impl Board {
    /// A device that nobody has started, with so many bytes of memory.
    pub fn new(device: Box<dyn Device>, memory_bytes: usize) -> Self {
        let line = Arc::new(Line::default());
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), memory_bytes)]).expect("there is memory");
        let queues = vec![Queue::default(); device.queue_sizes().len()];
        Self { transport: MmioTransport::new(device, line.clone()), memory, line, queues }
    }

    pub fn read_register(&self, register: u32) -> u32 {
        let mut value = [0; 4];
        self.transport.read(register.into(), &mut value);
        u32::from_le_bytes(value)
    }

    pub fn write_register(&self, register: u32, value: u32) {
        self.transport.write(&self.memory, register.into(), &value.to_le_bytes());
    }

    pub fn status(&self) -> u32 {
        self.read_register(spec::VIRTIO_MMIO_STATUS)
    }

    pub fn needs_reset(&self) -> bool {
        self.status() & config::VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }

    /// Interrupts so far.
    pub fn interrupts(&self) -> usize {
        self.line.0.load(Ordering::Relaxed)
    }

    /// Resets the device, makes its rings empty and starts it (virtio 1.2 section 3.1.1) with all it offers.
    pub fn restart(&mut self) {
        self.write_register(spec::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(self.status(), 0, "a reset");
        self.clear_rings();
        self.queues.fill(Queue::default());
        self.negotiate();
        let count = u32::try_from(self.queues.len()).expect("few");
        (0..count).for_each(|index| self.set_queue_up(index));
        self.write_register(spec::VIRTIO_MMIO_STATUS, DRIVER_OK);
        assert_eq!(self.status(), DRIVER_OK);
    }

    fn clear_rings(&self) {
        let parts = (0..).zip(&self.queues).flat_map(|(index, _)| addresses(index));
        parts.for_each(|address| self.write(address, &[0; PART_BYTES]));
    }

    fn negotiate(&self) {
        self.write_register(spec::VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
        self.write_register(spec::VIRTIO_MMIO_STATUS, DRIVER);
        for half in [0, 1] {
            self.write_register(spec::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            self.write_register(spec::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            let offered = self.read_register(spec::VIRTIO_MMIO_DEVICE_FEATURES);
            self.write_register(spec::VIRTIO_MMIO_DRIVER_FEATURES, offered);
        }
        self.write_register(spec::VIRTIO_MMIO_STATUS, FEATURES_OK);
        assert_eq!(self.status(), FEATURES_OK, "what is offered can be had");
    }

    fn set_queue_up(&self, index: u32) {
        self.write_register(spec::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write_register(spec::VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE.into());
        let parts = [
            spec::VIRTIO_MMIO_QUEUE_DESC_LOW,
            spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
            spec::VIRTIO_MMIO_QUEUE_USED_LOW,
        ];
        for (register, address) in parts.into_iter().zip(addresses(index)) {
            self.write_register(register, u32::try_from(address).expect("low memory"));
        }
        self.write_register(spec::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(self.read_register(spec::VIRTIO_MMIO_QUEUE_READY), 1);
    }

    /// Tells the device that the queue has new buffers.
    pub fn kick(&self, queue: u32) {
        self.write_register(spec::VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    }

    /// Writes the `index`th descriptor of a queue.
    pub fn describe(&self, queue: u32, index: u16, descriptor: Descriptor) {
        let table = addresses(queue)[0];
        self.write(table + u64::from(index) * DESCRIPTOR_BYTES, &descriptor.to_bytes());
    }

    /// Makes the chain that starts at a descriptor available, or what is none.
    pub fn make_available(&mut self, queue: u32, head: u16) {
        let ring = addresses(queue)[1];
        let state = &mut self.queues[queue as usize];
        let slot = u64::from(state.made_available % QUEUE_SIZE);
        state.made_available = state.made_available.wrapping_add(1);
        let index = state.made_available;
        self.write(ring + 4 + slot * 2, &head.to_le_bytes());
        self.write(ring + 2, &index.to_le_bytes());
    }

    /// A proper chain of buffers from descriptor `first` on: address, length, writable.
    pub fn offer(&mut self, queue: u32, first: u16, buffers: &[(u64, u32, bool)]) {
        for (number, (addr, len, writable)) in buffers.iter().enumerate() {
            let index = (first + u16::try_from(number).expect("few")) % QUEUE_SIZE;
            let more = if number + 1 < buffers.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            let next = (index + 1) % QUEUE_SIZE;
            self.describe(queue, index, Descriptor { addr: *addr, len: *len, flags, next });
        }
        self.make_available(queue, first);
    }

    /// The next used element: head and length. Asks for an interrupt when there are more.
    pub fn used(&mut self, queue: u32) -> Option<(u32, u32)> {
        let [_, available, ring] = addresses(queue);
        let state = &mut self.queues[queue as usize];
        if u16::from_le_bytes(read(&self.memory, ring + 2)) == state.seen_used {
            return None;
        }
        let element = ring + 4 + u64::from(state.seen_used % QUEUE_SIZE) * 8;
        state.seen_used = state.seen_used.wrapping_add(1);
        let used_event = available + 4 + 2 * u64::from(QUEUE_SIZE);
        self.memory.write_slice(&state.seen_used.to_le_bytes(), GuestAddress(used_event)).expect("mapped");
        let word = |at| u32::from_le_bytes(read(&self.memory, at));
        Some((word(element), word(element + 4)))
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).expect("mapped");
    }

    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("mapped");
        bytes
    }
}

fn read<const N: usize>(memory: &GuestMemoryMmap, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(address)).expect("mapped");
    bytes
}

impl Descriptor {
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { addr, len, flags, next } = self;
        [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
    }
}
