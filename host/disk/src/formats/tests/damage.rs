//! Files that somebody changed: errors, no panics, no memory for what is not there, an end.

use super::super::{DiskFormat, open};
use super::{Memory, ways, written};
use crate::sparse::{Source, Target};
use proptest::prelude::*;
use std::{io, ops::Range, sync::LazyLock, sync::atomic::AtomicU64, sync::atomic::Ordering};

/// Bytes of a disk that are read at most.
const READ_MAX: u64 = 64 << 20;

/// A file that counts what is asked of it.
struct Counted {
    file: Memory,
    asked: AtomicU64,
}

impl Source for &'static Counted {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).expect("no offset is near the end of numbers");
        assert!(end <= self.file.len(), "it reads beyond the file");
        self.asked.fetch_max(buffer.len() as u64, Ordering::Relaxed);
        self.file.read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.file.next_data(offset)
    }
}

/// Opens a file and reads its disk, up to a limit or the first error.
fn play(file: &Memory, format: DiskFormat) {
    if format == DiskFormat::Raw {
        // The file is the disk.
        return;
    }
    let counted: &'static Counted =
        Box::leak(Box::new(Counted { file: file.clone(), asked: AtomicU64::new(0) }));
    if let Ok(disk) = open(Box::new(counted), format) {
        walk(&*disk);
    }
    assert!(counted.asked.load(Ordering::Relaxed) <= 8 << 20, "it reads that much at once");
}

fn walk(disk: &dyn Source) {
    let (mut position, mut read) = (0, 0);
    let mut buffer = vec![0; 100_000];
    while read < READ_MAX {
        let Ok(Some(range)) = disk.next_data(position) else { break };
        assert!(range.start >= position && range.start < range.end && range.end <= disk.len());
        let part = (range.end - range.start).min(buffer.len() as u64);
        let _ = disk.read_at(&mut buffer[..part as usize], range.start);
        (position, read) = (range.start + part, read + part);
    }
    let _ = disk.read_at(&mut buffer[..1], disk.len().saturating_sub(1));
    assert!(disk.read_at(&mut buffer[..2], disk.len().saturating_sub(1)).is_err());
    assert!(disk.read_at(&mut buffer, u64::MAX - 5).is_err());
}

/// A value that somebody might put anywhere.
fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<u32>().prop_map(|value| value.to_le_bytes().to_vec()),
        (0..64_u32).prop_map(|bit| (1_u64 << bit).to_be_bytes().to_vec()),
        (0..64_u32).prop_map(|bit| ((1_u64 << bit) - 1).to_le_bytes().to_vec()),
        Just(vec![0xff; 8]),
        Just(vec![0; 8]),
    ]
}

/// A disk in each way.
static FILES: LazyLock<Vec<(Memory, DiskFormat)>> = LazyLock::new(|| {
    let text: Vec<u8> = (0..100_000_u64).map(|n| ((n * n) >> 9) as u8).collect();
    let disk = Memory::disk(70 << 20, &[(0, b"start"), (40_000, &text), (69 << 20, &text)]);
    ways().iter().map(|(_, options)| (written(&disk, options), options.format())).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn damaged_files(way in 0..ways().len(), changes in proptest::collection::vec((any::<u64>(), values()), 1..4)) {
        let (mut file, format) = FILES[way].clone();
        let pages = file.pages();
        for (place, value) in changes {
            // The starts of pages are where tables and headers begin: half of the changes are there.
            let page = pages[(place >> 32) as usize % pages.len()];
            let page = if place & 1 == 0 { page } else { pages[(place >> 33) as usize % pages.len().min(4)] };
            let within = if place & 2 == 0 { (place >> 8) % 112 } else { (place >> 8) % 4088 };
            let offset = page * 4096 + within;
            if offset + value.len() as u64 <= file.len() {
                file.write_at(&value, offset).unwrap();
            }
        }
        play(&file, format);
    }

    #[test]
    fn truncated_files(way in 0..ways().len(), length in any::<u64>()) {
        let (file, format) = &FILES[way];
        play(&file.cut(length % file.len()), *format);
    }
}

#[test]
fn noise_and_nothing() {
    let noise: Vec<u8> = (0..100_000_u64).map(|n| ((n * n * 40_503) >> 13) as u8).collect();
    for format in DiskFormat::ALL {
        play(&Memory::default(), format);
        play(&Memory::disk(100_000, &[(0, &noise)]), format);
        for length in [1, 3, 511, 512, 513, 4096] {
            play(&Memory::disk(length, &[]), format);
        }
    }
}
