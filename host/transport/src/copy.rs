//! From source to sink: as it is where that will do, by way of the store where something has to change.

use crate::error::Context;
use crate::import::{Opened, check_manifest, every};
use crate::plan::{BlobBytes, Plan, Top, dest_tag, is_layout};
use crate::source::{BlobSource, Root, Selected, select};
use crate::{
    CopyOptions, Error, ImageAnnotations, Imported, OutputImage, OutputSpec, Transport, Written, WrittenImage,
};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::{
    Annotations, Content, Descriptor, Dialect, Document, Index, Manifest, Platform, REF_NAME, media_type,
};
use kiln_image::reference::{Choice, ImageName, ImageReference, Location};
use kiln_store::Segment;
use std::sync::Arc;

impl Transport<'_> {
    pub(crate) fn copy_images(
        &self,
        sources: &[ImageReference],
        dest: &ImageReference,
        options: &CopyOptions,
    ) -> Result<Written, Error> {
        let CopyOptions { compression, force_compression, dialect, .. } = *options;
        let spec = OutputSpec { dest: dest.clone(), compression, force_compression, dialect };
        let has_manifests = is_layout(&dest.location)
            || matches!(dest.location, Location::Dir { .. } | Location::Registry(_));
        let mut opened = Vec::new();
        if has_manifests && compression.is_none() {
            for reference in sources {
                match self.open(&reference.location)? {
                    Opened::Blobs(source) => opened.push((reference, source)),
                    Opened::Other(..) | Opened::Schema1(..) => break,
                }
            }
        }
        if !opened.is_empty() && opened.len() == sources.len() {
            let mut plan = Plan::default();
            for (reference, source) in &opened {
                self.plan_source(&**source, reference, &spec, options, &mut plan)?;
            }
            return self.write_plan(&plan, &spec);
        }
        if options.preserve_digests && has_manifests {
            let message = format!("{} cannot be written without changing manifests", dest.location);
            return Err(Error::usage(message));
        }
        self.copy_by_store(sources, &spec, options)
    }

    fn copy_by_store(
        &self,
        sources: &[ImageReference],
        spec: &OutputSpec,
        options: &CopyOptions,
    ) -> Result<Written, Error> {
        let platform = options.platform.clone().unwrap_or_default();
        let mut images = Vec::new();
        for reference in sources {
            let imported = if options.all {
                self.import_every(reference)?
            } else {
                vec![self.import_one(reference, &platform)?]
            };
            images.extend(imported.into_iter().map(|imported| output(imported, spec, options)));
        }
        self.write_images(&images, spec)
    }

    fn plan_source<'s>(
        &self,
        source: &'s dyn BlobSource,
        reference: &ImageReference,
        spec: &OutputSpec,
        options: &CopyOptions,
        plan: &mut Plan<'s>,
    ) -> Result<(), Error> {
        let mut copier = Copier { transport: self, source, spec, options, plan };
        copier.plan.mount_from.extend(source.repository().cloned());
        let roots = source.roots()?;
        if options.all {
            for root in &roots {
                let top = copier.tree(&root.descriptor)?;
                copier.list(top, root);
            }
            return Ok(());
        }
        let candidates: Vec<Descriptor> = roots.iter().map(|root| root.descriptor.clone()).collect();
        let platform = options.platform.clone().unwrap_or_default();
        let pinned = reference.digest.as_ref();
        let selected = select(source, &candidates, &platform, pinned)?;
        check_pin(source, &selected, pinned)?;
        let document = copier.image(&selected)?;
        let first = selected.digests.first();
        let root = roots.iter().find(|root| Some(&root.descriptor.digest) == first);
        let root =
            root.cloned().unwrap_or(Root { descriptor: selected.descriptor.clone(), names: Vec::new() });
        let mut descriptor =
            Descriptor { platform: selected.descriptor.platform.clone(), ..document.descriptor() };
        descriptor.annotations = selected.descriptor.annotations.clone();
        copier.list(descriptor, &root);
        Ok(())
    }
}

/// Plans what a source has.
struct Copier<'c, 's, 'p> {
    transport: &'c Transport<'c>,
    source: &'s dyn BlobSource,
    spec: &'c OutputSpec,
    options: &'c CopyOptions,
    plan: &'p mut Plan<'s>,
}

impl Copier<'_, '_, '_> {
    /// Everything under a document; gives what names it then.
    fn tree(&mut self, root: &Descriptor) -> Result<Descriptor, Error> {
        let document = self.source.document(root)?;
        let Content::Index(index) = &document.content else {
            let digests = vec![document.digest];
            let selected = Selected { document, descriptor: root.clone(), digests, index: None };
            return Ok(renamed(&self.image(&selected)?, root));
        };
        let selected = every(self.source, root)?;
        let mut entries = Vec::new();
        for selected in &selected {
            entries.push(renamed(&self.image(selected)?, &selected.descriptor));
        }
        // What is no image (build attestations) goes along where nothing has to change.
        let is_same =
            entries.iter().all(|entry| index.manifests.iter().any(|old| old.digest == entry.digest));
        let dialect = self.dialect(&document.media_type)?;
        if is_same && media_type::dialect(&document.media_type).is_none_or(|own| own == dialect) {
            self.others(index)?;
            self.plan.add_document(document.clone());
            return Ok(renamed(&document, root));
        }
        self.refuse_change(&document)?;
        let annotations =
            if dialect == Dialect::Oci { index.annotations.clone() } else { Annotations::new() };
        let changed = Index { annotations, ..Index::new(dialect, entries) }.to_document();
        self.plan.add_document(changed.clone());
        Ok(renamed(&changed, root))
    }

    /// Manifests of an index that are no images.
    fn others(&mut self, index: &Index) -> Result<(), Error> {
        for entry in index.manifests.iter().filter(|entry| !crate::source::is_image(entry)) {
            let document = self.source.document(entry)?;
            if let Content::Manifest(manifest) = &document.content {
                self.blobs(manifest);
            }
            self.plan.add_document(document);
        }
        Ok(())
    }

    /// One image, its manifest in the dialect that is wanted.
    fn image(&mut self, selected: &Selected) -> Result<Document, Error> {
        let manifest = selected.manifest();
        check_manifest(manifest, &self.source.name())?;
        let config_json = self.source.config(&manifest.config)?;
        let what = || format!("cannot use an image of {}", self.source.name());
        let config = ImageConfig::parse(&config_json).context(what)?;
        let dialect = self.dialect(&selected.document.media_type)?;
        let own = media_type::dialect(&selected.document.media_type);
        let document = if own.is_none_or(|own| own == dialect) {
            selected.document.clone()
        } else {
            self.refuse_change(&selected.document)?;
            converted(manifest, dialect)
        };
        self.plan.add_blob(&manifest.config, BlobBytes::Memory(Arc::new(config_json)));
        self.layers(manifest, &config)?;
        self.plan.add_document(document.clone());
        self.plan.images.push(WrittenImage {
            image_id: manifest.config.digest,
            manifest: Some(document.digest),
            names: self.options.names.clone(),
            platform: Platform::of(&config),
        });
        if self.options.referrers && document.digest == selected.document.digest {
            self.referrers(&document.digest)?;
        }
        Ok(document)
    }

    /// The store's bytes where it has them.
    fn layers(&mut self, manifest: &Manifest, config: &ImageConfig) -> Result<(), Error> {
        let diff_ids = &config.rootfs.diff_ids;
        for (number, descriptor) in manifest.layers.iter().enumerate() {
            let known =
                diff_ids.get(number).map(|diff_id| self.transport.store.layer_with_blob(diff_id, descriptor));
            let known = known.transpose().context(|| "cannot look into the store".to_owned())?.flatten();
            let bytes = match known.and_then(|layer| layer.blob) {
                Some(blob) => {
                    BlobBytes::File(Segment { file: blob.file, offset: 0, length: descriptor.size })
                }
                None => BlobBytes::Source(self.source),
            };
            self.plan.add_blob(descriptor, bytes);
        }
        Ok(())
    }

    fn blobs(&mut self, manifest: &Manifest) {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.plan.add_blob(blob, BlobBytes::Source(self.source));
        }
    }

    fn referrers(&mut self, subject: &Digest) -> Result<(), Error> {
        for descriptor in self.source.referrers(subject)? {
            let document = self.source.document(&descriptor)?;
            if let Content::Manifest(manifest) = &document.content {
                self.blobs(manifest);
            }
            self.plan.add_document(document);
            self.plan.referrers.push(descriptor);
        }
        Ok(())
    }

    /// Layouts hold OCI images only.
    fn dialect(&self, media_type: &str) -> Result<Dialect, Error> {
        if is_layout(&self.spec.dest.location) {
            if self.spec.dialect == Some(Dialect::Docker) {
                let message = format!("{} holds OCI images, not docker's", self.spec.dest.location);
                return Err(Error::usage(message));
            }
            return Ok(Dialect::Oci);
        }
        Ok(self.spec.dialect.or(media_type::dialect(media_type)).unwrap_or(Dialect::Oci))
    }

    fn refuse_change(&self, document: &Document) -> Result<(), Error> {
        if self.options.preserve_digests {
            let message = format!(
                "{} cannot be copied to {} without changing the manifest {}",
                self.source.name(),
                self.spec.dest.location,
                document.digest
            );
            return Err(Error::usage(message));
        }
        Ok(())
    }

    /// Under the destination's tag, else the names asked for, else those it has.
    fn list(&mut self, mut descriptor: Descriptor, root: &Root) {
        let old = descriptor.annotations.remove(REF_NAME);
        let names = |names: &[ImageName]| names.iter().map(ImageName::to_string).collect();
        let tags = match dest_tag(&self.spec.dest.location) {
            Some(tag) => vec![tag.to_owned()],
            None if !self.options.names.is_empty() => names(&self.options.names),
            None if !root.names.is_empty() => names(&root.names),
            None => old.or_else(|| root.descriptor.annotations.get(REF_NAME).cloned()).into_iter().collect(),
        };
        self.plan.tops.push(Top { descriptor, tags });
    }
}

/// An entry of an index for a document that may be another than before.
fn renamed(document: &Document, old: &Descriptor) -> Descriptor {
    let Descriptor { media_type, digest, size, .. } = document.descriptor();
    Descriptor { media_type, digest, size, ..old.clone() }
}

/// The same blobs under the other dialect's media types. docker's manifests have no annotations.
fn converted(manifest: &Manifest, dialect: Dialect) -> Document {
    let config =
        Descriptor { media_type: media_type::of_config(dialect).to_owned(), ..manifest.config.clone() };
    let layer = |layer: &Descriptor| {
        let format = media_type::layer_format(&layer.media_type).expect("checked before");
        Descriptor { media_type: media_type::of_layer(dialect, format).to_owned(), ..layer.clone() }
    };
    let layers = manifest.layers.iter().map(layer).collect();
    let annotations = match dialect {
        Dialect::Oci => manifest.annotations.clone(),
        Dialect::Docker => Annotations::new(),
    };
    Manifest { annotations, ..Manifest::new(dialect, config, layers) }.to_document()
}

fn check_pin(source: &dyn BlobSource, selected: &Selected, pinned: Option<&Digest>) -> Result<(), Error> {
    match pinned {
        Some(expected)
            if !selected.digests.contains(expected) && *expected != selected.manifest().config.digest =>
        {
            let got = selected.document.digest;
            Err(crate::error::Kind::DigestMismatch { what: source.name(), expected: *expected, got }.into())
        }
        _ => Ok(()),
    }
}

fn output(imported: Imported, spec: &OutputSpec, options: &CopyOptions) -> OutputImage {
    let Imported { image, names, annotations } = imported;
    let names = match &spec.dest.location {
        _ if !options.names.is_empty() => options.names.clone(),
        Location::DockerArchive { choice: Choice::Name(name), .. } => vec![name.clone()],
        _ => names,
    };
    let holds_annotations = match &spec.dest.location {
        Location::DockerArchive { .. } | Location::Rootfs { .. } => false,
        location => is_layout(location) || spec.dialect == Some(Dialect::Oci),
    };
    let annotations = if holds_annotations { annotations } else { ImageAnnotations::default() };
    OutputImage { image, names, annotations, attachments: Vec::new() }
}
