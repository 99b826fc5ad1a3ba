//! The interrupt controllers: the processors' local APICs and the I/O APIC, at their power-on addresses
//! (Intel SDM volume 3, chapter 12; 82093AA I/O APIC).

use crate::interrupts::{INTERRUPT_COUNT, INTERRUPT_VECTOR, SPURIOUS_VECTOR};
use crate::{clock, physical};

const LOCAL_APIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;

/// Registers of the local APIC.
const ID: u64 = 0x20;
const SPURIOUS_INTERRUPT: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;

const SOFTWARE_ENABLE: u32 = 1 << 8;
/// Interrupt commands: to the other processors, with the level asserted.
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;

/// The I/O APIC's window: index, data. Each input has two registers from this index on.
const INDEX: u64 = 0;
const DATA: u64 = 0x10;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;

/// Lets interrupts of every input of the I/O APIC through to this processor, as edges.
pub fn enable() {
    enable_local();
    let this: u32 = physical::read(LOCAL_APIC + ID);
    for input in 0..INTERRUPT_COUNT {
        // The timer's line would only disturb.
        let masked = if input == 0 || input == 2 { MASKED } else { 0 };
        redirect(input, masked | (u32::from(INTERRUPT_VECTOR) + input), this);
    }
}

/// Enables the local APIC of the processor it is called on.
pub fn enable_local() {
    physical::write(LOCAL_APIC + SPURIOUS_INTERRUPT, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// Starts the processor of this number in real mode at `page`, below one mebibyte: INIT, STARTUP, STARTUP.
pub fn start_processor(id: u32, page: u64) {
    let vector = (page >> 12) as u32;
    for command in [INIT, STARTUP | vector, STARTUP | vector] {
        physical::write(LOCAL_APIC + COMMAND_HIGH, id << 24);
        physical::write(LOCAL_APIC + COMMAND_LOW, command);
        clock::pause();
    }
}

fn redirect(input: u32, low: u32, high: u32) {
    for (index, value) in [(1, high), (0, low)] {
        physical::write(IO_APIC + INDEX, REDIRECTION + 2 * input + index);
        physical::write(IO_APIC + DATA, value);
    }
}
