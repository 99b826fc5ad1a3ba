//! `docker://`.

use super::{BlobSource, Root};
use crate::Error;
use crate::error::{Context, Kind};
use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Document, media_type};
use kiln_image::reference::RegistryReference;
use kiln_registry::Client;
use std::io::Read;

/// A repository that is read.
pub(crate) struct RegistrySource<'a> {
    client: &'a Client,
    reference: RegistryReference,
    root: Document,
}

impl<'a> RegistrySource<'a> {
    /// Fetches what the reference leads to.
    pub fn open(client: &'a Client, reference: &RegistryReference) -> Result<Self, Error> {
        let root = document(client, reference)?;
        Ok(Self { client, reference: reference.clone(), root })
    }
}

fn document(client: &Client, reference: &RegistryReference) -> Result<Document, Error> {
    let fetched = client.manifest(reference).context(|| format!("cannot fetch {reference}"))?;
    if media_type::DOCKER_SCHEMA_1.contains(&fetched.media_type.as_str()) {
        let message = format!("the manifest of {reference} is of schema version 1");
        return Err(Kind::Unsupported(message).into());
    }
    let announced = Some(fetched.media_type.as_str()).filter(|announced| media_type::is_known(announced));
    Document::parse(fetched.bytes, announced).context(|| format!("cannot use the manifest of {reference}"))
}

impl BlobSource for RegistrySource<'_> {
    fn name(&self) -> String {
        format!("docker://{}", self.reference)
    }

    fn roots(&self) -> Result<Vec<Root>, Error> {
        let names = self.reference.tag().map(|_| self.reference.name().clone());
        Ok(vec![Root { descriptor: self.root.descriptor(), names: names.into_iter().collect() }])
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        if descriptor.digest == self.root.digest {
            return Ok(self.root.clone());
        }
        let found = document(self.client, &self.reference.with_digest(descriptor.digest))?;
        super::verify(descriptor, &found.bytes, || {
            format!("manifest {} of {}", descriptor.digest, self.name())
        })?;
        Ok(found)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let what = || format!("cannot fetch blob {} of {}", descriptor.digest, self.name());
        self.client.blob(&self.reference, descriptor).context(what)
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let what = || format!("cannot list what is said about {subject} in {}", self.name());
        self.client.referrers(&self.reference, subject).context(what)
    }

    fn repository(&self) -> Option<&RegistryReference> {
        Some(&self.reference)
    }
}
