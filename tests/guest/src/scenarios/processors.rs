//! Two processors.

use super::block::{Disk, request};
use super::{Machine, Outcome, Scenario, check};
use crate::virtio::{Location, register};
use crate::{clock, processors};
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering};

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("processors_at_once", at_once),
    ("processors_drive_devices", drive_devices),
    ("processors_fight_over_a_device", fight),
];

/// How often the ball goes from one to the other.
const ROUNDS: u32 = 1000;

/// Odd numbers are the first processor's turn, even ones the second's.
static BALL: AtomicU32 = AtomicU32::new(0);

/// Both run at the same time: each waits for the other.
fn at_once(machine: &Machine) -> Outcome {
    BALL.store(0, Ordering::SeqCst);
    processors::alongside(machine, |_| play(0), |_| play(1))?;
    let ball = BALL.load(Ordering::SeqCst);
    check(ball == 2 * ROUNDS, || alloc::format!("the ball went {ball} times"))
}

fn play(turn: u32) -> Outcome {
    for round in 0..ROUNDS {
        let mine = 2 * round + turn;
        clock::wait_for("the other processor", || {
            BALL.compare_exchange(mine, mine + 1, Ordering::SeqCst, Ordering::SeqCst).ok()
        })?;
    }
    Ok(())
}

/// Each has a disk to itself, at the same time.
fn drive_devices(machine: &Machine) -> Outcome {
    processors::alongside(
        machine,
        |machine| read_many(machine.disk()?),
        |machine| read_many(machine.read_only_disk()?),
    )
}

fn read_many(location: Location) -> Result<(), String> {
    let mut disk = Disk::open(location, 0, 64)?;
    (0..100).try_for_each(|_| disk.check())
}

/// One drives a disk, and the other disturbs it all the time, until both are through with that.
fn fight(machine: &Machine) -> Outcome {
    processors::alongside(
        machine,
        |machine| {
            let location = machine.disk()?;
            // The other processor may have selected another queue, so that there is none to be opened.
            (0..50).flat_map(|_| Disk::open(location, 0, 64)).for_each(|mut disk| disk.poke());
            Ok(())
        },
        |machine| {
            let location = machine.disk()?;
            (0..500_u32).for_each(|round| disturb(&location, round));
            Ok(())
        },
    )?;
    Disk::open(machine.disk()?, 0, 64)?.check()
}

impl Disk {
    /// A request that may or may not be answered.
    fn poke(&mut self) {
        let request = [self.header(request::IN, 0), self.status()];
        self.queue.offer(&request);
        self.device.notify(0);
        clock::soon(|| self.queue.take_used());
    }
}

fn disturb(location: &Location, round: u32) {
    location.write(register::QUEUE_NOTIFY, round % 3);
    location.write(register::INTERRUPT_ACK, round);
    location.read(register::STATUS);
    location.write(register::QUEUE_SEL, round % 2);
    location.read(register::QUEUE_READY);
    location.read(register::CONFIG);
}
