//! The image configuration: what a container made from the image runs, and which layers it has.
//!
//! docker's and OCI's are one format with a few keys more or less. Keys not known here are kept.
//! Its bytes' digest is the image ID, so bytes read from an archive are kept as they came; only
//! children made by [`ImageConfig::derive`] are written anew.
//!
//! - <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
//! - <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>

mod merge;
mod timestamp;

pub use timestamp::Timestamp;

use crate::digest::Digest;
use crate::error::{Error, Kind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Keys not known here, kept in the order they came.
pub type Extra = Map<String, Value>;

/// An image's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// CPU, in Go's words: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the CPU: `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system, in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// What a container runs unless told otherwise.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How the image came to be, oldest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a container runs unless told otherwise. What is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `port`, `port/tcp`, `port/udp`; the values are empty objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<Set>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What is run, before [`cmd`](Self::cmd).
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or all that is run where there is no entry point.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Where volumes are mounted; the values are empty objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Set>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that ends the container: `SIGTERM`, `15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds to wait after that signal (docker's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to see whether the container is well (docker's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Shell of the shell forms of build instructions (docker's own).
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for builds on top of this image (docker's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Command line already escaped (Windows only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A set as Go writes it: an object whose values are empty objects.
pub type Set = BTreeMap<String, Value>;

/// How to see whether a container is well. Times are in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args...]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures in a row after which it is unwell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// Digests of the layers' uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

/// One step of how the image came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True when the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a build adds to its base image.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Diff ID of the new layer; `None` when only the configuration changes.
    pub layer: Option<Digest>,
    /// The time of the build.
    pub created: Timestamp,
    /// For the history: the command.
    pub created_by: String,
    /// For the history: a remark.
    pub comment: Option<String>,
    /// The image's author, unless the base's.
    pub author: Option<String>,
    /// What is said about running it.
    pub config: ContainerConfig,
}

/// Keys of a parent that speak of the container it was made in, or of its own parent.
const KEYS_NOT_INHERITED: [&str; 7] =
    ["container", "container_config", "docker_version", "id", "parent", "layer_id", "Size"];

impl ImageConfig {
    /// The configuration of an image without layers.
    pub fn scratch(architecture: &str, os: &str) -> Self {
        Self {
            created: None,
            author: None,
            architecture: architecture.to_owned(),
            variant: None,
            os: os.to_owned(),
            config: ContainerConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
            extra: Extra::new(),
        }
    }

    /// Parses JSON.
    ///
    /// # Errors
    /// [corrupt](Error::is_corrupt) when it is no JSON or no image configuration.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let refused = |error| Kind::caused("image configuration", "it does not parse", error);
        serde_json::from_slice(json).map_err(|error| refused(error).into())
    }

    /// The JSON: always the same bytes for the same configuration. Their digest is the image ID.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps with text keys only")
    }

    /// The configuration of an image made from this one by `change`, as docker's build does it.
    ///
    /// Variables of `Env` and `Labels` are set one by one, ports and volumes are added, a new
    /// `Entrypoint` without `Cmd` forgets the parent's `Cmd`, `OnBuild` is not inherited, and
    /// everything else replaces the parent's when it was said.
    pub fn derive(&self, change: Change) -> Self {
        let mut child = self.clone();
        let created = change.created.to_string();
        child.complete_history();
        child.history.push(History {
            created: Some(created.clone()),
            created_by: Some(change.created_by),
            comment: change.comment,
            empty_layer: change.layer.is_none(),
            ..History::default()
        });
        child.created = Some(created);
        child.author = change.author.or(child.author);
        child.rootfs.diff_ids.extend(change.layer);
        child.config.merge(change.config);
        child.extra.retain(|key, _| !KEYS_NOT_INHERITED.contains(&key.as_str()));
        child
    }

    /// Gives a history to layers that have none: readers expect one entry for each layer.
    fn complete_history(&mut self) {
        let layers = self.history.iter().filter(|entry| !entry.empty_layer).count();
        for _ in layers..self.rootfs.diff_ids.len() {
            self.history.push(History { created_by: Some("unknown".to_owned()), ..History::default() });
        }
    }
}

/// Go writes `null` for lists and objects that are empty.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Old versions of docker wrote a command of one word as text.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::deserialize(from)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

#[cfg(test)]
mod tests;
