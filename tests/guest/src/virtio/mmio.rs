//! Our own driver's side of the virtio-mmio transport, version 2 (virtio 1.2 section 4.2).

use super::{Queue, VERSION_1};
use crate::{clock, interrupts, physical};
use alloc::string::String;

/// Offsets of registers (virtio 1.2 section 4.2.2).
pub mod register {
    pub const MAGIC_VALUE: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the device status (virtio 1.2 section 2.1).
pub mod status {
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
}

/// "virt"
const MAGIC: u32 = 0x7472_6976;

/// Where a device is.
#[derive(Debug, Clone, Copy)]
pub struct Location {
    pub address: u64,
    pub bytes: usize,
    /// Input of the I/O APIC.
    pub irq: u32,
}

impl Location {
    /// Reads `SIZE@ADDRESS:IRQ`, as for Linux's `virtio_mmio.device`.
    pub fn parse(word: &str) -> Option<Self> {
        let (bytes, rest) = word.split_once('@')?;
        let (address, irq) = rest.split_once(':')?;
        Some(Self { address: number(address)?, bytes: number(bytes)? as usize, irq: irq.parse().ok()? })
    }

    pub fn read(&self, register: u64) -> u32 {
        physical::read(self.address + register)
    }

    pub fn write(&self, register: u64, value: u32) {
        physical::write(self.address + register, value);
    }

    /// The device ID, 0 where there is none.
    pub fn device_id(&self) -> u32 {
        let is_device = self.read(register::MAGIC_VALUE) == MAGIC && self.read(register::VERSION) == 2;
        if is_device { self.read(register::DEVICE_ID) } else { 0 }
    }

    pub fn status(&self) -> u32 {
        self.read(register::STATUS)
    }

    /// The features that the device offers.
    pub fn features(&self) -> u64 {
        let word = |index| {
            self.write(register::DEVICE_FEATURES_SEL, index);
            u64::from(self.read(register::DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    /// Sets the status to zero and waits until the device is through with that.
    pub fn reset(&self) -> Result<(), String> {
        self.write(register::STATUS, 0);
        clock::wait_for("a reset", || (self.status() == 0).then_some(()))
    }

    /// A little-endian number of the configuration space.
    pub fn config_u64(&self, offset: u64) -> u64 {
        let word = |at| u64::from(self.read(register::CONFIG + at));
        word(offset) | word(offset + 4) << 32
    }
}

fn number(text: &str) -> Option<u64> {
    let factor = match text.as_bytes().last()? {
        b'K' | b'k' => 1024,
        b'M' | b'm' => 1024 * 1024,
        _ => 1,
    };
    let digits = text.trim_end_matches(['K', 'k', 'M', 'm']);
    let value = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    value.ok()?.checked_mul(factor)
}

/// A device that was reset and told which features to use.
pub struct Device {
    pub location: Location,
}

impl Device {
    /// Negotiates those of the wanted features that the device offers, and [`VERSION_1`]. Next are the
    /// queues, then [`start`](Self::start).
    pub fn prepare(location: Location, wanted: u64) -> Result<Self, String> {
        location.reset()?;
        location.write(register::STATUS, status::ACKNOWLEDGE);
        location.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let features = location.features() & (wanted | VERSION_1);
        for (index, word) in [(0, features as u32), (1, (features >> 32) as u32)] {
            location.write(register::DRIVER_FEATURES_SEL, index);
            location.write(register::DRIVER_FEATURES, word);
        }
        let chosen = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        location.write(register::STATUS, chosen);
        match location.status() & status::FEATURES_OK {
            0 => Err(alloc::format!("features {features:#x} are refused")),
            _ => Ok(Self { location }),
        }
    }

    /// Sets up a queue of `size` descriptors in new memory.
    pub fn queue(&self, index: u32, size: u16) -> Result<Queue, String> {
        let queue = Queue::new(size);
        self.select_queue(index);
        let max = self.location.read(register::QUEUE_NUM_MAX);
        if max < u32::from(size) {
            return Err(alloc::format!("queue {index} has at most {max} descriptors"));
        }
        self.place_queue(u32::from(size), queue.addresses());
        Ok(queue)
    }

    pub fn select_queue(&self, index: u32) {
        self.location.write(register::QUEUE_SEL, index);
    }

    /// Tells where the selected queue is, and that it is ready: descriptors, driver's part, device's part.
    pub fn place_queue(&self, size: u32, addresses: [u64; 3]) {
        self.location.write(register::QUEUE_NUM, size);
        let registers = [register::QUEUE_DESC_LOW, register::QUEUE_DRIVER_LOW, register::QUEUE_DEVICE_LOW];
        for (register, address) in registers.into_iter().zip(addresses) {
            self.location.write(register, address as u32);
            self.location.write(register + 4, (address >> 32) as u32);
        }
        self.location.write(register::QUEUE_READY, 1);
    }

    /// The driver is ready.
    pub fn start(&self) {
        let status = self.location.status();
        self.location.write(register::STATUS, status | status::DRIVER_OK);
    }

    /// There is something in a queue.
    pub fn notify(&self, queue: u32) {
        self.location.write(register::QUEUE_NOTIFY, queue);
    }

    /// Whether the device has given up until it is reset.
    pub fn needs_reset(&self) -> bool {
        self.location.status() & status::NEEDS_RESET != 0
    }

    /// Interrupts so far. What the device wanted to say with them is acknowledged.
    pub fn interrupts(&self) -> u32 {
        let causes = self.location.read(register::INTERRUPT_STATUS);
        self.location.write(register::INTERRUPT_ACK, causes);
        interrupts::count(self.location.irq)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // The memory of its queues is about to be used for something else.
        self.location.write(register::STATUS, 0);
    }
}
