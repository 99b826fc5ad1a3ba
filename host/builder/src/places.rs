//! Where images come from and go to, as a build sees it: a boundary, for tests to stand at.

use crate::{
    Error,
    error::Kind,
    event::{Event, Observer},
    interim,
};
use kiln_image::{manifest::Platform, reference::ImageReference};
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
        if let Some(imported) = interim::import(reference, self.store) {
            return imported;
        }
        let what = || format!("cannot use {}", reference.location);
        let imported = Transport::import(self, reference, platform);
        Ok(imported.map_err(|source| Kind::Import { what: what(), source })?)
    }

    fn write(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error> {
        if let Some(written) = interim::write(images, spec, self.store, self.threads) {
            return written;
        }
        let written = Transport::write(self, images, spec);
        Ok(written.map_err(|source| Kind::Written { dest: spec.dest.location.to_string(), source })?)
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
