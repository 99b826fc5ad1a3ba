//! A disk and its companion in tar, tar.gz and ZIP, as tar, unzip and Python unpack them.

use crate::programs::{tar, told};
use crate::sparse::Sparse;
use kiln_disk::package::{ArchiveFormat, Delivery, Machine, Member, vmx};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;

const DISK_BYTES: u64 = 20 << 20;

fn disk(knows_holes: bool, length: u64) -> Sparse {
    let noise = (0..1_200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    Sparse { length, data: vec![(1 << 20, vec![1; 100]), (5_000_000, noise)], knows_holes }
}

fn write(disk: &Sparse, format: ArchiveFormat, threads: usize, path: &Path) {
    let vmx = vmx(&Machine::new("machine"), "disk.vmdk").unwrap();
    let members =
        [Member { name: "machine.vmx", source: &vmx.as_bytes() }, Member { name: "disk.vmdk", source: disk }];
    let threads = NonZeroUsize::new(threads).unwrap();
    let delivery = Delivery { directory: "machine", members: &members, mtime: 1_700_000_000, threads };
    delivery.write(format, &mut File::create(path).unwrap()).unwrap();
}

/// What was unpacked is what was packed.
fn is_same(directory: &Path, disk: &Sparse) {
    let vmx = fs::read_to_string(directory.join("machine/machine.vmx")).unwrap();
    assert!(vmx.contains("scsi0:0.fileName = \"disk.vmdk\""), "{vmx}");
    let found = fs::read(directory.join("machine/disk.vmdk")).unwrap();
    let mut expected = vec![0; disk.length as usize];
    kiln_disk::sparse::Source::read_at(disk, &mut expected, 0).unwrap();
    assert!(found == expected);
}

#[test]
fn tar_unpacks_tars() {
    for (format, options) in [(ArchiveFormat::Tar, "-xf"), (ArchiveFormat::TarGzip(6), "-xzf")] {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(true, DISK_BYTES);
        write(&disk, format, 1, &directory.path().join("archive"));
        assert_eq!(tar(&["-tf", "archive"], directory.path()), "machine/machine.vmx\nmachine/disk.vmdk\n");
        tar(&[options, "archive"], directory.path());
        is_same(directory.path(), &disk);
    }
}

#[test]
fn unzip_and_python_unpack_zips() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(true, DISK_BYTES);
    write(&disk, ArchiveFormat::Zip, 2, &directory.path().join("archive.zip"));
    let tested = told("unzip", "unzip", &["-t", "archive.zip"], directory.path());
    assert!(tested.contains("No errors detected in compressed data of archive.zip."), "{tested}");
    told("unzip", "unzip", &["-q", "archive.zip"], directory.path());
    is_same(directory.path(), &disk);
    let script = "import zipfile; z = zipfile.ZipFile('archive.zip'); assert z.testzip() is None; \
                  [print(i.filename, i.date_time, oct(i.external_attr >> 16)) for i in z.infolist()]";
    let listed = told("python3", "python3", &["-c", script], directory.path());
    let rest = "(2023, 11, 14, 22, 13, 20) 0o100644";
    assert_eq!(listed, format!("machine/machine.vmx {rest}\nmachine/disk.vmdk {rest}\n"));
}

/// Beyond 32 bits: ZIP64.
#[test]
fn a_zip_of_a_large_disk() {
    let directory = tempfile::tempdir().unwrap();
    let length = (4 << 30) + 12_345;
    write(&disk(true, length), ArchiveFormat::Zip, 1, &directory.path().join("archive.zip"));
    let tested = told("unzip", "unzip", &["-t", "archive.zip"], directory.path());
    assert!(tested.contains("No errors detected in compressed data of archive.zip."), "{tested}");
    let listed = told("unzip", "unzip", &["-l", "archive.zip"], directory.path());
    assert!(listed.contains(&length.to_string()), "{listed}");
    let script = "import zipfile; print(zipfile.ZipFile('archive.zip').infolist()[1].file_size)";
    let told = told("python3", "python3", &["-c", script], directory.path());
    assert_eq!(told.trim(), length.to_string());
}

#[test]
fn holes_and_threads_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarGzip(1), ArchiveFormat::Zip] {
        write(&disk(true, DISK_BYTES), format, 1, &first);
        write(&disk(false, DISK_BYTES), format, 3, &second);
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{format:?}");
    }
}
