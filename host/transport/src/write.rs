//! Images of the store to their sinks.

use crate::plan::Plan;
use crate::sink;
use crate::{Error, OutputImage, OutputSpec, Transport, Written, WrittenImage};
use kiln_image::compress::Compression;
use kiln_image::manifest::{Dialect, Platform};
use kiln_image::reference::{Location, TagChoice};
use std::path::Path;

/// Endings of compressions that kiln does not write. A file should be what its name says.
const OTHER_ENDINGS: [&str; 8] = [".xz", ".txz", ".bz2", ".tbz2", ".lz4", ".lzma", ".br", ".Z"];

impl Transport<'_> {
    pub(crate) fn write_images(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error> {
        check(images, spec)?;
        match &spec.dest.location {
            Location::DockerArchive { path, .. } => {
                let compression = compression_of_file(path, spec)?;
                let size = sink::write_docker_archive(self, images, path, compression)?;
                Ok(written_file(images, spec, size))
            }
            Location::Rootfs { path } => {
                let compression = compression_of_file(path, spec)?;
                let size = sink::write_rootfs(self, images, path, compression)?;
                Ok(written_file(images, spec, size))
            }
            _ => {
                let plan = self.plan(images, spec)?;
                self.write_plan(&plan, spec)
            }
        }
    }

    /// Puts a plan into a sink that takes plans.
    pub(crate) fn write_plan(&self, plan: &Plan<'_>, spec: &OutputSpec) -> Result<Written, Error> {
        let mut size = plan.size();
        match &spec.dest.location {
            Location::Oci { path, .. } => sink::write_layout(plan, Path::new(path))?,
            Location::OciArchive { path, .. } => size = sink::write_oci_archive(plan, path)?,
            Location::Dir { path } => sink::write_directory(plan, Path::new(path))?,
            Location::Registry(to) => sink::push(plan, to, self.registry, self.threads, self.observer)?,
            other => return Err(Error::usage(format!("{other} is no destination"))),
        }
        Ok(Written {
            dest: spec.dest.location.to_string(),
            size,
            digest: plan.digest(),
            images: plan.images.clone(),
        })
    }
}

fn check(images: &[OutputImage], spec: &OutputSpec) -> Result<(), Error> {
    let dest = &spec.dest.location;
    let refused = |why: &str| Err(Error::usage(format!("{dest} {why}")));
    if images.is_empty() {
        return refused("gets no image");
    }
    let has_manifests = !matches!(dest, Location::DockerArchive { .. } | Location::Rootfs { .. });
    let is_dir = matches!(dest, Location::Dir { .. });
    if (!has_manifests || is_dir) && images.iter().any(|image| !image.attachments.is_empty()) {
        return refused("cannot hold what is said about an image, such as an SBOM");
    }
    if !has_manifests && images.iter().any(|image| image.annotations != crate::ImageAnnotations::default()) {
        return refused("has no annotations");
    }
    match dest {
        Location::Scratch | Location::Path { .. } => refused(
            "is no destination; say docker-archive:, oci:, oci-archive:, dir:, docker:// or rootfs: before it",
        ),
        Location::Oci { choice: TagChoice::Index(_), .. }
        | Location::OciArchive { choice: TagChoice::Index(_), .. } => {
            refused("has a place in the index; a destination has a tag")
        }
        location if crate::plan::is_layout(location) && spec.dialect == Some(Dialect::Docker) => {
            refused("holds OCI images, not docker's")
        }
        _ if spec.dest.digest.is_some() && !matches!(dest, Location::Registry(_)) => {
            refused("has a digest; that of what is written comes by itself")
        }
        _ => Ok(()),
    }
}

/// What was asked for, else what the name says.
fn compression_of_file(path: &str, spec: &OutputSpec) -> Result<Compression, Error> {
    if let Some(compression) = spec.compression {
        return Ok(compression);
    }
    if let Some(ending) = OTHER_ENDINGS.iter().find(|ending| path.ends_with(**ending)) {
        let message = format!("kiln writes no {ending}; use .tar, .tar.gz or .tar.zst, or say compression=");
        return Err(Error::usage(message));
    }
    Ok(Compression::from_file_name(path).unwrap_or(Compression::None))
}

fn written_file(images: &[OutputImage], spec: &OutputSpec, size: u64) -> Written {
    let image = |output: &OutputImage| WrittenImage {
        image_id: output.image.image_id,
        manifest: None,
        names: output.names.clone(),
        platform: Platform::of(&output.image.config),
    };
    let dest = spec.dest.location.to_string();
    Written { dest, size, digest: None, images: images.iter().map(image).collect() }
}
