//! Ctrl-C and its kin.

use anyhow::{Context, Result};
use kiln_build::{Interrupt, Reason};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{process, thread, time::Duration};

/// How long the work has to end by itself, after its VM was killed, before the process ends
/// anyway. Nothing is lost then either: what is unfinished has no name in the file system.
const GRACE: Duration = Duration::from_secs(3);

/// Turns signals into an interrupt, from a thread of its own; a second signal ends kiln at once.
pub fn watch(interrupt: Interrupt) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot prepare for signals")?;
    thread::spawn(move || {
        let mut received = signals.forever();
        let Some(signal) = received.next() else { return };
        interrupt.trigger(Reason::Signal(signal));
        thread::spawn(move || {
            thread::sleep(GRACE);
            process::exit(128 + signal);
        });
        if received.next().is_some() {
            process::exit(128 + signal);
        }
    });
    Ok(())
}
