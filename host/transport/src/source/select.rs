//! Which image of an index is meant.

use super::BlobSource;
use crate::Error;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Content, Descriptor, Document, Manifest, Platform, REF_NAME, media_type};

/// Indexes within indexes. Nobody makes more than two; a layout made to do harm may.
const DEPTH_LIMIT: usize = 8;

/// An image that was found.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// The manifest.
    pub document: Document,
    /// What the index says of it.
    pub descriptor: Descriptor,
    /// Of the indexes on the way and of the manifest.
    pub digests: Vec<Digest>,
    /// The innermost index on the way.
    pub index: Option<Document>,
}

impl Selected {
    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        match &self.document.content {
            Content::Manifest(manifest) => manifest,
            Content::Index(_) => unreachable!("only manifests are selected"),
        }
    }
}

/// The image for a platform among `candidates`, which may be indexes. `pinned` is a digest that says more: of an index or
/// manifest.
pub(crate) fn select(
    source: &dyn BlobSource,
    candidates: &[Descriptor],
    platform: &Platform,
    pinned: Option<&Digest>,
) -> Result<Selected, Error> {
    let (mut candidates, mut digests, mut index) = (candidates.to_vec(), Vec::new(), None);
    for depth in 0..DEPTH_LIMIT {
        if depth == 0 {
            check_choice(source, &candidates, platform, pinned)?;
        }
        let descriptor = one(source, &candidates, platform, pinned)?;
        let document = source.document(&descriptor)?;
        digests.push(document.digest);
        match &document.content {
            Content::Manifest(_) => return Ok(Selected { document, descriptor, digests, index }),
            Content::Index(content) => candidates = content.manifests.clone(),
        }
        index = Some(document);
    }
    let why = format!("it has indexes in indexes, more than {DEPTH_LIMIT} deep");
    Err(Error::corrupt(source.name(), why))
}

/// Whether an index's entry may be an image: not what is said about one.
pub(crate) fn is_image(descriptor: &Descriptor) -> bool {
    let unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    let known = descriptor.media_type.is_empty()
        || media_type::is_known(&descriptor.media_type)
        || media_type::DOCKER_SCHEMA_1.contains(&descriptor.media_type.as_str());
    known && descriptor.artifact_type.is_none() && !unknown
}

/// Within an index the first that fits is meant, but what a layout lists are images of their own: there has to be one only.
fn check_choice(
    source: &dyn BlobSource,
    candidates: &[Descriptor],
    platform: &Platform,
    pinned: Option<&Digest>,
) -> Result<(), Error> {
    let may_be = |candidate: &&Descriptor| {
        is_image(candidate) && candidate.platform.as_ref().is_none_or(|offered| platform.accepts(offered))
    };
    let fitting: Vec<&Descriptor> = candidates.iter().filter(may_be).collect();
    let is_pinned = candidates.iter().any(|candidate| Some(&candidate.digest) == pinned);
    let differ = |a: &Descriptor, b: &Descriptor| {
        a.digest != b.digest && (a.platform == b.platform || a.platform.is_none() || b.platform.is_none())
    };
    if is_pinned || !fitting.windows(2).any(|pair| differ(pair[0], pair[1])) {
        return Ok(());
    }
    let tags: Vec<&str> =
        fitting.iter().filter_map(|entry| entry.annotations.get(REF_NAME).map(String::as_str)).collect();
    let which = if tags.is_empty() {
        "`:@INDEX`, from 0".to_owned()
    } else {
        format!("its tag, one of {}", tags.join(", "))
    };
    Err(Error::usage(format!("{} holds {} images; choose one by {which}", source.name(), fitting.len())))
}

fn one(
    source: &dyn BlobSource,
    candidates: &[Descriptor],
    platform: &Platform,
    pinned: Option<&Digest>,
) -> Result<Descriptor, Error> {
    if let Some(found) = candidates.iter().find(|candidate| Some(&candidate.digest) == pinned) {
        return Ok(found.clone());
    }
    let images: Vec<&Descriptor> = candidates.iter().filter(|candidate| is_image(candidate)).collect();
    if let [only] = images[..]
        && (only.platform.is_none() || media_type::is_index(&only.media_type))
    {
        return Ok(only.clone());
    }
    let accepted = |candidate: &&&Descriptor| {
        candidate.platform.as_ref().is_some_and(|offered| platform.accepts(offered))
    };
    let mut fitting: Vec<&Descriptor> = images.iter().filter(accepted).copied().collect();
    // Without a variant the plain one is meant, where there is one.
    fitting.sort_by_key(|candidate| {
        let variant = candidate.platform.as_ref().map(|offered| &offered.variant);
        variant != Some(&platform.variant)
    });
    match fitting.first() {
        Some(found) => Ok((*found).clone()),
        None => Err(none(source, &images, platform)),
    }
}

fn none(source: &dyn BlobSource, images: &[&Descriptor], platform: &Platform) -> Error {
    let name = source.name();
    if images.is_empty() {
        return Error::usage(format!("{name} holds no image"));
    }
    let offered: Vec<String> = images.iter().map(|image| shown(image)).collect();
    Error::usage(format!("{name} has no image for {platform}, only {}", offered.join(", ")))
}

fn shown(descriptor: &Descriptor) -> String {
    match &descriptor.platform {
        Some(platform) => platform.to_string(),
        None => format!("{} of unknown platform", descriptor.digest),
    }
}
