//! Carries out a build: each image is made once, on top of its parent, and then written to all outputs.

mod destinations;
mod disks;
mod finish;
mod image;
mod layer;
mod outputs;
mod run;

pub(crate) use image::import;
pub(crate) use run::{HOST_NAME, environment, set_variable};

use crate::{
    BuildFile, Error, Interrupt, Observer, Places,
    attestations::Attestations,
    disk::DiskOutput,
    event::NoticesOnce,
    guest::{GuestSettings, Surroundings},
    inputs::{Input, Inputs},
};
use image::ImageBuilder;
use kiln_image::{config::Timestamp, digest::Digest, manifest::Platform, reference::ImageName};
use kiln_store::{Store, StoredImage};
use kiln_transport::{Attachment, OutputSpec, Written};
use std::num::NonZeroUsize;

/// A build that is ready to be carried out.
#[derive(Debug)]
pub struct BuildRequest {
    /// What to build.
    pub file: BuildFile,
    /// The image's names, instead of the build file's.
    pub names: Vec<ImageName>,
    /// Where images go, instead of where the build file says.
    pub outputs: Vec<OutputSpec>,
    /// Where disks go, instead of where the build file says.
    pub disk_outputs: Vec<DiskOutput>,
    /// The tools that disks are made with: kiln's own, unless the plan names others. Asked for when they are needed.
    pub toolbox: Toolbox,
    /// Ids of the images that are written, instead of the build file's.
    pub targets: Vec<String>,
    /// `SOURCE_DATE_EPOCH`, if set.
    pub source_date_epoch: Option<Timestamp>,
    /// How a VM is run, should one be needed.
    pub guest: GuestSettings,
    /// Threads that compress.
    pub threads: NonZeroUsize,
    /// What is to be said about the images, besides them.
    pub attestations: Attestations,
}

/// What can go wrong with a toolbox.
type ToolboxError = Box<dyn std::error::Error + Send + Sync>;
/// Tells the observer how it goes, and asks now and then whether the build was told to end.
type GetToolbox = dyn Fn(&dyn Observer, &Interrupt) -> Result<StoredImage, ToolboxError> + Send + Sync;

/// Gets the toolbox, from the store or by making it.
pub struct Toolbox(pub Box<GetToolbox>);

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toolbox")
    }
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The images that were written, in the order of the file.
    pub images: Vec<BuiltImage>,
    /// What was written, in the order of the outputs.
    pub outputs: Vec<Written>,
    /// What went in; empty unless [`Attestations::provenance`] is asked for.
    pub inputs: Vec<Input>,
}

/// One of the images.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltImage {
    /// In the build file.
    pub id: String,
    /// Digest of the configuration.
    pub image_id: Digest,
    /// Digest of its manifest in each output; `None` where it has none, or is not.
    pub manifests: Vec<Option<Digest>>,
    /// Its names.
    pub names: Vec<ImageName>,
    /// Its platform.
    pub platform: Platform,
    /// What was to be said about it.
    pub documents: Vec<Attachment>,
}

/// Builds the images and writes them to their outputs.
///
/// # Errors
/// [`Error::class`] says whose fault it was. Nothing is left behind then, but outputs that were complete already.
pub fn build(
    request: &BuildRequest,
    store: &Store,
    places: &dyn Places,
    interrupt: &Interrupt,
    observer: &dyn Observer,
) -> Result<Built, Error> {
    let observer = NoticesOnce::new(observer);
    let surroundings = Surroundings { store, places, interrupt, observer: &observer };
    let outputs = outputs::plan(request)?;
    let inputs = Inputs::new(request.attestations.provenance, &request.file.path);
    inputs.add_build_file(&request.file)?;
    let mut builder = ImageBuilder::new(request, &outputs, &inputs, surroundings);
    builder.import_all()?;
    builder.check_architectures()?;
    builder.build_all()?;
    let images = builder.finish();
    disks::write(request, &images, surroundings)?;
    outputs::write(request, &outputs, &images, inputs.into_list(), surroundings)
}

#[cfg(test)]
mod tests;
