//! Clusters of the file are given out in order, and counted.

use super::super::{bytes::put_u16_be, output::Output};
use super::ENTRY_BYTES;
use crate::Error;
use std::collections::BTreeMap;

/// Bytes of a count.
const COUNT_BYTES: u64 = 2;
/// The newest refcount blocks, which may still change.
const OPEN_BLOCKS: usize = 2;

/// Gives out clusters of the file. All but the newest refcount blocks are already written.
pub(super) struct Clusters {
    cluster_bytes: u64,
    /// The first cluster that nobody has.
    next: u64,
    /// Refcount blocks that may still change, by their index.
    open: BTreeMap<u64, Vec<u8>>,
    /// Offsets of refcount blocks; 0 while they have none.
    table: Vec<u64>,
}

impl Clusters {
    pub(super) fn new(cluster_bytes: u64) -> Self {
        Self { cluster_bytes, next: 0, open: BTreeMap::new(), table: Vec::new() }
    }

    /// The number of the first cluster that nobody has.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The offset of `count` new clusters beside each other.
    pub(super) fn allocate(&mut self, count: u64, output: &mut Output<'_>) -> Result<u64, Error> {
        let first = self.take(count);
        // A refcount block counts itself, too, and may open the next.
        while let Some(index) = self.table.iter().rposition(|offset| *offset == 0) {
            self.table[index] = self.take(1) * self.cluster_bytes;
        }
        self.write_full_blocks(output)?;
        Ok(first * self.cluster_bytes)
    }

    /// Counts one more user of a cluster; false when its count is already written or full.
    pub(super) fn share(&mut self, cluster: u64) -> bool {
        let (index, at) = self.position(cluster);
        let Some(block) = self.open.get_mut(&index) else { return false };
        let count = u16::from_be_bytes([block[at], block[at + 1]]);
        let Some(count) = count.checked_add(1) else { return false };
        put_u16_be(block, at, count);
        true
    }

    /// Writes the rest of the blocks and the table; its offset in bytes and its length in clusters.
    pub(super) fn finish(mut self, output: &mut Output<'_>) -> Result<(u64, u64), Error> {
        let blocks = self.table.len() as u64;
        // Room for the blocks that the table itself may open.
        let entries = blocks + 3 + blocks / self.counts_per_block();
        let clusters = (entries * ENTRY_BYTES).div_ceil(self.cluster_bytes);
        let offset = self.allocate(clusters, output)?;
        for (index, block) in std::mem::take(&mut self.open) {
            output.write(&block, self.table[index as usize])?;
        }
        let table: Vec<u8> = self.table.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        debug_assert!(table.len() as u64 <= clusters * self.cluster_bytes);
        output.write(&table, offset)?;
        output.set_len(self.next * self.cluster_bytes)?;
        Ok((offset, clusters))
    }

    fn take(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        for cluster in first..self.next {
            let (index, at) = self.position(cluster);
            let block = self.open.entry(index).or_insert_with(|| vec![0; self.cluster_bytes as usize]);
            put_u16_be(block, at, 1);
        }
        let blocks = self.next.div_ceil(self.counts_per_block()) as usize;
        self.table.resize(blocks.max(self.table.len()), 0);
        first
    }

    fn write_full_blocks(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        while self.open.len() > OPEN_BLOCKS {
            let Some((index, block)) = self.open.pop_first() else { break };
            output.write(&block, self.table[index as usize])?;
        }
        Ok(())
    }

    /// The refcount block of a cluster, and where in it its count is.
    fn position(&self, cluster: u64) -> (u64, usize) {
        let counts = self.counts_per_block();
        (cluster / counts, (cluster % counts * COUNT_BYTES) as usize)
    }

    fn counts_per_block(&self) -> u64 {
        self.cluster_bytes / COUNT_BYTES
    }
}
