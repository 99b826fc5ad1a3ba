//! What happens at interrupts and exceptions.
//!
//! The entries themselves are in `entry.s`: they run in ring 0. An interrupt is counted, an exception ends the
//! machine with a report from ring 3.

use crate::{physical, power, println};

/// Inputs of the I/O APIC.
pub const INTERRUPT_COUNT: u32 = 24;
/// Vector of input 0.
pub const INTERRUPT_VECTOR: u8 = 0x30;
/// Vector of interrupts that were no more when they were asked about.
pub const SPURIOUS_VECTOR: u8 = 0xff;

const EXCEPTION_COUNT: u32 = 32;

/// Selector of ring 0's code, as in `entry.s`.
const KERNEL_CODE: u64 = 0x18;
/// A 64-bit interrupt gate, present, for ring 0 only: the type and attributes of an entry.
const INTERRUPT_GATE: u64 = 0x8e00;

unsafe extern "C" {
    /// In `entry.s`. Only their addresses are of interest.
    static interrupt_table: u8;
    static interrupt_entries: u64;
    static exception_entries: u64;
    static interrupt_counts: u32;
    fn spurious_entry();
}

/// Sets all vectors up. Until the APICs are set up, no interrupt comes.
pub fn install() {
    for number in 0..EXCEPTION_COUNT {
        set_gate(number, physical::read(address(&raw const exception_entries) + 8 * u64::from(number)));
    }
    for number in 0..INTERRUPT_COUNT {
        let entry = physical::read(address(&raw const interrupt_entries) + 8 * u64::from(number));
        set_gate(u32::from(INTERRUPT_VECTOR) + number, entry);
    }
    set_gate(u32::from(SPURIOUS_VECTOR), spurious_entry as *const () as u64);
}

/// How often input `irq` of the I/O APIC has interrupted.
pub fn count(irq: u32) -> u32 {
    physical::read(address(&raw const interrupt_counts) + 4 * u64::from(irq))
}

/// No vector leads anywhere any more.
pub fn forget_all() {
    (0..256).for_each(|vector| write_gate(vector, 0, 0));
}

fn set_gate(vector: u32, entry: u64) {
    let low = entry & 0xffff | KERNEL_CODE << 16 | INTERRUPT_GATE << 32 | (entry >> 16 & 0xffff) << 48;
    write_gate(vector, low, entry >> 32);
}

fn write_gate(vector: u32, low: u64, high: u64) {
    let gate = address(&raw const interrupt_table) + 16 * u64::from(vector);
    physical::write(gate, low);
    physical::write(gate + 8, high);
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// Where `entry.s` goes on after an exception, in ring 3.
#[unsafe(no_mangle)]
extern "C" fn exception_report(vector: u64, error: u64, instruction: u64, address: u64) -> ! {
    println!("panic: exception {vector}, error {error:#x}, at {instruction:#x}, address {address:#x}");
    power::off();
}
