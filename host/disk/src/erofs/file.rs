//! How a regular file's contents are reached: in place, in chunks, or copied.

use crate::error::Kind;
use kiln_image::tree::Extent;

/// Largest chunk: `i_u.c.format` has five bits for how many times the block size doubles.
const MAX_CHUNK_DOUBLINGS: u8 = 31;
/// Bytes of a chunk's place in the table behind the inode.
pub(super) const CHUNK_ENTRY_SIZE: u64 = 4;

/// A regular file's contents: its extents, adjoining ones joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) size: u64,
    extents: Vec<Extent>,
    pub(super) form: Form,
}

/// How the inode tells where the contents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing to tell.
    Empty,
    /// One aligned run of a source.
    InPlace {
        /// Which source.
        source: u32,
        /// First byte in the source.
        offset: u64,
    },
    /// A table of chunks.
    Chunks {
        /// Binary logarithm of the chunk size.
        bits: u8,
        /// Bytes of all chunks that are copied into the index, each rounded up to whole blocks.
        copied: u64,
    },
}

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Reads as zeros.
    Hole,
    /// An aligned run of a source.
    InPlace {
        /// Which source.
        source: u32,
        /// First byte in the source.
        offset: u64,
    },
    /// To be copied into the index.
    Copy {
        /// First byte in the file.
        start: u64,
        /// Bytes.
        length: u64,
    },
}

impl File {
    /// Checks the extents against the sources' lengths and chooses the form.
    pub(super) fn new(
        size: u64,
        extents: &[Extent],
        source_lengths: &[u64],
        block_bits: u8,
    ) -> Result<Self, Kind> {
        check(size, extents, source_lengths)?;
        let extents = join(extents);
        let form = form(size, &extents, block_bits);
        Ok(Self { size, extents, form })
    }

    /// Bytes of the table of chunks.
    pub(super) fn table_bytes(&self) -> u64 {
        match self.form {
            Form::Chunks { bits, .. } => self.size.div_ceil(1 << bits) * CHUNK_ENTRY_SIZE,
            _ => 0,
        }
    }

    /// Bytes to be copied into the index.
    pub(super) fn copied(&self) -> u64 {
        match self.form {
            Form::Chunks { copied, .. } => copied,
            _ => 0,
        }
    }

    /// All chunks in order; none when the form has no table.
    pub(super) fn chunks(&self, block_bits: u8) -> impl Iterator<Item = Chunk> + '_ {
        let (bits, count) = match self.form {
            Form::Chunks { bits, .. } => (bits, self.size.div_ceil(1 << bits)),
            _ => (block_bits, 0),
        };
        let mut rest = self.extents.as_slice();
        (0..count).map(move |number| {
            let start = number << bits;
            let length = (self.size - start).min(1 << bits);
            while rest.first().is_some_and(|extent| end(extent) <= start) {
                rest = &rest[1..];
            }
            chunk(rest.first(), start, length, block_bits)
        })
    }

    /// The pieces of sources that a part of the file is made of, for copying.
    pub(super) fn pieces(&self, start: u64, length: u64) -> impl Iterator<Item = Extent> + '_ {
        let first = self.extents.partition_point(|extent| end(extent) <= start);
        self.extents[first..].iter().map_while(move |extent| clip(extent, start, start + length))
    }
}

fn end(extent: &Extent) -> u64 {
    extent.file_offset + extent.length
}

fn clip(extent: &Extent, start: u64, stop: u64) -> Option<Extent> {
    let from = extent.file_offset.max(start);
    let to = end(extent).min(stop);
    (from < to).then(|| Extent {
        file_offset: from,
        length: to - from,
        source: extent.source,
        source_offset: extent.source_offset + (from - extent.file_offset),
    })
}

fn check(size: u64, extents: &[Extent], source_lengths: &[u64]) -> Result<(), Kind> {
    if i64::try_from(size).is_err() {
        return Err(Kind::FileSize(size));
    }
    let mut covered = 0;
    for extent in extents {
        let source_length = usize::try_from(extent.source).ok().and_then(|i| source_lengths.get(i));
        let within =
            |offset: u64, limit: u64| offset.checked_add(extent.length).is_some_and(|end| end <= limit);
        let sound = extent.file_offset >= covered
            && within(extent.file_offset, size)
            && source_length.is_some_and(|length| within(extent.source_offset, *length));
        if !sound {
            return Err(Kind::Extent(*extent));
        }
        covered = end(extent);
    }
    Ok(())
}

fn join(extents: &[Extent]) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents.iter().filter(|extent| extent.length > 0) {
        match joined.last_mut() {
            Some(last) if adjoins(last, extent) => last.length += extent.length,
            _ => joined.push(*extent),
        }
    }
    joined
}

fn adjoins(last: &Extent, next: &Extent) -> bool {
    last.source == next.source
        && end(last) == next.file_offset
        && last.source_offset + last.length == next.source_offset
}

fn form(size: u64, extents: &[Extent], block_bits: u8) -> Form {
    if size == 0 {
        return Form::Empty;
    }
    if let [only] = extents
        && only.length == size
        && is_aligned(only, block_bits)
    {
        return Form::InPlace { source: only.source, offset: only.source_offset };
    }
    // Larger chunks first: of equal costs, fewer chunks.
    let forms = (0..=MAX_CHUNK_DOUBLINGS).rev().map(|doublings| block_bits + doublings);
    let cost = |bits: u8| {
        let copied = copied_bytes(size, extents, bits, block_bits);
        let table = u128::from(size.div_ceil(1 << bits) * CHUNK_ENTRY_SIZE);
        (table + u128::from(copied), bits, copied)
    };
    let (_, bits, copied) = forms.map(cost).min_by_key(|(cost, ..)| *cost).expect("there are 32 sizes");
    Form::Chunks { bits, copied }
}

/// Whether blocks of the file are blocks of the source.
fn is_aligned(extent: &Extent, block_bits: u8) -> bool {
    extent.source_offset.wrapping_sub(extent.file_offset).is_multiple_of(1 << block_bits)
}

/// Bytes of the chunks that are neither holes nor one aligned run, without looking at every chunk:
/// only those where an extent starts or stops can differ from their neighbours.
fn copied_bytes(size: u64, extents: &[Extent], bits: u8, block_bits: u8) -> u64 {
    let last = (size - 1) >> bits;
    let mut copied = Copied { next: 0, chunks: 0 };
    for extent in extents {
        let (first_touched, last_touched) = (extent.file_offset >> bits, (end(extent) - 1) >> bits);
        if !is_aligned(extent, block_bits) {
            copied.add(first_touched, last_touched);
            continue;
        }
        if !extent.file_offset.is_multiple_of(1 << bits) {
            copied.add(first_touched, first_touched);
        }
        if !end(extent).is_multiple_of(1 << bits) && end(extent) != size {
            copied.add(last_touched, last_touched);
        }
    }
    let full = copied.chunks << bits;
    let excess = if copied.next == last + 1 { ((last + 1) << bits) - size } else { 0 };
    (full - excess).next_multiple_of(1 << block_bits)
}

/// Counts chunks that are named in rising order, some more than once.
struct Copied {
    /// The chunk after the last one counted.
    next: u64,
    chunks: u64,
}

impl Copied {
    fn add(&mut self, first: u64, last: u64) {
        let first = first.max(self.next);
        if first <= last {
            self.chunks += last + 1 - first;
            self.next = last + 1;
        }
    }
}

/// What the chunk is, given the first extent that ends after its start.
fn chunk(extent: Option<&Extent>, start: u64, length: u64, block_bits: u8) -> Chunk {
    let Some(piece) = extent.and_then(|extent| clip(extent, start, start + length)) else {
        return Chunk::Hole;
    };
    if piece.length == length && is_aligned(&piece, block_bits) {
        return Chunk::InPlace { source: piece.source, offset: piece.source_offset };
    }
    Chunk::Copy { start, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCES: [u64; 2] = [1 << 50, 1 << 50];

    fn extent(file_offset: u64, length: u64, source_offset: u64) -> Extent {
        Extent { file_offset, length, source: 0, source_offset }
    }

    fn file(size: u64, extents: &[Extent]) -> File {
        File::new(size, extents, &SOURCES, 9).unwrap()
    }

    #[test]
    fn an_aligned_run_stays_in_place_even_in_two_extents() {
        let in_place = Form::InPlace { source: 0, offset: 1024 };
        assert_eq!(file(1000, &[extent(0, 1000, 1024)]).form, in_place);
        assert_eq!(file(1000, &[extent(0, 300, 1024), extent(300, 700, 1324)]).form, in_place);
        assert_eq!(file(0, &[]).form, Form::Empty);
    }

    #[test]
    fn a_hole_is_few_chunks_whatever_its_size() {
        let huge = file(u64::MAX >> 1, &[]);
        assert_eq!(huge.copied(), 0);
        assert!(huge.table_bytes() < 64 << 20);
        let sparse = file(1 << 40, &[extent(0, 4096, 512), extent((1 << 40) - 4096, 4096, 4608)]);
        assert!(sparse.table_bytes() + sparse.copied() < 8 << 20, "{sparse:?}");
    }

    #[test]
    fn a_sparse_file_with_aligned_extents_copies_nothing() {
        let sparse = file(1 << 20, &[extent(0, 65536, 512), extent(131_072, 65536, 66048)]);
        assert_eq!(sparse.form, Form::Chunks { bits: 16, copied: 0 });
        let chunks: Vec<_> = sparse.chunks(9).take(4).collect();
        let at = |offset| Chunk::InPlace { source: 0, offset };
        assert_eq!(chunks, [at(512), Chunk::Hole, at(66048), Chunk::Hole]);
    }

    #[test]
    fn a_misaligned_file_is_one_copied_chunk() {
        let misaligned = file(1000, &[extent(0, 1000, 513)]);
        assert_eq!(misaligned.form, Form::Chunks { bits: 40, copied: 1024 });
        assert_eq!(misaligned.chunks(9).collect::<Vec<_>>(), [Chunk::Copy { start: 0, length: 1000 }]);
    }

    #[test]
    fn extents_that_make_no_sense_are_refused() {
        for extents in [
            vec![extent(0, 11, 0)],
            vec![extent(u64::MAX, 2, 0)],
            vec![extent(0, 5, 0), extent(4, 1, 0)],
            vec![extent(0, 5, (1 << 50) - 4)],
            vec![extent(0, 5, u64::MAX)],
            vec![Extent { source: 2, ..extent(0, 1, 0) }],
        ] {
            assert!(matches!(File::new(10, &extents, &SOURCES, 9), Err(Kind::Extent(_))), "{extents:?}");
        }
    }

    proptest! {
        #[test]
        fn copies_are_counted_as_they_are_made(
            gaps in proptest::collection::vec((0_u64..3000, 1_u64..5000, 0_u64..4), 0..20),
            tail in 0_u64..3000,
        ) {
            let (mut extents, mut at, mut source_at) = (Vec::new(), 0, 0);
            for (gap, length, align) in gaps {
                let (gap, length) = if align > 0 { (gap & !511, (length + 511) & !511) } else { (gap, length) };
                extents.push(extent(at + gap, length, source_at));
                at += gap + length;
                source_at += length.next_multiple_of(512);
            }
            let size = at + tail;
            for bits in 9..=20 {
                prop_assume!(size > 0);
                let copied = copied_bytes(size, &join(&extents), bits, 9);
                let file = File { size, extents: join(&extents), form: Form::Chunks { bits, copied } };
                let mut made = 0;
                for chunk in file.chunks(9) {
                    if let Chunk::Copy { length, .. } = chunk {
                        made += length.next_multiple_of(512);
                    }
                }
                prop_assert_eq!(made, copied);
            }
        }
    }
}
