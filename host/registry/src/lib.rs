//! Images in registries: fetched and pushed, whatever the network does.
//!
//! Nothing is given out that was not checked against its digest first, or, of a blob that streams, without an error at its
//! end when it does not match. <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>
//!
//! Own protocol over an HTTP client's: `oci-client` 0.18 resumes and retries nothing, does not see `Retry-After`, knows no
//! identity tokens, and takes a 202 for a mount as an error; what is left of it then is half a dozen URLs.
//!
//! From the bottom up: [`http`] sends one request, [`exchange`] authenticates it and tries until it succeeds, and [`fetch`],
//! [`blob`] and [`push`] know what to ask.

mod blob;
mod certificates;
mod challenge;
mod credentials;
mod endpoint;
mod error;
mod exchange;
mod fetch;
mod http;
mod http_date;
mod push;
mod settings;
mod token;

pub use error::Error;
pub use fetch::{Fetched, schema_1_payload};
pub use push::Pushed;
pub use settings::{Credentials, Mirror, Notify, Settings};

use blob::BlobReader;
use endpoint::Endpoint;
use exchange::Exchange;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Document};
use kiln_image::reference::RegistryReference;
use push::Push;
use std::io::{self, Read};
use std::sync::Arc;

/// Gives a blob's bytes from an offset on, again for each try.
pub type Open<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + 'a;

/// Talks to registries; keeps connections and tokens. May be used by several threads at once.
#[derive(Debug, Clone)]
pub struct Client {
    exchange: Arc<Exchange>,
}

impl Client {
    /// A client that has not connected to anything yet.
    ///
    /// # Errors
    /// None so far.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self { exchange: Arc::new(Exchange::new(settings)) })
    }

    /// The manifest or index of a tag or digest.
    ///
    /// # Errors
    /// When it is not there, is not what its digest says, or the registry fails for too long.
    pub fn manifest(&self, reference: &RegistryReference) -> Result<Fetched, Error> {
        fetch::manifest(&self.exchange, reference)
    }

    /// A blob. Reading resumes by itself where a connection broke. The last read fails when size or digest are not the
    /// descriptor's; so what was read counts only after the end was seen.
    ///
    /// # Errors
    /// When it is not there or the registry fails for too long.
    pub fn blob(
        &self,
        repository: &RegistryReference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let endpoints = Endpoint::all(repository, &self.exchange.settings);
        Ok(Box::new(BlobReader::open(&self.exchange, endpoints, blob)?))
    }

    /// Whether a blob is in a repository.
    ///
    /// # Errors
    /// When the registry fails for too long.
    pub fn has_blob(&self, repository: &RegistryReference, blob: &Descriptor) -> Result<bool, Error> {
        let open = |_| Err(io::ErrorKind::Unsupported.into());
        self.push(repository, blob, &open, &[]).is_there()
    }

    /// A blob that only its digest is known of, as in manifests of schema version 1, by what the registry says of it.
    ///
    /// # Errors
    /// When it is not there or the registry fails for too long.
    pub fn describe_blob(&self, repository: &RegistryReference, digest: Digest) -> Result<Descriptor, Error> {
        let open = |_| Err(io::ErrorKind::Unsupported.into());
        let unknown = Descriptor::new("", digest, 0);
        let size = self.push(repository, &unknown, &open, &[]).size()?;
        Ok(Descriptor { size, ..unknown })
    }

    /// Puts a blob into a repository, unless it is there: mounted from the first of `mount_from` (repositories of the same
    /// registry), else sent.
    ///
    /// # Errors
    /// When the registry refuses it or fails for too long, or the bytes are not the descriptor's.
    pub fn push_blob(
        &self,
        repository: &RegistryReference,
        blob: &Descriptor,
        open: &Open<'_>,
        mount_from: &[RegistryReference],
    ) -> Result<Pushed, Error> {
        self.push(repository, blob, open, mount_from).run()
    }

    fn push<'a>(
        &'a self,
        repository: &RegistryReference,
        blob: &'a Descriptor,
        open: &'a Open<'a>,
        mount_from: &[RegistryReference],
    ) -> Push<'a> {
        let is_near = |other: &&RegistryReference| {
            other.domain() == repository.domain() && other.path() != repository.path()
        };
        let mount_from = mount_from.iter().filter(is_near).map(|other| other.path().to_owned()).collect();
        let endpoint = Endpoint::of(repository, &self.exchange.settings);
        Push { exchange: &self.exchange, endpoint, blob, open, mount_from }
    }

    /// Puts a manifest or index under the reference's tag, or under its own digest if the reference has none. Its blobs have to
    /// be there.
    ///
    /// # Errors
    /// When the registry refuses it or fails for too long.
    pub fn push_manifest(&self, reference: &RegistryReference, document: &Document) -> Result<(), Error> {
        push::manifest(&self.exchange, reference, document)
    }

    /// Tags of a repository, sorted.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn tags(&self, repository: &RegistryReference) -> Result<Vec<String>, Error> {
        fetch::tags(&self.exchange, repository)
    }

    /// Manifests that have this one as `subject`: by the referrers API, else by the tag that stands in for it.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn referrers(
        &self,
        repository: &RegistryReference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        fetch::referrers(&self.exchange, repository, subject)
    }
}

/// Foreign text for a message: short, and without what could steer a terminal.
fn printable(text: &str) -> String {
    const LENGTH_MAX: usize = 300;
    text.chars().filter(|c| !c.is_control()).take(LENGTH_MAX).collect()
}
