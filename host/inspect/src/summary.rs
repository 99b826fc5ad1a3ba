//! An image in short, and one JSON document of it.
//!
//! The keys of `skopeo inspect` have its names and meanings; those it does not have are kiln's own:
//!
//! ```text
//! Name Tag Digest RepoTags Created DockerVersion Labels Architecture Os Layers LayersData Env    as skopeo
//! ImageID Names Platform Author Size UnpackedSize Config Annotations History MediaType            kiln's
//! LayerReports (with --layers)  Files (with --tree)
//! ```

use crate::escape::escaped;
use crate::report::LayerFacts;
use crate::size::human_size;
use kiln_image::config::{ContainerConfig, History, ImageConfig};
use kiln_image::digest::Digest;
use kiln_image::manifest::{Annotations, Content, Document, Platform};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// An image to look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it is called, `NAME:TAG`.
    pub names: &'a [String],
    /// Digest of the configuration's bytes.
    pub image_id: Digest,
    /// The configuration.
    pub config: &'a ImageConfig,
    /// The manifest, where it came with one.
    pub manifest: Option<&'a Document>,
    /// Of the layers.
    pub layers: &'a [LayerFacts],
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// The first name, without tag.
    pub name: String,
    /// The first name's tag.
    pub tag: String,
    /// Of the manifest.
    pub digest: Option<Digest>,
    /// Tags of all names.
    pub repo_tags: Vec<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Old daemons' mark.
    pub docker_version: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// CPU.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Digests of the blobs, or diff IDs where there are none.
    pub layers: Vec<Digest>,
    /// More of the same.
    pub layers_data: Vec<LayerData>,
    /// Variables.
    pub env: Option<Vec<String>>,
    /// Digest of the configuration.
    #[serde(rename = "ImageID")]
    pub image_id: Digest,
    /// All names.
    pub names: Vec<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`.
    pub platform: String,
    /// Who made it.
    pub author: Option<String>,
    /// Media type of the manifest.
    pub media_type: Option<String>,
    /// Bytes of all blobs, where all are known.
    pub size: Option<u64>,
    /// Bytes of all tars.
    pub unpacked_size: u64,
    /// How it is run.
    pub config: ContainerConfig,
    /// Of the manifest.
    pub annotations: Annotations,
    /// How it came to be.
    pub history: Vec<History>,
}

/// A layer as `skopeo inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerData {
    /// Of the blob.
    #[serde(rename = "MIMEType")]
    pub mime_type: String,
    /// Of the blob, or the diff ID.
    pub digest: Digest,
    /// Bytes of the blob, or of the tar.
    pub size: u64,
    /// Of the blob's descriptor.
    pub annotations: Option<Annotations>,
}

/// Of a layer that is not compressed and came in no blob, as `skopeo inspect docker-archive:` has it.
const TAR_MEDIA_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";

impl Summary {
    /// Looks at an image.
    pub fn new(subject: &Subject<'_>) -> Self {
        let Subject { names, config, manifest, .. } = *subject;
        let (name, tag) = names.first().map_or(("", ""), |name| split_tag(name));
        let layers_data = layers_data(subject);
        let sizes: Option<Vec<u64>> =
            subject.layers.iter().map(|layer| Some(layer.blob.as_ref()?.1)).collect();
        let docker_version = config.extra.get("docker_version").and_then(Value::as_str);
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            digest: manifest.map(|manifest| manifest.digest),
            repo_tags: names
                .iter()
                .map(|name| split_tag(name).1.to_owned())
                .filter(|tag| !tag.is_empty())
                .collect(),
            created: config.created.clone(),
            docker_version: docker_version.unwrap_or_default().to_owned(),
            labels: config.config.labels.clone(),
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            layers: layers_data.iter().map(|layer| layer.digest).collect(),
            layers_data,
            env: config.config.env.clone(),
            image_id: subject.image_id,
            names: names.to_vec(),
            platform: Platform::of(config).to_string(),
            author: config.author.clone(),
            media_type: manifest.map(|manifest| manifest.media_type.clone()),
            size: sizes.map(|sizes| sizes.into_iter().fold(0, u64::saturating_add)),
            unpacked_size: subject
                .layers
                .iter()
                .fold(0, |sum, layer| sum.saturating_add(layer.unpacked_size)),
            config: config.config.clone(),
            annotations: manifest.map(annotations).unwrap_or_default(),
            history: config.history.clone(),
        }
    }

    /// The one JSON document.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("maps with text keys only")
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string");
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        for name in &self.names {
            line(text, "name", name)?;
        }
        line(text, "image ID", &self.image_id.to_string())?;
        if let Some(digest) = self.digest {
            line(text, "digest", &digest.to_string())?;
        }
        line(text, "platform", &self.platform)?;
        for (key, value) in
            [("media type", &self.media_type), ("created", &self.created), ("author", &self.author)]
        {
            if let Some(value) = value {
                line(text, key, value)?;
            }
        }
        let unpacked = format!("{} unpacked", human_size(self.unpacked_size));
        let size = self.size.map_or(unpacked.clone(), |size| format!("{}, {unpacked}", human_size(size)));
        line(text, "size", &size)?;
        line(text, "layers", &self.layers.len().to_string())?;
        self.write_config(text)?;
        for (name, value) in &self.annotations {
            line(text, "annotation", &format!("{name}={value}"))?;
        }
        self.write_history(text)
    }

    fn write_config(&self, text: &mut String) -> fmt::Result {
        let Ok(Value::Object(config)) = serde_json::to_value(&self.config) else { return Ok(()) };
        for (key, value) in config {
            match (key.as_str(), value) {
                ("Labels", Value::Object(labels)) => {
                    for (name, value) in labels {
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        line(text, "label", &format!("{name}={value}"))?;
                    }
                }
                ("Env", Value::Array(variables)) => {
                    for variable in variables.iter().filter_map(Value::as_str) {
                        line(text, "env", variable)?;
                    }
                }
                ("ExposedPorts" | "Volumes", Value::Object(members)) => {
                    let names: Vec<String> = members.keys().cloned().collect();
                    line(text, &key, &names.join(" "))?;
                }
                (_, Value::String(value)) => line(text, &key, &value)?,
                (_, value) => line(text, &key, &value.to_string())?,
            }
        }
        Ok(())
    }

    fn write_history(&self, text: &mut String) -> fmt::Result {
        for entry in &self.history {
            let created = entry.created.as_deref().unwrap_or("-");
            let by = entry.created_by.as_deref().or(entry.comment.as_deref()).unwrap_or("-");
            let empty = if entry.empty_layer { " (no layer)" } else { "" };
            line(text, "history", &format!("{created} {by}{empty}"))?;
        }
        Ok(())
    }
}

fn line(text: &mut String, key: &str, value: &str) -> fmt::Result {
    writeln!(text, "{:<12} {}", escaped(key.as_bytes()), escaped(value.as_bytes()))
}

/// A port has a colon too, but a path behind it.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

fn annotations(manifest: &Document) -> Annotations {
    match &manifest.content {
        Content::Manifest(manifest) => manifest.annotations.clone(),
        Content::Index(index) => index.annotations.clone(),
    }
}

fn layers_data(subject: &Subject<'_>) -> Vec<LayerData> {
    let descriptors = match subject.manifest.map(|manifest| &manifest.content) {
        Some(Content::Manifest(manifest)) => &manifest.layers[..],
        _ => &[],
    };
    let data = |(number, (diff_id, facts)): (usize, (&Digest, &LayerFacts))| {
        let annotations = descriptors.get(number).map(|layer| layer.annotations.clone());
        let annotations = annotations.filter(|annotations| !annotations.is_empty());
        let (digest, size, mime_type) =
            facts.blob.clone().unwrap_or((*diff_id, facts.unpacked_size, TAR_MEDIA_TYPE.to_owned()));
        LayerData { mime_type, digest, size, annotations }
    };
    subject.config.rootfs.diff_ids.iter().zip(subject.layers).enumerate().map(data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(names: &[String]) -> Summary {
        let json = br#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2026-01-01T00:00:00Z","author":"me\u001b[0m",
            "config":{"User":"web","Env":["A=1"],"Cmd":["sh"],"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}}},
            "rootfs":{"type":"layers","diff_ids":["sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]},
            "history":[{"created_by":"ADD x"},{"comment":"c","empty_layer":true}]}"#;
        let config = ImageConfig::parse(json).unwrap();
        let layers = [LayerFacts { blob: None, unpacked_size: 2048 }];
        Summary::new(&Subject {
            names,
            image_id: Digest::of(b"c"),
            config: &config,
            manifest: None,
            layers: &layers,
        })
    }

    #[test]
    fn for_people() {
        assert_eq!(
            summary(&["localhost:5000/app:1".to_owned()]).to_text(),
            "\
name         localhost:5000/app:1
image ID     sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6
platform     linux/arm64/v8
created      2026-01-01T00:00:00Z
author       me\\u{1b}[0m
size         2.0 KiB unpacked
layers       1
User         web
ExposedPorts 80/tcp
env          A=1
Cmd          [\"sh\"]
label        a=b
history      - ADD x
history      - c (no layer)
"
        );
    }

    #[test]
    fn keys_of_skopeo() {
        let json = summary(&["localhost:5000/app:1".to_owned(), "app".to_owned()]).to_json();
        for key in [
            "Name",
            "Digest",
            "RepoTags",
            "Created",
            "DockerVersion",
            "Labels",
            "Architecture",
            "Os",
            "Layers",
            "LayersData",
            "Env",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["Name"], "localhost:5000/app");
        assert_eq!(json["Tag"], "1");
        assert_eq!(json["LayersData"][0]["Size"], 2048);
        assert_eq!(json["Layers"][0], json["LayersData"][0]["Digest"]);
    }
}
