//! What is fuzzed: each module plays the inputs of the target of its name, and panics when what must always hold
//! does not. `docs/fuzzing.md` says what that is.

pub mod agent_protocol;
pub mod block;
pub mod board;
#[cfg(fuzzing)]
pub mod channel;
pub mod disk_format;
pub mod document;
pub mod erofs;
#[cfg(fuzzing)]
pub mod kernel;
pub mod layer;
pub mod mmio;
#[cfg(test)]
mod seed;
pub mod vsock;
