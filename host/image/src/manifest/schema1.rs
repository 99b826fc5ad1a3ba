//! Docker's manifests of schema version 1: layers by the digests of their blobs, and for each what its `json` was before docker 1.10.
//!
//! They have no configuration: as docker does when it pulls one, it is made of what the top layer says and of the digests that the
//! layers turn out to have. Registries still serve them for images that were pushed long ago.
//! <https://distribution.github.io/distribution/spec/manifest-v2-1/>

use crate::config::{History, ImageConfig, RootFs};
use crate::digest::Digest;
use crate::error::{Error, Kind};
use crate::manifest::DOCUMENT_LIMIT;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Keys of a layer's `json` that speak of the layer, not of the image.
const LAYER_KEYS: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "Size", "throwaway"];
/// Layers of an image; docker's graph drivers end at 127, and empty ones come on top of that.
const LAYERS_MAX: usize = 4096;

/// An image of schema version 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema1 {
    /// Steps, the lowest first.
    steps: Vec<Step>,
    /// What the top layer says.
    top: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq)]
struct Step {
    blob: Digest,
    /// Whether it made no layer; its blob is an empty tar then.
    throwaway: bool,
    history: History,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    fs_layers: Vec<FsLayer>,
    history: Vec<Compatibility>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compatibility {
    v1_compatibility: String,
}

/// What is needed of a layer's `json`.
#[derive(Default, Deserialize)]
struct LayerJson {
    created: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    throwaway: bool,
    container_config: Option<ContainerConfig>,
}

#[derive(Default, Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Cmd")]
    cmd: Option<Vec<String>>,
}

impl Schema1 {
    /// Parses a manifest; of a signed one, its payload or the whole.
    ///
    /// # Errors
    /// [corrupt](Error::is_corrupt) when it is none.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let corrupt = |why: &str| Kind::corrupt("manifest of schema version 1", why);
        let refused = |error| Kind::caused("manifest of schema version 1", "it does not parse", error);
        if json.len() as u64 > DOCUMENT_LIMIT {
            return Err(corrupt(&format!("it is larger than {DOCUMENT_LIMIT} bytes")).into());
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(refused)?;
        if manifest.schema_version != 1 {
            return Err(corrupt("its schema version is another").into());
        }
        let (layers, history) = (manifest.fs_layers, manifest.history);
        if layers.len() != history.len() || layers.is_empty() || layers.len() > LAYERS_MAX {
            let why = format!("it has {} layers and a history of {}", layers.len(), history.len());
            return Err(corrupt(&why).into());
        }
        let top = serde_json::from_str(&history[0].v1_compatibility).map_err(refused)?;
        // The manifest has the top layer first.
        let steps = layers.iter().zip(&history).rev();
        let steps = steps.map(|(layer, compatibility)| step(layer.blob_sum, &compatibility.v1_compatibility));
        Ok(Self { steps: steps.collect::<Result<_, _>>()?, top })
    }

    /// The layers' blobs, the lowest first. How large they are, only the registry knows.
    pub fn blobs(&self) -> Vec<Digest> {
        self.steps.iter().filter(|step| !step.throwaway).map(|step| step.blob).collect()
    }

    /// The configuration of the image with these layers, whose order is that of [`blobs`](Self::blobs).
    ///
    /// # Errors
    /// [corrupt](Error::is_corrupt) when what the top layer says is no configuration.
    pub fn config(&self, diff_ids: Vec<Digest>) -> Result<ImageConfig, Error> {
        let refused =
            |error| Kind::caused("manifest of schema version 1", "its top layer is no image", error);
        let mut json = self.top.clone();
        json.retain(|key, _| !LAYER_KEYS.contains(&key.as_str()));
        let history: Vec<&History> = self.steps.iter().map(|step| &step.history).collect();
        json.insert("history".to_owned(), serde_json::to_value(history).expect("text only"));
        let rootfs = RootFs { diff_ids, ..RootFs::default() };
        json.insert("rootfs".to_owned(), serde_json::to_value(rootfs).expect("text only"));
        Ok(serde_json::from_value(json.into()).map_err(refused)?)
    }
}

fn step(blob: Digest, json: &str) -> Result<Step, Error> {
    let refused =
        |error| Kind::caused("manifest of schema version 1", "a layer's history does not parse", error);
    let layer: LayerJson = serde_json::from_str(json).map_err(refused)?;
    let command = layer.container_config.and_then(|config| config.cmd).map(|words| words.join(" "));
    let history = History {
        created: layer.created,
        author: layer.author,
        created_by: command,
        comment: layer.comment,
        empty_layer: layer.throwaway,
        ..History::default()
    };
    Ok(Step { blob, throwaway: layer.throwaway, history })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn manifest() -> Value {
        let top = json!({ "id": "3", "parent": "2", "architecture": "amd64", "os": "linux", "throwaway": true,
            "created": "2015-01-01T00:00:00Z", "config": { "Cmd": ["/two"], "Env": ["A=1"] },
            "container_config": { "Cmd": ["/bin/sh", "-c", "#(nop) CMD"] } });
        let middle =
            json!({ "id": "2", "parent": "1", "author": "me", "container_config": { "Cmd": ["run"] } });
        let history =
            [top, middle, json!({ "id": "1" })].map(|it| json!({ "v1Compatibility": it.to_string() }));
        let layers = ["empty", "two", "one"].map(|text| json!({ "blobSum": digest(text) }));
        json!({ "schemaVersion": 1, "name": "a/b", "tag": "1", "architecture": "amd64", "fsLayers": layers,
            "history": history })
    }

    #[test]
    fn an_image_of_schema_1_becomes_one_with_a_configuration() {
        let parsed = Schema1::parse(manifest().to_string().as_bytes()).unwrap();
        assert_eq!(parsed.blobs(), [digest("one"), digest("two")]);
        let config = parsed.config(vec![digest("1"), digest("2")]).unwrap();
        assert_eq!(config.rootfs.diff_ids, [digest("1"), digest("2")]);
        assert_eq!(
            (config.architecture.as_str(), config.config.cmd.unwrap()),
            ("amd64", vec!["/two".to_owned()])
        );
        let history: Vec<_> =
            config.history.iter().map(|it| (it.created_by.as_deref(), it.empty_layer)).collect();
        assert_eq!(history, [(None, false), (Some("run"), false), (Some("/bin/sh -c #(nop) CMD"), true)]);
        assert!(!config.extra.contains_key("id") && !config.extra.contains_key("throwaway"));
    }

    #[test]
    fn what_is_no_manifest_of_schema_1() {
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut value = manifest();
            change(&mut value);
            Schema1::parse(value.to_string().as_bytes()).unwrap_err().to_string()
        };
        let what = "manifest of schema version 1 is corrupt: ";
        assert_eq!(
            broken(&|it| it["schemaVersion"] = json!(2)),
            format!("{what}its schema version is another")
        );
        assert_eq!(
            broken(&|it| it["history"] = json!([])),
            format!("{what}it has 3 layers and a history of 0")
        );
        assert_eq!(
            broken(&|it| it["history"][1]["v1Compatibility"] = json!("{")),
            format!("{what}a layer's history does not parse")
        );
        assert_eq!(
            broken(&|it| it["fsLayers"][0]["blobSum"] = json!("md5:x")),
            format!("{what}it does not parse")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_manifest_of_schema_1_or_refused(text: String, layers in 0_usize..3) {
            let _ = Schema1::parse(text.as_bytes());
            let fs_layers = vec![json!({ "blobSum": digest("x") }); layers];
            let history = vec![json!({ "v1Compatibility": text }); layers];
            let value = json!({ "schemaVersion": 1, "fsLayers": fs_layers, "history": history });
            if let Ok(parsed) = Schema1::parse(value.to_string().as_bytes()) {
                let _ = parsed.config(Vec::new());
            }
        }
    }
}
