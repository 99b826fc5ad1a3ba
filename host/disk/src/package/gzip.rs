//! gzip of what is mostly zero.
//!
//! A gzip file may be several *members* one after the other, and readers give their contents together. So what is written
//! is cut at multiples of [`BLOCK_BYTES`], and a block of zeroes becomes a member that was made before. Whether a block
//! is zero is seen by its bytes: the result does not depend on which holes a source knew.

use super::copy::{Sink, is_zero};
use kiln_image::compress::{Compression, ParallelCompressor, piece};
use std::io::{self, Write};
use std::num::NonZeroUsize;

/// Bytes of a block. Another value would change every file.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Compresses to a writer, with no name and no time in it.
pub(super) struct SparseGzip<W: Write> {
    state: State<W>,
    compression: Compression,
    threads: NonZeroUsize,
    /// The block that is being filled.
    block: Vec<u8>,
    /// A compressed block of zeroes.
    zeroes: Vec<u8>,
    /// Whether nothing came.
    is_empty: bool,
}

enum State<W: Write> {
    /// After zeroes.
    Idle(W),
    /// In data.
    Busy(ParallelCompressor<W>),
    /// After an error.
    Failed,
}

impl<W: Write> SparseGzip<W> {
    pub fn new(compression: Compression, threads: NonZeroUsize, out: W) -> Self {
        Self {
            state: State::Idle(out),
            compression,
            threads,
            block: Vec::with_capacity(BLOCK_BYTES),
            zeroes: piece(compression, &vec![0; BLOCK_BYTES]),
            is_empty: true,
        }
    }

    /// The rest; gives what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_block()?;
        let mut out = self.idle()?;
        if self.is_empty {
            out.write_all(&piece(self.compression, &[]))?;
        }
        Ok(out)
    }

    fn flush_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.is_empty = false;
        let block = std::mem::take(&mut self.block);
        if block.len() == BLOCK_BYTES && is_zero(&block) {
            self.zero_block()?;
        } else {
            self.busy()?.write_all(&block)?;
        }
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn zero_block(&mut self) -> io::Result<()> {
        let mut out = self.idle()?;
        let written = out.write_all(&self.zeroes);
        self.state = State::Idle(out);
        written
    }

    fn idle(&mut self) -> io::Result<W> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(out) => Ok(out),
            State::Busy(compressor) => Ok(compressor.finish()?.0),
            State::Failed => Err(io::Error::other("writing failed before")),
        }
    }

    fn busy(&mut self) -> io::Result<&mut ParallelCompressor<W>> {
        if !matches!(self.state, State::Busy(_)) {
            let out = self.idle()?;
            self.state = State::Busy(ParallelCompressor::new(self.compression, self.threads, out));
        }
        match &mut self.state {
            State::Busy(compressor) => Ok(compressor),
            _ => unreachable!("made busy above"),
        }
    }

    fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.block.extend_from_slice(bytes);
        if self.block.len() == BLOCK_BYTES { self.flush_block() } else { Ok(()) }
    }
}

impl<W: Write> Sink for SparseGzip<W> {
    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.fill(part)?;
            bytes = rest;
        }
        Ok(())
    }

    fn zeroes(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            if self.block.is_empty() && count >= BLOCK_BYTES as u64 {
                self.is_empty = false;
                self.zero_block()?;
                count -= BLOCK_BYTES as u64;
                continue;
            }
            let part = count.min((BLOCK_BYTES - self.block.len()) as u64);
            self.block.resize(self.block.len() + part as usize, 0);
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
            count -= part;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::compress::Decompressor;
    use proptest::prelude::*;
    use std::io::Read;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    /// Runs of the same byte; zeroes either as such or as data.
    fn written(runs: &[(u8, u64)], holes: bool, threads: usize) -> Vec<u8> {
        let threads = NonZeroUsize::new(threads).unwrap();
        let mut gzip = SparseGzip::new(Compression::gzip(1).unwrap(), threads, Vec::new());
        for (byte, count) in runs {
            match (byte, holes) {
                (0, true) => gzip.zeroes(*count).unwrap(),
                _ => gzip.data(&vec![*byte; *count as usize]).unwrap(),
            }
        }
        gzip.finish().unwrap()
    }

    fn read(gzip: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Decompressor::new(gzip).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn nothing_is_a_file_too() {
        assert_eq!(read(&written(&[], true, 1)), b"");
    }

    #[test]
    fn zeroes_cost_nothing() {
        let gzip = written(&[(0, 1000 * BLOCK)], true, 1);
        assert!(gzip.len() < 1000 * 6000, "{}", gzip.len());
        assert!(is_zero(&[0; 33]) && !is_zero(&[0, 0, 1]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn holes_and_threads_change_nothing(runs in prop::collection::vec((0..3u8, 0..2 * BLOCK), 0..5)) {
            let gzip = written(&runs, true, 1);
            prop_assert!(gzip == written(&runs, false, 2));
            let expected: Vec<u8> = runs.iter().flat_map(|(byte, count)| vec![*byte; *count as usize]).collect();
            prop_assert!(read(&gzip) == expected);
        }
    }
}
