//! Bills of materials: what is in an image, for programs that look for licences and vulnerabilities.
//!
//! Both formats describe the image as the root, with its digest, and the packages and the distribution as
//! contained in it. Lists are sorted and the document's name is made from what it says
//! ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562) version 8 of format, image digest, time and
//! kiln's version), so one image has one document. An inventory with
//! [unread databases](crate::packages::Inventory::unread) makes a document that says it is not complete.

mod cyclonedx;
mod spdx;
#[cfg(test)]
mod tests;

use crate::packages::{Inventory, Package};
use crate::purl;
use kiln_image::config::Timestamp;
use kiln_image::digest::Digest;
use kiln_image::manifest::Platform;
use serde::Serialize;

pub use cyclonedx::cyclonedx;
pub use spdx::spdx;

/// The image a document is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// What it is called: `example.org/team/app:1.0`, or a file's name. Not empty.
    pub name: String,
    /// Of its configuration.
    pub image_id: Digest,
    /// Of its manifest, when that is known already: it differs with how the layers are compressed.
    pub manifest: Option<Digest>,
    /// What it runs on, if known.
    pub platform: Option<Platform>,
}

impl Subject {
    /// What the document calls the image's digest: the manifest's, else the configuration's.
    fn digest(&self) -> Digest {
        self.manifest.unwrap_or(self.image_id)
    }
}

/// How a document came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// When: for reproducible documents the image's own time.
    pub created: Timestamp,
    /// kiln's version: `1.0.0`.
    pub tool_version: String,
}

/// What kiln calls itself in documents.
const TOOL: &str = "kiln";

/// A document's name: `urn:uuid:` and a UUID.
fn document_urn(format: &str, subject: &Subject, creation: &Creation) -> String {
    let (digest, created) = (subject.digest().to_string(), creation.created.to_string());
    format!("urn:uuid:{}", crate::uuid::of(&[format, &digest, &created, &creation.tool_version]))
}

/// An image's purl has the digest of its manifest.
fn image_purl(subject: &Subject) -> Option<String> {
    let manifest = subject.manifest.as_ref()?;
    Some(purl::of_image(&subject.name, manifest, subject.platform.as_ref()))
}

/// A package's name inside of documents: readable, and apart from all others by what it is and which
/// file says so. Letters, digits, `.` and `-`.
fn reference(package: &Package, purl: &str) -> String {
    let digest = Digest::of(format!("{purl}\0{}", package.database).as_bytes()).hex();
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => character,
        _ => '-',
    };
    let name: String = package.name.chars().map(plain).collect();
    format!("Package-{}-{name}-{}", package.manager, &digest[..16])
}

/// Each package with its purl and its reference. Two that differ in neither are one.
fn entries(inventory: &Inventory) -> Vec<Entry<'_>> {
    let entry = |package| {
        let purl = Package::purl(package, inventory.distribution.as_ref());
        Entry { package, reference: reference(package, &purl), purl }
    };
    let mut entries: Vec<_> = inventory.packages.iter().map(entry).collect();
    entries.sort_by(|a, b| (a.package, &a.reference).cmp(&(b.package, &b.reference)));
    let mut seen = std::collections::HashSet::new();
    entries.retain(|entry| seen.insert(entry.reference.clone()));
    entries
}

struct Entry<'a> {
    package: &'a Package,
    purl: String,
    reference: String,
}

/// Why a document is not complete, if so.
fn incomplete(inventory: &Inventory) -> Option<String> {
    let reasons: Vec<_> = inventory.unread.iter().map(|unread| unread.why.as_str()).collect();
    (!reasons.is_empty()).then(|| format!("Not complete: {}", reasons.join("; ")))
}

/// A web address that documents may carry: `http` or `https`, of characters that addresses have.
fn web_address(homepage: Option<&String>) -> Option<&str> {
    let address = homepage?;
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}[]%".contains(&byte);
    let host = rest.split(['/', '?', '#']).next()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    (host.contains('.') && host.bytes().all(is_host) && rest.bytes().all(is_plain)).then_some(address)
}

/// Indented, with a final newline: people read it too.
fn to_json(document: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(document).expect("strings, lists and numbers are JSON");
    json.push(b'\n');
    json
}
