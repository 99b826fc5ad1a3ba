//! virtio-rng: random bytes of the host (virtio 1.2 section 5.4).

use crate::{Device, GuestMemoryMmap, RING_FEATURES, Ring, iovec};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

/// Most bytes given for one request; the driver asks again when it wants more.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The entropy device.
#[derive(Debug)]
pub struct Rng {
    source: File,
}

impl Rng {
    /// A device that passes on the kernel's random bytes.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self { source: File::open("/dev/urandom")? })
    }
}

impl Device for Rng {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn accept_features(&mut self, _features: u64) {}

    fn config(&self) -> &[u8] {
        &[]
    }

    fn process(&mut self, memory: &GuestMemoryMmap, rings: &mut [Ring<'_>]) {
        let [ring] = rings else { return };
        ring.work(memory, |chain| {
            let count = chain.writable.len().min(REQUEST_BYTES_MAX);
            let room = chain.writable.split_to(count)?;
            let read = iovec::readv(self.source.as_fd(), room.slices()).unwrap_or(0);
            u32::try_from(read).ok()
        });
    }

    fn reset(&mut self) {}
}
