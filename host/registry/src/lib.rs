//! Images in registries: fetched and pushed, whatever the network does.
//!
//! Nothing is given out that was not checked against its digest first, or, of a blob that streams, without an error at its
//! end when it does not match. <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Document};
use kiln_image::reference::RegistryReference;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// A failed request.
#[derive(Debug, thiserror::Error)]
#[error("not built yet")]
pub struct Error;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--creds`: for every registry, instead of what the files say.
    pub credentials: Option<Credentials>,
    /// Files with credentials in the form of docker's `config.json`, the first that has an answer counts. The caller finds
    /// them by `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `XDG_RUNTIME_DIR` and home.
    pub auth_files: Vec<PathBuf>,
    /// `--tls-verify`: false takes any certificate, and plain HTTP where there is no TLS.
    pub tls_verify: bool,
    /// Directories with one directory for each `HOST[:PORT]`, in which `*.crt` are further authorities, as docker's and podman's
    /// `certs.d`.
    pub certificate_directories: Vec<PathBuf>,
    /// What is asked before a registry itself.
    pub mirrors: Vec<Mirror>,
    /// How often a request is tried again.
    pub retries: u32,
    /// The wait before the first retry; it doubles each time, with some chance, and `Retry-After` counts more.
    pub backoff: Duration,
    /// A connection on which nothing comes for this long is broken.
    pub idle_timeout: Duration,
    /// Bytes of a blob in one request when pushing; all at once if `None`.
    pub chunk_size: Option<u64>,
}

/// A name and a password, or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Where images of a registry, or of a part of it, are asked for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `docker.io`, or `docker.io/library`.
    pub prefix: String,
    /// `mirror.example.org`, or `mirror.example.org/docker`; takes the prefix's place.
    pub location: String,
    /// As [`Settings::tls_verify`].
    pub tls_verify: bool,
}

/// Talks to registries; keeps connections and tokens. May be used by several threads at once.
#[derive(Debug)]
pub struct Client {}

/// A manifest as a registry gave it, whatever its schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The bytes, checked against the digest that was asked for or that the registry announced.
    pub bytes: Vec<u8>,
    /// `Content-Type`.
    pub media_type: String,
    /// Of the bytes (of schema 1: of its payload).
    pub digest: Digest,
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// From another repository of the same registry.
    Mounted,
    /// Sent.
    Uploaded,
}

impl Client {
    /// A client that has not connected to anything yet.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new(_settings: Settings) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The manifest or index of a tag or digest.
    ///
    /// # Errors
    /// When it is not there, is not what its digest says, or the registry fails for too long.
    pub fn manifest(&self, _reference: &RegistryReference) -> Result<Fetched, Error> {
        todo!()
    }

    /// A blob. Reading resumes by itself where a connection broke. The last read fails when size or digest are not the
    /// descriptor's; so what was read counts only after the end was seen.
    ///
    /// # Errors
    /// When it is not there or the registry fails for too long.
    pub fn blob(
        &self,
        _repository: &RegistryReference,
        _blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, Error> {
        todo!()
    }

    /// Whether a blob is in a repository.
    ///
    /// # Errors
    /// When the registry fails for too long.
    pub fn has_blob(&self, _repository: &RegistryReference, _blob: &Descriptor) -> Result<bool, Error> {
        todo!()
    }

    /// Puts a blob into a repository, unless it is there: mounted from one of `mount_from` (repositories of the same
    /// registry), else sent. `open` gives the bytes from an offset, again for each try.
    ///
    /// # Errors
    /// When the registry refuses it or fails for too long, or the bytes are not the descriptor's.
    pub fn push_blob(
        &self,
        _repository: &RegistryReference,
        _blob: &Descriptor,
        _open: &dyn Fn(u64) -> std::io::Result<Box<dyn Read + Send>>,
        _mount_from: &[RegistryReference],
    ) -> Result<Pushed, Error> {
        todo!()
    }

    /// Puts a manifest or index under the reference's tag, or under its own digest if the reference has none. Its blobs have to
    /// be there.
    ///
    /// # Errors
    /// When the registry refuses it or fails for too long.
    pub fn push_manifest(&self, _reference: &RegistryReference, _document: &Document) -> Result<(), Error> {
        todo!()
    }

    /// Tags of a repository, sorted.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn tags(&self, _repository: &RegistryReference) -> Result<Vec<String>, Error> {
        todo!()
    }

    /// Manifests that have this one as `subject`: by the referrers API, else by the tag that stands in for it.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn referrers(
        &self,
        _repository: &RegistryReference,
        _subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        todo!()
    }
}

/// Never shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
