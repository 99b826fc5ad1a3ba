//! What we write: `qemu-img` finds no fault with it, and reads what was written.

use super::file::{FileSource, FileTarget, Fill, Sample, space};
use kiln_disk::formats::{self, DiskFormat, Options, qcow2, vhd, vmdk};
use std::num::NonZero;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const IDENTITY: [u8; 16] = *b"kiln's own disk!";

/// Each way to write a disk, by a name.
fn ways() -> Vec<(&'static str, Options<'static>)> {
    let threads = NonZero::new(2).unwrap();
    let zlib = Some(qcow2::Compression::Zlib(6));
    let zstd = Some(qcow2::Compression::Zstd(3));
    let qcow2 = |compression| qcow2::Options { compression, threads, ..Default::default() };
    let stream = |adapter| vmdk::Options {
        subformat: vmdk::Subformat::StreamOptimized,
        adapter,
        threads,
        ..vmdk::Options::new(IDENTITY)
    };
    let fixed = vhd::Options { layout: vhd::Layout::Fixed, ..vhd::Options::new(IDENTITY) };
    vec![
        ("raw", Options::Raw),
        ("qcow2", Options::Qcow2(qcow2(None))),
        ("zlib.qcow2", Options::Qcow2(qcow2(zlib))),
        ("zstd.qcow2", Options::Qcow2(qcow2(zstd))),
        ("small.qcow2", Options::Qcow2(qcow2::Options { cluster_bytes: 4096, ..qcow2(zlib) })),
        ("large.qcow2", Options::Qcow2(qcow2::Options { cluster_bytes: 2 << 20, ..qcow2(zstd) })),
        ("vmdk", Options::new(DiskFormat::Vmdk, IDENTITY)),
        ("stream.vmdk", Options::Vmdk(stream(vmdk::Adapter::LsiLogic))),
        ("ide.vmdk", Options::Vmdk(stream(vmdk::Adapter::Ide))),
        ("vhd", Options::new(DiskFormat::Vhd, IDENTITY)),
        ("fixed.vhd", Options::Vhd(fixed)),
        ("vhdx", Options::new(DiskFormat::Vhdx, IDENTITY)),
        ("vdi", Options::new(DiskFormat::Vdi, IDENTITY)),
    ]
}

/// What `qemu-img` calls a format.
fn driver(format: DiskFormat) -> &'static str {
    if format == DiskFormat::Vhd { "vpc" } else { format.name() }
}

fn write(raw: &Path, options: &Options<'_>, path: &Path) {
    formats::write(&FileSource::open(raw), options, &mut FileTarget::create(path)).unwrap();
}

/// Writes a raw disk in every way, and has each compared.
fn check_all(sample: &Sample, raw: &Path) {
    check(sample, raw, ways());
}

fn check(sample: &Sample, raw: &Path, ways: Vec<(&str, Options<'_>)>) {
    for (name, options) in ways {
        let path = sample.path(name);
        write(raw, &options, &path);
        let driver = driver(options.format());
        if matches!(
            options.format(),
            DiskFormat::Qcow2 | DiskFormat::Vmdk | DiskFormat::Vhdx | DiskFormat::Vdi
        ) {
            let said = sample.qemu_img(&["check", "-f", driver, name]);
            assert!(said.contains("No errors were found"), "{name}: {said}");
        }
        let said = sample.qemu_img(&["compare", "-f", "raw", "-F", driver, raw.to_str().unwrap(), name]);
        assert_eq!(said.trim(), "Images are identical.", "{name}");
        let allowed = space(raw) + space(raw) / 4 + 24 * MIB;
        assert!(space(&path) <= allowed, "{name} takes {} bytes, the disk {}", space(&path), space(raw));
        read_back(sample, raw, &path, options.format());
        std::fs::remove_file(path).unwrap();
    }
}

/// Our own reader's disk as a raw file is the one that was written.
fn read_back(sample: &Sample, raw: &Path, path: &Path, format: DiskFormat) {
    let back = sample.path("back");
    let disk = formats::open(FileSource::boxed(path), format).unwrap();
    formats::write(&*disk, &Options::Raw, &mut FileTarget::create(&back)).unwrap();
    assert!(same_contents(raw, &back), "{}", path.display());
}

/// Compares two raw disks.
pub fn same_contents(one: &Path, other: &Path) -> bool {
    let output = std::process::Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "raw"])
        .args([one, other])
        .output();
    let said = output.expect("these tests need qemu-img: apt-get install qemu-utils").stdout;
    said == b"Images are identical.\n"
}

fn disk(sample: &Sample, length: u64) -> PathBuf {
    let last = length.saturating_sub(70_000) / 512 * 512;
    let pieces = [
        (0, 512, Fill::Byte(1)),
        (32_768, 300_000, Fill::Text),
        (400_000, 100_000, Fill::Noise(3)),
        (600_000, 65_536, Fill::Byte(0)),
        (last, (length - last) as usize, Fill::Noise(9)),
    ];
    sample.raw("disk", length, &pieces)
}

#[test]
fn a_mebibyte() {
    let sample = Sample::new();
    check_all(&sample, &disk(&sample, MIB));
}

#[test]
fn odd_numbers_of_sectors() {
    let sample = Sample::new();
    for sectors in [2049, 2047 + 4096, 12_345, 65_537] {
        check_all(&sample, &disk(&sample, sectors * 512));
    }
}

#[test]
fn one_sector() {
    let sample = Sample::new();
    check_all(&sample, &sample.raw("disk", 512, &[(0, 512, Fill::Text)]));
}

#[test]
fn nothing_in_it() {
    let sample = Sample::new();
    check_all(&sample, &sample.raw("disk", 5 * MIB, &[]));
}

#[test]
fn a_sparse_gibibyte() {
    let sample = Sample::new();
    let pieces = [
        (0, 4096, Fill::Text),
        (100 * MIB + 512, 3 << 20, Fill::Text),
        (700 * MIB - 1024, 2 << 20, Fill::Noise(1)),
    ];
    check_all(&sample, &sample.raw("disk", GIB, &pieces));
}

#[test]
fn data_at_the_end_of_three_gibibytes() {
    let sample = Sample::new();
    let pieces = [(0, 512, Fill::Text), (3 * GIB - 512, 512, Fill::Noise(1))];
    check_all(&sample, &sample.raw("disk", 3 * GIB, &pieces));
}

/// Beyond what geometries can say, where QEMU and Azure go by the size.
#[test]
fn sizes_that_no_geometry_has() {
    let sample = Sample::new();
    for mebibytes in [1, 2, 3, 17, 511, 1023, 4097, 65_001, 130_051, 140_001] {
        let length = mebibytes * MIB;
        let raw = sample.raw("disk", length, &[(length - 4096, 4096, Fill::Text)]);
        check(&sample, &raw, ways().into_iter().filter(|(name, _)| name.ends_with("vhd")).collect());
    }
}

/// The BAT of a VHDX has entries in between from there on.
#[test]
fn data_after_five_gibibytes() {
    let sample = Sample::new();
    let pieces = [(4 * GIB - 4096, 8192, Fill::Text), (5 * GIB - 512, 512, Fill::Noise(1))];
    check_all(&sample, &sample.raw("disk", 5 * GIB, &pieces));
}

/// More than one refcount block and many L2 tables.
#[test]
fn clusters_of_512_bytes() {
    let sample = Sample::new();
    let zlib = qcow2::Options {
        cluster_bytes: 512,
        compression: Some(qcow2::Compression::Zlib(1)),
        ..Default::default()
    };
    let raw = sample.raw(
        "disk",
        40 * MIB + 512,
        &[(0, 1 << 20, Fill::Text), (24 * MIB, 2 << 20, Fill::Noise(5)), (40 * MIB, 512, Fill::Text)],
    );
    let plain = qcow2::Options { compression: None, ..zlib.clone() };
    check(&sample, &raw, vec![("plain", Options::Qcow2(plain)), ("zlib", Options::Qcow2(zlib))]);
}

/// Only what differs is in the upper file, zeroes over data too; a disk may grow and shrink.
#[test]
fn backing_chains() {
    let sample = Sample::new();
    let base =
        sample.raw("base.raw", 8 * MIB, &[(0, 3 << 20, Fill::Text), (5 * MIB, 1 << 20, Fill::Noise(3))]);
    write(&base, &Options::new(DiskFormat::Qcow2, IDENTITY), &sample.path("base.qcow2"));
    for (length, compression) in [(8, None), (9, Some(qcow2::Compression::Zstd(3))), (6, None)] {
        // The first MiB is the same, the second zero, the third other text.
        let pieces = [
            (0, 1 << 20, Fill::Text),
            (2 * MIB, 1 << 20, Fill::Noise(4)),
            (5 * MIB, 1 << 19, Fill::Noise(3)),
        ];
        let top = sample.raw("top.raw", length * MIB, &pieces);
        let below = FileSource::open(&base);
        let backing =
            qcow2::Backing { file_name: "base.qcow2".into(), format: DiskFormat::Qcow2, disk: &below };
        let options = qcow2::Options { backing: Some(backing), compression, ..Default::default() };
        write(&top, &Options::Qcow2(options), &sample.path("top.qcow2"));
        assert!(space(&sample.path("top.qcow2")) < 2 * MIB, "it has only what differs");
        let said = sample.qemu_img(&["check", "-f", "qcow2", "top.qcow2"]);
        assert!(said.contains("No errors were found"), "{said}");
        let said = sample.qemu_img(&["compare", "-f", "raw", "-F", "qcow2", "top.raw", "top.qcow2"]);
        assert_eq!(said.trim(), "Images are identical.");
        let image = qcow2::Image::open(FileSource::boxed(&sample.path("top.qcow2"))).unwrap();
        let below = formats::open(FileSource::boxed(&sample.path("base.qcow2")), DiskFormat::Qcow2).unwrap();
        let back = sample.path("back");
        formats::write(&*image.over(below), &Options::Raw, &mut FileTarget::create(&back)).unwrap();
        assert!(same_contents(&top, &back));
    }
}

#[test]
fn dense_data() {
    let sample = Sample::new();
    check_all(
        &sample,
        &sample.raw("disk", 40 * MIB, &[(0, 6 << 20, Fill::Text), (24 * MIB, 3 << 20, Fill::Noise(5))]),
    );
}

/// Its machines can use our disks, and what they leave is read.
#[test]
fn qemu_writes_into_them() {
    let sample = Sample::new();
    for (name, options) in ways() {
        if matches!(&options, Options::Vmdk(options) if options.subformat == vmdk::Subformat::StreamOptimized)
        {
            continue;
        }
        let (driver, format) = (driver(options.format()), options.format());
        let raw = disk(&sample, 20 * MIB);
        write(&raw, &options, &sample.path(name));
        for command in
            ["write -P 7 3M 200k", "write -P 9 20000k 64k", "write -P 8 33k 3k", "write -P 5 500k 1k"]
        {
            sample.qemu_io(driver, name, command);
            sample.qemu_io("raw", "disk", command);
        }
        if matches!(format, DiskFormat::Qcow2 | DiskFormat::Vmdk | DiskFormat::Vhdx | DiskFormat::Vdi) {
            let said = sample.qemu_img(&["check", "-f", driver, name]);
            assert!(said.contains("No errors were found"), "{name}: {said}");
        }
        read_back(&sample, &raw, &sample.path(name), format);
    }
}

/// Where a size is one that a geometry has, ours is QEMU's.
#[test]
fn geometries_of_virtual_pc() {
    let sample = Sample::new();
    for size in ["1M", "30M", "70M", "300M", "503M", "505M", "8G", "31G", "32G", "100G", "127G", "200G"] {
        sample.qemu_img(&["create", "-f", "vpc", "theirs", size]);
        let theirs = footer(&sample.path("theirs"));
        let length = u64::from_be_bytes(theirs[48..56].try_into().unwrap());
        write(
            &sample.raw("disk", length, &[]),
            &Options::new(DiskFormat::Vhd, IDENTITY),
            &sample.path("ours"),
        );
        assert_eq!(footer(&sample.path("ours"))[48..60], theirs[48..60], "{size}");
    }
}

fn footer(path: &Path) -> [u8; 512] {
    let bytes = std::fs::read(path).unwrap();
    *bytes.last_chunk().unwrap()
}
