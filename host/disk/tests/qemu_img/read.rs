//! What `qemu-img` writes, we read.

use super::file::{FileSource, FileTarget, Fill, Sample};
use super::write::same_contents;
use kiln_disk::formats::{self, DiskFormat, Options, qcow2};
use kiln_disk::sparse::Source;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// How `qemu-img` makes them: the driver, its options, whether compressed.
const MADE: [(&str, &str, bool); 18] = [
    ("qcow2", "", false),
    ("qcow2", "compat=0.10", false),
    ("qcow2", "cluster_size=512", false),
    ("qcow2", "cluster_size=2M", false),
    ("qcow2", "lazy_refcounts=on", false),
    ("qcow2", "refcount_bits=1", false),
    ("qcow2", "preallocation=metadata", false),
    ("qcow2", "", true),
    ("qcow2", "cluster_size=4096", true),
    ("qcow2", "compression_type=zstd", true),
    ("vmdk", "subformat=monolithicSparse", false),
    ("vmdk", "subformat=monolithicSparse,zeroed_grain=on", false),
    ("vmdk", "subformat=streamOptimized", false),
    ("vpc", "subformat=dynamic,force_size=on", false),
    ("vpc", "subformat=fixed,force_size=on", false),
    ("vhdx", "subformat=dynamic", false),
    ("vhdx", "subformat=dynamic,block_size=1M", false),
    ("vdi", "", false),
];

fn disks(sample: &Sample) -> Vec<PathBuf> {
    let pieces = |length: u64| {
        [
            (0, 70_000, Fill::Text),
            (2 * MIB, 200_000, Fill::Noise(5)),
            (length / 2 / 512 * 512, 512, Fill::Byte(3)),
            (length - 1024, 1024, Fill::Text),
        ]
    };
    let sizes = [4 * MIB, 12_345 * 512, 1 << 30];
    sizes.map(|size| sample.raw(&format!("disk-{size}"), size, &pieces(size))).to_vec()
}

fn to_raw(disk: &dyn Source, path: &Path) {
    formats::write(disk, &Options::Raw, &mut FileTarget::create(path)).unwrap();
}

#[test]
fn disks_of_qemu_img() {
    let sample = Sample::new();
    for raw in disks(&sample) {
        for (driver, options, compressed) in MADE {
            let (made, back) = (sample.path("made"), sample.path("back"));
            let mut arguments = vec!["convert", "-f", "raw", "-O", driver];
            arguments.extend(compressed.then_some("-c"));
            arguments.extend(["-o", options].iter().filter(|_| !options.is_empty()));
            sample.qemu_img(&[&arguments[..], &[raw.to_str().unwrap(), "made"]].concat());
            let format: DiskFormat = driver.parse().unwrap();
            assert_eq!(
                DiskFormat::detect_file(&FileSource::open(&made)).unwrap(),
                Some(format),
                "{driver} {options}"
            );
            let disk = formats::open(FileSource::boxed(&made), format).unwrap();
            to_raw(&*disk, &back);
            assert!(same_contents(&raw, &back), "{} as {driver} {options}", raw.display());
            std::fs::remove_file(made).unwrap();
        }
    }
}

#[test]
fn chains_of_qemu_img() {
    let sample = Sample::new();
    let base =
        sample.raw("base.raw", 8 * MIB, &[(0, 3 << 20, Fill::Text), (5 * MIB, 1 << 20, Fill::Noise(3))]);
    let top =
        sample.raw("top.raw", 9 * MIB, &[(MIB, 2 << 20, Fill::Text), (8 * MIB, 1 << 20, Fill::Noise(4))]);
    sample.qemu_img(&["convert", "-O", "qcow2", "base.raw", "base.qcow2"]);
    sample.qemu_img(&[
        "convert",
        "-O",
        "qcow2",
        "-B",
        "base.qcow2",
        "-F",
        "qcow2",
        "-f",
        "raw",
        "top.raw",
        "top.qcow2",
    ]);
    let image = qcow2::Image::open(FileSource::boxed(&sample.path("top.qcow2"))).unwrap();
    let backing = image.backing_file().unwrap();
    assert_eq!((backing.file_name.as_str(), backing.format.as_deref()), ("base.qcow2", Some("qcow2")));
    let below = formats::open(FileSource::boxed(&sample.path("base.qcow2")), DiskFormat::Qcow2).unwrap();
    to_raw(&*image.over(below), &sample.path("back"));
    assert!(same_contents(&top, &sample.path("back")));
    assert!(!same_contents(&base, &sample.path("back")));
}

/// Without `force_size`, QEMU makes a VHD as large as a geometry is.
#[test]
fn sizes_of_virtual_pc() {
    let sample = Sample::new();
    for (size, subformat) in [(4 * MIB, "dynamic"), (1_234_567_680, "dynamic"), (12_345 * 512, "fixed")] {
        let raw = sample.raw("disk", size, &[(0, 70_000, Fill::Text), (size - 1024, 1024, Fill::Text)]);
        let options = format!("subformat={subformat}");
        sample.qemu_img(&[
            "convert",
            "-f",
            "raw",
            "-O",
            "vpc",
            "-o",
            &options,
            raw.to_str().unwrap(),
            "made",
        ]);
        let disk = formats::open(FileSource::boxed(&sample.path("made")), DiskFormat::Vhd).unwrap();
        to_raw(&*disk, &sample.path("back"));
        let said = sample.qemu_img(&["compare", "-f", "vpc", "-F", "raw", "made", "back"]);
        assert_eq!(said.trim(), "Images are identical.");
    }
}

/// What is not a disk by itself, or needs more than is here.
#[test]
fn what_is_refused() {
    let sample = Sample::new();
    sample.qemu_img(&["create", "-f", "vmdk", "base.vmdk", "4M"]);
    for (driver, options, expected) in [
        (
            "vmdk",
            "subformat=monolithicFlat",
            "the vmdk file has its data in other files, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            "vmdk",
            "subformat=twoGbMaxExtentSparse",
            "the vmdk file has its data in other files, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            "vmdk",
            "backing_file=base.vmdk,backing_fmt=vmdk",
            "the vmdk file has another image below it (parentCID), which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            "qcow2",
            "extended_l2=on",
            "the qcow2 file has extended L2 entries (subclusters), which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            "qcow2",
            "data_file=data",
            "the qcow2 file has an external data file, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            "qcow2",
            "backing_file=base.vmdk,backing_fmt=vmdk",
            "the qcow2 file has a backing file (base.vmdk) that was not given, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
    ] {
        sample.qemu_img(&["create", "-f", driver, "-o", options, "made", "4M"]);
        let opened = formats::open(FileSource::boxed(&sample.path("made")), driver.parse().unwrap());
        assert_eq!(opened.err().unwrap().to_string(), expected, "{driver} {options}");
    }
}
