//! The root file system alone, read-only: SquashFS and EROFS, which are only as large as what is in them.

use super::plan::{DiskPlan, FileSystem, PartitionPlan, Table};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Their tools write whole blocks of this many bytes.
const BLOCK: u64 = 4096;
/// Of SquashFS' superblock: how many bytes are used
/// ([Linux](https://docs.kernel.org/filesystems/squashfs.html), `struct squashfs_super_block`).
const SQUASHFS_BYTES_USED: u64 = 40;
/// Of EROFS' superblock: the logarithm of the size of a block, and how many there are
/// ([Linux](https://erofs.docs.kernel.org/en/latest/ondisk/core_ondisk.html)).
const EROFS_BLOCK_BITS: u64 = 1024 + 12;
const EROFS_BLOCKS: u64 = 1024 + 36;

/// The plan of the system on it, instead of a disk's. Kernels in it are started from elsewhere, if at all.
pub(crate) fn plan(of_disk: &DiskPlan, file_system: FileSystem) -> DiskPlan {
    let root = of_disk.root().map(|root| &of_disk.partitions[root]);
    let same = root.filter(|root| root.file_system == Some(file_system));
    let partition = PartitionPlan {
        file_system: Some(file_system),
        mount: Some("/".to_owned()),
        label: same.and_then(|root| root.label.clone()),
        uuid: same.and_then(|root| root.uuid.clone()),
        mkfs_options: same.map(|root| root.mkfs_options.clone()).unwrap_or_default(),
        ..PartitionPlan::default()
    };
    DiskPlan {
        table: Table::None,
        partitions: vec![partition],
        boot: Vec::new(),
        size: None,
        identifier: None,
        alignment: None,
        geometry: None,
        ..of_disk.clone()
    }
}

/// Cuts a file behind the file system in it. Only those that cannot grow are shorter than their file.
pub(crate) fn cut(file: &File, file_system: FileSystem) -> io::Result<()> {
    let used = match file_system {
        FileSystem::Squashfs => u64::from_le_bytes(read(file, SQUASHFS_BYTES_USED)?),
        FileSystem::Erofs => {
            let [bits] = read(file, EROFS_BLOCK_BITS)?;
            let blocks = u64::from(u32::from_le_bytes(read(file, EROFS_BLOCKS)?));
            blocks.checked_shl(bits.into()).unwrap_or(0)
        }
        _ => return Ok(()),
    };
    let length = used.checked_next_multiple_of(BLOCK).unwrap_or(0);
    // The guest wrote these numbers.
    if length == 0 || length > file.metadata()?.len() {
        let message = format!("{} says that it has {used} bytes", file_system.name());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    file.set_len(length)
}

fn read<const LENGTH: usize>(file: &File, offset: u64) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, offset).map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::plan::Loader;

    #[test]
    fn the_plan_is_of_one_file_system() {
        let root = PartitionPlan {
            mount: Some("/".to_owned()),
            file_system: Some(FileSystem::Erofs),
            mkfs_options: vec!["-zlz4".to_owned()],
            ..PartitionPlan::default()
        };
        let disk = DiskPlan {
            size: Some(1 << 30),
            boot: vec![Loader::Uki],
            kernel_options: "quiet".to_owned(),
            partitions: vec![PartitionPlan::default(), root],
            ..DiskPlan::default()
        };
        let erofs = plan(&disk, FileSystem::Erofs);
        assert_eq!(
            (erofs.table, erofs.size, erofs.boot.len(), erofs.partitions.len()),
            (Table::None, None, 0, 1)
        );
        assert_eq!(erofs.partitions[0].mkfs_options, ["-zlz4"]);
        assert_eq!(erofs.kernel_options, "quiet");
        assert!(plan(&disk, FileSystem::Squashfs).partitions[0].mkfs_options.is_empty());
    }

    type Write = (u64, &'static [u8]);

    /// A file of 1 MiB with these bytes in it.
    fn file(writes: &[Write]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        for (offset, bytes) in writes {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    #[test]
    fn files_end_where_their_file_systems_do() {
        let table: [(FileSystem, Vec<Write>, u64); 3] = [
            (FileSystem::Squashfs, vec![(40, b"\x88\x13\0\0\0\0\0\0")], 8192),
            (FileSystem::Erofs, vec![(1036, &[12]), (1060, &[3])], 12288),
            (FileSystem::Ext4, vec![], 1 << 20),
        ];
        for (file_system, writes, wanted) in table {
            let file = file(&writes);
            cut(&file, file_system).unwrap();
            assert_eq!(file.metadata().unwrap().len(), wanted, "{file_system:?}");
        }
    }

    #[test]
    fn what_is_impossible_is_refused() {
        let table: [(FileSystem, Vec<Write>); 4] = [
            (FileSystem::Squashfs, vec![]),
            (FileSystem::Squashfs, vec![(40, &[0xff; 8])]),
            (FileSystem::Erofs, vec![(1036, &[200]), (1060, &[1])]),
            (FileSystem::Erofs, vec![(1036, &[12]), (1060, &[0xff; 4])]),
        ];
        for (file_system, writes) in table {
            let file = file(&writes);
            assert!(cut(&file, file_system).is_err(), "{file_system:?} {writes:?}");
            assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        }
    }
}
