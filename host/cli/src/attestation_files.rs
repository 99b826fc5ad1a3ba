//! What `kiln build` writes besides images: ids, metadata, SBOM and provenance as files.

use crate::{arguments::BuildArguments, copy};
use anyhow::{Context, Result, bail};
use kiln_builder::{Attestations, Built, BuiltImage};
use kiln_image::digest::Digest;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Which documents are wanted. One that goes to a file is not attached.
pub fn wanted(arguments: &BuildArguments) -> Attestations {
    let sbom = arguments.sbom.map(Into::into);
    let sbom = sbom.or(arguments.sbom_file.as_ref().map(|_| kiln_builder::SbomFormat::SpdxJson));
    let provenance = arguments.provenance || arguments.provenance_file.is_some();
    let is_attached = |wanted: bool, file: bool| wanted && !file;
    Attestations {
        sbom,
        provenance,
        attach: is_attached(sbom.is_some(), arguments.sbom_file.is_some())
            || is_attached(provenance, arguments.provenance_file.is_some()),
    }
}

/// Writes all files that were asked for.
pub fn write(arguments: &BuildArguments, built: &Built) -> Result<()> {
    if let Some(file) = &arguments.iidfile {
        copy::write_ids(file, built.images.iter().map(|image| image.image_id))?;
    }
    if let Some(file) = &arguments.metadata_file {
        write_file(file, &(serde_json::to_vec_pretty(&metadata(built))?))?;
    }
    if let Some(file) = &arguments.sbom_file {
        write_file(file, document(built, "--sbom-file", |kind| kind != PROVENANCE)?)?;
    }
    if let Some(file) = &arguments.provenance_file {
        write_file(file, document(built, "--provenance-file", |kind| kind == PROVENANCE)?)?;
    }
    Ok(())
}

/// The artifact type of provenance; whatever else there is, is an SBOM.
const PROVENANCE: &str = "application/vnd.in-toto+json";

fn document<'a>(built: &'a Built, option: &str, is_wanted: fn(&str) -> bool) -> Result<&'a [u8]> {
    let [image] = &built.images[..] else {
        bail!("{option} takes what is said of one image, but {} were built", built.images.len());
    };
    let found = image.documents.iter().find(|document| is_wanted(&document.artifact_type));
    Ok(&found.with_context(|| format!("there is nothing for {option}"))?.bytes)
}

fn write_file(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// As buildkit's `--metadata-file` of the first image, and `kiln.images` and `kiln.outputs` of all.
/// <https://docs.docker.com/reference/cli/docker/buildx/build/#metadata-file>
fn metadata(built: &Built) -> Value {
    let mut metadata = json!({
        "kiln.images": built.images.iter().map(image).collect::<Vec<_>>(),
        "kiln.outputs": built.outputs.iter().map(|output| json!({
            "dest": output.dest, "size": output.size, "digest": output.digest,
        })).collect::<Vec<_>>(),
    });
    if let Some(first) = built.images.first() {
        metadata["containerimage.config.digest"] = json!(first.image_id);
        if let Some(digest) = first.manifests.iter().flatten().next() {
            metadata["containerimage.digest"] = json!(digest);
        }
        let names: Vec<String> = first.names.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            metadata["image.name"] = json!(names.join(","));
        }
    }
    metadata
}

fn image(image: &BuiltImage) -> Value {
    let manifests: Vec<Option<Digest>> = image.manifests.clone();
    json!({
        "id": image.id,
        "containerimage.config.digest": image.image_id,
        "manifests": manifests,
        "names": image.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platform": image.platform.to_string(),
    })
}
