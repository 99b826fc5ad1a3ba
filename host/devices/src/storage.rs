//! What is behind a disk: bytes that can be read and written in place.

use crate::iovec;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use vm_memory::VolatileSlice;

/// The unit of virtio-blk requests and capacities, in bytes (virtio 1.2 section 5.2.4).
pub(crate) const SECTOR_BYTES: u64 = 512;

/// The bytes of a disk. Offsets and lengths are in bytes; a caller stays within [`Storage::len`].
pub trait Storage: Send + Sync {
    /// Size in bytes. What does not fill a sector at the end is not part of the disk.
    fn len(&self) -> u64;

    /// True for a disk of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills all of `slices` from `offset` on.
    ///
    /// # Errors
    /// When the host cannot read; the slices may then be partly filled.
    fn read_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes all of `slices` from `offset` on.
    ///
    /// # Errors
    /// When the host cannot write, or the storage is read-only.
    fn write_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes `length` bytes from `offset` on read as zeroes and, if it can, frees their space.
    ///
    /// # Errors
    /// When the host cannot, or the storage is read-only.
    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes written bytes durable. Only called for disks that promise it.
    ///
    /// # Errors
    /// When the host cannot.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// The last error of the host behind a request that failed: a full disk of the host shows here
    /// as [`io::ErrorKind::StorageFull`], while the guest only sees an I/O error.
    fn host_error(&self) -> Option<io::Error> {
        None
    }

    /// What it is made of, one part behind the other, for a copy of it in another process; `None`
    /// when it is not made of files.
    fn parts(&self) -> Option<Vec<Segment>> {
        None
    }

    /// Takes note of the error number that such a copy met, for [`host_error`](Self::host_error).
    fn note_host_error(&self, _errno: i32) {}
}

/// The last error of the host.
#[derive(Debug, Default)]
struct HostError(AtomicI32);

impl HostError {
    fn note(&self, errno: i32) {
        self.0.store(errno, Ordering::Relaxed);
    }

    fn checked(&self, result: io::Result<()>) -> io::Result<()> {
        if let Some(errno) = result.as_ref().err().and_then(io::Error::raw_os_error) {
            self.note(errno);
        }
        result
    }

    fn last(&self) -> Option<io::Error> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// A file as a disk.
#[derive(Debug)]
pub struct FileStorage {
    file: Arc<File>,
    length: u64,
    writable: bool,
    last_error: HostError,
}

impl FileStorage {
    /// A disk as large as `file` is now.
    ///
    /// # Errors
    /// When the size cannot be asked for.
    pub fn writable(file: File) -> io::Result<Self> {
        Self::new(file, true)
    }

    /// As [`writable`](Self::writable), but every change is refused.
    ///
    /// # Errors
    /// When the size cannot be asked for.
    pub fn read_only(file: File) -> io::Result<Self> {
        Self::new(file, false)
    }

    fn new(file: File, writable: bool) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, writable, last_error: HostError::default() })
    }

    fn writing(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }
}

impl Storage for FileStorage {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        let once = |rest: &[VolatileSlice<'_>], at| iovec::preadv(self.file.as_fd(), rest, at);
        self.last_error.checked(iovec::all(slices, offset, once))
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        self.writing()?;
        let once = |rest: &[VolatileSlice<'_>], at| iovec::pwritev(self.file.as_fd(), rest, at);
        self.last_error.checked(iovec::all(slices, offset, once))
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        self.writing()?;
        if length == 0 {
            return Ok(()); // fallocate(2) would refuse it.
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, punch, offset, length) {
            Err(rustix::io::Errno::OPNOTSUPP) => self.write_zeroes(offset, length),
            other => self.last_error.checked(other.map_err(io::Error::from)),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.last_error.checked(self.file.sync_data())
    }

    fn host_error(&self) -> Option<io::Error> {
        self.last_error.last()
    }

    fn parts(&self) -> Option<Vec<Segment>> {
        Some(vec![Segment::File { file: self.file.clone(), offset: 0, length: self.length }])
    }

    fn note_host_error(&self, errno: i32) {
        self.last_error.note(errno);
    }
}

impl FileStorage {
    /// For file systems without holes.
    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut zeroes = vec![0; 64 * 1024];
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeroes.len());
            self.write_at(&[VolatileSlice::from(&mut zeroes[..count])], at)?;
            at += count as u64;
        }
        Ok(())
    }
}

/// A part of a [`ComposedStorage`].
#[derive(Debug, Clone)]
pub enum Segment {
    /// `length` bytes of a file from `offset` on.
    File {
        /// Where the bytes are; it must not shrink while it is used.
        file: Arc<File>,
        /// Where in the file they start.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// So many zeroes.
    Zeroes(u64),
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::File { length, .. } | Self::Zeroes(length) => *length,
        }
    }

    /// Fills `slices` from `offset` within this segment.
    fn read_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        match self {
            Self::File { file, offset: start, .. } => {
                let once = |rest: &[VolatileSlice<'_>], at| iovec::preadv(file.as_fd(), rest, at);
                iovec::all(slices, start + offset, once)
            }
            Self::Zeroes(_) => {
                slices.iter().for_each(clear);
                Ok(())
            }
        }
    }
}

fn clear(slice: &VolatileSlice<'_>) {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut rest = *slice;
    while !rest.is_empty() {
        let count = rest.len().min(ZEROES.len());
        rest.copy_from(&ZEROES[..count]);
        rest = rest.offset(count).expect("no more than is left");
    }
}

/// Files, or parts of them, one behind the other as one read-only disk; nothing is copied.
#[derive(Debug, Default)]
pub struct ComposedStorage {
    segments: Vec<Segment>,
    /// Where each segment starts on the disk.
    starts: Vec<u64>,
    length: u64,
    last_error: HostError,
}

impl ComposedStorage {
    /// A disk of `segments` in this order, filled up with zeroes to whole sectors.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when their lengths do not add up to a possible size or a
    /// segment's end is not a possible offset.
    pub fn new(segments: impl IntoIterator<Item = Segment>) -> io::Result<Self> {
        let mut disk = Self::default();
        for segment in segments {
            disk.push(segment)?;
        }
        disk.push(Segment::Zeroes(disk.length.next_multiple_of(SECTOR_BYTES) - disk.length))?;
        Ok(disk)
    }

    fn push(&mut self, segment: Segment) -> io::Result<()> {
        const SIZE_MAX: u64 = i64::MAX as u64 - SECTOR_BYTES;
        let fits = |end: &u64| *end <= SIZE_MAX;
        if let Segment::File { offset, length, .. } = &segment {
            offset.checked_add(*length).filter(fits).ok_or(io::ErrorKind::InvalidInput)?;
        }
        let end = self.length.checked_add(segment.len()).filter(fits).ok_or(io::ErrorKind::InvalidInput)?;
        if segment.len() > 0 {
            self.starts.push(self.length);
            self.segments.push(segment);
            self.length = end;
        }
        Ok(())
    }

    fn read_parts(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        let mut rest = slices.to_vec();
        let mut at = offset;
        // The last segment that starts at or before `offset`.
        let mut index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        while !rest.is_empty() {
            let segment = self.segments.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let within = at - self.starts[index];
            let left = segment.len().checked_sub(within).ok_or(io::ErrorKind::UnexpectedEof)?;
            let part = front(&rest, left);
            let count = part.iter().map(VolatileSlice::len).sum();
            segment.read_at(&part, within)?;
            iovec::advance(&mut rest, count);
            at += count as u64;
            index += 1;
        }
        Ok(())
    }
}

/// The first `count` bytes of `slices`, or all.
fn front<'m>(slices: &[VolatileSlice<'m>], count: u64) -> Vec<VolatileSlice<'m>> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut part = Vec::with_capacity(slices.len());
    for slice in slices {
        let taken = slice.len().min(left);
        part.push(slice.subslice(0, taken).expect("no more than its length"));
        left -= taken;
        if left == 0 {
            break;
        }
    }
    part
}

impl Storage for ComposedStorage {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        self.last_error.checked(self.read_parts(slices, offset))
    }

    fn write_at(&self, _slices: &[VolatileSlice<'_>], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn punch_hole(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn host_error(&self) -> Option<io::Error> {
        self.last_error.last()
    }

    fn parts(&self) -> Option<Vec<Segment>> {
        Some(self.segments.clone())
    }

    fn note_host_error(&self, errno: i32) {
        self.last_error.note(errno);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    fn read(storage: &dyn Storage, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0xee; length];
        let (first, second) = bytes.split_at_mut(length / 3);
        storage.read_at(&[VolatileSlice::from(first), VolatileSlice::from(second)], offset)?;
        Ok(bytes)
    }

    #[test]
    fn a_full_host_disk_is_remembered() {
        let full = FileStorage::writable(File::options().write(true).open("/dev/full").unwrap()).unwrap();
        assert!(full.host_error().is_none());
        let mut bytes = [1; 512];
        full.write_at(&[VolatileSlice::from(&mut bytes[..])], 0).unwrap_err();
        assert_eq!(full.host_error().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_error_of_a_copy_elsewhere_is_remembered() {
        let file = FileStorage::read_only(tempfile::tempfile().unwrap()).unwrap();
        let composed = ComposedStorage::new([]).unwrap();
        for storage in [&file as &dyn Storage, &composed] {
            storage.note_host_error(libc::ENOSPC);
            assert_eq!(storage.host_error().unwrap().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn the_parts_of_a_disk_make_the_same_disk() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 1000], 0).unwrap();
        let whole = FileStorage::writable(file).unwrap();
        let part = whole.parts().unwrap().remove(0);
        assert!(matches!(part, Segment::File { offset: 0, length: 1000, .. }));
        let disk = ComposedStorage::new([Segment::Zeroes(24), part]).unwrap();
        let copy = ComposedStorage::new(disk.parts().unwrap()).unwrap();
        assert_eq!(read(&copy, 0, 1024).unwrap(), [vec![0; 24], vec![7; 1000]].concat());
        assert_eq!(copy.len(), disk.len());
    }

    #[test]
    fn a_read_only_file_is_not_changed() {
        let file = FileStorage::read_only(tempfile::tempfile().unwrap()).unwrap();
        let error = file.write_at(&[VolatileSlice::from(&mut [1; 512][..])], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(file.punch_hole(0, 512).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(file.host_error().is_none(), "the host is not to blame");
    }

    #[test]
    fn a_file_that_shrank_is_an_error_and_no_hang() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let storage = FileStorage::writable(file.try_clone().unwrap()).unwrap();
        file.set_len(1000).unwrap();
        assert_eq!(read(&storage, 0, 2000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn zeroes_are_written_where_there_are_no_holes() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 200_000], 0).unwrap();
        let storage = FileStorage::writable(file).unwrap();
        storage.write_zeroes(1000, 150_000).unwrap();
        let bytes = read(&storage, 0, 200_000).unwrap();
        assert!(bytes[1000..151_000].iter().all(|byte| *byte == 0));
        assert!(bytes[..1000].iter().chain(&bytes[151_000..]).all(|byte| *byte == 1));
    }

    #[test]
    fn segments_that_cannot_be_are_refused() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let at = |offset, length| Segment::File { file: file.clone(), offset, length };
        for segments in [
            vec![at(u64::MAX, 1)],
            vec![at(i64::MAX as u64, 1)],
            vec![Segment::Zeroes(u64::MAX / 2), Segment::Zeroes(u64::MAX / 2)],
        ] {
            let error = ComposedStorage::new(segments).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_disk_of_nothing_is_empty() {
        assert!(ComposedStorage::new([]).unwrap().is_empty());
        assert!(ComposedStorage::new([Segment::Zeroes(0)]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn a_composed_disk_reads_as_its_segments_do(
            pieces in proptest::collection::vec((0_usize..3000, 0_usize..700, any::<bool>()), 0..40),
            start in 0_usize..10_000,
            length in 0_usize..5000,
        ) {
            let bytes: Vec<u8> = (0..4000_u32).map(|i| (i % 251) as u8).collect();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let file = Arc::new(file);
            let (mut segments, mut expected) = (Vec::new(), Vec::new());
            for (offset, length, zeroes) in pieces {
                if zeroes {
                    segments.push(Segment::Zeroes(length as u64));
                    expected.resize(expected.len() + length, 0);
                } else {
                    segments.push(Segment::File { file: file.clone(), offset: offset as u64, length: length as u64 });
                    expected.extend_from_slice(&bytes[offset..offset + length]);
                }
            }
            expected.resize(expected.len().next_multiple_of(512), 0);
            let disk = ComposedStorage::new(segments).unwrap();
            prop_assert_eq!(disk.len(), expected.len() as u64);
            let inside = expected.get(start..start + length);
            let read = read(&disk, start as u64, length).ok();
            prop_assert_eq!(read.as_deref().filter(|r| !r.is_empty()), inside.filter(|i| !i.is_empty()));
        }
    }
}
