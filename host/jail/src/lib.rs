//! Takes rights away from the processes and threads that a guest might take over.
//!
//! Who breaks out of a guest finds himself in a thread of the VMM. Two layers are there to make
//! that worthless, neither of which needs a privilege:
//!
//! - [`confine`], once for the process, before it has threads: what it holds is all it ever gets.
//!   No file can be opened by a path, no socket connected, no other process signalled or read
//!   ([Landlock](https://docs.kernel.org/userspace-api/landlock.html), where the kernel has it); no
//!   capability, limit or set-user-ID program gives anything back.
//! - [`Filter`], for each thread before it does the guest's bidding: a list of the
//!   [system calls](https://docs.kernel.org/userspace-api/seccomp_filter.html) that its work needs.
//!   Any other ends the process, which [`report_violations`] lets say by which it was.
//!
//! [`Ruleset`] is for a program that needs files of its own: QEMU.
//!
//! x86-64 and glibc only.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("the lists of system calls are for x86-64 Linux with glibc");

mod confine;
mod error;
mod filter;
mod ruleset;
mod sys;

pub use confine::{Limits, confine};
pub use error::Error;
pub use filter::{Condition, Filter, Rule, syscall_name};
pub use ruleset::{ChildRuleset, Landlock, Ruleset, landlock};
pub use sys::report_violations;
