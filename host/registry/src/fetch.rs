//! Manifests, tags and referrers.

use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::exchange::{Exchange, Scope};
use crate::http::{Call, Response, resolve};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kiln_image::digest::Digest;
use kiln_image::manifest::{DOCUMENT_LIMIT, Descriptor, Index, media_type};
use kiln_image::reference::RegistryReference;
use serde::Deserialize;
use ureq::http::{Method, header};

/// Pages of a list: a registry that gives more is refused.
const PAGES_MAX: u32 = 1000;

/// A manifest as a registry gave it, whatever its schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The bytes, checked against the digest that was asked for or that the registry announced.
    pub bytes: Vec<u8>,
    /// `Content-Type`, without parameters.
    pub media_type: String,
    /// Of the bytes (of signed schema 1: of its payload).
    pub digest: Digest,
}

/// All that kiln reads.
fn accepted() -> String {
    let types = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
    ];
    types.iter().chain(&media_type::DOCKER_SCHEMA_1).copied().collect::<Vec<_>>().join(", ")
}

/// A manifest, from the first place that has it.
pub(crate) fn manifest(exchange: &Exchange, reference: &RegistryReference) -> Result<Fetched, Error> {
    let mut endpoints = Endpoint::all(reference, &exchange.settings);
    let own = endpoints.pop().expect("the registry itself");
    for mirror in endpoints {
        match manifest_at(exchange, &mirror, reference) {
            Err(error) if error.may_be_elsewhere() => {
                exchange.settings.notify.say(&format!("mirror {}: {error}; asking elsewhere", mirror.host));
            }
            result => return result,
        }
    }
    manifest_at(exchange, &own, reference)
}

fn manifest_at(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &RegistryReference,
) -> Result<Fetched, Error> {
    let name = reference.manifest_reference();
    let call = Call::new(Method::GET, exchange.url(endpoint, &format!("manifests/{name}")))
        .header(header::ACCEPT, accepted());
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut response = exchange.ask(endpoint, &call, &pull(endpoint), &[])?;
        if response.status != 200 {
            let what = format!("manifest {name} of {}", endpoint.host);
            return Err(Kind::Answer { what, why: format!("it answered {}", response.status) }.into());
        }
        match body(&mut response, &format!("manifest {name} of {}", endpoint.host)) {
            Ok(bytes) => return check_manifest(bytes, &response, reference, endpoint),
            Err(error) if attempts > exchange.settings.retries => return Err(error),
            Err(error) => {
                exchange.settings.notify.say(&format!("{error}; trying again"));
                std::thread::sleep(exchange.backoff(attempts));
            }
        }
    }
}

fn pull(endpoint: &Endpoint) -> [Scope; 1] {
    [Scope { path: endpoint.path.clone(), actions: "pull" }]
}

/// A whole document.
fn body(response: &mut Response, what: &str) -> Result<Vec<u8>, Error> {
    let refused = |why: String| Kind::Answer { what: what.to_owned(), why };
    let announced: Option<u64> = response.header("content-length").and_then(|length| length.parse().ok());
    let (bytes, is_all) =
        response.read(DOCUMENT_LIMIT).map_err(|error| refused(crate::printable(&error.to_string())))?;
    if !is_all {
        return Err(refused(format!("it has more than {DOCUMENT_LIMIT} bytes")).into());
    }
    if let Some(expected) = announced.filter(|announced| *announced != bytes.len() as u64) {
        return Err(Kind::Size { what: what.to_owned(), expected, got: bytes.len() as u64 }.into());
    }
    Ok(bytes)
}

fn check_manifest(
    bytes: Vec<u8>,
    response: &Response,
    reference: &RegistryReference,
    endpoint: &Endpoint,
) -> Result<Fetched, Error> {
    let content_type = response.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let is_signed = media_type == media_type::DOCKER_SCHEMA_1[1];
    let digest = match schema_1_payload(&bytes).filter(|_| is_signed) {
        Some(payload) => Digest::of(&payload),
        None => Digest::of(&bytes),
    };
    let announced = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    let what =
        || format!("manifest {} of {}/{}", reference.manifest_reference(), endpoint.host, endpoint.path);
    for expected in reference.digest().copied().into_iter().chain(announced) {
        if expected != digest {
            return Err(Kind::DigestMismatch { what: what(), expected, got: digest }.into());
        }
    }
    if is_signed && schema_1_payload(&bytes).is_some_and(|payload| !says_the_same(&bytes, &payload)) {
        return Err(Kind::Answer { what: what(), why: "it is not what was signed".to_owned() }.into());
    }
    Ok(Fetched { bytes, media_type, digest })
}

/// Whether a signed manifest says no more and nothing else than its payload, which is all that its digest is of. A signature
/// quotes any part of the payload itself, so that by its digest alone it would prove nothing of what stands around it.
fn says_the_same(signed: &[u8], payload: &[u8]) -> bool {
    let parse = |bytes| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes);
    let (Ok(mut signed), Ok(payload)) = (parse(signed), parse(payload)) else { return false };
    signed.remove("signatures");
    signed == payload
}

/// What a signed manifest of schema 1 was before it was signed; `None` when it is not signed.
/// <https://distribution.github.io/distribution/spec/manifest-v2-1/#signed-manifests>
pub fn schema_1_payload(bytes: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Signed {
        signatures: Vec<Signature>,
    }
    #[derive(Deserialize)]
    struct Signature {
        protected: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Protected {
        format_length: usize,
        format_tail: String,
    }
    let signed: Signed = serde_json::from_slice(bytes).ok()?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let protected: Protected =
        serde_json::from_slice(&decode(&signed.signatures.first()?.protected)?).ok()?;
    let mut payload = bytes.get(..protected.format_length)?.to_vec();
    payload.extend(decode(&protected.format_tail)?);
    Some(payload)
}

/// All tags, sorted.
pub(crate) fn tags(exchange: &Exchange, repository: &RegistryReference) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let endpoint = Endpoint::of(repository, &exchange.settings);
    let mut tags = Vec::new();
    let url = exchange.url(&endpoint, "tags/list?n=1000");
    pages(exchange, &endpoint, url, "tags", |bytes| {
        let page: Page = serde_json::from_slice(bytes)?;
        tags.extend(page.tags.unwrap_or_default());
        Ok(())
    })?;
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// By the API, else by the tag that stands in for it.
pub(crate) fn referrers(
    exchange: &Exchange,
    repository: &RegistryReference,
    subject: &Digest,
) -> Result<Vec<Descriptor>, Error> {
    let endpoint = Endpoint::of(repository, &exchange.settings);
    let mut found = Vec::new();
    let url = exchange.url(&endpoint, &format!("referrers/{subject}"));
    let asked = pages(exchange, &endpoint, url, "referrers", |bytes| {
        let index: Index = serde_json::from_slice(bytes)?;
        found.extend(index.manifests);
        Ok(())
    });
    match asked {
        Ok(()) => Ok(found),
        Err(error) if matches!(error.status(), Some(400 | 404 | 405)) => {
            tagged_referrers(exchange, repository, subject)
        }
        Err(error) => Err(error),
    }
}

/// The index under the tag `sha256-...`.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
pub(crate) fn tagged_referrers(
    exchange: &Exchange,
    repository: &RegistryReference,
    subject: &Digest,
) -> Result<Vec<Descriptor>, Error> {
    let endpoint = Endpoint::of(repository, &exchange.settings);
    let url = exchange.url(&endpoint, &format!("manifests/{}", referrers_tag(subject)));
    let call = Call::new(Method::GET, url).header(header::ACCEPT, media_type::OCI_INDEX);
    let mut response = exchange.ask(&endpoint, &call, &pull(&endpoint), &[404])?;
    if response.status == 404 {
        return Ok(Vec::new());
    }
    let what = "list of referrers";
    let bytes = body(&mut response, what)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Kind::Answer { what: what.to_owned(), why: error.to_string() })?;
    Ok(index.manifests)
}

/// The tag that stands in for the API.
pub(crate) fn referrers_tag(subject: &Digest) -> String {
    subject.to_string().replace(':', "-")
}

fn pages(
    exchange: &Exchange,
    endpoint: &Endpoint,
    first: String,
    what: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), serde_json::Error>,
) -> Result<(), Error> {
    let refused = |why: String| Kind::Answer { what: format!("list of {what} of {}", endpoint.path), why };
    let mut url = first;
    for _ in 0..PAGES_MAX {
        let mut response = exchange.ask(endpoint, &Call::new(Method::GET, url), &pull(endpoint), &[])?;
        let bytes = body(&mut response, &format!("list of {what}"))?;
        take(&bytes).map_err(|error| refused(error.to_string()))?;
        match next_page(&response) {
            Some(next) => url = next,
            None => return Ok(()),
        }
    }
    Err(refused(format!("it has more than {PAGES_MAX} pages")).into())
}

/// `Link: </v2/...>; rel="next"`. <https://datatracker.ietf.org/doc/html/rfc8288>
fn next_page(response: &Response) -> Option<String> {
    let link =
        response.header("link").filter(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let next = resolve(&response.url, target)?;
    // Elsewhere nobody is asked with our token.
    (crate::http::host_of(&next) == crate::http::host_of(&response.url)).then_some(next)
}
