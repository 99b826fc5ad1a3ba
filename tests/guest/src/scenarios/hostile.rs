//! Accesses to places where nothing is, which must not end the machine.

use super::block::Disk;
use super::{Machine, Outcome, Scenario, check};
use crate::{physical, port, println};
use alloc::format;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("nowhere_memory", memory),
    ("nowhere_ports", ports),
    ("ports_read", ports_read),
    ("ports_string", string),
];

/// Ports that no machine of ours has. A write to some others would do something.
const NO_PORTS: [u16; 9] = [0x80, 0x170, 0x1f0, 0x278, 0x2e8, 0x3e8, 0x600, 0xb000, 0xffff];

/// Between memory and devices, between devices, around the interrupt controllers.
fn memory(machine: &Machine) -> Outcome {
    let last = machine.all().iter().map(|location| location.address + location.bytes as u64).max();
    let first = machine.all().iter().map(|location| location.address).min();
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let places =
        [machine.memory_end, 0xc000_0000, first - 0x1_0000, last + 0x1_0000, 0xfed0_1000, 0xfe00_0ff9];
    for at in places {
        physical::write::<u8>(at, 0xff);
        physical::write::<u16>(at, 0xffff);
        physical::write::<u32>(at, 0xffff_ffff);
        physical::write::<u64>(at, 0);
        physical::read::<u8>(at);
        physical::read::<u16>(at);
        physical::read::<u32>(at);
        physical::read::<u64>(at);
    }
    works(machine)
}

/// Every width, both ways.
fn ports(machine: &Machine) -> Outcome {
    for at in NO_PORTS {
        port::write_u8(at, 0xff);
        port::read_u8(at);
        // What is wider goes into the next ones, which must not be a device either.
        if at < 0xfffd {
            port::write_u16(at, 0xffff);
            port::write_u32(at, 0xffff_ffff);
            port::read_u16(at);
            port::read_u32(at);
        }
    }
    works(machine)
}

/// Every port there is can be read.
fn ports_read(machine: &Machine) -> Outcome {
    (0..=0x1000).for_each(|at| _ = port::read_u8(at));
    (0x1001..0xffff).step_by(251).for_each(|at| _ = port::read_u8(at));
    (0..0x400).step_by(4).for_each(|at| _ = port::read_u32(at));
    works(machine)
}

/// Many bytes with one instruction: to the serial port, whose host must not take them for one byte.
fn string(machine: &Machine) -> Outcome {
    let mut status = [0; 64];
    port::read_many(0x3fd, &mut status);
    check(status.iter().all(|byte| byte & 0x20 != 0), || format!("{status:?}"))?;
    println!("note line status {:#x}, in a string {:#x}", port::read_u8(0x3fd), status[0]);
    port::write_many(0x3f8, b"note a string in one instruction\n");
    works(machine)
}

fn works(machine: &Machine) -> Outcome {
    Disk::open(machine.disk()?, 0, 64)?.check()
}
