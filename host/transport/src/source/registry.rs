//! `docker://`.

use super::{BlobSource, Root};
use crate::Error;
use crate::error::Context;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Document, Schema1, media_type};
use kiln_image::reference::RegistryReference;
use kiln_registry::Client;
use std::io::Read;

/// What a reference leads to.
pub(crate) enum Fetched<'a> {
    /// A document and blobs.
    Source(RegistrySource<'a>),
    /// An image of schema version 1, which has no configuration.
    Schema1(Schema1),
}

/// A repository that is read.
pub(crate) struct RegistrySource<'a> {
    client: &'a Client,
    reference: RegistryReference,
    root: Document,
}

impl<'a> RegistrySource<'a> {
    /// Fetches what the reference leads to.
    pub fn open(client: &'a Client, reference: &RegistryReference) -> Result<Fetched<'a>, Error> {
        let fetched = fetch(client, reference)?;
        if media_type::DOCKER_SCHEMA_1.contains(&fetched.media_type.as_str()) {
            let parsed = Schema1::parse(&fetched.bytes);
            return Ok(Fetched::Schema1(
                parsed.context(|| format!("cannot use the manifest of {reference}"))?,
            ));
        }
        let root = parse(fetched, reference)?;
        Ok(Fetched::Source(Self { client, reference: reference.clone(), root }))
    }
}

fn fetch(client: &Client, reference: &RegistryReference) -> Result<kiln_registry::Fetched, Error> {
    client.manifest(reference).context(|| format!("cannot fetch {reference}"))
}

/// Of schema version 2; one of version 1 can be no part of an index.
fn parse(fetched: kiln_registry::Fetched, reference: &RegistryReference) -> Result<Document, Error> {
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
        let reference = self.reference.with_digest(descriptor.digest);
        let found = parse(fetch(self.client, &reference)?, &reference)?;
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
