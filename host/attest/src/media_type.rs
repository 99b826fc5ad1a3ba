//! What the documents are called where they are attached to an image: media type and artifact type.

/// SPDX 2.3 in JSON. <https://www.iana.org/assignments/media-types/application/spdx+json>
pub const SPDX: &str = "application/spdx+json";
/// CycloneDX in JSON. <https://www.iana.org/assignments/media-types/application/vnd.cyclonedx+json>
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// An in-toto statement.
/// <https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md>
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
