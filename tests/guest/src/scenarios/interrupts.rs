//! Interrupts: as many as there should be.

use super::block::{Disk, SECTOR_BYTES, request};
use super::{Machine, Outcome, Scenario, check};
use crate::physical::Buffer;
use crate::virtio::{Descriptor, EVENT_IDX, Location, register};
use crate::{clock, interrupts};
use alloc::format;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("interrupt_per_batch", one_per_batch),
    ("interrupt_suppressed", suppressed),
    ("interrupt_event_index", event_index),
    ("interrupt_when_broken", when_broken),
];

const BATCH: u16 = 8;

/// The bit of the interrupt status that is not for used buffers.
const CONFIGURATION: u32 = 2;

impl Disk {
    /// Makes a batch of reads available, notifies once, waits for all; they cause so many interrupts.
    fn batch(&mut self, expected: u32) -> Outcome {
        let before = self.device.interrupts();
        let data = Buffer::new(SECTOR_BYTES);
        for _ in 0..BATCH {
            let read =
                [self.header(request::IN, 0), Descriptor::writable(data.address, data.bytes), self.status()];
            self.queue.offer(&read);
        }
        self.device.notify(0);
        for _ in 0..BATCH {
            self.queue.wait_used()?;
        }
        // Looked for in memory: the device is not to be disturbed.
        let caused = || interrupts::count(self.device.location.irq) - before;
        clock::wait_for("an interrupt", || (caused() >= expected).then_some(()))?;
        clock::pause();
        let caused = caused();
        check(caused == expected, || format!("{caused} interrupts instead of {expected}"))
    }
}

/// Each batch is worth one.
fn one_per_batch(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, 0, 64)?;
    (0..4).try_for_each(|_| disk.batch(1))
}

/// Who wants none gets none.
fn suppressed(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, 0, 64)?;
    for (suppressed, expected) in [(true, 0), (false, 1), (true, 0)] {
        disk.queue.suppress_interrupts(suppressed);
        disk.batch(expected)?;
    }
    Ok(())
}

/// With an event index, there is one when that is passed.
fn event_index(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, EVENT_IDX, 64)?;
    let mut done = 0_u16;
    for (after, expected) in [(0, 1), (3, 1), (BATCH - 1, 1), (BATCH, 0), (u16::MAX, 0), (1000, 0), (2, 1)] {
        disk.queue.interrupt_after(done.wrapping_add(after));
        disk.batch(expected).map_err(|why| format!("{why} at {after} of {BATCH}"))?;
        done += BATCH;
    }
    Ok(())
}

/// A device that has to be reset says so, as a change of configuration (virtio 1.2 section 2.1.2).
fn when_broken(machine: &Machine) -> Outcome {
    let disk = Disk::open(machine.disk()?, 0, 64)?;
    let Location { irq, .. } = disk.device.location;
    let before = interrupts::count(irq);
    disk.queue.claim_available(1000);
    disk.device.notify(0);
    clock::wait_for("an interrupt", || (interrupts::count(irq) > before).then_some(()))?;
    let cause = disk.device.location.read(register::INTERRUPT_STATUS);
    check(disk.device.needs_reset() && cause & CONFIGURATION != 0, || format!("cause {cause:#x}"))?;
    disk.device.interrupts();
    Disk::open(machine.disk()?, 0, 64)?.check()
}
