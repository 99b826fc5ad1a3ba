//! Images into the store.

use crate::error::{Context, Kind};
use crate::progress::Progress;
use crate::source::{
    BlobSource, DirectorySource, Fetched, Found, LayoutSource, RegistrySource, Root, Selected, detect, open,
    rootfs, select,
};
use crate::{Error, Event, ImageAnnotations, Imported, Transport};
use kiln_image::compress::Decompressor;
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Content, Descriptor, Manifest, Platform, Schema1, media_type};
use kiln_image::reference::{Choice, ImageReference, Location, RegistryReference, TagChoice};
use kiln_store::{Layer, StoredImage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

/// Indexes in indexes, and documents in all of them, when all images are wanted; real ones have two levels and some dozens.
const DEPTH_MAX: usize = 8;
const DOCUMENTS_MAX: usize = 1000;

/// A place that was opened.
pub(crate) enum Opened<'a> {
    /// One with documents and blobs.
    Blobs(Box<dyn BlobSource + 'a>),
    /// An image of schema version 1.
    Schema1(RegistryReference, Schema1),
    /// An archive of docker, a root file system or nothing; the file where it is open already.
    Other(Location, Option<File>),
}

impl<'a> Transport<'a> {
    /// Finds out what is at a place.
    pub(crate) fn open(&self, location: &Location) -> Result<Opened<'a>, Error> {
        Ok(Opened::Blobs(match location {
            Location::Path { path } => {
                let Found { location, file } = detect(path, self.store)?;
                return match (&location, file) {
                    (Location::OciArchive { choice, .. }, Some(file)) => {
                        Ok(Opened::Blobs(self.open_oci_archive(file, path, choice)?))
                    }
                    (Location::Oci { .. } | Location::Dir { .. }, None) => self.open(&location),
                    (_, file) => Ok(Opened::Other(location, file)),
                };
            }
            Location::Oci { path, choice } => Box::new(LayoutSource::directory(Path::new(path), choice)?),
            Location::OciArchive { path, choice } => {
                rootfs::refuse_directory(path)?;
                self.open_oci_archive(open(path)?, path, choice)?
            }
            Location::Dir { path } => Box::new(DirectorySource::open(Path::new(path))?),
            Location::Registry(reference) => {
                self.observer.event(Event::Phase(&format!("fetching {reference}")));
                match RegistrySource::open(self.registry, reference)? {
                    Fetched::Source(source) => Box::new(source),
                    Fetched::Schema1(image) => return Ok(Opened::Schema1(reference.clone(), image)),
                }
            }
            Location::Scratch | Location::DockerArchive { .. } | Location::Rootfs { .. } => {
                return Ok(Opened::Other(location.clone(), None));
            }
        }))
    }

    fn open_oci_archive(
        &self,
        file: File,
        path: &str,
        choice: &TagChoice,
    ) -> Result<Box<dyn BlobSource + 'a>, Error> {
        Ok(Box::new(LayoutSource::archive(file, format!("oci-archive:{path}"), choice, self.store)?))
    }

    pub(crate) fn import_one(
        &self,
        reference: &ImageReference,
        platform: &Platform,
    ) -> Result<Imported, Error> {
        let pinned = reference.digest.as_ref();
        let imported = match self.open(&reference.location)? {
            Opened::Blobs(source) => self.import_selected(&*source, platform, pinned)?,
            Opened::Schema1(reference, image) => self.import_schema_1(&reference, &image)?,
            Opened::Other(location, file) => {
                let imported = self.import_other(&location, file, platform, pinned)?;
                check_pin(&reference.location, pinned, &[], &imported.image)?;
                imported
            }
        };
        Ok(imported)
    }

    fn import_selected(
        &self,
        source: &dyn BlobSource,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<Imported, Error> {
        let roots = source.roots()?;
        let candidates: Vec<Descriptor> = roots.iter().map(|root| root.descriptor.clone()).collect();
        let selected = select(source, &candidates, platform, pinned)?;
        if let Some(expected) = pinned.filter(|pinned| !selected.digests.contains(pinned))
            && *expected != selected.manifest().config.digest
        {
            return Err(pin_mismatch(&source.name(), expected, selected.document.digest));
        }
        self.import_manifest(source, &selected, names_of(&roots, &selected))
    }

    pub(crate) fn import_every(&self, reference: &ImageReference) -> Result<Vec<Imported>, Error> {
        let source = match self.open(&reference.location)? {
            Opened::Blobs(source) => source,
            Opened::Schema1(reference, image) => return Ok(vec![self.import_schema_1(&reference, &image)?]),
            Opened::Other(Location::DockerArchive { path, choice: Choice::Only }, file) => {
                return self.import_docker_images(&path, file);
            }
            Opened::Other(location, file) => {
                let platform = Platform::default();
                let pinned = reference.digest.as_ref();
                return Ok(vec![self.import_other(&location, file, &platform, pinned)?]);
            }
        };
        let mut imported = Vec::new();
        for root in source.roots()? {
            for selected in every(&*source, &root.descriptor)? {
                imported.push(self.import_manifest(&*source, &selected, root.names.clone())?);
            }
        }
        if imported.is_empty() {
            return Err(Error::usage(format!("{} holds no image", source.name())));
        }
        Ok(imported)
    }

    fn import_manifest(
        &self,
        source: &dyn BlobSource,
        selected: &Selected,
        names: Vec<kiln_image::reference::ImageName>,
    ) -> Result<Imported, Error> {
        let manifest = selected.manifest();
        let image = match self.known(selected)? {
            Some(known) => known,
            None => self.fetch(source, selected)?,
        };
        let of_index = selected.index.as_ref().map(|index| match &index.content {
            Content::Index(index) => index.annotations.clone(),
            Content::Manifest(_) => Default::default(),
        });
        let annotations = ImageAnnotations {
            manifest: manifest.annotations.clone(),
            descriptor: without_names(&selected.descriptor),
            index: of_index.unwrap_or_else(|| source.index_annotations()),
        };
        Ok(Imported { image, names, annotations })
    }

    /// The image as the store has it, when all of it is there in the form it has in the source.
    fn known(&self, selected: &Selected) -> Result<Option<StoredImage>, Error> {
        let known = self.store.image_of_manifest(&selected.document.digest);
        let known = known.context(|| "cannot look into the store".to_owned())?;
        Ok(known.filter(|image| image.layers.iter().all(|layer| layer.blob.is_some())))
    }

    fn fetch(&self, source: &dyn BlobSource, selected: &Selected) -> Result<StoredImage, Error> {
        let (manifest, name) = (selected.manifest(), source.name());
        check_manifest(manifest, &name)?;
        let config_json = source.config(&manifest.config)?;
        let config = ImageConfig::parse(&config_json).context(|| format!("cannot use an image of {name}"))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let why = format!(
                "its manifest has {} layers, its configuration {}",
                manifest.layers.len(),
                diff_ids.len()
            );
            return Err(Error::corrupt(format!("the image {} of {name}", selected.document.digest), why));
        }
        let wanted: Vec<(&Descriptor, &Digest)> = manifest.layers.iter().zip(diff_ids).collect();
        self.fetch_layers(source, &wanted)?;
        let layers = wanted.iter().enumerate().map(|(number, wanted)| self.layer(source, number, *wanted));
        let layers = layers.collect::<Result<_, _>>()?;
        let kept =
            self.store.keep_image_with_manifest(config, config_json, layers, selected.document.clone());
        kept.context(|| format!("cannot keep the image of {name}"))
    }

    /// Brings layers into the store, several at once, each once.
    fn fetch_layers(&self, source: &dyn BlobSource, wanted: &[(&Descriptor, &Digest)]) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let distinct = wanted.iter().enumerate();
        let distinct = distinct.filter(|(_, (blob, diff_id))| seen.insert((blob.digest, **diff_id)));
        let mut queue: Vec<_> = distinct.collect();
        queue.reverse();
        let threads = self.threads.get().min(queue.len());
        let (queue, failed) = (Mutex::new(queue), Mutex::new(None));
        let work = || {
            while let Some((number, wanted)) = next(&queue) {
                if let Err(error) = self.layer(source, number, *wanted) {
                    let mut failed = failed.lock().expect("no thread panics");
                    failed.get_or_insert(error);
                    queue.lock().expect("no thread panics").clear();
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().expect("no thread panics").map_or(Ok(()), Err)
    }

    /// A layer in the store with its blob, fetched if it has to be.
    fn layer(
        &self,
        source: &dyn BlobSource,
        number: usize,
        (descriptor, diff_id): (&Descriptor, &Digest),
    ) -> Result<Layer, Error> {
        let what = || format!("cannot take in layer {number} ({}) of {}", descriptor.digest, source.name());
        if let Some(layer) = self.store.layer_with_blob(diff_id, descriptor).context(what)? {
            return Ok(layer);
        }
        let reader = Progress::new(source.open(descriptor)?, descriptor, self.observer);
        let layer = self.store.import_blob_layer(descriptor, diff_id, reader).context(what)?;
        if let Some(repository) = source.repository() {
            self.store.note_origin(&descriptor.digest, repository).context(what)?;
        }
        Ok(layer)
    }

    /// Fetches the layers of an image that does not say what they unpack to, and makes its configuration of what they do.
    fn import_schema_1(&self, reference: &RegistryReference, image: &Schema1) -> Result<Imported, Error> {
        let mut known: BTreeMap<Digest, Layer> = BTreeMap::new();
        let mut layers = Vec::new();
        for blob in image.blobs() {
            let layer = match known.get(&blob) {
                Some(layer) => layer.clone(),
                None => self.fetch_undescribed(reference, blob)?,
            };
            known.insert(blob, layer.clone());
            layers.push(layer);
        }
        let what = || format!("cannot use docker://{reference}");
        let config = image.config(layers.iter().map(|layer| layer.diff_id).collect()).context(what)?;
        let json = config.to_json();
        let image = self.store.keep_image(config, json, layers).context(what)?;
        let names = reference.tag().map(|_| reference.name().clone()).into_iter().collect();
        Ok(Imported { image, names, annotations: ImageAnnotations::default() })
    }

    /// A layer of which only its blob's digest is known.
    fn fetch_undescribed(&self, reference: &RegistryReference, blob: Digest) -> Result<Layer, Error> {
        let what = || format!("cannot take in layer {blob} of docker://{reference}");
        let descriptor = self.registry.describe_blob(reference, blob).context(what)?;
        let reader = self.registry.blob(reference, &descriptor).context(what)?;
        let mut tar = Decompressor::new(Progress::new(reader, &descriptor, self.observer)).context(what)?;
        let mut layer = self.store.new_layer(&[], self.threads).context(what)?;
        io::copy(&mut tar, &mut layer).map_err(|e| Error::io(what, e))?;
        layer.finish_tar().context(what)
    }

    fn import_other(
        &self,
        location: &Location,
        file: Option<File>,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<Imported, Error> {
        let what = || format!("cannot take in {location}");
        let image = match location {
            Location::DockerArchive { path, choice } => {
                return self.import_docker_archive(path, file, choice, pinned);
            }
            Location::Rootfs { path } => {
                let layer = rootfs::layer(path, file, self.store)?;
                self.image_of(platform, vec![layer])
            }
            _ => self.image_of(platform, Vec::new()),
        };
        let image = image.context(what)?;
        Ok(Imported { image, names: Vec::new(), annotations: ImageAnnotations::default() })
    }

    fn import_docker_archive(
        &self,
        path: &str,
        file: Option<File>,
        choice: &Choice,
        pinned: Option<&Digest>,
    ) -> Result<Imported, Error> {
        rootfs::refuse_directory(path)?;
        // A file that has a name is known again.
        let taken = match file.filter(|_| path == "-") {
            Some(file) => self.store.import_named_stream(file, choice, pinned),
            None if path == "-" => self.store.import_named_stream(open(path)?, choice, pinned),
            None => self.store.import_named_archive(Path::new(path), choice, pinned),
        };
        let (image, names) = taken.context(|| format!("cannot take in docker-archive:{path}"))?;
        Ok(Imported { image, names, annotations: ImageAnnotations::default() })
    }

    /// All images of an archive.
    fn import_docker_images(&self, path: &str, file: Option<File>) -> Result<Vec<Imported>, Error> {
        let file = match file {
            Some(file) => file,
            None => open(path)?,
        };
        let taken = self.store.import_all_of_stream(file);
        let images = taken.context(|| format!("cannot take in docker-archive:{path}"))?.into_iter();
        Ok(images
            .map(|(image, names)| Imported { image, names, annotations: ImageAnnotations::default() })
            .collect())
    }

    /// An image that says nothing but its layers and platform.
    fn image_of(&self, platform: &Platform, layers: Vec<Layer>) -> Result<StoredImage, kiln_store::Error> {
        let mut config = ImageConfig::scratch(&platform.architecture, &platform.os);
        config.variant.clone_from(&platform.variant);
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let json = config.to_json();
        self.store.keep_image(config, json, layers)
    }
}

fn next<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().expect("no thread panics").pop()
}

/// All images under a document, those of indexes in it too.
pub(crate) fn every(source: &dyn BlobSource, root: &Descriptor) -> Result<Vec<Selected>, Error> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut pending = vec![(root.clone(), None, 0)];
    while let Some((descriptor, index, depth)) = pending.pop() {
        // An index may hold another several times, or itself.
        if !seen.insert(descriptor.digest) {
            continue;
        }
        if depth > DEPTH_MAX || seen.len() > DOCUMENTS_MAX {
            let why =
                format!("it nests deeper than {DEPTH_MAX} or holds more than {DOCUMENTS_MAX} documents");
            return Err(Error::corrupt(format!("the index {} of {}", root.digest, source.name()), why));
        }
        let document = source.document(&descriptor)?;
        if let Content::Index(held) = &document.content {
            let images = held.manifests.iter().rev().filter(|entry| crate::source::is_image(entry));
            pending.extend(images.map(|entry| (entry.clone(), Some(document.clone()), depth + 1)));
            continue;
        }
        let digests = vec![document.digest];
        found.push(Selected { document, descriptor, digests, index });
    }
    Ok(found)
}

fn names_of(roots: &[Root], selected: &Selected) -> Vec<kiln_image::reference::ImageName> {
    let first = selected.digests.first();
    let root = roots.iter().find(|root| Some(&root.descriptor.digest) == first);
    root.map(|root| root.names.clone()).unwrap_or_default()
}

/// What is said of the image rather than what it is called.
fn without_names(descriptor: &Descriptor) -> kiln_image::manifest::Annotations {
    let mut annotations = descriptor.annotations.clone();
    annotations.remove(kiln_image::manifest::REF_NAME);
    annotations
}

/// That every layer is one that may be fetched and that kiln reads.
pub(crate) fn check_manifest(manifest: &Manifest, name: &str) -> Result<(), Error> {
    for (number, layer) in manifest.layers.iter().enumerate() {
        let refused = |why: &str| {
            let message = format!("layer {number} ({}) of {name} {why} ({})", layer.digest, layer.media_type);
            Err(Kind::Unsupported(message).into())
        };
        if media_type::is_foreign(&layer.media_type) {
            return refused(
                "is foreign: only its maker may distribute it, and kiln does not fetch it from there",
            );
        }
        if media_type::layer_format(&layer.media_type).is_none() {
            return refused("is no layer of an image");
        }
    }
    Ok(())
}

fn check_pin(
    location: &Location,
    pinned: Option<&Digest>,
    digests: &[Digest],
    image: &StoredImage,
) -> Result<(), Error> {
    match pinned {
        Some(expected) if *expected != image.image_id && !digests.contains(expected) => {
            Err(pin_mismatch(&location.to_string(), expected, image.image_id))
        }
        _ => Ok(()),
    }
}

fn pin_mismatch(name: &str, expected: &Digest, got: Digest) -> Error {
    Kind::DigestMismatch { what: name.to_owned(), expected: *expected, got }.into()
}

/// A reader of what comes for another reason than an [`io::Error`] could say.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        error.into_io()
    }
}
