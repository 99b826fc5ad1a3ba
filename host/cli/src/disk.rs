//! `kiln disk`.

use crate::{
    arguments::DiskArguments, build::source_date_epoch, copy, exit_code, installation, interruption, machine,
    progress, registry, toolbox,
};
use anyhow::Result;
use kiln_builder::{Attestations, BuildFile, BuildRequest, Relay};
use kiln_transport::Transport;

/// Makes a disk of an image. The exit code.
pub fn run(arguments: &DiskArguments) -> Result<u8> {
    copy::refuse_terminal_for_disks(&arguments.output)?;
    let mut file = BuildFile::of_disk(arguments.file.as_deref(), &arguments.image, &keys(arguments))?;
    if let Some(disk) = &mut file.images[0].disk
        && arguments.toolbox.toolbox.is_some()
    {
        disk.toolbox.clone_from(&arguments.toolbox.toolbox);
    }
    let store = installation::store()?;
    let interrupt =
        interruption::watch(arguments.machine.timeout, |error| exit_code::of_build(error.class()))?;
    let observer = progress::observer(arguments.progress, arguments.machine.verbose);
    let registry = registry::client(&arguments.registry)?;
    let relay = Relay(observer.as_ref());
    let threads = machine::threads();
    let transport = Transport { store: &store, registry: &registry, threads, observer: &relay };
    let request = BuildRequest {
        guest: machine::settings(&arguments.machine, None)?,
        names: Vec::new(),
        outputs: Vec::new(),
        disk_outputs: arguments.output.clone(),
        toolbox: toolbox::of(&store),
        targets: Vec::new(),
        attestations: Attestations::default(),
        source_date_epoch: source_date_epoch()?,
        threads,
        file,
    };
    let built = kiln_builder::build(&request, &store, &transport, &interrupt, observer.as_ref());
    interrupt.finish();
    built?;
    Ok(0)
}

/// What is said on the command line, as lines of the file.
fn keys(arguments: &DiskArguments) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    let mut say = |key, value: Option<String>| keys.extend(value.map(|value| (key, value)));
    say("size", arguments.size.map(|size| size.to_string()));
    say("table", arguments.table.clone());
    say("kernel-options", arguments.kernel_options.clone());
    say("filesystem", arguments.filesystem.clone());
    say("boot", (!arguments.boot.is_empty()).then(|| arguments.boot.join(",")));
    keys
}
