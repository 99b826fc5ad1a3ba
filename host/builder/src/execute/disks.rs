//! Disks of images.

use super::{BuildRequest, image::import};
use crate::{
    Error,
    disk::{self, DiskForm, DiskMaker, DiskOutput, DiskPlan, FileSystem},
    error::Kind,
    event::Event,
    guest::Surroundings,
};
use kiln_image::manifest::Platform;
use kiln_store::StoredImage;

/// The outputs of disks that are asked for.
pub(super) fn outputs(request: &BuildRequest) -> &[DiskOutput] {
    if request.disk_outputs.is_empty() && request.outputs.is_empty() {
        return &request.file.disk_outputs;
    }
    &request.disk_outputs
}

/// The images that disks are made of, by their indexes.
pub(super) fn images(request: &BuildRequest, output: &DiskOutput) -> Result<Vec<usize>, Error> {
    let images = &request.file.images;
    let ids = if request.targets.is_empty() { &output.images } else { &request.targets };
    let is_meant = |index: &usize| ids.is_empty() || ids.contains(&images[*index].id);
    let found: Vec<usize> =
        (0..images.len()).filter(|index| images[*index].disk.is_some()).filter(is_meant).collect();
    match found.len() {
        0 => {
            Err(Kind::Request("a disk is asked for, and no image that is meant has a [disk]".to_owned())
                .into())
        }
        1 => Ok(found),
        _ => Err(Kind::Request(format!(
            "{} is to hold one disk, and {} images have one; choose one of them",
            output.dest.display(),
            found.len()
        ))
        .into()),
    }
}

/// Makes each disk once, and writes it to all its outputs.
pub(super) fn write(
    request: &BuildRequest,
    images: &[Option<StoredImage>],
    surroundings: Surroundings,
) -> Result<(), Error> {
    let mut wanted: Vec<(usize, Vec<&DiskOutput>)> = Vec::new();
    for output in outputs(request) {
        for index in self::images(request, output)? {
            match wanted.iter_mut().find(|(known, _)| *known == index) {
                Some((_, outputs)) => outputs.push(output),
                None => wanted.push((index, vec![output])),
            }
        }
    }
    for (index, outputs) in wanted {
        let plan = request.file.images[index].disk.as_ref().expect("chosen for it");
        let image = images[index].as_ref().expect("what is written was built");
        let toolbox = toolbox(request, plan, surroundings)?;
        let of_image = || image.config.created.as_deref()?.parse().ok();
        let epoch = request.source_date_epoch.or_else(of_image).unwrap_or_default();
        let maker = DiskMaker { request, surroundings, plan, toolbox: &toolbox, epoch };
        let (chains, outputs): (Vec<&DiskOutput>, Vec<&DiskOutput>) =
            outputs.into_iter().partition(|output| output.form == DiskForm::Chain);
        for output in chains {
            let size = disk::write_chain(&maker, image, &output.dest)?;
            let (dest, image_id) = (output.dest.display().to_string(), image.image_id.to_string());
            surroundings.observer.event(Event::Written { dest: &dest, image_id: &image_id, size });
        }
        let (isos, outputs): (Vec<&DiskOutput>, Vec<&DiskOutput>) =
            outputs.into_iter().partition(|output| output.form == DiskForm::Iso);
        if !isos.is_empty() {
            let (label, plan) = (disk::iso_label(plan)?, disk::iso_plan(plan));
            let made = DiskMaker { plan: &plan, ..maker }.make_iso(image, &label)?;
            for output in isos {
                disk::write(&made, output, request.threads, surroundings)?;
            }
        }
        let mut outputs = outputs;
        for file_system in [FileSystem::Squashfs, FileSystem::Erofs] {
            let form = DiskForm::ReadOnly(file_system);
            let (read_only, others): (Vec<&DiskOutput>, Vec<&DiskOutput>) =
                outputs.into_iter().partition(|output| output.form == form);
            outputs = others;
            if read_only.is_empty() {
                continue;
            }
            let plan = disk::read_only_plan(plan, file_system);
            let made = DiskMaker { plan: &plan, ..maker }.make(image)?;
            for output in read_only {
                disk::write(&made, output, request.threads, surroundings)?;
            }
        }
        if outputs.is_empty() {
            continue;
        }
        let made = maker.make(image)?;
        for output in outputs {
            surroundings.check()?;
            disk::write(&made, output, request.threads, surroundings)?;
        }
    }
    Ok(())
}

fn toolbox(
    request: &BuildRequest,
    plan: &DiskPlan,
    surroundings: Surroundings,
) -> Result<StoredImage, Error> {
    match &plan.toolbox {
        Some(reference) => import(reference, &Platform::default(), surroundings),
        None => {
            let made = (request.toolbox.0)(surroundings.observer, surroundings.interrupt);
            surroundings.check()?;
            Ok(made.map_err(|source| Kind::Toolbox { source })?)
        }
    }
}
