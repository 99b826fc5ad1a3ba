//! How fast the host's time stamp counter counts.
//!
//! Under emulation `rdtsc` in the guest is `rdtsc` of the host, so this is the guest's rate, too.
#![allow(unsafe_code)] // For the one instruction.

use std::thread;
use std::time::{Duration, Instant};

/// Two readings of both clocks this far apart agree to a few parts in a hundred thousand.
const SPAN: Duration = Duration::from_millis(5);

/// A measurement that goes on in the background, as it is only two points in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    started: Instant,
    ticks: Option<u64>,
}

impl Measurement {
    pub fn start() -> Self {
        Self { ticks: ticks(), started: Instant::now() }
    }

    /// Thousands of ticks per second. Waits if it was only just started.
    pub fn finish_khz(&self) -> Option<u64> {
        thread::sleep(SPAN.saturating_sub(self.started.elapsed()));
        let passed = ticks()?.checked_sub(self.ticks?)?;
        let nanoseconds = self.started.elapsed().as_nanos();
        u64::try_from(u128::from(passed) * 1_000_000 / nanoseconds).ok()
    }
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> Option<u64> {
    // SAFETY: every x86-64 processor has the instruction, and user programs may use it: where the
    // kernel forbids it, C programs of every distribution fail, too.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

/// QEMU on other processors makes up a counter of its own.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let khz = || Measurement::start().finish_khz().unwrap();
        let (first, second) = (khz(), khz());
        assert!(first.abs_diff(second) < first / 100, "{first} kHz, then {second} kHz");
    }
}
