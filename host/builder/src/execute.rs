//! Carries out a build.

use crate::{
    BuildFile, Error, Event, Hook, ImageSource, Interrupt, Observer, OutputSpec,
    contents::{self, BaseFiles},
    disks,
    error::Kind,
    guest::{GuestSettings, Surroundings},
    output,
    packing::{GuestLayer, LayerFile, PackedLayer},
    scratch,
};
use kiln_engine::Disk;
use kiln_image::{
    config::{Change, ImageConfig, Timestamp},
    reference::ImageName,
};
use kiln_protocol::{Job, Program, Stage, Step};
use kiln_store::{Store, StoredImage};
use std::{
    io::{self, BufReader, Seek},
    num::NonZeroUsize,
    thread::JoinHandle,
};

/// What the steps see as host name: a fixed one, so that results do not depend on the builder.
pub(crate) const HOST_NAME: &str = "kiln";

/// Where programs are found when the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes copied at once.
const COPY_SIZE: usize = 1024 * 1024;

/// A build that is ready to be carried out.
#[derive(Debug)]
pub struct BuildRequest {
    /// What to build.
    pub file: BuildFile,
    /// The image's name, instead of the build file's.
    pub name: Option<ImageName>,
    /// Where the image goes.
    pub output: OutputSpec,
    /// `SOURCE_DATE_EPOCH`, if set.
    pub source_date_epoch: Option<Timestamp>,
    /// How a VM is run, should one be needed.
    pub guest: GuestSettings,
    /// Threads that compress.
    pub threads: NonZeroUsize,
}

/// Builds the image and writes it to its output.
///
/// # Errors
/// [`Error::class`] says whose fault it was. Nothing is left behind then.
pub fn build(
    request: &BuildRequest,
    store: &Store,
    interrupt: &Interrupt,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let build = Build { request, surroundings: Surroundings { store, interrupt, observer } };
    let base = build.import(request.file.from.as_ref())?;
    let epoch = build.epoch(base.as_ref());
    let config = base.as_ref().map_or_else(scratch, |base| base.config.clone());
    let contents = build.contents(base.as_ref(), epoch)?;
    let layer = if request.file.scripts.is_empty() {
        contents.map(|contents| build.compress(contents)).transpose()?
    } else {
        let compression = request.output.compression;
        let ahead = output::compress_ahead(base.as_ref(), store, compression, request.threads);
        let layer = build.run(base.as_ref(), contents, &config, epoch)?;
        // It reports nothing: what it could not do is tried again, and reported, when it is needed.
        let _ = ahead.map(JoinHandle::join);
        Some(layer)
    };
    let config = config.derive(build.change(layer.as_ref(), epoch));
    build.write(base.as_ref(), layer, &config)
}

fn scratch() -> ImageConfig {
    ImageConfig::scratch("amd64", "linux")
}

struct Build<'a> {
    request: &'a BuildRequest,
    surroundings: Surroundings<'a>,
}

impl Build<'_> {
    fn import(&self, source: Option<&ImageSource>) -> Result<Option<StoredImage>, Error> {
        source.map(|source| import(source, self.surroundings)).transpose()
    }

    /// The clock of the build. A base's creation time is as fixed as the base itself, and more
    /// truthful than 1970.
    fn epoch(&self, base: Option<&StoredImage>) -> Timestamp {
        let of_base = || base?.config.created.as_deref()?.parse().ok();
        self.request.source_date_epoch.or_else(of_base).unwrap_or_default()
    }

    fn contents(&self, base: Option<&StoredImage>, epoch: Timestamp) -> Result<Option<PackedLayer>, Error> {
        let contents = &self.request.file.contents;
        if contents.is_empty() {
            return Ok(None);
        }
        self.surroundings.phase("packing contents");
        let base = base.map(|base| self.files(base)).transpose()?;
        let finished = self.request.file.scripts.is_empty();
        contents::pack(contents, base.as_ref(), seconds(epoch), finished, self.surroundings.store).map(Some)
    }

    fn files(&self, image: &StoredImage) -> Result<BaseFiles, Error> {
        let tree = self.surroundings.store.base(image).and_then(|base| base.tree());
        let failed = |source| Kind::Store { what: "cannot read the base image".to_owned(), source };
        Ok(BaseFiles { tree: tree.map_err(failed)?, layers: image.layers.clone() })
    }

    /// Contents that are the new layer, in the compression of the output.
    fn compress(&self, mut contents: PackedLayer) -> Result<PackedLayer, Error> {
        let store = self.surroundings.store;
        let (compression, threads) = (self.request.output.compression, self.request.threads);
        let mut layer = LayerFile::create(store, compression, threads)?;
        let mut copy = || {
            contents.file.rewind()?;
            io::copy(&mut BufReader::with_capacity(COPY_SIZE, &contents.file), &mut layer)
        };
        let failed = |source| Kind::Temporary { directory: store.path().to_owned(), source };
        copy().map_err(failed)?;
        Ok(layer.finish().map_err(failed)?)
    }

    /// Runs the scripts in a VM; what they made is the new layer.
    fn run(
        &self,
        base: Option<&StoredImage>,
        contents: Option<PackedLayer>,
        config: &ImageConfig,
        epoch: Timestamp,
    ) -> Result<PackedLayer, Error> {
        let store = self.surroundings.store;
        let tools = self.import(self.request.file.tools.as_ref())?;
        let mut disks: Vec<Disk> = Vec::new();
        for (serial, image) in [(disks::BASE, base), (disks::TOOLS, tools.as_ref())] {
            if let Some(image) = image {
                disks.push(disks::of_image(serial, image, store)?);
            }
        }
        if let Some(contents) = &contents {
            disks.push(disks::of_contents(contents, store)?);
        }
        let job = self.job(&disks, config, epoch);
        let mut layer =
            GuestLayer::create(store, self.request.output.compression, self.request.threads, seconds(epoch))?;
        self.surroundings.phase("starting the VM");
        self.request.guest.run(&job, disks, None, &mut layer, self.surroundings)?;
        layer.into_packed()
    }

    fn job(&self, disks: &[Disk], config: &ImageConfig, epoch: Timestamp) -> Job {
        let disk = |serial: &str| disks.iter().any(|disk| disk.serial == serial).then(|| serial.to_owned());
        let environment = self.environment(config, epoch);
        let step = |script: &crate::HookScript| Step {
            name: script.hook.key().to_owned(),
            stage: stage(script.hook),
            program: Program::Script(script.text.clone()),
            user: None,
            environment: environment.clone(),
            working_directory: None,
            stdin: false,
        };
        Job {
            hostname: HOST_NAME.to_owned(),
            clock: epoch.unix_seconds(),
            base: disk(disks::BASE),
            tools: disk(disks::TOOLS),
            contents: disk(disks::CONTENTS),
            scratch: scratch::SERIAL.to_owned(),
            steps: self.request.file.scripts.iter().map(step).collect(),
            send_layer: true,
        }
    }

    /// What scripts see: the variables of the image as it will be, and the build's time.
    fn environment(&self, base: &ImageConfig, epoch: Timestamp) -> Vec<String> {
        let mut environment = environment(base.derive(self.change(None, epoch)).config.env);
        set_variable(&mut environment, format!("SOURCE_DATE_EPOCH={}", epoch.unix_seconds()));
        environment
    }

    fn change(&self, layer: Option<&PackedLayer>, epoch: Timestamp) -> Change {
        Change {
            layer: layer.map(|layer| layer.diff_id),
            created: epoch,
            created_by: "kiln build".to_owned(),
            comment: None,
            author: None,
            config: self.request.file.config.clone(),
        }
    }

    fn write(
        &self,
        base: Option<&StoredImage>,
        layer: Option<PackedLayer>,
        config: &ImageConfig,
    ) -> Result<(), Error> {
        self.surroundings.check()?;
        self.surroundings.phase("writing the image");
        let name = self.request.name.as_ref().or(self.request.file.name.as_ref());
        let image = output::Image { base, layer, config, name };
        let written =
            output::write(image, self.surroundings.store, &self.request.output, self.request.threads)?;
        self.surroundings.observer.event(Event::Written {
            dest: &self.request.output.dest.to_string(),
            image_id: &written.image_id.to_string(),
            size: written.size,
        });
        Ok(())
    }
}

/// The image of a reference, verified and in the store.
pub(crate) fn import(source: &ImageSource, surroundings: Surroundings) -> Result<StoredImage, Error> {
    surroundings.phase(&format!("importing {source}"));
    let ImageSource { path, choice, image_id } = source;
    let image = surroundings.store.import_docker_archive(path, choice, image_id.as_ref());
    surroundings.check()?;
    let what = format!("cannot use {source}");
    Ok(image.map_err(|source| Kind::Store { what, source })?)
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

fn seconds(epoch: Timestamp) -> i64 {
    i64::try_from(epoch.unix_seconds()).expect("years have four digits")
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
