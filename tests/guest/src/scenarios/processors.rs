//! Two processors.

use super::block::Disk;
use super::{Machine, Outcome, check};
use crate::{clock, processors};
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering};

pub const SCENARIOS: &[(&str, super::Scenario)] =
    &[("processors_at_once", at_once), ("processors_drive_devices", drive_devices)];

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

fn read_many(location: crate::virtio::Location) -> Result<(), String> {
    let mut disk = Disk::open(location, 0, 64)?;
    (0..100).try_for_each(|_| disk.check())
}
