//! What commands on images work with: the store, registries, and who is told.

use crate::{arguments::RegistryArguments, installation, machine, registry};
use anyhow::Result;
use kiln_image::{manifest::Platform, reference::ImageReference};
use kiln_registry::Client;
use kiln_store::Store;
use kiln_transport::{Imported, Observer, Transport};

/// Opened once a command.
pub struct Workplace {
    /// Where images are kept.
    pub store: Store,
    client: Client,
    observer: Box<dyn Observer>,
}

impl Workplace {
    /// Opens the store.
    pub fn open(arguments: &RegistryArguments, observer: Box<dyn Observer>) -> Result<Self> {
        Ok(Self { store: installation::store()?, client: registry::client(arguments)?, observer })
    }

    /// Moves images.
    pub fn transport(&self) -> Transport<'_> {
        Transport {
            store: &self.store,
            registry: &self.client,
            threads: machine::threads(),
            observer: self.observer.as_ref(),
        }
    }

    /// Brings an image into the store.
    pub fn import(&self, reference: &ImageReference, platform: Option<&Platform>) -> Result<Imported> {
        Ok(self.transport().import(reference, &platform.cloned().unwrap_or_default())?)
    }
}
