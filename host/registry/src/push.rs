//! Blobs and manifests on their way to a registry.
//!
//! A blob goes in a session: `POST uploads/` opens it (or mounts the blob from another repository of the registry), `PATCH`
//! appends, `PUT` with the digest closes it. A session that breaks in pieces goes on where the registry says it stands; one
//! request with all of it begins anew.
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#push>

use crate::Open;
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::exchange::{Exchange, Scope};
use crate::fetch;
use crate::http::{Call, Outgoing, Response, resolve};
use crate::token::encode;
use kiln_image::digest::{Digest, Hasher};
use kiln_image::manifest::{Content, Descriptor, Dialect, Document, Index, media_type};
use kiln_image::reference::RegistryReference;
use std::io::{self, Read};
use ureq::http::{Method, header};

/// What a blob is sent as.
const OCTETS: &str = "application/octet-stream";

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

/// A blob for a repository.
pub(crate) struct Push<'a> {
    pub exchange: &'a Exchange,
    pub endpoint: Endpoint,
    pub blob: &'a Descriptor,
    pub open: &'a Open<'a>,
    /// Other repositories of the registry.
    pub mount_from: Vec<String>,
}

impl<'a> Push<'a> {
    pub fn run(&self) -> Result<Pushed, Error> {
        if self.is_there()? {
            return Ok(Pushed::Existed);
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sent = match self.begin(attempts == 1)? {
                None => return Ok(Pushed::Mounted),
                Some(session) => self.upload(session),
            };
            match sent {
                Ok(()) => return Ok(Pushed::Uploaded),
                Err(error) if attempts > self.exchange.settings.retries || !is_worth_another(&error) => {
                    return Err(error.tried(attempts));
                }
                Err(error) => {
                    let wait = self.exchange.backoff(attempts);
                    self.exchange
                        .settings
                        .notify
                        .say(&format!("{error}; sending it again in {:.1} s", wait.as_secs_f64()));
                    std::thread::sleep(wait);
                }
            }
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        let own = Scope { path: self.endpoint.path.clone(), actions: "pull,push" };
        let others = self.mount_from.iter().take(1).map(|path| Scope { path: path.clone(), actions: "pull" });
        [own].into_iter().chain(others).collect()
    }

    pub fn is_there(&self) -> Result<bool, Error> {
        let url = self.exchange.url(&self.endpoint, &format!("blobs/{}", self.blob.digest));
        let response =
            self.exchange.ask(&self.endpoint, &Call::new(Method::HEAD, url), &self.scopes(), &[404])?;
        let length = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
        Ok(response.status == 200 && length.is_none_or(|length| length == self.blob.size))
    }

    /// What the registry says a blob's size is.
    pub fn size(&self) -> Result<u64, Error> {
        let url = self.exchange.url(&self.endpoint, &format!("blobs/{}", self.blob.digest));
        let scopes = [Scope { path: self.endpoint.path.clone(), actions: "pull" }];
        let response = self.exchange.ask(&self.endpoint, &Call::new(Method::HEAD, url), &scopes, &[])?;
        let length = response.header("content-length").and_then(|length| length.parse().ok());
        let missing = || Kind::Answer {
            what: format!("blob {}", self.blob.digest),
            why: "the registry does not say how large it is".to_owned(),
        };
        Ok(length.ok_or_else(missing)?)
    }

    /// Opens a session and gives its URL; `None` when the blob could be mounted instead.
    fn begin(&self, may_mount: bool) -> Result<Option<String>, Error> {
        let uploads = self.exchange.url(&self.endpoint, "blobs/uploads/");
        let source = self.mount_from.first().filter(|_| may_mount);
        let url = match source {
            Some(from) => {
                format!("{uploads}?mount={}&from={}", encode(&self.blob.digest.to_string()), encode(from))
            }
            None => uploads.clone(),
        };
        let open = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::empty())) };
        let call = |url| Call {
            body: Some(Outgoing { content_type: OCTETS, length: 0, open: &open }),
            ..Call::new(Method::POST, url)
        };
        // Without the right to read the source a registry may refuse, rather than open a session.
        let refusals: &[u16] = if source.is_some() { &[400, 401, 403, 404, 405] } else { &[] };
        let mut response = self.exchange.ask(&self.endpoint, &call(url), &self.scopes(), refusals)?;
        if response.status >= 400 {
            response = self.exchange.ask(&self.endpoint, &call(uploads), &self.scopes(), &[])?;
        }
        match response.status {
            201 => Ok(None),
            202 => location(&response).map(Some),
            status => Err(self.unexpected(status)),
        }
    }

    fn upload(&self, session: String) -> Result<(), Error> {
        let session = match self.exchange.settings.chunk_size {
            Some(size) if size < self.blob.size => self.send_chunks(session, size)?,
            _ => return self.close(&session, 0),
        };
        self.close(&session, self.blob.size)
    }

    /// Sends all of it in pieces; gives the session's last URL.
    fn send_chunks(&self, mut session: String, size: u64) -> Result<String, Error> {
        let (mut offset, mut failures) = (0, 0);
        while offset < self.blob.size {
            let end = self.blob.size.min(offset.saturating_add(size.max(1)));
            match self.send_chunk(&session, offset, end) {
                Ok(next) => (session, offset, failures) = (next, end, 0),
                Err(error) if failures >= self.exchange.settings.retries || !is_worth_another(&error) => {
                    return Err(error);
                }
                Err(error) => {
                    failures += 1;
                    self.exchange.settings.notify.say(&format!("{error}; going on"));
                    std::thread::sleep(self.exchange.backoff(failures));
                    (session, offset) = self.status(&session)?;
                }
            }
        }
        Ok(session)
    }

    fn send_chunk(&self, session: &str, start: u64, end: u64) -> Result<String, Error> {
        let open =
            || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new((self.open)(start)?.take(end - start))) };
        let body = Some(Outgoing { content_type: OCTETS, length: end - start, open: &open });
        let call = Call { body, ..Call::new(Method::PATCH, session.to_owned()) };
        let call = call.header(header::CONTENT_RANGE, format!("{start}-{}", end - 1));
        // Not sent again as it is: some of it may have arrived.
        let response = self.exchange.ask_times(&self.endpoint, &call, &self.scopes(), &[], 0)?;
        match response.status {
            202 | 204 => location(&response),
            status => Err(self.unexpected(status)),
        }
    }

    /// How far a session is, and its URL now.
    fn status(&self, session: &str) -> Result<(String, u64), Error> {
        let call = Call::new(Method::GET, session.to_owned());
        let response = self.exchange.ask(&self.endpoint, &call, &self.scopes(), &[])?;
        let last = response.header("range").and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
        // `0-0` is nothing, or one byte: sending it again is refused at the worst, and begun anew.
        let offset = last.filter(|last| *last > 0).map_or(0, |last| last + 1).min(self.blob.size);
        Ok((location(&response).unwrap_or_else(|_| session.to_owned()), offset))
    }

    /// Sends the rest, from `offset`, and closes the session.
    fn close(&self, session: &str, offset: u64) -> Result<(), Error> {
        let separator = if session.contains('?') { '&' } else { '?' };
        let url = format!("{session}{separator}digest={}", encode(&self.blob.digest.to_string()));
        let open = || -> io::Result<Box<dyn Read + Send>> {
            if offset == self.blob.size && offset > 0 {
                return Ok(Box::new(io::empty()));
            }
            Ok(Box::new(Checked::new((self.open)(offset)?, self.blob)))
        };
        let body = Some(Outgoing { content_type: OCTETS, length: self.blob.size - offset, open: &open });
        let call = Call { body, ..Call::new(Method::PUT, url) };
        let response = self.exchange.ask_times(&self.endpoint, &call, &self.scopes(), &[], 0)?;
        match response.status {
            201 | 204 => check_digest(&response, &self.blob.digest),
            status => Err(self.unexpected(status)),
        }
    }

    fn unexpected(&self, status: u16) -> Error {
        let what = format!("registry {}", self.endpoint.host);
        Kind::Answer { what, why: format!("it answered {status} while blob {} was sent", self.blob.digest) }
            .into()
    }
}

/// Whether to begin anew may help: not when the registry has said no, or the bytes are not the right ones.
fn is_worth_another(error: &Error) -> bool {
    let refused = error.status().is_some_and(|status| matches!(status, 401 | 403 | 405 | 413));
    !refused && error.may_be_elsewhere() && !error.is_digest_mismatch() && !error.is_wrong_size()
}

fn location(response: &Response) -> Result<String, Error> {
    let target = response.header("location").and_then(|location| resolve(&response.url, location));
    let missing = || Kind::Answer {
        what: crate::http::without_query(&response.url),
        why: "the answer has no `Location`".to_owned(),
    };
    Ok(target.ok_or_else(missing)?)
}

fn check_digest(response: &Response, expected: &Digest) -> Result<(), Error> {
    let announced = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    match announced {
        Some(got) if got != *expected => {
            let what = "what the registry has stored".to_owned();
            Err(Kind::DigestMismatch { what, expected: *expected, got }.into())
        }
        _ => Ok(()),
    }
}

/// Bytes that fail to be read at their end when they are not the blob's.
struct Checked {
    inner: Box<dyn Read + Send>,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    position: u64,
}

impl Checked {
    fn new(inner: Box<dyn Read + Send>, blob: &Descriptor) -> Self {
        Self { inner, hasher: Some(Hasher::new()), digest: blob.digest, size: blob.size, position: 0 }
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        let is_end = (count == 0 && !buffer.is_empty()) || self.position >= self.size;
        if is_end && let Some(hasher) = self.hasher.take() {
            let what = format!("blob {} to be sent", self.digest);
            if self.position != self.size {
                return Err(Error::from(Kind::Size { what, expected: self.size, got: self.position }).into());
            }
            let got = hasher.finish().digest;
            if got != self.digest {
                return Err(Error::from(Kind::DigestMismatch { what, expected: self.digest, got }).into());
            }
        }
        Ok(count)
    }
}

/// Puts a manifest under its tag or digest, and into the list of its subject's referrers where the registry keeps none itself.
pub(crate) fn manifest(
    exchange: &Exchange,
    reference: &RegistryReference,
    document: &Document,
) -> Result<(), Error> {
    let endpoint = Endpoint::of(reference, &exchange.settings);
    let name = match (reference.tag(), reference.digest()) {
        (Some(tag), _) => tag.to_owned(),
        (None, _) => document.digest.to_string(),
    };
    let response = put(exchange, &endpoint, &name, document)?;
    check_digest(&response, &document.digest)?;
    let subject = match &document.content {
        Content::Manifest(manifest) => manifest.subject.as_ref(),
        Content::Index(index) => index.subject.as_ref(),
    };
    match subject {
        Some(subject) if response.header("oci-subject").is_none() => {
            list_referrer(exchange, &endpoint, reference, &subject.digest, document)
        }
        _ => Ok(()),
    }
}

fn put(exchange: &Exchange, endpoint: &Endpoint, name: &str, document: &Document) -> Result<Response, Error> {
    let open =
        || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::Cursor::new(document.bytes.clone()))) };
    let length = document.bytes.len() as u64;
    let body = Some(Outgoing { content_type: &document.media_type, length, open: &open });
    let url = exchange.url(endpoint, &format!("manifests/{name}"));
    let scopes = [Scope { path: endpoint.path.clone(), actions: "pull,push" }];
    exchange.ask(endpoint, &Call { body, ..Call::new(Method::PUT, url) }, &scopes, &[])
}

fn list_referrer(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &RegistryReference,
    subject: &Digest,
    document: &Document,
) -> Result<(), Error> {
    let mut listed = fetch::tagged_referrers(exchange, reference, subject)?;
    if listed.iter().any(|descriptor| descriptor.digest == document.digest) {
        return Ok(());
    }
    let mut descriptor = document.descriptor();
    if let Content::Manifest(manifest) = &document.content {
        let of_config =
            Some(manifest.config.media_type.clone()).filter(|config| config != media_type::OCI_EMPTY);
        descriptor.artifact_type = manifest.artifact_type.clone().or(of_config);
        descriptor.annotations = manifest.annotations.clone();
    }
    listed.push(descriptor);
    let index = Index::new(Dialect::Oci, listed).to_document();
    put(exchange, endpoint, &fetch::referrers_tag(subject), &index).map(drop)
}
