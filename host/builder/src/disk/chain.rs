//! A file for each layer of an image, each over the one before: as virt-bootstrap makes them.
//!
//! Each link is the file system of all layers up to its own, and its file holds the clusters in which that differs from
//! the link below. So every link boots, or is mounted, as the image would be without the layers above; and two images
//! with the same lower layers and size have the same lower links. An ext file system is changed in place for each layer, so that
//! a link holds little more than its layer; others are made anew, and most of what follows a change moves.

use super::{
    DiskMaker, debugfs,
    file::{FileSource, FileTarget},
    file_system::Making,
    identity::{Identity, format_uuid},
    loader::{self, Task},
    make::SEED,
    plan::{DiskPlan, FileSystem, MachineId, PartitionPlan, PartitionSize, SystemPlan, Table},
};
use crate::{Error, error::Kind, packing};
use kiln_disk::formats::{self, DiskFormat, Options, qcow2};
use kiln_protocol::Stage;
use kiln_store::StoredImage;
use kiln_transport::PendingFile;
use std::{fs::File, path::Path};

/// Room that is left on each, unless the plan says how large they are.
const SLACK: u64 = 256 << 20;
/// Their size is a multiple of this, so that images that share layers mostly agree on it, and then share links.
const STEP: u64 = 1 << 30;
/// The partition of the plan.
const ONLY: usize = 0;

/// Writes `layer-0.qcow2`, `layer-1.qcow2` and so on into a directory.
pub(crate) fn write(maker: &DiskMaker, image: &StoredImage, directory: &Path) -> Result<u64, Error> {
    let failed = |source| Kind::Destination { dest: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let size = size(maker, image)?;
    let (mut below, mut total) = (None::<(StoredImage, FileSource)>, 0);
    for number in 0..image.layers.len() {
        maker.surroundings.check()?;
        let part = up_to(image, number);
        let plan = plan(maker.plan, image, size);
        let maker = DiskMaker { plan: &plan, ..*maker };
        let made = match &below {
            None => maker.make(&part)?.file,
            Some((below, disk)) => maker.make_over(&part, below, disk)?,
        };
        let name = format!("layer-{number}.qcow2");
        maker.surroundings.phase(&format!("writing {name}"));
        let source = FileSource::new(made).map_err(failed)?;
        let backing = below.as_ref().map(|(_, disk)| qcow2::Backing {
            file_name: format!("layer-{}.qcow2", number - 1),
            format: DiskFormat::Qcow2,
            disk,
        });
        let options = Options::Qcow2(qcow2::Options { backing, ..qcow2::Options::default() });
        let dest = directory.join(&name);
        let failed = |source| Kind::Destination { dest: dest.clone(), source };
        let pending = PendingFile::create(&dest).map_err(failed)?;
        formats::write(&source, &options, &mut FileTarget(pending.file()))
            .map_err(|source| Kind::Disk { what: format!("cannot write {}", dest.display()), source })?;
        total += pending.commit().map_err(failed)?;
        below = Some((part, source));
    }
    Ok(total)
}

/// All links are as large as the fullest needs.
fn size(maker: &DiskMaker, image: &StoredImage) -> Result<u64, Error> {
    if let Some(size) = maker.plan.size {
        return Ok(size);
    }
    let mut most = 0;
    for number in 0..image.layers.len() {
        most = most.max(maker.room_of_tree(&up_to(image, number), SLACK)?);
    }
    Ok(most.next_multiple_of(STEP))
}

fn up_to(image: &StoredImage, number: usize) -> StoredImage {
    let mut part = image.clone();
    part.layers.truncate(number + 1);
    part.config.rootfs.diff_ids.truncate(number + 1);
    part
}

/// One file system and nothing else, with the image's files as they are.
fn plan(of_image: &DiskPlan, image: &StoredImage, size: u64) -> DiskPlan {
    let root = of_image.root().map(|index| &of_image.partitions[index]);
    // The lowest layer, which chains may share, says who they are.
    let lowest = image.layers.first().map_or(image.image_id, |layer| layer.diff_id);
    let uuid = Identity { image: &lowest, seed: "chain" }.uuid("file system");
    let partition = PartitionPlan {
        size: PartitionSize::Rest,
        file_system: root.and_then(|root| root.file_system).or(Some(FileSystem::Ext4)),
        label: root.and_then(|root| root.label.clone()),
        uuid: Some(root.and_then(|root| root.uuid.clone()).unwrap_or_else(|| format_uuid(&uuid))),
        mount: Some("/".to_owned()),
        mkfs_options: root.map(|root| root.mkfs_options.clone()).unwrap_or_default(),
        ..PartitionPlan::default()
    };
    let system =
        SystemPlan { machine_id: Some(MachineId::Keep), keeps_ssh_keys: true, ..SystemPlan::default() };
    DiskPlan {
        size: Some(size),
        table: Table::None,
        partitions: vec![partition],
        system,
        is_plain: true,
        ..DiskPlan::default()
    }
}

impl DiskMaker<'_> {
    /// Makes a disk without a table, of one file system, out of the disk of an image that lacks some of the layers: what
    /// both have stays where it is. File systems for which there is no way to do that are made anew.
    fn make_over(&self, image: &StoredImage, below: &StoredImage, disk: &FileSource) -> Result<File, Error> {
        let tree = self.tree(image)?;
        let identity = Identity { image: &image.image_id, seed: SEED };
        let settled = self.settle(identity)?;
        let layout = self.layout(&tree, identity, &settled)?;
        let anew = || Ok(self.make(image)?.file);
        let Some(making) = self.making(ONLY, &settled).filter(Making::is_ext) else { return anew() };
        let change = debugfs::script(&self.tree(below)?, &tree, loader::TREE, &making.device, making.epoch);
        let Some(change) = change else { return anew() };
        let filling = self.filling(ONLY, &tree, layout.length)?;
        let script = format!("(\n{change}) || {{\n{}}}\n", making.script(filling.as_ref()));
        let file = packing::temporary_file(self.surroundings.store)?;
        formats::write(disk, &formats::Options::Raw, &mut FileTarget(&file))
            .map_err(|source| Kind::Disk { what: "cannot copy the disk below".to_owned(), source })?;
        let name = format!("{} of the layers", making.file_system.name());
        let steps = vec![self.step(Stage::Disk, &Task { name, script }, &[])];
        self.surroundings.phase("making file systems");
        self.run_on_disk(image, &file, steps)?;
        Ok(file)
    }
}
