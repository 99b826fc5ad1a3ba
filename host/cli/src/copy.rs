//! `kiln copy`.

use crate::{arguments::CopyArguments, progress, squash, workplace::Workplace};
use anyhow::{Context, Result, bail};
use kiln_builder::DiskOutput;
use kiln_image::{
    digest::Digest,
    reference::{ImageReference, Location},
};
use kiln_transport::{CopyOptions, OutputImage, OutputSpec, Written};
use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
};

/// Copies the images.
pub fn run(arguments: &CopyArguments) -> Result<()> {
    let Some((dest, sources)) = arguments.places.split_last() else { bail!("there is no destination") };
    refuse_terminal(&dest.location)?;
    let workplace = Workplace::open(&arguments.registry, progress::transfer(arguments.progress))?;
    let written = if arguments.squash {
        copy_squashed(arguments, &workplace, sources, dest)?
    } else {
        let copied = workplace.transport().copy(sources, dest, &options(arguments));
        copied.map_err(|error| match arguments.preserve_digests && error.is_usage() {
            true => anyhow::Error::new(error).context("--preserve-digests cannot be kept"),
            false => error.into(),
        })?
    };
    if let Some(file) = &arguments.iidfile {
        write_ids(file, written.images.iter().map(|image| image.image_id))?;
    }
    if let Some(file) = &arguments.digestfile {
        let digest =
            written.digest.context("what was written has no manifest, so --digestfile gets no digest")?;
        write_ids(file, [digest])?;
    }
    eprintln!("kiln: wrote {}: {} bytes", written.dest, written.size);
    Ok(())
}

/// Nor would a disk do any good there.
pub fn refuse_terminal_for_disks(outputs: &[DiskOutput]) -> Result<()> {
    if outputs.iter().any(|output| output.dest == Path::new("-")) && io::stdout().is_terminal() {
        bail!("a disk is nothing for a terminal; send standard output to a file or a pipe");
    }
    Ok(())
}

/// An archive would only confuse a terminal.
pub fn refuse_terminal(location: &Location) -> Result<()> {
    if location.path() == Some("-") && io::stdout().is_terminal() {
        bail!("an archive is nothing for a terminal; send standard output to a file or a pipe");
    }
    Ok(())
}

/// Writes digests, one a line, without a newline at the end: as docker's and podman's `--iidfile`.
pub fn write_ids(file: &Path, digests: impl IntoIterator<Item = Digest>) -> Result<()> {
    let lines: Vec<String> = digests.into_iter().map(|digest| digest.to_string()).collect();
    fs::write(file, lines.join("\n")).with_context(|| format!("cannot write {}", file.display()))
}

fn options(arguments: &CopyArguments) -> CopyOptions {
    CopyOptions {
        platform: arguments.platform.clone(),
        all: arguments.all,
        compression: arguments.compression,
        force_compression: arguments.force_compression,
        dialect: arguments.format.map(Into::into),
        names: arguments.tag.clone(),
        referrers: arguments.referrers,
        preserve_digests: arguments.preserve_digests,
    }
}

fn copy_squashed(
    arguments: &CopyArguments,
    workplace: &Workplace,
    sources: &[ImageReference],
    dest: &ImageReference,
) -> Result<Written> {
    let mut images = Vec::with_capacity(sources.len());
    for source in sources {
        let imported = workplace.import(source, arguments.platform.as_ref())?;
        let names = if arguments.tag.is_empty() { imported.names } else { arguments.tag.clone() };
        images.push(OutputImage {
            image: squash::squashed(workplace, &imported.image)?,
            names,
            annotations: imported.annotations,
            attachments: Vec::new(),
        });
    }
    let spec = OutputSpec {
        dest: dest.clone(),
        compression: arguments.compression,
        force_compression: arguments.force_compression,
        dialect: arguments.format.map(Into::into),
    };
    Ok(workplace.transport().write(&images, &spec)?)
}
