//! A real registry for tests, and a proxy that breaks what passes through it.
//!
//! [`Registry`] is Debian's `docker-registry` on the loopback interface, plain or with TLS and passwords, in a directory of its own; it
//! ends with the test. [`Proxy`] stands in front of a plain one and does to its answers what networks and servers do.

mod proxy;
mod registry;

pub use proxy::{Action, Proxy, Rule, Seen};
pub use registry::{Options, Registry};
