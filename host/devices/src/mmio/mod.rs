//! The virtio-mmio transport, version 2 (virtio 1.2 section 4.2), without its legacy interface.
//!
//! A device is a page of registers and an interrupt line. The driver finds a magic number, a
//! version and a device type; then it walks the status field up: it has seen the device, can drive
//! it, has chosen features (the device may refuse them by not keeping FEATURES_OK), has told where
//! its queues are, and is ready (DRIVER_OK). From then on it writes a queue's number to QueueNotify
//! when it made buffers available, and the device interrupts when it used some: InterruptStatus
//! says whether for that or because the device changed, and the driver acknowledges by writing the
//! same bits to InterruptACK. Zero written to the status field takes everything back.
//!
//! A queue that cannot be worked with (section 2.1.2) makes the device set DEVICE_NEEDS_RESET,
//! interrupt for a changed device, and leave all queues alone until it is reset. A single chain
//! that makes no sense is only handed back.
//!
//! Two locks and two atomics, so that a vCPU waits for I/O only where the specification has it
//! wait (reset, stopping a queue): `working` is held while the device works, `registers` guards
//! what the driver is choosing, and the status fields need neither. Whoever takes both takes
//! `registers` first.
//!
//! Limits: configuration space is as it was when the device was made, as none of our devices
//! changes it; queues cannot be reset one by one (`VIRTIO_F_RING_RESET` is not offered).

mod registers;
pub mod script;
mod status;

use crate::{Device, GuestMemoryMmap, Interrupt, Queue, Ring};
use registers::Registers;
use std::cell::Cell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use virtio_bindings::virtio_mmio as spec;
use virtio_queue::QueueT;

/// Size of the registers in guest memory, configuration space included.
pub const MMIO_BYTES: u64 = 0x1000;
/// Offset of the register that the driver writes a queue's number to when it has work for us.
pub const QUEUE_NOTIFY: u64 = spec::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Where configuration space starts.
const CONFIG: u64 = spec::VIRTIO_MMIO_CONFIG as u64;
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR_ID: u32 = u32::from_le_bytes(*b"KILN");
/// Length and place of a shared memory region that does not exist, either half.
const NO_REGION: u32 = u32::MAX;

/// A device behind virtio-mmio registers.
pub struct MmioTransport {
    device_type: u32,
    queue_sizes: &'static [u16],
    /// What the device offers.
    features: u64,
    config: Vec<u8>,
    interrupt: Arc<dyn Interrupt + Send + Sync>,
    status: AtomicU32,
    interrupt_status: AtomicU32,
    registers: Mutex<Registers>,
    working: Mutex<Working>,
}

/// What the device needs to work.
struct Working {
    device: Box<dyn Device>,
    queues: Vec<Queue>,
}

impl MmioTransport {
    /// Puts `device` behind registers. `interrupt` raises its line.
    pub fn new(device: Box<dyn Device>, interrupt: Arc<dyn Interrupt + Send + Sync>) -> Self {
        let queue_sizes = device.queue_sizes();
        Self {
            device_type: device.device_type(),
            queue_sizes,
            features: device.features(),
            config: device.config().to_vec(),
            interrupt,
            status: AtomicU32::new(0),
            interrupt_status: AtomicU32::new(0),
            registers: Mutex::new(Registers::new(queue_sizes.len())),
            working: Mutex::new(Working { device, queues: idle_queues(queue_sizes) }),
        }
    }

    /// The device type (virtio 1.2 section 5).
    pub fn device_type(&self) -> u32 {
        self.device_type
    }

    /// How many queues there are; QueueNotify takes numbers below it.
    pub fn queue_count(&self) -> usize {
        self.queue_sizes.len()
    }

    /// A duplicate of what polls as readable when [`work`](Self::work) should be called though no
    /// queue was kicked.
    ///
    /// # Errors
    /// When it cannot be duplicated.
    pub fn wake(&self) -> io::Result<Option<OwnedFd>> {
        let working = self.working();
        working.device.wake().as_ref().map(BorrowedFd::try_clone_to_owned).transpose()
    }

    /// Lets the device do all it can, after a queue was kicked or `wake` became readable, and
    /// interrupts at most once. Until the driver is ready, and while the device needs a reset, the
    /// queues are left alone.
    pub fn work(&self, memory: &GuestMemoryMmap) {
        let mut working = self.working();
        let outcome = working.process(memory, status::runs(self.status()));
        if outcome.broken {
            self.status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        }
        // Still under the lock: after a reset no interrupt must come from before it.
        self.raise(outcome.interrupt_status());
    }

    /// The machine has ended: whoever listens to the device learns that no more will come. What
    /// the driver asked for last is done by a call of [`work`](Self::work) before.
    pub fn driver_gone(&self) {
        self.working().device.driver_gone();
    }

    /// Whether the device holds something of the driver's that nobody outside has taken yet.
    pub fn has_unsent(&self) -> bool {
        self.working().device.has_unsent()
    }

    fn raise(&self, reasons: u32) {
        if reasons != 0 {
            self.interrupt_status.fetch_or(reasons, Ordering::AcqRel);
            // An interrupt that cannot be delivered has nobody waiting for it.
            let _ = self.interrupt.trigger();
        }
    }

    fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> MutexGuard<'_, Working> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the driver reads.
impl MmioTransport {
    /// The driver reads `data.len()` bytes at `offset`. What cannot be read, reads as zeroes.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(register) = register_at(offset, data.len()) {
            data.copy_from_slice(&self.read_register(register).to_le_bytes());
        } else if let Some(offset) = offset.checked_sub(CONFIG) {
            self.read_config(offset, data);
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let known = usize::try_from(offset).ok().and_then(|offset| self.config.get(offset..));
        if let (Some(known), 1 | 2 | 4 | 8) = (known, data.len()) {
            let count = known.len().min(data.len());
            data[..count].copy_from_slice(&known[..count]);
        }
    }

    fn read_register(&self, register: u32) -> u32 {
        match register {
            spec::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            spec::VIRTIO_MMIO_VERSION => VERSION,
            spec::VIRTIO_MMIO_DEVICE_ID => self.device_type,
            spec::VIRTIO_MMIO_VENDOR_ID => VENDOR_ID,
            spec::VIRTIO_MMIO_DEVICE_FEATURES => self.registers().device_features(self.features),
            spec::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                self.registers().selected().map_or(0, |index| self.queue_sizes[index].into())
            }
            spec::VIRTIO_MMIO_QUEUE_READY => self.registers().queue_ready().into(),
            spec::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt_status.load(Ordering::Acquire),
            spec::VIRTIO_MMIO_STATUS => self.status(),
            spec::VIRTIO_MMIO_SHM_LEN_LOW..=spec::VIRTIO_MMIO_SHM_BASE_HIGH => NO_REGION,
            // ConfigGeneration among them: configuration space never changes.
            _ => 0,
        }
    }
}

/// What the driver writes.
impl MmioTransport {
    /// The driver writes `data` at `offset`. What cannot be written, is not; that goes for
    /// configuration space, too.
    ///
    /// A driver's notification normally never comes here (an ioeventfd at [`QUEUE_NOTIFY`] has
    /// another thread call [`work`](Self::work)); if it does, the device works at once.
    pub fn write(&self, memory: &GuestMemoryMmap, offset: u64, data: &[u8]) {
        let Some(register) = register_at(offset, data.len()) else { return };
        let Some(value) = data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else { return };
        match register {
            spec::VIRTIO_MMIO_INTERRUPT_ACK => {
                self.interrupt_status.fetch_and(!value, Ordering::AcqRel);
            }
            spec::VIRTIO_MMIO_STATUS if value == 0 => self.reset(),
            spec::VIRTIO_MMIO_STATUS => self.write_status(value),
            spec::VIRTIO_MMIO_QUEUE_READY => self.write_queue_ready(memory, value),
            spec::VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(memory, value),
            _ => self.registers().write(self.status(), register, value),
        }
    }

    fn write_status(&self, written: u32) {
        let registers = self.registers();
        let current = self.status();
        let next = status::advance(current, written, registers.agrees(self.features));
        if next & !current & status::FEATURES_OK != 0 {
            self.working().device.accept_features(registers.driver_features());
        }
        // Added, not stored: the device may have found that it needs a reset meanwhile.
        self.status.fetch_or(next, Ordering::AcqRel);
    }

    fn write_queue_ready(&self, memory: &GuestMemoryMmap, value: u32) {
        let mut registers = self.registers();
        let Some(index) = registers.selected() else { return };
        let ready = registers.queue_ready();
        if value == 1 && !ready && status::configures(self.status()) {
            let built = registers.build_queue(index, self.queue_sizes[index], memory);
            registers.queue_mut(index).ready = built.is_some();
            if let Some(queue) = built {
                self.working().queues[index] = queue;
            }
        } else if value == 0 && ready {
            // Waits for what is under way: when the driver reads zero, its memory is its own.
            self.working().queues[index].reset();
            registers.queue_mut(index).ready = false;
        }
    }

    fn notify(&self, memory: &GuestMemoryMmap, queue: u32) {
        if usize::try_from(queue).is_ok_and(|queue| queue < self.queue_count()) {
            self.work(memory);
        }
    }

    /// Back to the start (section 2.4), when what is under way is done.
    fn reset(&self) {
        let mut registers = self.registers();
        let mut working = self.working();
        working.device.reset();
        working.queues = idle_queues(self.queue_sizes);
        *registers = Registers::new(self.queue_count());
        self.interrupt_status.store(0, Ordering::Release);
        self.status.store(0, Ordering::Release);
    }
}

/// The register of an access, if it is one of four bytes at a register (section 4.2.2.2).
fn register_at(offset: u64, size: usize) -> Option<u32> {
    let register = size == 4 && offset < CONFIG && offset.is_multiple_of(4);
    u32::try_from(offset).ok().filter(|_| register)
}

/// Queues that nobody has set up.
fn idle_queues(sizes: &[u16]) -> Vec<Queue> {
    sizes.iter().map(|size| Queue::new(*size).unwrap_or_default()).collect()
}

/// What came of working.
struct Outcome {
    /// The driver is to be told of used buffers.
    used: bool,
    /// A queue cannot be worked with.
    broken: bool,
}

impl Outcome {
    fn interrupt_status(&self) -> u32 {
        let used = if self.used { spec::VIRTIO_MMIO_INT_VRING } else { 0 };
        let broken = if self.broken { spec::VIRTIO_MMIO_INT_CONFIG } else { 0 };
        used | broken
    }
}

impl Working {
    /// Has the device work through its queues or, unless it `runs`, only through what comes from
    /// outside, so that this does not keep waking us.
    fn process(&mut self, memory: &GuestMemoryMmap, runs: bool) -> Outcome {
        let reachable = self.queues.iter().all(|queue| !queue.ready() || queue.is_valid(memory));
        let owed = Deferred::default();
        let ring = |queue| if runs && reachable { Ring::new(queue, &owed) } else { Ring::idle(queue, &owed) };
        let mut rings: Vec<_> = self.queues.iter_mut().map(ring).collect();
        self.device.process(memory, &mut rings);
        let broken = runs && (!reachable || rings.iter().any(Ring::is_broken));
        drop(rings);
        Outcome { used: owed.0.get(), broken }
    }
}

/// An interrupt for all queues together, sent when the device is done.
#[derive(Default)]
struct Deferred(Cell<bool>);

impl Interrupt for Deferred {
    fn trigger(&self) -> io::Result<()> {
        self.0.set(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
