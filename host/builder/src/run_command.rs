//! A throw-away command in a base image.

use crate::{
    Error, Interrupt, Observer, Places, disks,
    execute::{HOST_NAME, environment, import, set_variable},
    guest::{GuestSettings, Surroundings},
    packing::NoLayer,
    scratch,
};
use kiln_image::{config::Timestamp, manifest::Platform, reference::ImageReference};
use kiln_protocol::{Job, Program, Stage, Step};
use kiln_store::Store;
use std::io::Read;

/// A command that is ready to be run.
pub struct RunRequest {
    /// The image it runs in.
    pub base: ImageReference,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `user[:group]` instead of root.
    pub user: Option<String>,
    /// Variables over the image's, `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts, instead of the image's working directory.
    pub working_directory: Option<String>,
    /// What it reads.
    pub stdin: Option<Box<dyn Read + Send>>,
    /// The guest's clock.
    pub clock: Timestamp,
    /// How the VM is run.
    pub guest: GuestSettings,
}

/// Runs the command; what it changes is forgotten.
///
/// # Errors
/// Also when the command ends otherwise than with exit code 0: see [`Error::class`].
pub fn run_command(
    request: RunRequest,
    store: &Store,
    places: &dyn Places,
    interrupt: &Interrupt,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let surroundings = Surroundings { store, places, interrupt, observer };
    let base = import(&request.base, &Platform::default(), surroundings)?;
    let disks = vec![disks::of_image(disks::BASE, &base, store)?];
    let of_image = &base.config.config;
    let mut variables = environment(of_image.env.clone());
    for variable in request.environment {
        set_variable(&mut variables, variable);
    }
    let step = Step {
        name: request.command.first().cloned().unwrap_or_default(),
        stage: Stage::Root,
        program: Program::Command(request.command),
        user: request.user,
        environment: variables,
        working_directory: request.working_directory.or_else(|| of_image.working_dir.clone()),
        stdin: request.stdin.is_some(),
    };
    let job = Job {
        hostname: HOST_NAME.to_owned(),
        clock: request.clock.unix_seconds(),
        base: Some(disks::BASE.to_owned()),
        tools: None,
        contents: None,
        scratch: scratch::SERIAL.to_owned(),
        target: None,
        steps: vec![step],
        send_layer: false,
    };
    request.guest.run(&job, disks, request.stdin, &mut NoLayer, surroundings)
}
