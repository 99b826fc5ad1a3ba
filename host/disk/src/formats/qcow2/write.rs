//! Writes a file from the front to the back; only the header, the L1 table and refcount blocks come out of turn.

use super::super::{
    DiskFormat,
    bytes::SECTOR_BYTES,
    codec::{self, Codec},
    error::FormatError,
    output::{self, Output},
    scan::{self, Windows},
};
use super::header::{BACKING_NAME_MAX, NewHeader};
use super::refcount::Clusters;
use super::{
    CLUSTER_BITS, COMPRESSED, COPIED, Compression, ENTRY_BYTES, L1_BYTES_MAX, Options, ZERO,
    compressed_offset_bits,
};
use crate::{Error, sparse::Source, sparse::Target};

/// Writes `source` as a qcow2 file.
pub(in super::super) fn write(
    source: &dyn Source,
    options: &Options<'_>,
    target: &mut dyn Target,
) -> Result<(), Error> {
    check(options)?;
    let mut writer = Writer::start(source, options, Output::new(DiskFormat::Qcow2, target))?;
    let mut batch = Vec::new();
    for_each_difference(source, options, |offset, cluster| {
        batch.push((offset / options.cluster_bytes, cluster));
        if batch.len() < codec::batch_length(options.threads) {
            return Ok(());
        }
        writer.put_all(std::mem::take(&mut batch))
    })?;
    writer.put_all(batch)?;
    writer.finish()
}

fn refuse(why: impl Into<String>) -> Error {
    FormatError::Option { format: DiskFormat::Qcow2, why: why.into() }.into()
}

fn check(options: &Options<'_>) -> Result<(), Error> {
    let bytes = options.cluster_bytes;
    if !bytes.is_power_of_two() || !CLUSTER_BITS.contains(&bytes.trailing_zeros()) {
        return Err(refuse(format!("clusters of {bytes} bytes, not a power of two from 512 to 2097152")));
    }
    match options.compression {
        Some(Compression::Zlib(level)) if !(1..=9).contains(&level) => {
            return Err(refuse(format!("zlib level {level}, not 1 to 9")));
        }
        Some(Compression::Zstd(level)) if !(1..=19).contains(&level) => {
            return Err(refuse(format!("zstd level {level}, not 1 to 19")));
        }
        _ => {}
    }
    let name = options.backing.as_ref().map(|backing| backing.file_name.len());
    if name.is_some_and(|length| length == 0 || length > BACKING_NAME_MAX) {
        return Err(refuse(format!("a backing file's name that is not 1 to {BACKING_NAME_MAX} bytes long")));
    }
    Ok(())
}

/// Calls `take` with the offset of each cluster that must be in the file: its bytes, or none when it is zero above
/// something that is not.
fn for_each_difference(
    source: &dyn Source,
    options: &Options<'_>,
    mut take: impl FnMut(u64, Option<Vec<u8>>) -> Result<(), Error>,
) -> Result<(), Error> {
    let cluster_bytes = options.cluster_bytes as usize;
    let Some(backing) = &options.backing else {
        return scan::for_each_block(source, cluster_bytes, |offset, bytes| {
            take(offset, Some(bytes.to_vec()))
        });
    };
    let mut windows = Windows::new(vec![source, backing.disk], source.len(), cluster_bytes);
    while let Some(start) = windows.next()? {
        let clusters = windows.bytes(0).chunks(cluster_bytes).zip(windows.bytes(1).chunks(cluster_bytes));
        for (offset, (ours, theirs)) in (start..).step_by(cluster_bytes).zip(clusters) {
            if ours != theirs {
                take(offset, (!scan::is_zero(ours)).then(|| ours.to_vec()))?;
            }
        }
    }
    Ok(())
}

/// An L2 table that is being filled.
struct L2 {
    /// Its index in the L1 table.
    index: u64,
    entries: Vec<u8>,
}

struct Writer<'a> {
    options: &'a Options<'a>,
    output: Output<'a>,
    disk_bytes: u64,
    clusters: Clusters,
    l1_offset: u64,
    l1: Vec<u64>,
    l2: Option<L2>,
    /// Where the last compressed cluster ended, in bytes of the file.
    packed_end: u64,
}

impl<'a> Writer<'a> {
    fn start(source: &dyn Source, options: &'a Options<'a>, mut output: Output<'a>) -> Result<Self, Error> {
        let covered_by_l2 = options.cluster_bytes / ENTRY_BYTES * options.cluster_bytes;
        let max = (L1_BYTES_MAX / ENTRY_BYTES).saturating_mul(covered_by_l2);
        let disk_bytes = output::disk_bytes(source, DiskFormat::Qcow2, max)?;
        let l1_entries = disk_bytes.div_ceil(covered_by_l2);
        let mut clusters = Clusters::new(options.cluster_bytes);
        clusters.allocate(1, &mut output)?;
        let l1_clusters = (l1_entries * ENTRY_BYTES).div_ceil(options.cluster_bytes);
        let l1_offset = clusters.allocate(l1_clusters, &mut output)?;
        let l1 = vec![0; l1_entries as usize];
        Ok(Self { options, output, disk_bytes, clusters, l1_offset, l1, l2: None, packed_end: 0 })
    }

    /// Puts clusters of the disk, by their numbers, into the file.
    fn put_all(&mut self, batch: Vec<(u64, Option<Vec<u8>>)>) -> Result<(), Error> {
        let mut packed = self.pack_all(&batch)?.into_iter();
        for (cluster, bytes) in &batch {
            let entry = match bytes {
                None => ZERO,
                Some(bytes) => match packed.next() {
                    Some(packed) if packed.len() < bytes.len() => self.put_packed(&packed)?,
                    _ => self.put_plain(bytes)?,
                },
            };
            self.set_entry(*cluster, entry)?;
        }
        Ok(())
    }

    /// The compressed forms of what is not zero.
    fn pack_all(&self, batch: &[(u64, Option<Vec<u8>>)]) -> Result<Vec<Vec<u8>>, Error> {
        let (codec, level) = match self.options.compression {
            None => return Ok(Vec::new()),
            Some(Compression::Zlib(level)) => (Codec::RawDeflate, level),
            Some(Compression::Zstd(level)) => (Codec::Zstd, level),
        };
        let blocks: Vec<&[u8]> = batch.iter().filter_map(|(_, bytes)| bytes.as_deref()).collect();
        let offset = batch.first().map_or(0, |(cluster, _)| cluster * self.options.cluster_bytes);
        let failed = |source| FormatError::Compress { offset, source };
        Ok(codec::pack_all(codec, level, self.options.threads, &blocks).map_err(failed)?)
    }

    fn put_plain(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let offset = self.clusters.allocate(1, &mut self.output)?;
        self.output.write(bytes, offset)?;
        Ok(offset | COPIED)
    }

    /// Appends a compressed cluster to the last one where that is possible.
    fn put_packed(&mut self, packed: &[u8]) -> Result<u64, Error> {
        let offset = match self.continue_packed(packed.len() as u64)? {
            Some(offset) => offset,
            None => self.clusters.allocate(1, &mut self.output)?,
        };
        self.output.write(packed, offset)?;
        self.packed_end = offset + packed.len() as u64;
        let sectors = (self.packed_end - 1) / SECTOR_BYTES - offset / SECTOR_BYTES;
        let offset_bits = compressed_offset_bits(self.options.cluster_bytes.trailing_zeros());
        Ok(COMPRESSED | sectors << offset_bits | offset)
    }

    /// The place right behind the last compressed cluster, when the file's cluster there can be shared and those that
    /// are needed beyond it are free.
    fn continue_packed(&mut self, length: u64) -> Result<Option<u64>, Error> {
        let cluster_bytes = self.options.cluster_bytes;
        let (start, end) = (self.packed_end, self.packed_end + length);
        let tail = start / cluster_bytes;
        let beyond = (end - 1) / cluster_bytes - tail;
        if start % cluster_bytes == 0 || beyond > 0 && self.clusters.next() != tail + 1 {
            return Ok(None);
        }
        if !self.clusters.share(tail) {
            return Ok(None);
        }
        if beyond > 0 {
            self.clusters.allocate(beyond, &mut self.output)?;
        }
        Ok(Some(start))
    }

    fn set_entry(&mut self, cluster: u64, entry: u64) -> Result<(), Error> {
        let entries = self.options.cluster_bytes / ENTRY_BYTES;
        let (index, at) = (cluster / entries, (cluster % entries * ENTRY_BYTES) as usize);
        if self.l2.as_ref().is_some_and(|l2| l2.index != index) {
            self.finish_l2()?;
        }
        let new = || L2 { index, entries: vec![0; self.options.cluster_bytes as usize] };
        let l2 = self.l2.get_or_insert_with(new);
        l2.entries[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        Ok(())
    }

    fn finish_l2(&mut self) -> Result<(), Error> {
        let Some(l2) = self.l2.take() else { return Ok(()) };
        let offset = self.clusters.allocate(1, &mut self.output)?;
        self.l1[l2.index as usize] = offset | COPIED;
        self.output.write(&l2.entries, offset)
    }

    fn finish(mut self) -> Result<(), Error> {
        self.finish_l2()?;
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.output.write(&l1, self.l1_offset)?;
        let (refcount_table_offset, clusters) = self.clusters.finish(&mut self.output)?;
        let header = NewHeader {
            cluster_bits: self.options.cluster_bytes.trailing_zeros(),
            disk_bytes: self.disk_bytes,
            l1_entries: self.l1.len() as u32,
            l1_offset: self.l1_offset,
            refcount_table_offset,
            refcount_table_clusters: clusters as u32,
            zstd: matches!(self.options.compression, Some(Compression::Zstd(_))),
            backing: self
                .options
                .backing
                .as_ref()
                .map(|backing| (backing.file_name.as_str(), backing.format)),
        };
        let header = header.to_bytes();
        if header.len() as u64 > self.options.cluster_bytes {
            return Err(refuse("the backing file's name does not fit into a cluster"));
        }
        self.output.write(&header, 0)
    }
}
