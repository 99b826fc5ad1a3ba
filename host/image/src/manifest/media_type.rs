//! Media types of blobs.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md>,
//! <https://distribution.github.io/distribution/spec/manifest-v2-2/#media-types>

use super::Dialect;
use crate::compress::Format;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed; `+gzip` and `+zstd` follow otherwise.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The two bytes `{}`, the configuration of artifacts.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker image manifest, schema version 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, schema version 1, without and with signatures.
pub const DOCKER_SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, compressed with zstd, as containerd and buildah write it.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker layer that must be fetched from its maker.
pub const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// How the media types of OCI's layers begin that must be fetched from their makers.
pub const OCI_NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// True of an index or manifest list.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
}

/// True of the manifest of one image, of schema version 2.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// True of a manifest or index.
pub fn is_known(media_type: &str) -> bool {
    is_index(media_type) || is_manifest(media_type)
}

/// True of a layer that its maker wants to be fetched from there only.
pub fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with(DOCKER_FOREIGN.trim_end_matches(".gzip"))
        || media_type.starts_with(OCI_NONDISTRIBUTABLE)
}

/// Whose a media type is; `None` of neither's.
pub fn dialect(media_type: &str) -> Option<Dialect> {
    if media_type.starts_with("application/vnd.oci.") {
        Some(Dialect::Oci)
    } else if media_type.starts_with("application/vnd.docker.") {
        Some(Dialect::Docker)
    } else {
        None
    }
}

/// How a layer of this media type is compressed; `None` when it is no layer.
pub fn layer_format(media_type: &str) -> Option<Format> {
    match media_type.strip_prefix(OCI_LAYER).or_else(|| media_type.strip_prefix(OCI_NONDISTRIBUTABLE)) {
        Some("") => return Some(Format::None),
        Some("+gzip") => return Some(Format::Gzip),
        Some("+zstd") => return Some(Format::Zstd),
        _ => {}
    }
    match media_type {
        DOCKER_LAYER => Some(Format::None),
        DOCKER_LAYER_GZIP | DOCKER_FOREIGN => Some(Format::Gzip),
        DOCKER_LAYER_ZSTD => Some(Format::Zstd),
        _ => None,
    }
}

/// The media type of a layer.
pub fn of_layer(dialect: Dialect, format: Format) -> &'static str {
    match (dialect, format) {
        (Dialect::Oci, Format::None) => OCI_LAYER,
        (Dialect::Oci, Format::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (Dialect::Oci, Format::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Dialect::Docker, Format::None) => DOCKER_LAYER,
        (Dialect::Docker, Format::Gzip) => DOCKER_LAYER_GZIP,
        (Dialect::Docker, Format::Zstd) => DOCKER_LAYER_ZSTD,
    }
}

/// The media type of a configuration.
pub fn of_config(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Oci => OCI_CONFIG,
        Dialect::Docker => DOCKER_CONFIG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_and_recognised() {
        for dialect_ in [Dialect::Oci, Dialect::Docker] {
            for format in [Format::None, Format::Gzip, Format::Zstd] {
                let name = of_layer(dialect_, format);
                assert_eq!((layer_format(name), dialect(name)), (Some(format), Some(dialect_)));
                assert!(!is_foreign(name));
            }
        }
        for foreign in [DOCKER_FOREIGN, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"] {
            assert!(is_foreign(foreign) && layer_format(foreign) == Some(Format::Gzip));
        }
        assert_eq!(layer_format(OCI_CONFIG), None);
    }
}
