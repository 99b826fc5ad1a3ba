//! Manifests and indexes: the documents that hold an image's blobs together, in OCI's and in docker's dialect.
//!
//! The two dialects are one shape with other media types. Bytes read from elsewhere are kept as they came, since
//! their digest names them ([`Document::bytes`]); keys not known here are kept in `extra`.
//!
//! - <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>
//! - <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md>
//! - <https://distribution.github.io/distribution/spec/manifest-v2-2/>

mod descriptor;
pub mod media_type;
mod platform;
mod schema1;

pub use descriptor::Descriptor;
pub use platform::Platform;
pub use schema1::Schema1;

use crate::config::Extra;
use crate::digest::Digest;
use crate::error::{Error, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Annotations: names, usually reversed domains, to texts.
pub type Annotations = BTreeMap<String, String>;

/// The annotation of an index's descriptor that is its tag.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Bytes of a manifest or index that are read; docker's registry and containerd have the same limit.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Whose media types are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `application/vnd.oci.image...`
    Oci,
    /// `application/vnd.docker...`, schema version 2.
    Docker,
}

/// One image: a configuration and layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::OCI_MANIFEST`] or [`media_type::DOCKER_MANIFEST`]; old OCI manifests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it is when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about (a referrer's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// OCI only.
    #[serde(
        default,
        deserialize_with = "crate::config::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Several images, usually of one name for several platforms. docker calls it a manifest list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::OCI_INDEX`] or [`media_type::DOCKER_MANIFEST_LIST`]; layouts' indexes often have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it is when it holds no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Manifests, or further indexes.
    #[serde(default, deserialize_with = "crate::config::null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// OCI only.
    #[serde(
        default,
        deserialize_with = "crate::config::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A manifest or index as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The bytes; [`digest`](Self::digest) is theirs.
    pub bytes: Vec<u8>,
    /// Media type: the document's own, else the one it was announced with.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// What it says.
    pub content: Content,
}

/// What a [`Document`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Box<Index>),
}

impl Document {
    /// Parses a manifest or index. `announced` is the media type that a descriptor or registry gave it, if any.
    ///
    /// # Errors
    /// [corrupt](Error::is_corrupt) when it is neither, is larger than [`DOCUMENT_LIMIT`], says another media type of
    /// itself than was announced, or looks like both (CVE-2021-41190);
    /// [unsupported](Error::is_unsupported) of schema version 1.
    pub fn parse(bytes: Vec<u8>, announced: Option<&str>) -> Result<Self, Error> {
        /// What tells manifests and indexes apart.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            media_type: Option<String>,
            config: Option<serde_json::Value>,
            layers: Option<serde_json::Value>,
            manifests: Option<serde_json::Value>,
        }
        let what = "manifest";
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Kind::corrupt(what, format!("it is larger than {DOCUMENT_LIMIT} bytes")).into());
        }
        let refused = |error| Kind::caused(what, "it does not parse", error);
        let shape: Shape = serde_json::from_slice(&bytes).map_err(refused)?;
        if shape.schema_version == 1 {
            return Err(Kind::Unsupported("the manifest is of schema version 1".to_owned()).into());
        }
        if let (Some(own), Some(announced)) = (&shape.media_type, announced)
            && own != announced
            && media_type::is_known(announced)
        {
            let why = format!("it says to be {own:?}, but was announced as {announced:?}");
            return Err(Kind::corrupt(what, why).into());
        }
        let is_index = shape.manifests.is_some();
        if is_index && (shape.config.is_some() || shape.layers.is_some()) {
            return Err(Kind::corrupt(what, "it has both `manifests` and `layers`").into());
        }
        let known = shape.media_type.or_else(|| announced.map(str::to_owned));
        let (content, default) = if is_index {
            (
                Content::Index(Box::new(serde_json::from_slice(&bytes).map_err(refused)?)),
                media_type::OCI_INDEX,
            )
        } else {
            (
                Content::Manifest(Box::new(serde_json::from_slice(&bytes).map_err(refused)?)),
                media_type::OCI_MANIFEST,
            )
        };
        let media_type = known.unwrap_or_else(|| default.to_owned());
        if is_index != media_type::is_index(&media_type) && media_type::is_known(&media_type) {
            return Err(Kind::corrupt(what, format!("its content is none of {media_type:?}")).into());
        }
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, media_type, digest, content })
    }

    fn written(json: &impl Serialize, media_type: &str, content: Content) -> Self {
        let bytes = serde_json::to_vec(json).expect("maps with text keys only");
        Self { digest: Digest::of(&bytes), bytes, media_type: media_type.to_owned(), content }
    }

    /// A descriptor of these bytes.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }
}

impl Manifest {
    /// A manifest of an image in one dialect, without annotations.
    pub fn new(dialect: Dialect, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = match dialect {
            Dialect::Oci => media_type::OCI_MANIFEST,
            Dialect::Docker => media_type::DOCKER_MANIFEST,
        };
        Self {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
            extra: Extra::new(),
        }
    }

    /// The JSON, always the same bytes for the same manifest, with the digest that names it.
    pub fn to_document(&self) -> Document {
        let media_type = self.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        Document::written(self, media_type, Content::Manifest(Box::new(self.clone())))
    }
}

impl Index {
    /// An index in one dialect.
    pub fn new(dialect: Dialect, manifests: Vec<Descriptor>) -> Self {
        let media_type = match dialect {
            Dialect::Oci => media_type::OCI_INDEX,
            Dialect::Docker => media_type::DOCKER_MANIFEST_LIST,
        };
        Self {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
            extra: Extra::new(),
        }
    }

    /// The JSON, always the same bytes for the same index, with the digest that names it.
    pub fn to_document(&self) -> Document {
        let media_type = self.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
        Document::written(self, media_type, Content::Index(Box::new(self.clone())))
    }
}
