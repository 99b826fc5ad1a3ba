//! `kiln run`.

use crate::{arguments::RunArguments, build, installation, machine, progress, signals};
use anyhow::Result;
use kiln_build::{ImageSource, Interrupt, RunRequest};
use kiln_image::config::Timestamp;
use kiln_store::Store;
use std::{
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Runs the command. The exit code; the command's own, unless it is an error of [`kiln_build`].
pub fn run(arguments: &RunArguments) -> Result<u8> {
    let store = Store::open(&installation::cache_dir())?;
    let guest = machine::settings(&arguments.machine, None)?;
    let request = RunRequest {
        base: ImageSource::new(arguments.base.clone(), Path::new("")),
        command: arguments.command.clone(),
        user: arguments.user.clone(),
        environment: arguments.env.clone(),
        working_directory: arguments.workdir.clone(),
        stdin: arguments.interactive.then(|| Box::new(io::stdin()) as Box<dyn Read + Send>),
        clock: build::source_date_epoch()?.unwrap_or_else(now),
        guest,
    };
    let interrupt = Interrupt::default();
    signals::watch(interrupt.clone())?;
    if let Some(timeout) = arguments.machine.timeout {
        interrupt.trigger_after(timeout);
    }
    let observer = progress::pass_through(arguments.machine.verbose);
    let ran = kiln_build::run_command(request, &store, &interrupt, observer.as_ref());
    interrupt.finish();
    ran?;
    Ok(0)
}

/// Nothing is kept of a run, so its clock may as well be right.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_seconds(since_epoch.as_secs()).unwrap_or_default()
}
