//! `kiln export`.

mod directory;
mod password;

use crate::{arguments::ExportArguments, copy, files::Files, progress, squash, workplace::Workplace};
use anyhow::{Context, Result};
use kiln_image::{
    id_map::IdMap,
    reference::{ImageReference, Location},
};
use kiln_store::StoredImage;
use kiln_transport::{ImageAnnotations, OutputImage, OutputSpec};
use std::path::Path;

/// Writes the files.
pub fn run(arguments: &ExportArguments) -> Result<()> {
    let path = arguments.output.strip_prefix("rootfs:").unwrap_or(&arguments.output);
    let location = Location::Rootfs { path: path.to_owned() };
    copy::refuse_terminal(&location)?;
    let workplace = Workplace::open(&arguments.registry, progress::transfer(arguments.progress))?;
    let image = workplace.import(&arguments.reference, arguments.platform.as_ref())?.image;
    if path.ends_with('/') || Path::new(path).is_dir() {
        let files = changed(arguments, &image)?;
        return report(&directory::write(&files, Path::new(path))?, path);
    }
    let is_changed =
        arguments.uid_map.is_some() || arguments.gid_map.is_some() || arguments.root_password_file.is_some();
    let image = if is_changed {
        squash::one_layer(&workplace, &image, &changed(arguments, &image)?, "kiln export")?
    } else {
        image
    };
    write_tar(&workplace, image, location)
}

fn write_tar(workplace: &Workplace, image: StoredImage, location: Location) -> Result<()> {
    let image = OutputImage {
        image,
        names: Vec::new(),
        annotations: ImageAnnotations::default(),
        attachments: Vec::new(),
    };
    let dest = ImageReference { location, digest: None };
    let spec = OutputSpec { dest, compression: None, force_compression: false, dialect: None };
    let written = workplace.transport().write(&[image], &spec)?;
    eprintln!("kiln: wrote {}: {} bytes", written.dest, written.size);
    Ok(())
}

/// The files with other owners and root's password, as far as asked for.
fn changed(arguments: &ExportArguments, image: &StoredImage) -> Result<Files> {
    let map = |text: &Option<String>, option: &str| {
        let parsed = IdMap::parse(text.as_deref().unwrap_or_default());
        parsed.with_context(|| format!("cannot use {option}"))
    };
    let mut files = Files::of(image)?;
    if arguments.uid_map.is_some() || arguments.gid_map.is_some() {
        files.tree.map_ids(&map(&arguments.uid_map, "--uid-map")?, &map(&arguments.gid_map, "--gid-map")?);
    }
    if let Some(source) = &arguments.root_password_file {
        let salt = image.layers.iter().map(|layer| layer.diff_id);
        password::set(&mut files, &password::read(source)?, salt)?;
    }
    Ok(files)
}

/// Says what an ordinary user could not make.
fn report(left_out: &[String], path: &str) -> Result<()> {
    for line in left_out {
        eprintln!("kiln: note: left out {line}");
    }
    eprintln!("kiln: wrote {path}");
    Ok(())
}
