//! Images whose configuration and layers are all in the store.

use crate::error::Kind;
use crate::{Error, Layer, Store, held, pending};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::manifest::Document;
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
        let layers: Option<Vec<Layer>> =
            config.rootfs.diff_ids.iter().map(|diff_id| self.layer(diff_id)).collect::<Result<_, _>>()?;
        Ok(layers.map(|layers| StoredImage {
            image_id: *image_id,
            config,
            config_json,
            layers,
            manifest: None,
        }))
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
}

fn parse(config_json: &[u8], path: &Path) -> Result<ImageConfig, Error> {
    let parsed = ImageConfig::parse(config_json);
    Ok(parsed.map_err(|source| Kind::Image { path: path.to_path_buf(), source })?)
}
