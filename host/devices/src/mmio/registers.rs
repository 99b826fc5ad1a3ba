//! The registers that hold what the driver chose, until it takes effect.

use super::status;
use crate::{GuestMemoryMmap, Queue, feature};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio as spec;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::GuestAddress;

/// All of them; a reset makes new ones.
#[derive(Debug)]
pub(super) struct Registers {
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    /// The driver set a feature bit that has no place in `driver_features`.
    driver_features_beyond: bool,
    queue_sel: u32,
    queues: Vec<QueueRegisters>,
}

/// What the driver says of one queue, under the names of the specification.
#[derive(Debug, Default, Clone)]
pub(super) struct QueueRegisters {
    /// QueueNum, in descriptors. Whatever was written, sensible or not.
    num: u32,
    desc: u64,
    driver: u64,
    device: u64,
    /// QueueReady: the queue is in use, as it was when it became ready.
    pub ready: bool,
}

impl Registers {
    pub fn new(queues: usize) -> Self {
        Self {
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            driver_features_beyond: false,
            queue_sel: 0,
            queues: vec![QueueRegisters::default(); queues],
        }
    }

    /// The selected half of the `offered` features.
    pub fn device_features(&self, offered: u64) -> u32 {
        match self.device_features_sel {
            0 => low(offered),
            1 => high(offered),
            _ => 0,
        }
    }

    pub fn driver_features(&self) -> u64 {
        self.driver_features
    }

    /// Whether the driver took none but `offered` features, and the one we cannot do without.
    pub fn agrees(&self, offered: u64) -> bool {
        !self.driver_features_beyond
            && self.driver_features & !offered == 0
            && self.driver_features & feature(VIRTIO_F_VERSION_1) != 0
    }

    /// Index of the selected queue, if there is such a one.
    pub fn selected(&self) -> Option<usize> {
        usize::try_from(self.queue_sel).ok().filter(|index| *index < self.queues.len())
    }

    pub fn queue_mut(&mut self, index: usize) -> &mut QueueRegisters {
        &mut self.queues[index]
    }

    /// QueueReady of the selected queue.
    pub fn queue_ready(&self) -> bool {
        self.selected().is_some_and(|index| self.queues[index].ready)
    }

    /// The driver writes to one of these registers, which may not be the time for it.
    pub fn write(&mut self, status: u32, register: u32, value: u32) {
        match register {
            spec::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_sel = value,
            spec::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            spec::VIRTIO_MMIO_DRIVER_FEATURES if status::negotiates(status) => self.take_features(value),
            spec::VIRTIO_MMIO_QUEUE_SEL => self.queue_sel = value,
            _ if status::configures(status) => self.configure_queue(register, value),
            _ => {}
        }
    }

    fn take_features(&mut self, value: u32) {
        match self.driver_features_sel {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            _ => self.driver_features_beyond |= value != 0,
        }
    }

    fn configure_queue(&mut self, register: u32, value: u32) {
        let Some(queue) = self.selected().map(|index| &mut self.queues[index]) else { return };
        if !queue.ready {
            queue.write(register, value);
        }
    }

    /// The queue `index` as configured, if it can be used like that.
    pub fn build_queue(&self, index: usize, max_size: u16, memory: &GuestMemoryMmap) -> Option<Queue> {
        let event_idx = self.driver_features & feature(VIRTIO_RING_F_EVENT_IDX) != 0;
        self.queues[index].build(max_size, event_idx, memory)
    }
}

impl QueueRegisters {
    fn write(&mut self, register: u32, value: u32) {
        match register {
            spec::VIRTIO_MMIO_QUEUE_NUM => self.num = value,
            spec::VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut self.desc, value),
            spec::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut self.desc, value),
            spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut self.driver, value),
            spec::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut self.driver, value),
            spec::VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut self.device, value),
            spec::VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut self.device, value),
            _ => {}
        }
    }

    fn build(&self, max_size: u16, event_idx: bool, memory: &GuestMemoryMmap) -> Option<Queue> {
        // `Queue` takes an available ring at zero for one that was never set.
        if self.driver == 0 {
            return None;
        }
        let mut queue = Queue::new(max_size).ok()?;
        queue.try_set_size(u16::try_from(self.num).ok()?).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.desc)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.driver)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.device)).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue.is_valid(memory).then_some(queue)
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked")
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

fn set_low(whole: &mut u64, value: u32) {
    *whole = u64::from(high(*whole)) << 32 | u64::from(value);
}

fn set_high(whole: &mut u64, value: u32) {
    *whole = u64::from(value) << 32 | u64::from(low(*whole));
}
