//! The micro-VM on KVM: one jailed process that boots a Linux kernel and serves its devices.

mod boot;
pub mod channel;
mod cpu;
mod failure;
mod layout;
mod memory;
mod probe;
