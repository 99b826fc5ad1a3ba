//! `kiln run`.

use crate::{
    arguments::RunArguments, build, exit_code, installation, interruption, machine, progress, registry,
};
use anyhow::{Context, Result, bail};
use kiln_builder::{BuildFile, Relay, RunRequest};
use kiln_image::{config::Timestamp, reference::ImageReference};
use kiln_transport::Transport;
use std::{
    env,
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Runs the command. The exit code; the command's own, unless it is an error of [`kiln_builder`].
pub fn run(arguments: &RunArguments) -> Result<u8> {
    let store = installation::store()?;
    let guest = machine::settings(&arguments.machine, None)?;
    let request = RunRequest {
        base: base(arguments.base.clone())?,
        command: arguments.command.clone(),
        user: arguments.user.clone(),
        environment: arguments.env.iter().filter_map(|variable| variable_of(variable)).collect(),
        working_directory: arguments.workdir.clone(),
        stdin: arguments.interactive.then(|| Box::new(io::stdin()) as Box<dyn Read + Send>),
        clock: build::source_date_epoch()?.unwrap_or_else(now),
        guest,
    };
    let interrupt = interruption::watch(arguments.machine.timeout, |error| exit_code::of_run(error.class()))?;
    let observer = progress::pass_through(arguments.machine.verbose, interrupt.clone());
    let (registry, relay) = (registry::client(&arguments.registry)?, Relay(observer.as_ref()));
    let transport =
        Transport { store: &store, registry: &registry, threads: machine::threads(), observer: &relay };
    let ran = kiln_builder::run_command(request, &store, &transport, &interrupt, observer.as_ref());
    interrupt.finish();
    ran?;
    Ok(0)
}

/// `NAME=value`, or a variable of this process by its name, as docker has it.
fn variable_of(argument: &str) -> Option<String> {
    match argument.split_once('=') {
        Some(_) => Some(argument.to_owned()),
        None => Some(format!("{argument}={}", env::var(argument).ok()?)),
    }
}

/// The base of the build file here, if none was given.
fn base(given: Option<ImageReference>) -> Result<ImageReference> {
    match given {
        Some(reference) => Ok(reference),
        None if Path::new(build::BUILD_FILE).exists() => BuildFile::read(Path::new(build::BUILD_FILE))?
            .base()
            .cloned()
            .with_context(|| format!("{} has no base image; give one with --base", build::BUILD_FILE)),
        None => bail!("--base REF is needed where there is no {}", build::BUILD_FILE),
    }
}

/// Nothing is kept of a run, so its clock may as well be right.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_seconds(since_epoch.as_secs()).unwrap_or_default()
}
