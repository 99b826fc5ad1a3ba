//! virtio-rng: random bytes of the host (virtio 1.2 section 5.4).

use crate::chain::Bytes;
use crate::{Device, GuestMemoryMmap, RING_FEATURES, Ring};
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

/// Most bytes given for one request; the driver asks again when it wants more. As many as the kernel
/// gives at once without being interrupted (`getrandom(2)`).
const REQUEST_BYTES_MAX: usize = 256;

/// The entropy device. It needs nothing but a system call: no file that might have to be opened.
#[derive(Debug, Default)]
pub struct Rng;

/// Fills the front of `room` with what the host's kernel gives; gives the number of bytes.
fn fill(room: &Bytes<'_>) -> Option<u32> {
    let mut bytes = [0; REQUEST_BYTES_MAX];
    let wanted = room.len().min(bytes.len());
    let count = getrandom(&mut bytes[..wanted], GetRandomFlags::empty()).ok()?;
    u32::try_from(room.copy_from(&bytes[..count])).ok()
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
        ring.work(memory, |chain| fill(&chain.writable));
    }

    fn reset(&mut self) {}
}
