//! Carries out a build: each image is made once, on top of its parent, and then written to all outputs.

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
    guest::{GuestSettings, Surroundings},
    inputs::{Input, Inputs},
};
use image::ImageBuilder;
use kiln_image::{config::Timestamp, digest::Digest, manifest::Platform, reference::ImageName};
use kiln_store::Store;
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
    let surroundings = Surroundings { store, places, interrupt, observer };
    let outputs = outputs::plan(request)?;
    let inputs = Inputs::new(request.attestations.provenance, &request.file.path);
    inputs.add_build_file(&request.file)?;
    let mut builder = ImageBuilder::new(request, &outputs, &inputs, surroundings);
    builder.import_all()?;
    builder.check_architectures()?;
    builder.build_all()?;
    let images = builder.finish();
    outputs::write(request, &outputs, &images, inputs.into_list(), surroundings)
}

#[cfg(test)]
mod tests;
