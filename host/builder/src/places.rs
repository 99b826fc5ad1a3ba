//! Where images come from and go to, as a build sees it: a boundary, for tests to stand at.

use crate::{
    Error,
    error::Kind,
    event::{Event, Observer},
};
use kiln_image::{
    manifest::Platform,
    reference::{ImageReference, Location},
};
use kiln_transport::{Imported, OutputImage, OutputSpec, Transport, Written};

/// Brings images into the store and out of it.
pub trait Places {
    /// As [`Transport::import`].
    ///
    /// # Errors
    /// As there.
    fn import(&self, reference: &ImageReference, platform: &Platform) -> Result<Imported, Error>;

    /// As [`Transport::write`].
    ///
    /// # Errors
    /// As there.
    fn write(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error>;
}

impl Places for Transport<'_> {
    fn import(&self, reference: &ImageReference, platform: &Platform) -> Result<Imported, Error> {
        let what = || format!("cannot use {}", shown(&reference.location));
        let imported = Transport::import(self, reference, platform);
        Ok(imported.map_err(|source| Kind::Import { what: what(), source })?)
    }

    fn write(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error> {
        let written = Transport::write(self, images, spec);
        Ok(written.map_err(|source| Kind::Written { dest: shown(&spec.dest.location), source })?)
    }
}

/// For people. An archive of docker's needs no more than its name, as it was always shown.
pub(crate) fn shown(location: &Location) -> String {
    let text = location.to_string();
    match location {
        Location::DockerArchive { .. } => text.replacen("docker-archive:", "", 1),
        _ => text,
    }
}

/// Tells a build's observer what a [`Transport`] tells.
#[derive(Clone, Copy)]
pub struct Relay<'a>(pub &'a dyn Observer);

impl kiln_transport::Observer for Relay<'_> {
    fn event(&self, event: kiln_transport::Event<'_>) {
        match event {
            kiln_transport::Event::Phase(text) => self.0.event(Event::Phase(text)),
            kiln_transport::Event::Notice(text) => self.0.event(Event::Notice(text)),
            // A line for each piece would be too much for logs.
            kiln_transport::Event::Blob { .. } => {}
        }
    }
}
