//! `kiln build`.

use crate::{
    arguments::{BuildArguments, OutputArgument},
    attestation_files, copy, exit_code, installation, interruption, machine, progress, registry, toolbox,
};
use anyhow::{Context, Result, bail};
use kiln_builder::{BuildFile, BuildRequest, DiskOutput, Relay};
use kiln_image::{config::Timestamp, reference::ImageName};
use kiln_transport::{OutputSpec, Transport};
use std::{
    env,
    io::{self, IsTerminal},
    str::FromStr,
};

/// The build file's name, if not given.
pub const BUILD_FILE: &str = "kiln.toml";

/// The variable of <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Builds the image. The exit code.
pub fn run(arguments: &BuildArguments) -> Result<u8> {
    let path = arguments.file.clone().unwrap_or_else(|| arguments.context.join(BUILD_FILE));
    let mut file = BuildFile::read(&path)?;
    let mut disk_outputs = disk_outputs(arguments);
    let mut outputs = Vec::new();
    match default_name(arguments, &file) {
        Some(name) if file.makes_disk() => {
            disk_outputs =
                vec![kiln_builder::parse_disk_path(&format!("{name}.raw")).map_err(anyhow::Error::msg)?];
        }
        Some(name) => outputs = vec![output_of(&name)?],
        None => outputs = image_outputs(arguments),
    }
    for disk in file.images.iter_mut().filter_map(|image| image.disk.as_mut()) {
        let given = arguments.toolbox.toolbox.clone();
        disk.toolbox = given.or_else(|| disk.toolbox.take());
    }
    let to_stdout = outputs.iter().any(|output| output.dest.location.path() == Some("-"));
    if to_stdout && io::stdout().is_terminal() {
        bail!("an archive is nothing for a terminal; send standard output to a file or a pipe");
    }
    copy::refuse_terminal_for_disks(&disk_outputs)?;
    let store = installation::store()?;
    let request = BuildRequest {
        guest: machine::settings(&arguments.machine, file.disk_size)?,
        names: arguments.tag.clone(),
        outputs,
        disk_outputs,
        toolbox: toolbox::of(&store),
        targets: arguments.target.clone(),
        attestations: attestation_files::wanted(arguments),
        source_date_epoch: source_date_epoch()?,
        threads: machine::threads(),
        file,
    };
    let interrupt =
        interruption::watch(arguments.machine.timeout, |error| exit_code::of_build(error.class()))?;
    let observer = progress::observer(arguments.progress, arguments.machine.verbose);
    let registry = registry::client(&arguments.registry)?;
    let relay = Relay(observer.as_ref());
    let transport =
        Transport { store: &store, registry: &registry, threads: request.threads, observer: &relay };
    let built = kiln_builder::build(&request, &store, &transport, &interrupt, observer.as_ref());
    interrupt.finish();
    attestation_files::write(arguments, &built?)?;
    Ok(0)
}

fn disk_outputs(arguments: &BuildArguments) -> Vec<DiskOutput> {
    let disks = arguments.output.iter().filter_map(|output| match output {
        OutputArgument::Disk(output) => Some(output.clone()),
        OutputArgument::Image(_) => None,
    });
    disks.collect()
}

/// Those of the command line, if any.
fn image_outputs(arguments: &BuildArguments) -> Vec<OutputSpec> {
    let images = arguments.output.iter().filter_map(|output| match output {
        OutputArgument::Image(spec) => Some(spec.clone()),
        OutputArgument::Disk(_) => None,
    });
    images.collect()
}

/// Where neither the command line nor the file has outputs, the name of a file where kiln was called, without an ending: `app` for
/// `example/app:1.0`.
fn default_name(arguments: &BuildArguments, file: &BuildFile) -> Option<String> {
    if !arguments.output.is_empty() || !file.outputs.is_empty() || !file.disk_outputs.is_empty() {
        return None;
    }
    let name = arguments.tag.first().or_else(|| file.name());
    let repository = name.map_or_else(|| "image".to_owned(), ImageName::repository);
    Some(repository.rsplit('/').next().unwrap_or(&repository).to_owned())
}

fn output_of(name: &str) -> Result<OutputSpec> {
    kiln_builder::parse_output(&format!("type=docker-archive,dest={name}.tar")).map_err(anyhow::Error::msg)
}

/// The time set for reproducible builds.
pub fn source_date_epoch() -> Result<Option<Timestamp>> {
    let Some(text) = env::var_os(EPOCH_VARIABLE) else { return Ok(None) };
    let parsed = text.to_str().map(u64::from_str).and_then(Result::ok);
    let seconds = parsed
        .with_context(|| format!("{EPOCH_VARIABLE} must be seconds since 1970, not {}", text.display()))?;
    Ok(Some(Timestamp::from_unix_seconds(seconds)?))
}
