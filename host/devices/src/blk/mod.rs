//! virtio-blk: a disk (virtio 1.2 section 5.2).

mod config;
mod execute;
mod request;

use crate::{Device, GuestMemoryMmap, RING_FEATURES, Ring, SECTOR_BYTES, Storage, feature};
use std::sync::Arc;
use virtio_bindings::virtio_blk as spec;
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

pub use request::SERIAL_BYTES;

const QUEUE_SIZE: u16 = 256;

/// How a disk presents itself.
#[derive(Debug, Clone, Default)]
pub struct BlkOptions {
    /// What the guest knows the disk by (`/sys/block/*/serial`); at most [`SERIAL_BYTES`] long,
    /// the rest is cut off.
    pub serial: String,
    /// The driver is told not to write, and writes fail.
    pub read_only: bool,
    /// Whether flushing is offered. Without, the guest takes every write as durable at once, so
    /// that its fsync costs nothing: right for disks that are thrown away.
    pub flush: bool,
}

/// The block device.
pub struct Blk {
    storage: Arc<dyn Storage>,
    options: BlkOptions,
    config: [u8; config::BYTES],
}

impl Blk {
    /// A disk over `storage`.
    pub fn new(storage: Arc<dyn Storage>, options: BlkOptions) -> Self {
        let config = config::build(storage.len() / SECTOR_BYTES, QUEUE_SIZE);
        Self { storage, options, config }
    }
}

impl Device for Blk {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        let always =
            RING_FEATURES | feature(spec::VIRTIO_BLK_F_SEG_MAX) | feature(spec::VIRTIO_BLK_F_BLK_SIZE);
        let writing = if self.options.read_only {
            feature(spec::VIRTIO_BLK_F_RO)
        } else {
            feature(spec::VIRTIO_BLK_F_DISCARD) | feature(spec::VIRTIO_BLK_F_WRITE_ZEROES)
        };
        let flush = if self.options.flush { feature(spec::VIRTIO_BLK_F_FLUSH) } else { 0 };
        always | writing | flush
    }

    fn accept_features(&mut self, _features: u64) {}

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn process(&mut self, memory: &GuestMemoryMmap, rings: &mut [Ring<'_>]) {
        let [ring] = rings else { return };
        let disk = execute::Disk { storage: &*self.storage, options: &self.options };
        ring.work(memory, |chain| disk.serve(chain));
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests;
