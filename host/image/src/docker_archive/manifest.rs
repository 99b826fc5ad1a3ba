//! Images as `manifest.json` lists them.

use super::choose::{Named, Which, choose};
use super::members::Members;
use super::{Archive, LayerRef, MANIFEST};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Kind};
use crate::manifest::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One image of the manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// Member with the configuration.
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    /// Members with the layers, lowest first.
    pub layers: Option<Vec<String>>,
    /// Layers that the archive need not hold, as their makers distribute them, by diff ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_sources: Option<BTreeMap<String, Descriptor>>,
}

impl Named for Item {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// The images wanted of `manifest`, verified.
pub(super) fn assemble(manifest: &[u8], members: &Members, which: Which) -> Result<Vec<Archive>, Error> {
    let items: Vec<Item> =
        serde_json::from_slice(manifest).map_err(|e| Kind::caused(MANIFEST, "it does not parse", e))?;
    choose(&items, which)?.into_iter().map(|item| image(item, members)).collect()
}

fn image(item: &Item, members: &Members) -> Result<Archive, Error> {
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
    let wanted = names.iter().zip(diff_ids).enumerate();
    wanted.map(|(number, (name, expected))| layer(item, number, name, *expected, members)).collect()
}

fn layer(
    item: &Item,
    number: usize,
    name: &str,
    expected: Digest,
    members: &Members,
) -> Result<LayerRef, Error> {
    let layer = members
        .layer(name)
        .ok_or_else(|| foreign(item, number, expected).unwrap_or_else(|| missing("layer", name)))?;
    verify(|| format!("layer {name:?}"), expected, layer.diff_id)?;
    Ok(layer)
}

/// Why a layer is not there, where the manifest says so.
/// <https://github.com/moby/moby/blob/v27.0.0/image/tarexport/tarexport.go>
fn foreign(item: &Item, number: usize, diff_id: Digest) -> Option<Kind> {
    let source = item.layer_sources.as_ref()?.get(&diff_id.to_string())?;
    let urls = source.urls.iter().take(3).map(|url| format!("{url:?}")).collect::<Vec<_>>().join(", ");
    let place = if urls.is_empty() { String::new() } else { format!(" ({urls})") };
    Some(Kind::Unsupported(format!(
        "layer {number} ({diff_id}) is foreign: the archive does not hold it, only its maker may distribute it{place}, and kiln does \
         not fetch it from there"
    )))
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
