//! Images in the layout before docker 1.10: no manifest, a chain of layers that name their parents.
//!
//! There is no configuration to verify anything with. It is put together as docker does when it
//! loads such an archive: from the top layer's `json`, with the digests of the layers as they are.

use super::choose::{Named, Which, choose};
use super::members::Members;
use super::{Archive, LayerRef, REPOSITORIES};
use crate::config::{ImageConfig, RootFs};
use crate::digest::Digest;
use crate::error::{Error, Kind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of a layer's `json` that speak of the layer, not of the image.
const LAYER_KEYS: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "Size", "throwaway"];

/// A layer that has names, or that is nobody's parent.
struct Head {
    id: String,
    tags: Vec<String>,
}

impl Named for Head {
    fn tags(&self) -> &[String] {
        &self.tags
    }
}

/// What is needed of a layer's `json` beside the configuration.
#[derive(Debug, Default, Deserialize)]
struct LayerJson {
    parent: Option<String>,
    created: Option<Value>,
    author: Option<Value>,
    comment: Option<Value>,
    #[serde(default)]
    container_config: Option<ContainerConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    cmd: Option<Vec<String>>,
}

/// The images wanted, or `None` when this is not the layout before 1.10.
pub(super) fn assemble(members: &Members, which: Which) -> Result<Option<Vec<Archive>>, Error> {
    let heads = heads(members)?;
    if heads.is_empty() {
        return Ok(None);
    }
    choose(&heads, which)?.into_iter().map(|head| image(head, members)).collect::<Result<_, _>>().map(Some)
}

fn image(head: &Head, members: &Members) -> Result<Archive, Error> {
    let chain = chain(&head.id, members)?;
    let layers = chain.iter().map(|id| layer(id, members)).collect::<Result<Vec<_>, _>>()?;
    let config = config(&chain, &layers, members)?;
    let config_json = config.to_json();
    let image_id = Digest::of(&config_json);
    Ok(Archive { config, config_json, image_id, names: head.names(), layers })
}

/// Layers with names, sorted by ID; where there are no names, those that are nobody's parent.
fn heads(members: &Members) -> Result<Vec<Head>, Error> {
    let Some(document) = members.document(REPOSITORIES) else {
        return heads_without_names(members);
    };
    let repositories: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(document).map_err(|e| Kind::caused(REPOSITORIES, "it does not parse", e))?;
    let mut heads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, tags) in repositories {
        for (tag, id) in tags {
            heads.entry(id).or_default().push(format!("{name}:{tag}"));
        }
    }
    Ok(heads.into_iter().map(|(id, tags)| Head { id, tags }).collect())
}

fn heads_without_names(members: &Members) -> Result<Vec<Head>, Error> {
    let ids: Vec<&str> = members.names().filter_map(|name| name.strip_suffix("/layer.tar")).collect();
    let mut parents = BTreeSet::new();
    for id in &ids {
        parents.extend(layer_json(id, members)?.parent);
    }
    let heads = ids.into_iter().filter(|id| !parents.contains(*id));
    Ok(heads.map(|id| Head { id: id.to_owned(), tags: Vec::new() }).collect())
}

/// The IDs from the lowest layer to `top`.
fn chain(top: &str, members: &Members) -> Result<Vec<String>, Error> {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next.filter(|id| !id.is_empty()) {
        if !seen.insert(id.clone()) {
            return Err(Kind::corrupt(format!("layer {id:?}"), "it is its own ancestor").into());
        }
        next = layer_json(&id, members)?.parent;
        chain.push(id);
    }
    chain.reverse();
    Ok(chain)
}

fn document<'a>(id: &str, members: &'a Members) -> Result<&'a [u8], Error> {
    let missing = || Kind::corrupt(format!("layer {id:?}"), "the archive does not hold its `json`");
    Ok(members.document(&format!("{id}/json")).ok_or_else(missing)?)
}

fn layer_json(id: &str, members: &Members) -> Result<LayerJson, Error> {
    let refused = |error| Kind::caused(format!("layer {id:?}"), "its `json` does not parse", error);
    Ok(serde_json::from_slice(document(id, members)?).map_err(refused)?)
}

fn layer(id: &str, members: &Members) -> Result<LayerRef, Error> {
    let missing = || Kind::corrupt(format!("layer {id:?}"), "the archive does not hold its `layer.tar`");
    Ok(members.layer(&format!("{id}/layer.tar")).ok_or_else(missing)?)
}

/// The configuration of the top layer, completed by layers and history.
fn config(chain: &[String], layers: &[LayerRef], members: &Members) -> Result<ImageConfig, Error> {
    let top = chain.last().map_or("", String::as_str);
    let refused = |error| Kind::caused(format!("layer {top:?}"), "its `json` does not parse", error);
    let mut json: Map<String, Value> = serde_json::from_slice(document(top, members)?).map_err(refused)?;
    json.retain(|key, _| !LAYER_KEYS.contains(&key.as_str()));
    let history = chain.iter().map(|id| history(id, members)).collect::<Result<Vec<_>, _>>()?;
    let rootfs = RootFs { diff_ids: layers.iter().map(|layer| layer.diff_id).collect(), ..RootFs::default() };
    json.insert("history".to_owned(), history.into());
    json.insert("rootfs".to_owned(), serde_json::to_value(rootfs).expect("text only"));
    Ok(serde_json::from_value(json.into()).map_err(refused)?)
}

/// What a layer's `json` says of how it came to be.
fn history(id: &str, members: &Members) -> Result<Value, Error> {
    let layer = layer_json(id, members)?;
    let command = layer.container_config.and_then(|config| config.cmd).map(|words| words.join(" "));
    let pairs = [
        ("created", layer.created),
        ("author", layer.author),
        ("created_by", command.map(Value::from)),
        ("comment", layer.comment),
    ];
    let said = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Value::Object(said.collect()))
}
