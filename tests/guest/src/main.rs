//! A guest that is nothing but a driver of every device, well-behaved and hostile.
//!
//! It boots like a Linux kernel (PVH), on kiln's own VMM and on QEMU's `microvm`. Its command line names scenarios
//! (`scenario=block_read ...`) and, as for Linux, the devices (`virtio_mmio.device=SIZE@ADDRESS:IRQ`). It runs the
//! scenarios in that order and says of each on the serial port whether it passed, then `done`, and restarts
//! the machine, which is how one ends. What a scenario does outside the guest is for the host's side to look at.
//!
//! All Rust code runs in ring 3 (see `entry.s`), where it may use every port and all memory: memory is seen
//! where it is, so that a pointer is an address a device understands. Nothing is paged, nothing waits in a halt.
#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod clock;
mod heap;
mod interrupts;
mod memory_functions;
mod physical;
mod port;
mod power;
mod processors;
mod scenarios;
mod serial;
mod start_info;
mod virtio;

use start_info::StartInfo;

core::arch::global_asm!(include_str!("entry.s"), options(att_syntax));

/// Where `entry.s` ends, for each processor.
#[unsafe(no_mangle)]
extern "C" fn processor_main(number: usize) -> ! {
    if number != processors::FIRST {
        processors::work_for_the_first();
    }
    let start_info = StartInfo::of_this_machine();
    interrupts::install();
    apic::enable();
    scenarios::run(&start_info);
    println!("done");
    power::off();
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    power::off();
}

/// Named by the compiled standard library, whose panics would unwind; here they end the machine.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    power::off();
}
