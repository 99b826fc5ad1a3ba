//! Ending the machine.

use crate::{interrupts, port};
use core::arch::asm;

/// The keyboard controller's command register, and the command that pulls the processor's reset line.
const I8042_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// Restarts the machine, by which it ends.
pub fn off() -> ! {
    port::write_u8(I8042_COMMAND, PULSE_RESET);
    // QEMU's microvm has no such controller.
    triple_fault()
}

/// An exception that cannot be delivered, and neither can the one about that.
pub fn triple_fault() -> ! {
    interrupts::forget_all();
    // SAFETY: it does not return.
    unsafe { asm!("ud2", options(noreturn)) }
}
