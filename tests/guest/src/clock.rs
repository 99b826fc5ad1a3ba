//! Waiting, but not for ever. There is no clock that all machines have but the time stamp counter.

use alloc::string::String;
use core::arch::x86_64::_rdtsc;

/// Eight seconds or more on every processor. What is awaited comes in milliseconds unless the host is very
/// busy; the host's own deadline is later.
const PATIENCE_CYCLES: u64 = 40_000_000_000;

/// Some tens of milliseconds: long enough for a device to have done what it will do.
const PAUSE_CYCLES: u64 = 100_000_000;

/// Cycles of the time stamp counter.
fn now() -> u64 {
    // SAFETY: allowed in ring 3 as CR4.TSD is clear.
    unsafe { _rdtsc() }
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    within(PATIENCE_CYCLES, ask).ok_or_else(|| alloc::format!("waited in vain for {what}"))
}

/// Asks until there is an answer, for a moment only.
pub fn soon<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    within(PAUSE_CYCLES, ask)
}

/// Lets a moment pass.
pub fn pause() {
    soon(|| None::<()>);
}

fn within<T>(cycles: u64, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if now().wrapping_sub(start) > cycles {
            return None;
        }
        core::hint::spin_loop();
    }
}
