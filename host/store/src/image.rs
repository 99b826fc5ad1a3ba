//! Images whose configuration and layers are all in the store.

use crate::error::Kind;
use crate::{Error, Layer, Store, held, pending};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Content, DOCUMENT_LIMIT, Descriptor, Document};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// An image of the store, in use: nothing removes its layers while this lives.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Digest of the configuration's bytes.
    pub image_id: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// The configuration's bytes.
    pub config_json: Vec<u8>,
    /// Its layers, lowest first. One may come several times.
    pub layers: Vec<Layer>,
    /// Its manifest where it came from, where there was one.
    pub manifest: Option<Arc<Document>>,
}

impl Store {
    /// An image of the store, or `None` when any part of it is not there.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn image(&self, image_id: &Digest) -> Result<Option<StoredImage>, Error> {
        let path = self.image_path(image_id);
        let Some(mut file) = held::hold(&path)? else { return Ok(None) };
        let mut config_json = Vec::new();
        file.read_to_end(&mut config_json).map_err(|e| Error::io("read", &path, e))?;
        if Digest::of(&config_json) != *image_id {
            return Ok(None);
        }
        let config = parse(&config_json, &path)?;
        let manifest = self.noted_manifest(image_id)?;
        let layers = self.layers_of(&config, manifest.as_deref())?;
        Ok(layers.map(|layers| StoredImage { image_id: *image_id, config, config_json, layers, manifest }))
    }

    /// A layer whose blob is gone is still a layer.
    fn layers_of(
        &self,
        config: &ImageConfig,
        manifest: Option<&Document>,
    ) -> Result<Option<Vec<Layer>>, Error> {
        let descriptors = manifest.map_or(&[][..], layers_in);
        let layer = |(number, diff_id): (usize, &Digest)| match descriptors.get(number) {
            Some(descriptor) => match self.layer_with_blob(diff_id, descriptor)? {
                Some(layer) => Ok(Some(layer)),
                None => self.layer(diff_id),
            },
            None => self.layer(diff_id),
        };
        config.rootfs.diff_ids.iter().enumerate().map(layer).collect()
    }

    /// The image of a manifest that the store has, or `None` when any part of it is not there.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn image_of_manifest(&self, digest: &Digest) -> Result<Option<StoredImage>, Error> {
        let Some(manifest) = self.manifest(digest)? else { return Ok(None) };
        let Content::Manifest(content) = &manifest.content else { return Ok(None) };
        let Some(image) = self.image(&content.config.digest)? else { return Ok(None) };
        let layers = self.layers_of(&image.config, Some(&manifest))?;
        Ok(layers.map(|layers| StoredImage { layers, manifest: Some(Arc::new(manifest)), ..image }))
    }

    /// A manifest of the store.
    fn manifest(&self, digest: &Digest) -> Result<Option<Document>, Error> {
        let path = self.manifest_path(digest);
        let Some(file) = held::hold(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        Ok(Document::parse(bytes, None).ok().filter(|document| document.digest == *digest))
    }

    fn noted_manifest(&self, image_id: &Digest) -> Result<Option<Arc<Document>>, Error> {
        let path = self.manifest_note_path(image_id);
        let Some(mut file) = held::hold(&path)? else { return Ok(None) };
        let mut text = String::new();
        // A damaged note is as good as none.
        let Ok(_) = file.read_to_string(&mut text) else { return Ok(None) };
        let Ok(digest) = text.parse() else { return Ok(None) };
        let manifest = self.manifest(&digest)?;
        let is_of_image = |document: &Document| match &document.content {
            Content::Manifest(content) => content.config.digest == *image_id,
            Content::Index(_) => false,
        };
        Ok(manifest.filter(is_of_image).map(Arc::new))
    }

    /// Keeps an image whose layers are in the store and verified.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn keep_image(
        &self,
        config: ImageConfig,
        config_json: Vec<u8>,
        layers: Vec<Layer>,
    ) -> Result<StoredImage, Error> {
        let image_id = Digest::of(&config_json);
        let path = self.image_path(&image_id);
        if std::fs::read(&path).ok().as_ref() != Some(&config_json) {
            pending::write_file(&self.tmp(), &path, &config_json)?;
        }
        Ok(StoredImage { image_id, config, config_json, layers, manifest: None })
    }

    /// Keeps an image as [`keep_image`](Self::keep_image) does, with the manifest it came with.
    ///
    /// # Errors
    /// When configuration or manifest cannot be written.
    pub fn keep_image_with_manifest(
        &self,
        config: ImageConfig,
        config_json: Vec<u8>,
        layers: Vec<Layer>,
        manifest: Document,
    ) -> Result<StoredImage, Error> {
        let path = self.manifest_path(&manifest.digest);
        if std::fs::read(&path).ok().as_ref() != Some(&manifest.bytes) {
            pending::write_file(&self.tmp(), &path, &manifest.bytes)?;
        }
        let image = self.keep_image(config, config_json, layers)?;
        let note = manifest.digest.to_string();
        pending::write_file(&self.tmp(), &self.manifest_note_path(&image.image_id), note.as_bytes())?;
        Ok(StoredImage { manifest: Some(Arc::new(manifest)), ..image })
    }
}

/// The layers of a manifest.
fn layers_in(manifest: &Document) -> &[Descriptor] {
    match &manifest.content {
        Content::Manifest(manifest) => &manifest.layers,
        Content::Index(_) => &[],
    }
}

fn parse(config_json: &[u8], path: &Path) -> Result<ImageConfig, Error> {
    let parsed = ImageConfig::parse(config_json);
    Ok(parsed.map_err(|source| Kind::Image { path: path.to_path_buf(), source })?)
}
