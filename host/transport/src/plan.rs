//! What goes into a sink: blobs, documents, and what its index lists. Made from images of the store or from a source;
//! the sinks only put it in place.

use crate::error::Context;
use crate::source::BlobSource;
use crate::{Attachment, Error, ImageAnnotations, OutputImage, OutputSpec, Transport, WrittenImage};
use kiln_image::compress::Format;
use kiln_image::digest::Digest;
use kiln_image::manifest::{
    Annotations, Content, Descriptor, Dialect, Document, Index, Manifest, Platform, media_type,
};
use kiln_image::reference::{ImageName, Location, RegistryReference, TagChoice};
use kiln_store::{Layer, Segment, StoredImage};
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

/// The configuration of an artifact that has none.
const EMPTY: &[u8] = b"{}";

/// All that a sink is to hold.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// Configurations and layers, each once.
    pub blobs: Vec<PlannedBlob<'a>>,
    /// Manifests and indexes, after those they name.
    pub documents: Vec<Document>,
    /// What the sink lists.
    pub tops: Vec<Top>,
    /// Manifests of what is said about images; a layout lists them too.
    pub referrers: Vec<Descriptor>,
    /// Of the layout's own index.
    pub index_annotations: Annotations,
    /// For the report.
    pub images: Vec<WrittenImage>,
    /// Repositories that may have the blobs.
    pub mount_from: Vec<RegistryReference>,
}

/// An image, or an index of several, under its tags.
#[derive(Debug, Clone)]
pub(crate) struct Top {
    pub descriptor: Descriptor,
    pub tags: Vec<String>,
}

/// A blob on its way.
#[derive(Clone)]
pub(crate) struct PlannedBlob<'a> {
    pub descriptor: Descriptor,
    pub bytes: BlobBytes<'a>,
}

/// Where a blob's bytes are.
#[derive(Clone)]
pub(crate) enum BlobBytes<'a> {
    Memory(Arc<Vec<u8>>),
    File(Segment),
    Source(&'a dyn BlobSource),
}

impl PlannedBlob<'_> {
    /// The bytes from an offset.
    pub fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.bytes {
            BlobBytes::Memory(bytes) => {
                let mut reader = Cursor::new(Vec::clone(bytes));
                reader.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(reader))
            }
            BlobBytes::File(segment) => {
                let mut reader = segment.reader();
                reader.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(reader))
            }
            BlobBytes::Source(source) => {
                let mut reader = source.open(&self.descriptor)?;
                io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
                Ok(reader)
            }
        }
    }
}

impl<'a> Plan<'a> {
    /// Adds a blob unless it is there.
    pub fn add_blob(&mut self, descriptor: &Descriptor, bytes: BlobBytes<'a>) {
        if self.blobs.iter().all(|blob| blob.descriptor.digest != descriptor.digest) {
            self.blobs.push(PlannedBlob { descriptor: descriptor.clone(), bytes });
        }
    }

    /// Adds a document unless it is there.
    pub fn add_document(&mut self, document: Document) {
        if self.documents.iter().all(|known| known.digest != document.digest) {
            self.documents.push(document);
        }
    }

    /// Bytes of it all.
    pub fn size(&self) -> u64 {
        let documents: u64 = self.documents.iter().map(|document| document.bytes.len() as u64).sum();
        documents + self.blobs.iter().map(|blob| blob.descriptor.size).sum::<u64>()
    }

    /// The digest that all of it goes by, where there is one.
    pub fn digest(&self) -> Option<Digest> {
        match &self.tops[..] {
            [top] => Some(top.descriptor.digest),
            _ => None,
        }
    }
}

impl Transport<'_> {
    /// The plan of images of the store.
    pub(crate) fn plan(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Plan<'static>, Error> {
        let mut plan = Plan::default();
        for group in groups(images, &spec.dest.location)? {
            self.plan_group(&group, spec, &mut plan)?;
        }
        Ok(plan)
    }

    fn plan_group(
        &self,
        group: &[&OutputImage],
        spec: &OutputSpec,
        plan: &mut Plan<'_>,
    ) -> Result<(), Error> {
        let dialect = dialect(group, spec);
        let mut entries = Vec::new();
        for output in group {
            let document = self.plan_image(output, spec, dialect, plan)?;
            let platform = Platform::of(&output.image.config);
            let descriptor = Descriptor {
                annotations: output.annotations.descriptor.clone(),
                platform: Some(platform.clone()),
                ..document.descriptor()
            };
            plan.images.push(WrittenImage {
                image_id: output.image.image_id,
                manifest: Some(document.digest),
                names: output.names.clone(),
                platform,
            });
            entries.push(descriptor);
        }
        let of_index = merged_index_annotations(group);
        let tags = tags(group, &spec.dest.location);
        let is_layout = is_layout(&spec.dest.location);
        let top = match &entries[..] {
            [only] if is_layout || of_index.is_empty() => {
                plan.index_annotations.extend(of_index);
                only.clone()
            }
            _ => {
                let index = Index { annotations: of_index, ..Index::new(dialect, entries) };
                let document = index.to_document();
                let descriptor = document.descriptor();
                plan.add_document(document);
                descriptor
            }
        };
        plan.tops.push(Top { descriptor: top, tags });
        Ok(())
    }

    fn plan_image(
        &self,
        output: &OutputImage,
        spec: &OutputSpec,
        dialect: Dialect,
        plan: &mut Plan<'_>,
    ) -> Result<Document, Error> {
        let image = &output.image;
        refuse_annotations(&output.annotations, dialect)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let (descriptor, segment) = self.form(layer, spec, dialect)?;
            if let Location::Registry(to) = &spec.dest.location {
                self.add_origin(&descriptor.digest, to, plan)?;
            }
            plan.add_blob(&descriptor, BlobBytes::File(segment));
            layers.push(descriptor);
        }
        let size = image.config_json.len() as u64;
        let config = Descriptor::new(media_type::of_config(dialect), image.image_id, size);
        plan.add_blob(&config, BlobBytes::Memory(Arc::new(image.config_json.clone())));
        let document = manifest(output, dialect, config, layers);
        plan.add_document(document.clone());
        for attachment in &output.attachments {
            attach(attachment, &document, plan);
        }
        Ok(document)
    }

    /// Where the registry may have a blob already.
    fn add_origin(&self, blob: &Digest, to: &RegistryReference, plan: &mut Plan<'_>) -> Result<(), Error> {
        let origin = self.store.origin(blob).context(|| "cannot look into the store".to_owned())?;
        let is_new = |origin: &RegistryReference| {
            origin.domain() == to.domain()
                && plan.mount_from.iter().all(|known| known.path() != origin.path())
        };
        let origin = origin.filter(is_new);
        plan.mount_from.extend(origin);
        Ok(())
    }

    /// A layer in the form it is to have: as it came where that will do, else from the store's compressed forms.
    fn form(
        &self,
        layer: &Layer,
        spec: &OutputSpec,
        dialect: Dialect,
    ) -> Result<(Descriptor, Segment), Error> {
        if let Some(blob) = &layer.blob {
            let format = media_type::layer_format(&blob.descriptor.media_type).unwrap_or(Format::None);
            let will_do = match spec.compression {
                None => true,
                Some(wanted) if spec.force_compression => wanted.format() == format,
                Some(wanted) => format != Format::None || wanted.format() == Format::None,
            };
            if will_do {
                let descriptor = Descriptor {
                    media_type: media_type::of_layer(dialect, format).to_owned(),
                    urls: Vec::new(),
                    ..Descriptor::clone(&blob.descriptor)
                };
                let length = descriptor.size;
                return Ok((descriptor, Segment { file: Arc::clone(&blob.file), offset: 0, length }));
            }
        }
        let compression = spec.compression.unwrap_or(kiln_image::compress::Compression::GZIP);
        let what = || format!("cannot compress layer {}", layer.diff_id);
        let form = self.store.compressed_layer(layer, compression, self.threads).context(what)?;
        let media_type = media_type::of_layer(dialect, compression.format());
        Ok((Descriptor::new(media_type, form.digest, form.segment.length), form.segment))
    }
}

/// The manifest: the one the image came with where that says the same.
fn manifest(output: &OutputImage, dialect: Dialect, config: Descriptor, layers: Vec<Descriptor>) -> Document {
    let made = |annotations: &Annotations, extra: &Annotations| {
        let mut annotations = annotations.clone();
        annotations.extend(extra.clone());
        Manifest { annotations, ..Manifest::new(dialect, config.clone(), layers.clone()) }
    };
    let Some(original) = original(&output.image) else {
        return made(&output.annotations.manifest, &Annotations::new()).to_document();
    };
    let Content::Manifest(known) = &original.content else { unreachable!("checked by `original`") };
    let is_same = known.config.digest == config.digest
        && digests(&known.layers) == digests(&layers)
        && media_type::dialect(&original.media_type) == Some(dialect)
        && output.annotations.manifest.iter().all(|(key, value)| known.annotations.get(key) == Some(value));
    if is_same {
        return original.clone();
    }
    let kept = if dialect == Dialect::Oci { known.annotations.clone() } else { Annotations::new() };
    made(&kept, &output.annotations.manifest).to_document()
}

fn digests(descriptors: &[Descriptor]) -> Vec<Digest> {
    descriptors.iter().map(|descriptor| descriptor.digest).collect()
}

/// The image's own manifest, when it is this image's.
fn original(image: &StoredImage) -> Option<&Document> {
    let document = image.manifest.as_deref()?;
    match &document.content {
        Content::Manifest(manifest) if manifest.config.digest == image.image_id => Some(document),
        _ => None,
    }
}

/// Adds an OCI referrer.
fn attach(attachment: &Attachment, subject: &Document, plan: &mut Plan<'_>) {
    let blob =
        |media_type: &str, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    let config = blob(media_type::OCI_EMPTY, EMPTY);
    let bytes = attachment.about(&subject.digest);
    let layer = blob(&attachment.artifact_type, &bytes);
    plan.add_blob(&config, BlobBytes::Memory(Arc::new(EMPTY.to_vec())));
    plan.add_blob(&layer, BlobBytes::Memory(Arc::new(bytes)));
    let manifest = Manifest {
        artifact_type: Some(attachment.artifact_type.clone()),
        subject: Some(subject.descriptor()),
        annotations: attachment.annotations.clone(),
        ..Manifest::new(Dialect::Oci, config, vec![layer])
    };
    let document = manifest.to_document();
    let descriptor = Descriptor {
        artifact_type: Some(attachment.artifact_type.clone()),
        annotations: attachment.annotations.clone(),
        ..document.descriptor()
    };
    plan.add_document(document);
    plan.referrers.push(descriptor);
}

pub(crate) fn is_layout(location: &Location) -> bool {
    matches!(location, Location::Oci { .. } | Location::OciArchive { .. })
}

/// Images that share a tag, or stand alone.
fn groups<'o>(images: &'o [OutputImage], dest: &Location) -> Result<Vec<Vec<&'o OutputImage>>, Error> {
    let mut groups: Vec<Vec<&OutputImage>> = Vec::new();
    let is_one = !is_layout(dest) || dest_tag(dest).is_some();
    for image in images {
        let same = |group: &&mut Vec<&OutputImage>| {
            is_one || !image.names.is_empty() && group[0].names == image.names
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(image),
            None => groups.push(vec![image]),
        }
    }
    groups.iter().try_for_each(|group| check_platforms(group, dest))?;
    Ok(groups)
}

fn check_platforms(group: &[&OutputImage], dest: &Location) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for output in group {
        let platform = Platform::of(&output.image.config).to_string();
        if !seen.insert(platform.clone()) {
            let message = format!("{dest} cannot hold two images for {platform} under one name");
            return Err(Error::usage(message));
        }
    }
    Ok(())
}

pub(crate) fn dest_tag(dest: &Location) -> Option<&str> {
    match dest {
        Location::Oci { choice: TagChoice::Tag(tag), .. }
        | Location::OciArchive { choice: TagChoice::Tag(tag), .. } => Some(tag),
        _ => None,
    }
}

/// The destination's tag, else the images' names.
fn tags(group: &[&OutputImage], dest: &Location) -> Vec<String> {
    match dest_tag(dest) {
        Some(tag) => vec![tag.to_owned()],
        None => group[0].names.iter().map(ImageName::to_string).collect(),
    }
}

fn dialect(group: &[&OutputImage], spec: &OutputSpec) -> Dialect {
    let of_source = || {
        let original = group.iter().find_map(|output| original(&output.image))?;
        media_type::dialect(&original.media_type)
    };
    spec.dialect.unwrap_or_else(|| match &spec.dest.location {
        location if is_layout(location) => Dialect::Oci,
        Location::Dir { .. } => of_source().unwrap_or(Dialect::Docker),
        _ => of_source().unwrap_or(Dialect::Oci),
    })
}

fn merged_index_annotations(group: &[&OutputImage]) -> Annotations {
    group.iter().flat_map(|output| output.annotations.index.clone()).collect()
}

fn refuse_annotations(annotations: &ImageAnnotations, dialect: Dialect) -> Result<(), Error> {
    if dialect == Dialect::Docker && *annotations != ImageAnnotations::default() {
        return Err(Error::usage("docker's manifests have no annotations; write OCI's"));
    }
    Ok(())
}
