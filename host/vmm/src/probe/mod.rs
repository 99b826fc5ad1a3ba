//! Whether KVM can run Linux here: a tiny guest that tries what a kernel cannot do without.
//!
//! `/dev/kvm` may open and still be unfit. Where the host is a virtual machine without nested
//! virtualisation, a KVM may be offered that runs programs on the processor but a kernel in the
//! instruction emulator, which is slow and does not know all that Linux does at its start. So the guest
//! does it: it is put straight into long mode, with [tables](tables) for exceptions and for the switch
//! between rings, announces each [`Stage`](stage::Stage), and the first that fails is
//! the verdict's reason. At the end a loop in ring 0 is timed against the same loop in this process.

mod guest;
mod machine;
mod stage;
mod tables;
mod trial;
mod watchdog;

use crate::channel::Verdict;
use kvm_ioctls::Kvm;
use stage::Stages;
use std::time::{Duration, Instant};

/// A guest that works needs some milliseconds, one whose ring 0 is emulated half a second.
const TIME_MAX: Duration = Duration::from_secs(2);

/// From this factor on KVM is slow. On hardware the loop takes the same time in a guest, in a guest's guest
/// too, and the best of several rounds is not much disturbed by what else the host does; QEMU's
/// software emulation is about five times slower at such code. What is slower still has nothing for it.
const SLOW_FACTOR: u32 = 8;

/// Rounds of the loop on the host.
const NATIVE_ROUNDS: u32 = 5;

/// Finds out whether Linux can run on `kvm`. Takes milliseconds where it can, and at most some seconds.
pub fn probe(kvm: &Kvm) -> Verdict {
    match trial::run(kvm, Stages::KERNEL, TIME_MAX) {
        Ok(findings) => findings.loop_time.map_or(Verdict::Usable, |time| verdict(time, native_loop_time())),
        Err(reason) => Verdict::Unusable(reason),
    }
}

fn verdict(guest: Duration, native: Duration) -> Verdict {
    let factor = guest.as_nanos() / native.as_nanos().max(1);
    let factor = u32::try_from(factor).unwrap_or(u32::MAX);
    if factor < SLOW_FACTOR { Verdict::Usable } else { Verdict::Slow { factor } }
}

/// The best time of the loop in this process.
fn native_loop_time() -> Duration {
    let time = |_| {
        let begin = Instant::now();
        guest::run_natively();
        begin.elapsed()
    };
    (0..NATIVE_ROUNDS).map(time).min().unwrap_or_default()
}

#[cfg(test)]
mod tests;
