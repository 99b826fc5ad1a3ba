//! One field of a good file altered, and what is said of it.

use super::super::{DiskFormat, Options, open, qcow2, vhd, vhdx, vmdk, write};
use super::{IDENTITY, MIB, Memory, ways, written};
use crate::sparse::{Source, Target};

fn file(name: &str) -> (Memory, DiskFormat) {
    let (_, options) = ways().into_iter().find(|(way, _)| *way == name).unwrap();
    let disk = Memory::disk(3 * MIB, &[(0, b"start"), (2 * MIB, b"third")]);
    (written(&disk, &options), options.format())
}

/// The error of opening the file, or reading all of its disk.
fn error(file: &Memory, format: DiskFormat) -> String {
    let read = |disk: Box<dyn Source>| {
        let mut bytes = vec![0; disk.len() as usize];
        disk.read_at(&mut bytes, 0).map_err(|error| error.to_string())
    };
    match open(file.boxed(), format) {
        Ok(disk) => read(disk).err().unwrap_or_else(|| "no error".to_owned()),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refuses(name: &str, offset: u64, value: &[u8], expected: &str) {
    let (mut file, format) = file(name);
    file.write_at(value, offset).unwrap();
    assert_eq!(error(&file, format), expected, "{name} at {offset}");
}

#[test]
fn qcow2() {
    for (offset, value, expected) in [
        (0, &b"Q"[..], "no error"),
        (0, b"X", "the qcow2 file is corrupt: the header at byte 0: it does not start with QFI and 0xfb"),
        (
            7,
            &[4],
            "the qcow2 file has version 4, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            15,
            &[104],
            "the qcow2 file is corrupt: the header at byte 16: a backing file's name of 0 bytes, not 1 to 1023",
        ),
        (
            23,
            &[8],
            "the qcow2 file is corrupt: the header at byte 20: clusters of 2^8 bytes, not 2^9 to 2^21",
        ),
        (
            24,
            &[1],
            "the qcow2 file is corrupt: the header at byte 36: an L1 table of 1 entries, not the 134217729 that a disk of \
             72057594041073664 bytes needs, or too many",
        ),
        (
            35,
            &[1],
            "the qcow2 file has encryption, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            47,
            &[1],
            "the qcow2 file is corrupt: the header at byte 40: the L1 table is not at the start of a cluster",
        ),
        (79, &[1], "no error"),
        (
            79,
            &[2],
            "the qcow2 file is corrupt: the header at byte 72: it says so itself (qemu-img check -r all may repair it)",
        ),
        (
            79,
            &[4],
            "the qcow2 file has an external data file, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            79,
            &[16],
            "the qcow2 file has extended L2 entries (subclusters), which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            78,
            &[1],
            "the qcow2 file has unknown incompatible features 0x100, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (103, &[105], "the qcow2 file is corrupt: the header at byte 100: it says that it is 105 bytes long"),
    ] {
        refuses("qcow2", offset, value, expected);
    }
    let (mut file, format) = file("qcow2");
    // The first cluster after the header is the first refcount block, which reading needs not.
    file.write_at(&[0x80, 0, 0, 0, 1, 0, 0, 0], 1 << 16).unwrap();
    assert_eq!(error(&file, format), "no error");
    file.write_at(&[0x80, 0, 0, 0, 1, 0, 0, 0], 2 << 16).unwrap();
    let expected = "the qcow2 file ends early: an L2 table at byte 16777216 is 8 bytes long, the file 458752";
    assert_eq!(error(&file, format), expected);
    file.write_at(&[0x80, 0, 0, 0, 0, 1, 2, 0], 2 << 16).unwrap();
    let expected =
        "the qcow2 file is corrupt: an L1 entry at byte 131072: its L2 table does not start at a cluster";
    assert_eq!(error(&file, format), expected);
    refuses(
        "qcow2 zstd",
        104,
        &[2],
        "the qcow2 file has compression type 2, which is not supported; `qemu-img convert` may make a raw disk of it",
    );
}

#[test]
fn vmdk() {
    for (offset, value, expected) in [
        (
            0,
            &b"COWD"[..],
            "the vmdk file has the layout of ESX Server's sparse extents (COWD), which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            0,
            b"# Disk DescriptorFile",
            "the vmdk file has its data in other files, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            4,
            &[9],
            "the vmdk file has version 9, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            20,
            &[129],
            "the vmdk file is corrupt: the header or footer at byte 0: grains of 66048 bytes, not a power of two up to 2 MiB",
        ),
        (
            28,
            &[0],
            "the vmdk file has no descriptor: it is a part of a disk in several files, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            46,
            &[1],
            "the vmdk file is corrupt: the header or footer at byte 0: grain tables of 66048 entries, not 1 to 512",
        ),
        (
            63,
            &[1],
            "the vmdk file is corrupt: the header or footer at byte 0: a number of sectors that is too large",
        ),
    ] {
        refuses("vmdk", offset, value, expected);
    }
    let descriptor = |from: &str, to: &str| {
        let (mut file, format) = file("vmdk");
        let text = file.to_vec();
        let at = text.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        file.write_at(to.as_bytes(), at as u64).unwrap();
        error(&file, format)
    };
    assert_eq!(
        descriptor("parentCID=f", "parentCID=1"),
        "the vmdk file has another image below it (parentCID), which is not supported; `qemu-img convert` may make a raw disk of it"
    );
    assert_eq!(
        descriptor("monolithicSparse", "twoGbMaxExtentSp"),
        "the vmdk file has type \"twoGbMaxExtentSp\", not monolithicSparse or streamOptimized, which is not supported; `qemu-img convert` may make a raw disk of it"
    );
    // As QEMU leaves it in extents of twoGbMaxExtentSparse.
    assert_eq!(
        descriptor("createType", "# created "),
        "the vmdk file has no type in its descriptor: it is a part of a disk in several files, which is not supported; `qemu-img convert` may make a raw disk of it"
    );
    assert_eq!(
        descriptor("# The Disk Data", "\nRW 12 SPARSE \""),
        "the vmdk file has 2 extents, not one, which is not supported; `qemu-img convert` may make a raw disk of it"
    );
    refuses(
        "vmdk stream",
        65_536,
        &[1],
        "the vmdk file is corrupt: a grain's marker at byte 65536: it is for sector 1, not this one",
    );
    refuses(
        "vmdk stream",
        65_546,
        &[9],
        "the vmdk file is corrupt: a grain's marker at byte 65536: a compressed grain of 589914 bytes",
    );
    // The footer counts.
    refuses("vmdk stream", 77, &[2], "no error");
    let footer = file("vmdk stream").0.len() - 1024;
    refuses(
        "vmdk stream",
        footer + 77,
        &[2],
        "the vmdk file has compression algorithm 2, which is not supported; `qemu-img convert` may make a raw disk of it",
    );
}

#[test]
fn vhd() {
    let end = file("vhd").0.len() - 512;
    refuses("vhd", end + 500, &[1], "no error");
    let (mut both, format) = file("vhd");
    both.write_at(&[9], 500).unwrap();
    both.write_at(&[9], end + 500).unwrap();
    assert_eq!(error(&both, format), "the vhd file is corrupt: the footer at byte 0: its checksum is wrong");
    refuses(
        "vhd fixed",
        3 * MIB + 63,
        &[9],
        &format!("the vhd file is corrupt: the footer at byte {}: its checksum is wrong", 3 * MIB),
    );
    refuses(
        "vhd",
        700,
        &[9],
        "the vhd file is corrupt: the dynamic disk header at byte 512: its checksum is wrong",
    );
    refuses(
        "vhd",
        1536,
        &[1],
        "the vhd file ends early: a block of data at byte 8589937152 is 2097152 bytes long, the file 4197888",
    );
}

#[test]
fn vhdx() {
    refuses(
        "vhdx",
        0,
        b"V",
        "the vhdx file is corrupt: the file type identifier at byte 0: it does not start with vhdxfile",
    );
    refuses("vhdx", 64 << 10, b"H", "no error");
    refuses("vhdx", 192 << 10, b"R", "no error");
    refuses(
        "vhdx",
        2 * MIB,
        b"M",
        "the vhdx file is corrupt: the metadata table at byte 2097152: it has no signature",
    );
    refuses(
        "vhdx",
        2 * MIB + 65_536,
        &[1],
        "the vhdx file is corrupt: the metadata at byte 2097152: blocks of 1048577 bytes, not a power of two from 1 to 256 MiB",
    );
    refuses(
        "vhdx",
        2 * MIB + 65_540,
        &[2],
        "the vhdx file has another image below it (differencing), which is not supported; `qemu-img convert` may make a raw disk of it",
    );
    let (mut open, format) = file("vhdx");
    // The second header is the newer one.
    let mut header = vec![0; 4096];
    open.boxed().read_at(&mut header, 128 << 10).unwrap();
    header[48] = 1;
    header[4..8].fill(0);
    let checksum = vhdx::checksum::crc32c(&header);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    open.write_at(&header, 128 << 10).unwrap();
    assert_eq!(
        error(&open, format),
        "the vhdx file has changes in its log that are not yet made (`qemu-img check -r all` makes them), which is not supported; `qemu-img convert` may make a raw disk of it"
    );
    refuses("vhdx", 3 * MIB, &[7], "the vhdx file is corrupt: the BAT at byte 3145728: a block in state 7");
    let (mut both, format) = file("vhdx");
    both.write_at(b"H", 64 << 10).unwrap();
    both.write_at(b"H", 128 << 10).unwrap();
    assert_eq!(
        error(&both, format),
        "the vhdx file is corrupt: a header at byte 65536: neither of the two is valid"
    );
}

#[test]
fn vdi() {
    for (offset, value, expected) in [
        (0x40, &[0][..], "the vdi file is corrupt: the header at byte 64: it has no signature"),
        (
            0x46,
            &[2],
            "the vdi file has version 2.1, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            0x4c,
            &[4],
            "the vdi file has another image below it (undo or differencing), which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            0x4c,
            &[9],
            "the vdi file has image type 9, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            0x178,
            &[1],
            "the vdi file has blocks of 1048577 bytes, or with something before them, which is not supported; `qemu-img convert` may make a raw disk of it",
        ),
        (
            0x177,
            &[1],
            "the vdi file is corrupt: the header at byte 384: 3 blocks, not the 68719476739 of a disk of 72057594041073664 bytes",
        ),
        (0x200, &[9], "the vdi file is corrupt: the block map at byte 512: block 9 of 3"),
    ] {
        refuses("vdi", offset, value, expected);
    }
}

#[test]
fn wishes() {
    let refused = |options: Options<'_>| {
        let disk = Memory::disk(MIB, &[]);
        write(&disk, &options, &mut Memory::default()).unwrap_err().to_string()
    };
    let qcow2 = |options| refused(Options::Qcow2(options));
    let vmdk = |change: &dyn Fn(&mut vmdk::Options)| {
        let mut options = vmdk::Options::new(IDENTITY);
        change(&mut options);
        refused(Options::Vmdk(options))
    };
    assert_eq!(
        qcow2(qcow2::Options { cluster_bytes: 5000, ..Default::default() }),
        "cannot make a qcow2 disk: clusters of 5000 bytes, not a power of two from 512 to 2097152"
    );
    assert_eq!(
        qcow2(qcow2::Options { compression: Some(qcow2::Compression::Zlib(10)), ..Default::default() }),
        "cannot make a qcow2 disk: zlib level 10, not 1 to 9"
    );
    assert_eq!(
        qcow2(qcow2::Options { compression: Some(qcow2::Compression::Zstd(0)), ..Default::default() }),
        "cannot make a qcow2 disk: zstd level 0, not 1 to 19"
    );
    let below = Memory::disk(MIB, &[]);
    let over = |file_name: String, cluster_bytes| {
        let backing = Some(qcow2::Backing { file_name, format: DiskFormat::Vhd, disk: &below });
        qcow2(qcow2::Options { backing, cluster_bytes, ..Default::default() })
    };
    assert_eq!(
        over("x".repeat(1024), 65_536),
        "cannot make a qcow2 disk: a backing file's name that is not 1 to 1023 bytes long"
    );
    assert_eq!(
        over("x".repeat(500), 512),
        "cannot make a qcow2 disk: the backing file's name does not fit into a cluster"
    );
    assert_eq!(
        vmdk(&|options| options.file_name = "a\"b".to_owned()),
        "cannot make a vmdk disk: its descriptor cannot name the file \"a\\\"b\""
    );
    assert_eq!(
        vmdk(&|options| options.content_id = u32::MAX),
        "cannot make a vmdk disk: content ID ffffffff means that there is none"
    );
    assert_eq!(
        refused(Options::Vhdx(vhdx::Options { identity: IDENTITY, block_bytes: Some(3 * MIB) })),
        "cannot make a vhdx disk: blocks of 3145728 bytes, not a power of two from 1 to 256 MiB"
    );
    let huge = Memory::disk(3 << 40, &[]);
    let error = write(&huge, &Options::Vhd(vhd::Options::new(IDENTITY)), &mut Memory::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot make a vhd disk of 3298534883328 bytes: it may have 1 to 2190433320960"
    );
    let error = write(&Memory::default(), &Options::new(DiskFormat::Vdi, IDENTITY), &mut Memory::default());
    assert!(error.is_err(), "a disk of no bytes");
}
