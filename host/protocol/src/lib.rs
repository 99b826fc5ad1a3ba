//! What the host and the guest agent say to each other: bytes in, messages out, no I/O.
//!
//! One vsock connection, opened by the agent to [`HOST_CID`]:[`AGENT_PORT`], carries everything:
//!
//! ```text
//! agent                         host
//!   Hello            ->
//!                    <-         Job
//!   StepStarted, Output, StepEnded ... ->      (Stdin, StdinEnd <- while a step that wants it runs)
//!   Layer(Entry, Data, Zeroes ...), ...  ->      when the job asks for the layer
//!   Done | Failed    ->
//! ```
//!
//! A message travels as a frame: its length in bytes as a little-endian `u32`, then the message in
//! [postcard](https://postcard.jamesmunns.com/wire-format) encoding. The two sides are built
//! together; [`VERSION`] catches a stale agent.
//!
//! The host treats every guest byte as hostile. This crate bounds every length before it allocates;
//! what a *valid* message means (an entry's path, its order) is checked by who uses it.

mod frame;
mod job;
mod layer;
mod report;

pub use frame::{Decoder, Error, MAX_FRAME, encode, encode_start};
pub use job::{FromHost, Job, Program, Stage, Step, Target, TargetMount};
pub use layer::{EntryKind, LayerEntry, LayerRecord};
pub use report::{Ending, FromGuest, GuestFailure, ScratchUsage, StepReport, Stream};

/// Raised with every change to a message. Host and agent of different versions refuse each other.
pub const VERSION: u32 = 2;

/// The vsock port on the host that the agent connects to.
pub const AGENT_PORT: u32 = 1024;

/// The well-known vsock address of the host
/// ([vsock(7)](https://man7.org/linux/man-pages/man7/vsock.7.html), `VMADDR_CID_HOST`).
pub const HOST_CID: u32 = 2;

/// Most bytes of output or file data that a sender puts into one message.
pub const MAX_DATA: usize = 256 * 1024;
