//! What is said about images besides them: SBOM and provenance.

use crate::{
    BuildRequest, Error,
    contents::{Files, Sources},
    error::Kind,
    guest::Surroundings,
    inputs::Input,
};
use kiln_attest::{
    TreeFiles, media_type, packages,
    provenance::{self, Artifact, Builder},
    sbom::{self, Creation, Subject},
};
use kiln_image::{digest::Digest, manifest::Platform, reference::ImageName};
use kiln_store::StoredImage;
use kiln_transport::Attachment;
use std::collections::BTreeMap;

/// What is to be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attestations {
    /// Which packages are installed.
    pub sbom: Option<SbomFormat>,
    /// What the image was made from.
    pub provenance: bool,
    /// Whether outputs get the documents, as referrers of the image, where they can have such.
    pub attach: bool,
}

/// A format of SBOMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SbomFormat {
    /// SPDX 2.3 as JSON.
    SpdxJson,
    /// CycloneDX 1.6 as JSON.
    CycloneDxJson,
}

/// Who builds here, for those who trust it.
const BUILDER: &str = "urn:kiln:builder:local";

/// An image that was built, and what it is called.
pub(crate) struct About<'a> {
    pub id: &'a str,
    pub names: &'a [ImageName],
    pub image: &'a StoredImage,
}

/// The documents about an image.
pub(crate) fn documents(
    request: &BuildRequest,
    about: &About,
    inputs: &[Input],
    surroundings: Surroundings,
) -> Result<Vec<Attachment>, Error> {
    let mut documents = Vec::new();
    if let Some(format) = request.attestations.sbom {
        surroundings.phase("listing packages");
        let bytes = bill_of_materials(format, about, surroundings)?;
        let artifact_type = match format {
            SbomFormat::SpdxJson => media_type::SPDX,
            SbomFormat::CycloneDxJson => media_type::CYCLONEDX,
        };
        documents.push(attachment(artifact_type, bytes));
    }
    if request.attestations.provenance {
        let bytes = provenance_of(request, about, &[], inputs);
        // Where it is attached, it is about the manifest it is attached to.
        let placeholder = Some(about.image.image_id);
        documents.push(Attachment { placeholder, ..attachment(media_type::IN_TOTO, bytes) });
    }
    Ok(documents)
}

/// Names the image by its manifests, where it has some, now that they are written.
pub(crate) fn name_manifests(
    request: &BuildRequest,
    about: &About,
    manifests: &[Digest],
    inputs: &[Input],
    documents: &mut [Attachment],
) {
    let provenance = documents.iter_mut().find(|document| document.artifact_type == media_type::IN_TOTO);
    if let Some(document) = provenance {
        document.bytes = provenance_of(request, about, manifests, inputs);
    }
}

fn attachment(artifact_type: &str, bytes: Vec<u8>) -> Attachment {
    Attachment {
        artifact_type: artifact_type.to_owned(),
        bytes,
        annotations: BTreeMap::new(),
        placeholder: None,
    }
}

impl About<'_> {
    fn name(&self) -> String {
        self.names.first().map_or_else(|| self.id.to_owned(), ToString::to_string)
    }
}

fn bill_of_materials(
    format: SbomFormat,
    about: &About,
    surroundings: Surroundings,
) -> Result<Vec<u8>, Error> {
    let files = Files::of(&about.image.layers)?;
    let sources = Sources::new(surroundings.store, &files.layers);
    let inventory = sources.with_reader(|read| packages::installed(&TreeFiles::new(&files.tree, read)));
    let inventory = inventory.map_err(|source| Kind::Attestation { source })?;
    // The manifest is made when the image is written, and differs from output to output.
    let subject = Subject {
        name: about.name(),
        image_id: about.image.image_id,
        manifest: None,
        platform: Some(Platform::of(&about.image.config)),
    };
    let created = about.image.config.created.as_deref().and_then(|created| created.parse().ok());
    let creation = Creation { created: created.unwrap_or_default(), tool_version: version() };
    Ok(match format {
        SbomFormat::SpdxJson => sbom::spdx(&subject, &inventory, &creation),
        SbomFormat::CycloneDxJson => sbom::cyclonedx(&subject, &inventory, &creation),
    })
}

/// Says nothing of when: it is the same for the same inputs.
fn provenance_of(request: &BuildRequest, about: &About, manifests: &[Digest], inputs: &[Input]) -> Vec<u8> {
    let image_id = [about.image.image_id];
    let digests = if manifests.is_empty() { &image_id[..] } else { manifests };
    let artifact = |input: &Input| Artifact::new(&input.reference, input.digest);
    let build_file = inputs.iter().find(|input| input.is_build_file());
    let options =
        request.source_date_epoch.map(|epoch| ("SOURCE_DATE_EPOCH".to_owned(), epoch.unix_seconds().into()));
    provenance::statement(&provenance::Build {
        outputs: digests.iter().map(|digest| Artifact::new(&about.name(), *digest)).collect(),
        build_file: build_file.map(artifact),
        target: (!request.file.is_short).then(|| about.id.to_owned()),
        options: options.into_iter().collect(),
        internal: BTreeMap::new(),
        inputs: inputs.iter().map(artifact).collect(),
        builder: Builder {
            id: BUILDER.to_owned(),
            version: [("kiln".to_owned(), version())].into(),
            dependencies: Vec::new(),
        },
        started: None,
        finished: None,
    })
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
