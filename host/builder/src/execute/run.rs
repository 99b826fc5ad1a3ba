//! Running a layer's scripts in a VM.

use super::BuildRequest;
use crate::{Error, Hook, HookScript, disks, guest::Surroundings, packing::GuestLayer, scratch};
use kiln_engine::Disk;
use kiln_image::{
    compress::Compression,
    config::{ContainerConfig, ImageConfig, Timestamp},
};
use kiln_protocol::{Job, Program, Stage, Step};
use kiln_store::{Layer, StoredImage};
use std::fs::File;

/// What the steps see as host name: a fixed one, so that results do not depend on the builder.
pub(crate) const HOST_NAME: &str = "kiln";

/// Where programs are found when the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Scripts and all that they run in.
pub(super) struct Run<'a> {
    pub scripts: &'a [HookScript],
    /// Before each script's name: empty, or what layer of what image it is of.
    pub label: &'a str,
    /// The image so far, if it has layers.
    pub base: Option<&'a StoredImage>,
    pub tools: Option<&'a StoredImage>,
    /// Packed, uncompressed.
    pub contents: Option<&'a File>,
    /// Variables of the image as it will be.
    pub environment: Option<Vec<String>>,
    pub epoch: Timestamp,
    pub compressions: &'a [Compression],
}

impl Run<'_> {
    /// What the scripts made is a new layer.
    pub fn run(&self, request: &BuildRequest, surroundings: Surroundings) -> Result<Layer, Error> {
        let store = surroundings.store;
        let mut disks: Vec<Disk> = Vec::new();
        for (serial, image) in [(disks::BASE, self.base), (disks::TOOLS, self.tools)] {
            if let Some(image) = image {
                disks.push(disks::of_image(serial, image, store)?);
            }
        }
        if let Some(contents) = self.contents {
            disks.push(disks::of_contents(contents, store)?);
        }
        let job = self.job(&disks);
        let mut layer =
            GuestLayer::create(store, self.compressions, request.threads, super::image::seconds(self.epoch))?;
        surroundings.phase(&format!("{}starting the VM", self.label));
        request.guest.run(&job, disks, None, &mut layer, surroundings)?;
        layer.into_layer()
    }

    fn job(&self, disks: &[Disk]) -> Job {
        let disk = |serial: &str| disks.iter().any(|disk| disk.serial == serial).then(|| serial.to_owned());
        let mut variables = environment(self.environment.clone());
        set_variable(&mut variables, format!("SOURCE_DATE_EPOCH={}", self.epoch.unix_seconds()));
        let step = |script: &HookScript| Step {
            name: format!("{}{}", self.label, script.hook.key()),
            stage: stage(script.hook),
            program: Program::Script(script.text.clone()),
            user: None,
            environment: variables.clone(),
            working_directory: None,
            stdin: false,
        };
        Job {
            hostname: HOST_NAME.to_owned(),
            clock: self.epoch.unix_seconds(),
            base: disk(disks::BASE),
            tools: disk(disks::TOOLS),
            contents: disk(disks::CONTENTS),
            scratch: scratch::SERIAL.to_owned(),
            target: None,
            steps: self.scripts.iter().map(step).collect(),
            send_layer: true,
        }
    }
}

/// The variables of an image as it will be.
pub(super) fn variables(base: &ImageConfig, config: &ContainerConfig) -> Option<Vec<String>> {
    let change = super::image::change(None, Timestamp::default(), config.clone());
    base.derive(change).config.env
}

/// An image's variables as a step sees them.
pub(crate) fn environment(of_image: Option<Vec<String>>) -> Vec<String> {
    let mut environment = of_image.unwrap_or_default();
    if !environment.iter().any(|variable| variable.starts_with("PATH=")) {
        environment.push(DEFAULT_PATH.to_owned());
    }
    environment
}

/// Sets a variable, `NAME=value`, over one of the same name.
pub(crate) fn set_variable(environment: &mut Vec<String>, variable: String) {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    environment.retain(|earlier| name(earlier) != name(&variable));
    environment.push(variable);
}

fn stage(hook: Hook) -> Stage {
    match hook {
        Hook::PreMount => Stage::PreMount,
        Hook::RunAsRoot => Stage::Root,
        Hook::PostMount => Stage::PostMount,
        Hook::PostUmount | Hook::ExtraCommands => Stage::PostUmount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_in_any_case() {
        assert_eq!(environment(None), [DEFAULT_PATH]);
        let given = vec!["A=1".to_owned(), "PATH=/x".to_owned()];
        assert_eq!(environment(Some(given.clone())), given);
    }

    #[test]
    fn a_variable_replaces_its_namesake() {
        let mut variables = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_variable(&mut variables, "A=3".to_owned());
        assert_eq!(variables, ["AB=2", "A=3"]);
    }
}
