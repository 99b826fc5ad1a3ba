//! Drivers: our own, which can do everything wrong, and `virtio-drivers`, which does everything right.
//!
//! Specification: [virtio 1.2](https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html).

mod hal;
mod mmio;
mod queue;
pub mod socket;

pub use hal::{Memory, transport};
pub use mmio::{Device, Location, register, status};
pub use queue::{Descriptor, INDIRECT, NEXT, Queue, Used, WRITE};

/// Device IDs (virtio 1.2 section 5).
pub const BLOCK: u32 = 2;
pub const ENTROPY: u32 = 4;
pub const SOCKET: u32 = 19;

/// Feature bits of every device (virtio 1.2 section 6).
pub const VERSION_1: u64 = 1 << 32;
pub const EVENT_IDX: u64 = 1 << 29;
pub const INDIRECT_DESC: u64 = 1 << 28;
