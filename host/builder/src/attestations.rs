//! What is said about images besides them: SBOM and provenance.

use crate::{BuildRequest, Error, guest::Surroundings, inputs::Input};
use kiln_store::StoredImage;
use kiln_transport::Attachment;

/// What is to be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attestations {
    /// Which packages are installed.
    pub sbom: Option<SbomFormat>,
    /// What the image was made from.
    pub provenance: bool,
}

/// A format of SBOMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SbomFormat {
    /// SPDX 2.3 as JSON.
    SpdxJson,
    /// CycloneDX 1.6 as JSON.
    CycloneDxJson,
}

/// The documents about an image.
pub(crate) fn documents(
    _request: &BuildRequest,
    _image: &StoredImage,
    _inputs: &[Input],
    _surroundings: Surroundings,
) -> Result<Vec<Attachment>, Error> {
    Ok(Vec::new())
}
