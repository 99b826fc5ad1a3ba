//! `kiln build`.

use crate::{arguments::BuildArguments, exit_code, installation, interruption, machine, progress};
use anyhow::{Context, Result, bail};
use kiln_builder::{BuildFile, BuildRequest, Destination, OutputSpec};
use kiln_image::{compress::Compression, config::Timestamp, reference::ImageName};
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
    let file = BuildFile::read(&path)?;
    let name = arguments.tag.clone().or_else(|| file.name.clone());
    let output = arguments.output.clone().unwrap_or_else(|| default_output(name.as_ref()));
    if output.dest == Destination::Stdout && io::stdout().is_terminal() {
        bail!("an archive is nothing for a terminal; send standard output to a file or a pipe");
    }
    let store = installation::store()?;
    let request = BuildRequest {
        guest: machine::settings(&arguments.machine, file.disk_size)?,
        name: arguments.tag.clone(),
        output,
        source_date_epoch: source_date_epoch()?,
        threads: machine::threads(),
        file,
    };
    let interrupt =
        interruption::watch(arguments.machine.timeout, |error| exit_code::of_build(error.class()))?;
    let observer = progress::observer(arguments.progress, arguments.machine.verbose);
    let built = kiln_builder::build(&request, &store, &interrupt, observer.as_ref());
    interrupt.finish();
    built?;
    Ok(0)
}

/// Beside where kiln was called: `app.tar` for `example/app:1.0`.
fn default_output(name: Option<&ImageName>) -> OutputSpec {
    let repository = name.map_or_else(|| "image".to_owned(), ImageName::repository);
    let last = repository.rsplit('/').next().unwrap_or(&repository);
    OutputSpec { dest: Destination::File(format!("{last}.tar").into()), compression: Compression::None }
}

/// The time set for reproducible builds.
pub fn source_date_epoch() -> Result<Option<Timestamp>> {
    let Some(text) = env::var_os(EPOCH_VARIABLE) else { return Ok(None) };
    let parsed = text.to_str().map(u64::from_str).and_then(Result::ok);
    let seconds = parsed
        .with_context(|| format!("{EPOCH_VARIABLE} must be seconds since 1970, not {}", text.display()))?;
    Ok(Some(Timestamp::from_unix_seconds(seconds)?))
}
