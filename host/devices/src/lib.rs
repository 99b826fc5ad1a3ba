//! virtio devices over any guest memory: blk, vsock and rng.
//!
//! Nothing here knows KVM or QEMU. A [`Device`] is what the
//! [virtio 1.2 specification](https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html)
//! leaves when the transport is taken away: feature bits, configuration space, queues, reset. A
//! transport (virtio-mmio in our own VMM, vhost-user under QEMU) owns the [`Queue`]s, tells the
//! device when there may be work, and turns an [`Interrupt`] into whatever its driver listens to.
//!
//! | threat | answer |
//! |---|---|
//! | descriptors that point outside memory, loop or are cut short | the chain is refused as a whole (`chain.rs`), the device goes on |
//! | lengths that do not fit | checked arithmetic; nothing is allocated by a length of the guest |
//! | a guest that sends more than its vsock credit | the connection is reset |
//! | a guest that opens many connections or asks for many answers | both are bounded |
//! | registers written out of turn, with values that cannot be, in other sizes | ignored; a queue that cannot be never becomes ready (`mmio`) |
//! | a queue that claims more chains than it holds, or whose chains cannot be handed back | the device needs a reset and leaves all queues alone until then |
//! | requests outside the disk, writes to a read-only disk | `VIRTIO_BLK_S_IOERR` |
//!
//! Assumed: memory is mapped for as long as the device is used, and not shrunk behind our back.

mod blk;
mod chain;
#[cfg(test)]
mod corpus;
mod iovec;
pub mod mmio;
#[cfg(test)]
mod mock;
mod ring;
mod rng;
mod storage;
mod vsock;

use std::io;
use std::os::fd::BorrowedFd;

pub use blk::{Blk, BlkOptions, SERIAL_BYTES};
pub use ring::Ring;
pub use rng::Rng;
use storage::SECTOR_BYTES;
pub use storage::{ComposedStorage, FileStorage, Segment, Storage};
pub use virtio_queue::Queue;
pub use vm_memory::GuestMemoryMmap;
pub use vsock::{Listener, Vsock};

/// Tells the driver that a queue has used buffers.
pub trait Interrupt {
    /// Called at most once per queue and [`Device::process`].
    ///
    /// # Errors
    /// When the transport cannot deliver it; the device carries on.
    fn trigger(&self) -> io::Result<()>;
}

/// A virtio device without its transport.
pub trait Device: Send {
    /// The device type ("device ID", virtio 1.2 section 5).
    fn device_type(&self) -> u32;

    /// Greatest size of each queue, in descriptors; its length is the number of queues.
    fn queue_sizes(&self) -> &'static [u16];

    /// Feature bits offered to the driver, ring and transport features included.
    fn features(&self) -> u64;

    /// Feature bits the driver accepted, a part of the offered ones.
    fn accept_features(&mut self, features: u64);

    /// The configuration space. Reading behind its end gives zeroes.
    fn config(&self) -> &[u8];

    /// Does all that can be done now: works through what the driver made available in `rings` and
    /// what came from outside. `rings` has one entry per queue, in the order of the specification.
    fn process(&mut self, memory: &GuestMemoryMmap, rings: &mut [Ring<'_>]);

    /// A descriptor that polls as readable when there is work from outside, if there can be any.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Back to the state before the driver came.
    fn reset(&mut self);

    /// The machine has ended. What its driver said last is still passed on, and then whoever
    /// listens learns that no more will come.
    fn driver_gone(&mut self) {}

    /// Whether it holds something of the driver's that nobody outside has taken yet.
    fn has_unsent(&self) -> bool {
        false
    }
}

/// Features of the ring format that every device here offers.
const RING_FEATURES: u64 = feature(virtio_bindings::virtio_config::VIRTIO_F_VERSION_1)
    | feature(virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC)
    | feature(virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX);

const fn feature(bit: u32) -> u64 {
    1 << bit
}
