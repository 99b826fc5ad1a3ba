//! Images as `manifest.json` lists them.

use super::choose::{Named, choose};
use super::members::Members;
use super::{Archive, LayerRef, MANIFEST};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Kind};
use crate::reference::Choice;
use serde::{Deserialize, Serialize};

/// One image of the manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// Member with the configuration.
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    /// Members with the layers, lowest first.
    pub layers: Option<Vec<String>>,
}

impl Named for Item {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// The image chosen from `manifest`, verified.
pub(super) fn assemble(manifest: &[u8], members: &Members, choice: &Choice) -> Result<Archive, Error> {
    let items: Vec<Item> =
        serde_json::from_slice(manifest).map_err(|e| Kind::caused(MANIFEST, "it does not parse", e))?;
    let item = choose(&items, choice)?;
    let config_json = config(item, members)?;
    let config = ImageConfig::parse(config_json)?;
    let layers = layers(item, &config.rootfs.diff_ids, members)?;
    Ok(Archive {
        config,
        config_json: config_json.to_vec(),
        image_id: Digest::of(config_json),
        names: item.names(),
        layers,
    })
}

/// The configuration, which must be what its name says when its name is a digest.
fn config<'a>(item: &Item, members: &'a Members) -> Result<&'a [u8], Error> {
    let json = members.document(&item.config).ok_or_else(|| missing("configuration", &item.config))?;
    if let Some(expected) = digest_in_name(&item.config) {
        verify(|| format!("configuration {:?}", item.config), expected, Digest::of(json))?;
    }
    Ok(json)
}

/// `<hex>.json` as docker wrote it, `blobs/sha256/<hex>` as it does now, `sha256:<hex>` as ggcr does.
fn digest_in_name(member: &str) -> Option<Digest> {
    let base = member.rsplit('/').next()?;
    let base = base.strip_suffix(".json").unwrap_or(base);
    Digest::from_hex(base.strip_prefix(Digest::PREFIX).unwrap_or(base))
}

/// The layers, which must be what the configuration says.
fn layers(item: &Item, diff_ids: &[Digest], members: &Members) -> Result<Vec<LayerRef>, Error> {
    let names = item.layers.as_deref().unwrap_or_default();
    if names.len() != diff_ids.len() {
        let why = format!("it names {} layers, the configuration {}", names.len(), diff_ids.len());
        return Err(Kind::corrupt(MANIFEST, why).into());
    }
    names.iter().zip(diff_ids).map(|(name, expected)| layer(name, *expected, members)).collect()
}

fn layer(name: &str, expected: Digest, members: &Members) -> Result<LayerRef, Error> {
    let layer = members.layer(name).ok_or_else(|| missing("layer", name))?;
    verify(|| format!("layer {name:?}"), expected, layer.diff_id)?;
    Ok(layer)
}

fn missing(what: &str, name: &str) -> Kind {
    Kind::corrupt(MANIFEST, format!("it names a {what} {name:?}, which the archive does not hold"))
}

/// An error unless the two are one.
pub(super) fn verify(what: impl FnOnce() -> String, expected: Digest, got: Digest) -> Result<(), Error> {
    if expected == got {
        return Ok(());
    }
    Err(Kind::DigestMismatch { what: what(), expected, got }.into())
}
