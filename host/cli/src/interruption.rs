//! What ends kiln from outside: Ctrl-C and its kin, `--timeout`.

use anyhow::{Context, Result};
use kiln_builder::{Error, Interrupt, Reason};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{process, thread, time::Duration};

/// How long the work has to end by itself, after its VM was killed, before the process ends
/// anyway. Nothing is lost then either: what is unfinished has no name in the file system.
const GRACE: Duration = Duration::from_secs(2);

/// Added to a signal's number, as shells do.
const SIGNAL_BASE: i32 = 128;

/// The switch that signals and the timeout throw. `code_of` gives the exit code, should the work
/// not end by itself then.
pub fn watch(timeout: Option<Duration>, code_of: fn(&Error) -> u8) -> Result<Interrupt> {
    let interrupt = Interrupt::default();
    watch_signals(interrupt.clone())?;
    if let Some(timeout) = timeout {
        interrupt.trigger_after(timeout);
    }
    enforce(interrupt.clone(), code_of);
    Ok(interrupt)
}

fn watch_signals(interrupt: Interrupt) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot prepare for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if interrupt.reason().is_some() {
                // A second one: the user will not wait.
                process::exit(SIGNAL_BASE + signal);
            }
            interrupt.trigger(Reason::Signal(signal));
        }
    });
    Ok(())
}

fn enforce(interrupt: Interrupt, code_of: fn(&Error) -> u8) {
    thread::spawn(move || {
        let reason = interrupt.wait();
        thread::sleep(GRACE);
        let error = Error::from(reason);
        eprintln!("kiln: error: {error}");
        process::exit(code_of(&error).into());
    });
}
