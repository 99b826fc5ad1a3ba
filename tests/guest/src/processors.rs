//! The second processor: started when a scenario wants it, given one piece of work at a time.

use crate::scenarios::{Machine, Outcome};
use crate::{apic, clock, physical};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Number of the processor that everything runs on unless said otherwise, as `entry.s` counts.
pub const FIRST: usize = 0;

/// A page below one mebibyte that no machine uses once the kernel runs: where the second processor starts.
const TRAMPOLINE: u64 = 0x8000;

/// What either processor does.
pub type Work = fn(&Machine) -> Outcome;

/// What the second processor is to do now.
static ORDER: AtomicPtr<Order> = AtomicPtr::new(ptr::null_mut());
/// The second processor is up.
static STARTED: AtomicBool = AtomicBool::new(false);

struct Order {
    work: Work,
    machine: *const Machine,
    outcome: UnsafeCell<Outcome>,
    done: AtomicBool,
}

unsafe extern "C" {
    /// In `entry.s`. Only their addresses are of interest.
    static trampoline: u8;
    static trampoline_end: u8;
}

/// Has both processors work, and waits for both.
pub fn alongside(machine: &Machine, first: Work, second: Work) -> Outcome {
    start_second()?;
    let order =
        Order { work: second, machine, outcome: UnsafeCell::new(Ok(())), done: AtomicBool::new(false) };
    // It stays until the scenario is over, also when nobody waits for it any more.
    let order: &Order = Box::leak(Box::new(order));
    ORDER.store(ptr::from_ref(order).cast_mut(), Ordering::SeqCst);
    first(machine)?;
    let done = || order.done.load(Ordering::SeqCst).then_some(());
    clock::wait_for("the second processor's work", done)?;
    // SAFETY: the second processor is through with it.
    unsafe { (*order.outcome.get()).clone() }
}

/// Starts the second processor, unless that was done.
fn start_second() -> Outcome {
    let started = || STARTED.load(Ordering::SeqCst).then_some(());
    if started().is_some() {
        return Ok(());
    }
    let start = (&raw const trampoline).addr() as u64;
    let length = (&raw const trampoline_end).addr() as u64 - start;
    (0..length).for_each(|index| physical::write::<u8>(TRAMPOLINE + index, physical::read(start + index)));
    // The machine numbers its processors from zero, and this is the first.
    apic::start_processor(1, TRAMPOLINE);
    clock::wait_for("the second processor", started)
}

/// What the second processor does all day.
pub fn work_for_the_first() -> ! {
    apic::enable_local();
    STARTED.store(true, Ordering::SeqCst);
    loop {
        let order = ORDER.swap(ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: `alongside` put it there and leaves it alone until it is done.
        match unsafe { order.as_ref() } {
            None => core::hint::spin_loop(),
            Some(order) => obey(order),
        }
    }
}

fn obey(order: &Order) {
    // SAFETY: the scenario that gave the order has borrowed the machine.
    let outcome = (order.work)(unsafe { &*order.machine });
    // SAFETY: nobody else looks before it is done.
    unsafe { *order.outcome.get() = outcome };
    order.done.store(true, Ordering::SeqCst);
}
