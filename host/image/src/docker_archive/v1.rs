//! The documents that daemons before docker 1.10 read, beside the layers they name.

use crate::digest::Digest;
use crate::error::{Error, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is in a layer's `VERSION`.
pub(super) const VERSION: &[u8] = b"1.0";

/// Keys of the configuration that the top layer repeats, `null` where there is none.
const CONFIG_KEYS: [&str; 7] =
    ["architecture", "config", "container", "container_config", "created", "docker_version", "os"];

/// JSON with sorted keys, as Go writes maps.
type Sorted = BTreeMap<String, Value>;

/// A layer as those daemons know it.
pub(super) struct V1Layer {
    /// 64 hexadecimal digits.
    pub id: String,
    pub json: Vec<u8>,
    pub diff_id: Digest,
}

/// The layers, lowest first.
///
/// IDs are made as skopeo makes them, from what is below and what the layer says: `writeLegacyMetadataLocked` in
/// <https://github.com/containers/image/blob/v5.30.0/docker/internal/tarfile/writer.go>.
pub(super) fn chain(config_json: &[u8], diff_ids: &[Digest]) -> Result<Vec<V1Layer>, Error> {
    let mut chain: Vec<V1Layer> = Vec::new();
    let mut below: Option<Digest> = None;
    for (index, diff_id) in diff_ids.iter().enumerate() {
        let mut json = Sorted::new();
        if let Some(parent) = chain.last() {
            json.insert("parent".to_owned(), parent.id.as_str().into());
        }
        if index + 1 == diff_ids.len() {
            json.extend(repeated(config_json)?);
        }
        let chain_id = below.map_or(*diff_id, |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
        below = Some(chain_id);
        chain.push(layer(json, chain_id, *diff_id));
    }
    Ok(chain)
}

/// What the top layer repeats of the configuration.
fn repeated(config_json: &[u8]) -> Result<Sorted, Error> {
    let refused = |error| Kind::caused("image configuration", "it does not parse", error);
    let mut config: Sorted = serde_json::from_slice(config_json).map_err(refused)?;
    Ok(CONFIG_KEYS.iter().map(|key| (key.to_string(), config.remove(*key).unwrap_or(Value::Null))).collect())
}

fn layer(mut json: Sorted, chain_id: Digest, diff_id: Digest) -> V1Layer {
    json.insert("layer_id".to_owned(), chain_id.to_string().into());
    let id = Digest::of(&to_json(&json)).hex();
    json.remove("layer_id");
    json.insert("id".to_owned(), id.as_str().into());
    V1Layer { id, json: to_json(&json), diff_id }
}

fn to_json(json: &Sorted) -> Vec<u8> {
    serde_json::to_vec(json).expect("text keys only")
}
