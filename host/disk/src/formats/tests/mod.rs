//! What all formats have in common.

mod damage;
mod memory;
mod refusals;

use super::{DiskFormat, Options, open, qcow2, vhd, vhdx, vmdk, write};
use crate::sparse::Source;
use memory::Memory;
use proptest::prelude::*;
use std::num::NonZero;

const IDENTITY: [u8; 16] = *b"0123456789abcdef";
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Each way to write a disk.
fn ways() -> Vec<(&'static str, Options<'static>)> {
    let compressed = |compression| qcow2::Options { compression: Some(compression), ..Default::default() };
    let zlib = compressed(qcow2::Compression::Zlib(6));
    let stream =
        vmdk::Options { subformat: vmdk::Subformat::StreamOptimized, ..vmdk::Options::new(IDENTITY) };
    let fixed = vhd::Options { layout: vhd::Layout::Fixed, ..vhd::Options::new(IDENTITY) };
    let block_bytes = Some(32 * MIB);
    let mut ways: Vec<_> =
        DiskFormat::ALL.into_iter().map(|format| (format.name(), Options::new(format, IDENTITY))).collect();
    ways.extend([
        ("qcow2 zlib", Options::Qcow2(zlib.clone())),
        ("qcow2 zlib, small clusters", Options::Qcow2(qcow2::Options { cluster_bytes: 512, ..zlib })),
        ("qcow2 zstd", Options::Qcow2(compressed(qcow2::Compression::Zstd(3)))),
        ("vmdk stream", Options::Vmdk(stream)),
        ("vhd fixed", Options::Vhd(fixed)),
        ("vhdx 32 MiB", Options::Vhdx(vhdx::Options { block_bytes, ..vhdx::Options::new(IDENTITY) })),
    ]);
    ways
}

fn written(source: &dyn Source, options: &Options<'_>) -> Memory {
    let mut file = Memory::default();
    write(source, options, &mut file).unwrap();
    file
}

/// All of a disk, as one that is sparse.
fn read(disk: &dyn Source) -> Memory {
    written(disk, &Options::Raw)
}

/// Pieces of a disk: where, how long, and of what.
fn pieces(length: u64) -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let bytes = prop_oneof![
        (any::<u8>(), 1..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        proptest::collection::vec(any::<u8>(), 1..5000),
        (0..100_u64).prop_map(|step| (0..150_000_u64).map(|n| ((n * step) >> 7) as u8).collect()),
    ];
    let piece = (0..length, bytes).prop_map(move |(offset, mut bytes): (u64, Vec<u8>)| {
        bytes.truncate((length - offset) as usize);
        (offset, bytes)
    });
    proptest::collection::vec(piece, 0..6)
}

fn disks() -> impl Strategy<Value = Memory> {
    let lengths = prop_oneof![1..5000_u64, 1..40 * MIB, (1..2000_u64).prop_map(|mebibytes| mebibytes * MIB)];
    lengths.prop_flat_map(|length| {
        pieces(length).prop_map(move |pieces| {
            let pieces: Vec<_> = pieces.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect();
            Memory::disk(length, &pieces)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read(disk in disks()) {
        for (name, options) in ways() {
            let file = written(&disk, &options);
            let format = options.format();
            let detected = DiskFormat::detect_file(&file).unwrap();
            prop_assert_eq!(detected, Some(format).filter(|format| *format != DiskFormat::Raw), "{}", name);
            let mut back = read(&*open(file.boxed(), format).unwrap());
            let whole = if format == DiskFormat::Raw { disk.len() } else { disk.len().next_multiple_of(512) };
            prop_assert_eq!(back.len(), whole, "{}", name);
            crate::sparse::Target::set_len(&mut back, disk.len().max(1)).unwrap();
            prop_assert!(back == read(&disk), "{name}");
        }
    }

    /// A disk of which nobody knows the holes, read with more threads, gives the same file.
    #[test]
    fn holes_and_threads_make_no_difference(pieces in pieces(3 * MIB)) {
        let pieces: Vec<_> = pieces.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect();
        let disk = Memory::disk(3 * MIB, &pieces);
        for (name, options) in ways() {
            let file = written(&disk, &options);
            let dense = written(&&disk.to_vec()[..], &with_threads(options));
            prop_assert!(file == dense, "{name}");
        }
    }

    #[test]
    fn what_differs_is_written_over_the_disk_below(below in disks(), above in disks()) {
        let backing = qcow2::Backing { file_name: "below".into(), format: DiskFormat::Raw, disk: &below };
        for cluster_bytes in [4096, 65_536] {
            let options = qcow2::Options { cluster_bytes, backing: Some(backing.clone()), ..Default::default() };
            let file = written(&above, &Options::Qcow2(options));
            let image = qcow2::Image::open(file.boxed()).unwrap();
            let named = qcow2::BackingFile { file_name: "below".into(), format: Some("raw".into()) };
            prop_assert_eq!(image.backing_file(), Some(&named));
            let mut back = read(&*image.over(below.boxed()));
            crate::sparse::Target::set_len(&mut back, above.len()).unwrap();
            prop_assert!(back == read(&above));
        }
    }

    /// Reading anywhere is reading all and looking there.
    #[test]
    fn any_part_can_be_read(disk in disks(), parts in proptest::collection::vec((any::<u64>(), 0..300_000_usize), 8)) {
        for (name, options) in ways() {
            let opened = open(written(&disk, &options).boxed(), options.format()).unwrap();
            for (offset, length) in &parts {
                let offset = offset % disk.len();
                let length = (*length).min((disk.len() - offset) as usize);
                let (mut ours, mut expected) = (vec![1; length], vec![2; length]);
                opened.read_at(&mut ours, offset).unwrap();
                disk.read_at(&mut expected, offset).unwrap();
                prop_assert!(ours == expected, "{name} at {offset}");
                let data = opened.next_data(offset).unwrap();
                prop_assert!(data.is_none_or(|data| data.start >= offset && data.start < data.end));
            }
        }
    }
}

fn with_threads(options: Options<'static>) -> Options<'static> {
    let threads = NonZero::new(3).unwrap();
    match options {
        Options::Qcow2(options) => Options::Qcow2(qcow2::Options { threads, ..options }),
        Options::Vmdk(options) => Options::Vmdk(vmdk::Options { threads, ..options }),
        other => other,
    }
}

#[test]
fn a_stream_is_the_file() {
    let disk = Memory::disk(5 * MIB, &[(0, b"start"), (4 * MIB, &[7; 100_000])]);
    let options =
        vmdk::Options { subformat: vmdk::Subformat::StreamOptimized, ..vmdk::Options::new(IDENTITY) };
    let mut stream = Vec::new();
    vmdk::write_stream_optimized(&disk, &options, &mut stream).unwrap();
    assert!(stream == written(&disk, &Options::Vmdk(options)).to_vec());
}

/// With next to nothing in it, where a format holds that much.
#[test]
fn a_disk_of_16_tebibytes_takes_its_tables_only() {
    let last = 16 * TIB - 512;
    let disk = Memory::disk(16 * TIB, &[(0, b"first"), (TIB + 5, b"middle"), (last, b"last")]);
    for (name, options) in ways() {
        let small_clusters = matches!(&options, Options::Qcow2(options) if options.cluster_bytes == 512);
        if options.format() == DiskFormat::Vhd || small_clusters {
            assert!(write(&disk, &options, &mut Memory::default()).is_err(), "{name} has not that many");
            continue;
        }
        let file = written(&disk, &options);
        let most = match options.format() {
            // Its block map is not zero where there is nothing.
            DiskFormat::Vdi => 65 * MIB,
            // Two grain directories.
            DiskFormat::Vmdk => 5 * MIB,
            _ => MIB,
        };
        assert!(file.space() <= most, "{name}: {}", file.space());
        let back = open(file.boxed(), options.format()).unwrap();
        for (offset, bytes) in [(0, &b"first"[..]), (TIB + 5, b"middle"), (last, b"last")] {
            let mut read = vec![0; bytes.len()];
            back.read_at(&mut read, offset).unwrap();
            assert_eq!(read, bytes, "{name}");
        }
        let data = back.next_data(2 * TIB).unwrap().unwrap();
        assert!(data.end == 16 * TIB && data.start >= 16 * TIB - 64 * MIB, "{name}: {data:?}");
    }
}

#[test]
fn names() {
    for format in DiskFormat::ALL {
        assert_eq!(format.to_string().parse::<DiskFormat>().unwrap(), format);
    }
    assert_eq!("vpc".parse::<DiskFormat>().unwrap(), DiskFormat::Vhd);
    let error = "VHD".parse::<DiskFormat>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"VHD\" is not a disk format: they are raw, qcow2, vmdk, vhd, vhdx and vdi"
    );
}

#[test]
fn formats_by_their_magic() {
    let mut vdi = [0; 512];
    vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    for (head, footer, format) in [
        (&b"QFI\xfb\0\0\0\x03"[..], None, Some(DiskFormat::Qcow2)),
        (b"KDMV\x01", None, Some(DiskFormat::Vmdk)),
        (b"# Disk DescriptorFile\nversion=1", None, Some(DiskFormat::Vmdk)),
        (b"COWD", None, Some(DiskFormat::Vmdk)),
        (b"conectix", None, Some(DiskFormat::Vhd)),
        (b"", Some(&b"conectix"[..]), Some(DiskFormat::Vhd)),
        (b"vhdxfile", None, Some(DiskFormat::Vhdx)),
        (&vdi, None, Some(DiskFormat::Vdi)),
        (&vdi[..0x42], Some(b"conectiy"), None),
        (b"QFI", None, None),
        (b"", None, None),
    ] {
        assert_eq!(DiskFormat::detect(head, footer), format, "{head:?}");
    }
}
