//! An XVA: order of members, chunks of a billion bytes that are the disk again.

use crate::programs::{tar, xmllint};
use crate::sparse::Sparse;
use kiln_disk::package::{CHUNK_BYTES, Machine, Xva, XvaBoot};
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};

/// One and a half chunks, with something around where they meet.
fn disk(knows_holes: bool) -> Sparse {
    let noise =
        |length: u32| (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    let data =
        vec![(512, noise(5000)), (CHUNK_BYTES - 2_000_000, noise(3_000_000)), (1_499_999_000, noise(1000))];
    Sparse { length: 1_500_000_000, data, knows_holes }
}

fn write(disk: &Sparse, threads: usize, path: &Path) {
    let xva = Xva {
        machine: &Machine::new("machine"),
        boot: XvaBoot::Hvm,
        disk,
        level: 6,
        threads: NonZeroUsize::new(threads).unwrap(),
        mtime: 0,
    };
    xva.write(&mut Cursor::new(Vec::new()), &mut File::create(path).unwrap()).unwrap();
}

#[test]
fn chunks_are_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(true);
    write(&disk, 1, &directory.path().join("machine.xva"));
    let listed = tar(&["-tf", "machine.xva"], directory.path());
    assert_eq!(listed, "ova.xml\nxvda/chunk-000000000.gz\nxvda/chunk-000000001.gz\n");
    tar(&["-xf", "machine.xva"], directory.path());
    xmllint(&["--noout", "ova.xml"], directory.path());
    for (index, length) in [1_000_000_000, 500_000_000].into_iter().enumerate() {
        let chunk = format!("xvda/chunk-{index:09}.gz");
        let start = index as u64 * CHUNK_BYTES;
        is_same(&directory.path().join(&chunk), &disk, start..start + length);
    }
}

/// What gzip makes of a chunk is that part of the disk, and no byte more.
fn is_same(chunk: &Path, disk: &Sparse, range: std::ops::Range<u64>) {
    use kiln_disk::sparse::Source;
    let mut gzip = Command::new("gzip").arg("-dc").arg(chunk).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = gzip.stdout.take().unwrap();
    let (mut found, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(1 << 20) as usize;
        out.read_exact(&mut found[..length]).unwrap();
        disk.read_at(&mut expected[..length], at).unwrap();
        assert!(found[..length] == expected[..length], "at byte {at}");
        at += length as u64;
    }
    assert_eq!(out.read(&mut found).unwrap(), 0);
    assert!(gzip.wait().unwrap().success());
}

#[test]
fn holes_and_threads_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    write(&disk(true), 1, &first);
    write(&disk(false), 3, &second);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}
