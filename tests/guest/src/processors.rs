//! The second processor: started when a scenario wants it, given one piece of work at a time.

use crate::{apic, clock, physical};
use alloc::string::String;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Number of the processor that everything runs on unless said otherwise, as `entry.s` counts.
pub const FIRST: usize = 0;

/// A page below one mebibyte that no machine uses once the kernel runs: where the second processor starts.
const TRAMPOLINE: u64 = 0x8000;

/// What the second processor is to do: a `fn()`, or nothing.
static WORK: AtomicUsize = AtomicUsize::new(0);
/// The second processor is up.
static STARTED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// In `entry.s`. Only their addresses are of interest.
    static trampoline: u8;
    static trampoline_end: u8;
}

/// Starts the second processor, unless that was done.
pub fn start_second() -> Result<(), String> {
    if STARTED.load(Ordering::SeqCst) != 0 {
        return Ok(());
    }
    let start = (&raw const trampoline).addr() as u64;
    let length = (&raw const trampoline_end).addr() as u64 - start;
    (0..length).for_each(|index| physical::write::<u8>(TRAMPOLINE + index, physical::read(start + index)));
    apic::start_processor(1 - apic::local_id().min(1), TRAMPOLINE);
    clock::wait_for("the second processor", || (STARTED.load(Ordering::SeqCst) != 0).then_some(()))
}

/// Has the second processor call `work`, meanwhile.
pub fn on_second(work: fn()) {
    WORK.store(work as usize, Ordering::SeqCst);
}

/// Waits until it is through with that.
pub fn wait_for_second() -> Result<(), String> {
    clock::wait_for("the second processor's work", || (WORK.load(Ordering::SeqCst) == 0).then_some(()))
}

/// What the second processor does all day.
pub fn work_for_the_first() -> ! {
    apic::enable_local();
    STARTED.store(1, Ordering::SeqCst);
    loop {
        match WORK.load(Ordering::SeqCst) {
            0 => core::hint::spin_loop(),
            work => {
                // SAFETY: nothing else is ever stored there.
                let work = unsafe { core::mem::transmute::<usize, fn()>(work) };
                work();
                WORK.store(0, Ordering::SeqCst);
            }
        }
    }
}
