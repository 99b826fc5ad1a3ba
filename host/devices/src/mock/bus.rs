//! A driver's side of virtio-mmio: it knows the device by its registers alone.

use super::{Carrier, Counter, Driver, QUEUE_SIZE, addresses};
use crate::mmio::MmioTransport;
use crate::{Device, GuestMemoryMmap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_config as config;
use virtio_bindings::virtio_mmio as spec;

pub(crate) const ACKNOWLEDGE: u32 = config::VIRTIO_CONFIG_S_ACKNOWLEDGE;
pub(crate) const DRIVER: u32 = ACKNOWLEDGE | config::VIRTIO_CONFIG_S_DRIVER;
pub(crate) const FEATURES_OK: u32 = DRIVER | config::VIRTIO_CONFIG_S_FEATURES_OK;
pub(crate) const DRIVER_OK: u32 = FEATURES_OK | config::VIRTIO_CONFIG_S_DRIVER_OK;

/// A device on its bus.
pub(crate) struct Bus {
    pub transport: Arc<MmioTransport>,
    pub memory: GuestMemoryMmap,
    interrupts: Arc<Counter>,
}

impl Bus {
    pub fn new(device: Box<dyn Device>, memory: &GuestMemoryMmap) -> Self {
        let interrupts = Arc::new(Counter::default());
        let transport = Arc::new(MmioTransport::new(device, interrupts.clone()));
        Self { transport, memory: memory.clone(), interrupts }
    }

    pub fn read(&self, register: u32) -> u32 {
        let mut value = [0; 4];
        self.transport.read(register.into(), &mut value);
        u32::from_le_bytes(value)
    }

    pub fn write(&self, register: u32, value: u32) {
        self.transport.write(&self.memory, register.into(), &value.to_le_bytes());
    }

    pub fn status(&self) -> u32 {
        self.read(spec::VIRTIO_MMIO_STATUS)
    }

    pub fn set_status(&self, status: u32) {
        self.write(spec::VIRTIO_MMIO_STATUS, status);
    }

    pub fn interrupts(&self) -> usize {
        self.interrupts.0.load(Ordering::Relaxed)
    }

    pub fn needs_reset(&self) -> bool {
        self.status() & config::VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }

    /// What the device offers.
    pub fn features(&self) -> u64 {
        let half = |sel| {
            self.write(spec::VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
            u64::from(self.read(spec::VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(1) << 32 | half(0)
    }

    pub fn choose(&self, features: u64) {
        for (sel, half) in [(0, features), (1, features >> 32)] {
            self.write(spec::VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
            self.write(spec::VIRTIO_MMIO_DRIVER_FEATURES, (half & u64::from(u32::MAX)) as u32);
        }
    }

    /// Up to FEATURES_OK; false when the device does not keep it.
    pub fn negotiate(&self, features: u64) -> bool {
        self.set_status(ACKNOWLEDGE);
        self.set_status(DRIVER);
        self.choose(features);
        self.set_status(FEATURES_OK);
        self.status() == FEATURES_OK
    }

    /// Tells where a queue is, but not that it is ready.
    pub fn describe_queue(&self, index: u32) {
        self.write(spec::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(spec::VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE.into());
        let registers = [
            spec::VIRTIO_MMIO_QUEUE_DESC_LOW,
            spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
            spec::VIRTIO_MMIO_QUEUE_USED_LOW,
        ];
        for (register, address) in registers.into_iter().zip(addresses(index.into())) {
            self.write(register, u32::try_from(address).unwrap());
            self.write(register + 4, 0);
        }
    }

    /// Whether the queue becomes ready.
    pub fn ready_queue(&self, index: u32) -> bool {
        self.describe_queue(index);
        self.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
        self.read(spec::VIRTIO_MMIO_QUEUE_READY) == 1
    }

    /// All that a driver does before its first request (virtio 1.2 section 3.1.1).
    pub fn start(&self) {
        self.start_with(self.features());
    }

    pub fn start_with(&self, features: u64) {
        assert!(self.negotiate(features));
        let queues = u32::try_from(self.transport.queue_count()).unwrap();
        assert!((0..queues).all(|index| self.ready_queue(index)));
        self.set_status(DRIVER_OK);
        assert_eq!(self.status(), DRIVER_OK);
    }

    pub fn reset(&self) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
    }

    /// Reads why there was an interrupt and acknowledges it.
    pub fn acknowledge(&self) -> u32 {
        let reasons = self.read(spec::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.write(spec::VIRTIO_MMIO_INTERRUPT_ACK, reasons);
        reasons
    }
}

impl Carrier for Bus {
    fn kick(&mut self, drivers: &mut [&mut Driver]) {
        for queue in 0..drivers.len() {
            self.write(spec::VIRTIO_MMIO_QUEUE_NOTIFY, u32::try_from(queue).unwrap());
        }
    }
}
