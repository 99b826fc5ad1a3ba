//! Registers of virtio-mmio, used as no driver should.

use super::block::Disk;
use super::{Machine, Outcome, Scenario, check};
use crate::clock;
use crate::physical::{self, Buffer};
use crate::println;
use crate::virtio::{Device, Location, Queue, VERSION_1, register, status};
use alloc::format;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("registers_identity", identity),
    ("registers_widths", widths),
    ("registers_all_written", all_written),
    ("registers_selectors", selectors),
    ("registers_notify", notify),
    ("registers_order", order),
    ("registers_features", features),
    ("queue_addresses", queue_addresses),
    ("queue_sizes", queue_sizes),
    ("queue_without_memory", queue_without_memory),
];

const QUEUE_SIZE: u16 = 64;
/// Above all memory, below the end of the address space.
const NOWHERE: u64 = 1 << 45;
/// The registers and a part of the configuration space.
const REGISTER_BYTES: u64 = 0x200;

fn works(machine: &Machine) -> Outcome {
    Disk::open(machine.disk()?, 0, QUEUE_SIZE)?.check()
}

/// Every device says what it is, whatever is written there.
fn identity(machine: &Machine) -> Outcome {
    for location in machine.all() {
        let read =
            || [register::MAGIC_VALUE, register::VERSION, register::DEVICE_ID].map(|at| location.read(at));
        let before = read();
        (0..0x10).step_by(4).for_each(|at| location.write(at, !0));
        check(before == read() && before[0] == 0x7472_6976 && before[1] == 2, || format!("{before:x?}"))?;
        check(before[2] != 0, || format!("nothing at {:#x}", location.address))?;
    }
    Ok(())
}

/// Reads and writes of every width at every place, also over the ends of registers and of the device.
fn widths(machine: &Machine) -> Outcome {
    let disk = Disk::open(machine.disk()?, 0, QUEUE_SIZE)?;
    let Location { address, bytes, .. } = disk.device.location;
    for at in (address..address + REGISTER_BYTES.min(bytes as u64)).step_by(2) {
        physical::read::<u8>(at + 1);
        physical::read::<u16>(at);
    }
    for at in (address..address + REGISTER_BYTES.min(bytes as u64)).step_by(8) {
        physical::read::<u64>(at);
    }
    for at in [register::STATUS + 2, register::QUEUE_NOTIFY - 3, bytes as u64 - 4, bytes as u64 - 1] {
        physical::touch_u64(address + at, 0x0101_0101_0101_0101);
    }
    for register in [register::QUEUE_NOTIFY, register::STATUS, register::QUEUE_READY, register::CONFIG] {
        physical::write::<u8>(address + register, 1);
        physical::write::<u16>(address + register, 0x101);
        physical::write::<u64>(address + (register & !7), 0);
    }
    works(machine)
}

/// All ones into every register, then all zeroes, word by word and in one instruction.
fn all_written(machine: &Machine) -> Outcome {
    for value in [!0, 0] {
        let disk = Disk::open(machine.disk()?, 0, QUEUE_SIZE)?;
        for at in (0..REGISTER_BYTES).step_by(4) {
            disk.device.location.write(at, value);
        }
        works(machine)?;
        let disk = Disk::open(machine.disk()?, 0, QUEUE_SIZE)?;
        let window = Buffer { address: disk.device.location.address, bytes: REGISTER_BYTES as usize };
        window.fill(value as u8);
        works(machine)?;
    }
    Ok(())
}

/// Queues and features that do not exist.
fn selectors(machine: &Machine) -> Outcome {
    let device = Device::prepare(machine.disk()?, 0)?;
    for queue in [1, 77, u32::MAX] {
        device.select_queue(queue);
        let max = device.location.read(register::QUEUE_NUM_MAX);
        let ready = device.location.read(register::QUEUE_READY);
        check((max, ready) == (0, 0), || format!("queue {queue} has {max} descriptors, ready {ready}"))?;
        device.place_queue(8, [0x10_0000; 3]);
    }
    for word in [2, 1000, u32::MAX] {
        device.location.write(register::DEVICE_FEATURES_SEL, word);
        let features = device.location.read(register::DEVICE_FEATURES);
        check(features == 0, || format!("features {features:#x} in word {word}"))?;
    }
    works(machine)
}

/// Queues that do not exist, a device that is not started, and again and again.
fn notify(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, 0, QUEUE_SIZE)?;
    for queue in [1, 2, 77, 0x1_0000, u32::MAX] {
        disk.device.notify(queue);
    }
    disk.check()?;
    (0..100).for_each(|_| disk.device.notify(0));
    disk.check()?;
    disk.device.location.reset()?;
    disk.device.notify(0);
    let device = Device::prepare(machine.disk()?, 0)?;
    device.queue(0, QUEUE_SIZE)?;
    device.notify(0);
    works(machine)
}

/// Steps of the start left out, or taken in another order.
fn order(machine: &Machine) -> Outcome {
    let location = machine.disk()?;
    for status in [status::DRIVER_OK, 0x0f, 0xff, status::NEEDS_RESET, u32::MAX] {
        location.reset()?;
        location.write(register::STATUS, status);
        location.write(register::QUEUE_NOTIFY, 0);
        println!("note status {status:#x}: becomes {:#x}", location.status());
        works(machine)?;
    }
    Ok(())
}

/// A feature that is not offered is not accepted, and neither is a driver without version 1.
fn features(machine: &Machine) -> Outcome {
    let location = machine.disk()?;
    let offered = location.features();
    let not_offered = 1 << 37 | VERSION_1;
    check(offered & VERSION_1 != 0 && offered & (1 << 37) == 0, || format!("features {offered:#x}"))?;
    for accepted in [not_offered, 0] {
        location.reset()?;
        location.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for (index, word) in [(0, accepted as u32), (1, (accepted >> 32) as u32)] {
            location.write(register::DRIVER_FEATURES_SEL, index);
            location.write(register::DRIVER_FEATURES, word);
        }
        location.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        let refused = location.status() & status::FEATURES_OK == 0;
        check(refused, || format!("features {accepted:#x} are accepted"))?;
    }
    works(machine)
}

/// Queues outside memory, over its end, or not aligned.
fn queue_addresses(machine: &Machine) -> Outcome {
    let end = machine.memory_end;
    for bad in [NOWHERE, u64::MAX, u64::MAX - 4095, end, end - 16, 1, machine.disk()?.address] {
        for part in 0..3 {
            let mut addresses = Queue::new(QUEUE_SIZE).addresses();
            addresses[part] = bad;
            bad_queue(machine, u32::from(QUEUE_SIZE), addresses)
                .map_err(|why| format!("part {part} at {bad:#x}: {why}"))?;
        }
    }
    Ok(())
}

/// Queues larger than they may be, or not of a power of two.
fn queue_sizes(machine: &Machine) -> Outcome {
    for size in [0, 3, 257, 512, 32768, 65535, 0x1_0000, u32::MAX] {
        let addresses = Queue::new(QUEUE_SIZE).addresses();
        bad_queue(machine, size, addresses).map_err(|why| format!("size {size}: {why}"))?;
    }
    Ok(())
}

/// Queues that are ready before they are anywhere.
fn queue_without_memory(machine: &Machine) -> Outcome {
    let device = Device::prepare(machine.disk()?, 0)?;
    device.select_queue(0);
    device.location.write(register::QUEUE_READY, 1);
    device.start();
    device.notify(0);
    clock::pause();
    works(machine)
}

fn bad_queue(machine: &Machine, size: u32, addresses: [u64; 3]) -> Outcome {
    let device = Device::prepare(machine.disk()?, 0)?;
    device.select_queue(0);
    device.place_queue(size, addresses);
    device.start();
    device.notify(0);
    clock::soon(|| device.needs_reset().then_some(()));
    works(machine)
}
