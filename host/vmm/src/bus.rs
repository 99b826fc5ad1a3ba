//! The virtio-mmio devices of a machine: where they are, and what connects them to KVM.

use crate::counters::Meter;
use crate::layout::{VIRTIO_IRQ_FIRST, VIRTIO_MMIO, VIRTIO_MMIO_STRIDE};
use crate::vm::Failure;
use kiln_devices::mmio::{MMIO_BYTES, MmioTransport, QUEUE_NOTIFY};
use kiln_devices::{Device, GuestMemoryMmap, Interrupt};
use kvm_ioctls::{IoEventAddress, VmFd};
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// What the processors see of the devices.
pub struct Bus {
    memory: GuestMemoryMmap,
    devices: Vec<Arc<MmioTransport>>,
}

/// A device with the events by which its driver reaches it.
pub struct Attached {
    pub transport: Arc<MmioTransport>,
    /// One per queue; the guest's kernel writes them without leaving KVM.
    pub kicks: Vec<EventFd>,
}

impl Bus {
    /// Without devices.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        Self { memory, devices: Vec::new() }
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Puts `device` at the next place.
    ///
    /// # Errors
    /// When KVM refuses an event.
    pub fn attach(
        &mut self,
        vm: &VmFd,
        device: Box<dyn Device>,
        meter: &Arc<Meter>,
    ) -> Result<Attached, Failure> {
        let index = self.devices.len();
        let line = interrupt_line(vm, irq(index))?;
        let interrupt = Arc::new(Line { event: line, meter: meter.clone() });
        let transport = Arc::new(MmioTransport::new(device, interrupt));
        let kicks =
            (0..transport.queue_count()).map(|queue| kick(vm, index, queue)).collect::<Result<_, _>>()?;
        self.devices.push(transport.clone());
        Ok(Attached { transport, kicks })
    }

    /// Reads at a guest address. Where nothing is, all bits are one, as on real buses.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes at a guest address.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address) {
            device.write(&self.memory, offset, data);
        }
    }

    /// Does what was asked for before the end, as a guest need not wait before it switches off.
    pub fn finish(&self) {
        for device in &self.devices {
            device.work(&self.memory);
            device.driver_gone();
        }
    }

    /// Whether a device still has to pass on what the guest said.
    pub fn has_unsent(&self) -> bool {
        self.devices.iter().any(|device| device.has_unsent())
    }

    fn find(&self, address: u64) -> Option<(&MmioTransport, u64)> {
        let offset = address.checked_sub(VIRTIO_MMIO.0)?;
        let index = usize::try_from(offset / VIRTIO_MMIO_STRIDE).ok()?;
        Some((self.devices.get(index)?, offset % VIRTIO_MMIO_STRIDE))
    }
}

const _: () = assert!(MMIO_BYTES <= VIRTIO_MMIO_STRIDE);

fn irq(index: usize) -> u32 {
    VIRTIO_IRQ_FIRST + u32::try_from(index).expect("fewer devices than interrupt lines")
}

/// An event that raises interrupt line `irq`.
pub fn interrupt_line(vm: &VmFd, irq: u32) -> Result<EventFd, Failure> {
    let event = event()?;
    vm.register_irqfd(&event, irq).map_err(Failure::of("connect an interrupt line"))?;
    Ok(event)
}

/// An event that a write of `queue` to the device's notification register causes.
fn kick(vm: &VmFd, index: usize, queue: usize) -> Result<EventFd, Failure> {
    let event = event()?;
    let register = VIRTIO_MMIO.0 + index as u64 * VIRTIO_MMIO_STRIDE + QUEUE_NOTIFY;
    let queue = u32::try_from(queue).expect("a handful of queues");
    vm.register_ioevent(&event, &IoEventAddress::Mmio(register), queue)
        .map_err(Failure::of("watch a queue's notifications"))?;
    Ok(event)
}

fn event() -> Result<EventFd, Failure> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
        .map_err(|error| Failure::Call("have an event", error))
}

/// A device's interrupt line.
struct Line {
    event: EventFd,
    meter: Arc<Meter>,
}

impl Interrupt for Line {
    fn trigger(&self) -> io::Result<()> {
        self.meter.interrupts.add();
        self.event.write(1)
    }
}
