//! Compressed blocks: each by itself, several at a time.
//!
//! A block's compressed form depends on its bytes, the codec and the level, so that the number of threads changes
//! nothing.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::{io, num::NonZero};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Deflate without a header, its window at most [`RAW_WINDOW_BITS`]: what qcow2 calls zlib.
    RawDeflate,
    /// RFC 1950.
    Zlib,
    /// RFC 8878.
    Zstd,
}

/// QEMU's `inflateInit2(&strm, -12)`: it reads no streams with a larger window.
const RAW_WINDOW_BITS: u8 = 12;
/// A window of 8 MiB, four times the largest block: more memory no frame is given.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Blocks that wait for each thread.
const BLOCKS_PER_THREAD: usize = 16;

/// Blocks that are compressed together.
pub(super) fn batch_length(threads: NonZero<usize>) -> usize {
    threads.get().saturating_mul(BLOCKS_PER_THREAD)
}

/// Compresses each block. What cannot be compressed becomes a little longer.
pub(super) fn pack_all(
    codec: Codec,
    level: u32,
    threads: NonZero<usize>,
    blocks: &[&[u8]],
) -> io::Result<Vec<Vec<u8>>> {
    let share = blocks.len().div_ceil(threads.get()).max(1);
    if share >= blocks.len() {
        return pack_share(codec, level, blocks);
    }
    let shares = std::thread::scope(|scope| {
        let start = |blocks| scope.spawn(move || pack_share(codec, level, blocks));
        let workers: Vec<_> = blocks.chunks(share).map(start).collect();
        // A panic of a worker is one here.
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<io::Result<Vec<_>>>()
    })?;
    Ok(shares.into_iter().flatten().collect())
}

fn pack_share(codec: Codec, level: u32, blocks: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
    let mut packer = Packer::new(codec, level)?;
    blocks.iter().map(|block| packer.pack(block)).collect()
}

/// One compressor for block after block.
enum Packer {
    Deflate(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn new(codec: Codec, level: u32) -> io::Result<Self> {
        let deflate = Compression::new(level.min(9));
        Ok(match codec {
            Codec::RawDeflate => {
                Self::Deflate(Compress::new_with_window_bits(deflate, false, RAW_WINDOW_BITS))
            }
            Codec::Zlib => Self::Deflate(Compress::new(deflate, true)),
            Codec::Zstd => Self::Zstd(zstd::bulk::Compressor::new(level.min(19) as i32)?),
        })
    }

    fn pack(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Deflate(compress) => deflate(compress, block),
            Self::Zstd(compressor) => compressor.compress(block),
        }
    }
}

fn deflate(compress: &mut Compress, block: &[u8]) -> io::Result<Vec<u8>> {
    compress.reset();
    // Deflate stores what it cannot compress, with a few bytes for each 16 KiB.
    let mut packed = Vec::with_capacity(block.len() + block.len() / 64 + 64);
    match compress.compress_vec(block, &mut packed, FlushCompress::Finish)? {
        Status::StreamEnd => Ok(packed),
        status => Err(io::Error::other(format!("deflate stops with {status:?}"))),
    }
}

/// Unpacks into `bytes`, and says how many of them there were. What follows in `packed` is ignored, because lengths
/// are given in sectors.
pub(super) fn unpack(codec: Codec, packed: &[u8], bytes: &mut [u8]) -> io::Result<usize> {
    match codec {
        Codec::RawDeflate => inflate(Decompress::new(false), packed, bytes),
        Codec::Zlib => inflate(Decompress::new(true), packed, bytes),
        Codec::Zstd => unpack_zstd(packed, bytes),
    }
}

fn inflate(mut decompress: Decompress, packed: &[u8], bytes: &mut [u8]) -> io::Result<usize> {
    decompress.decompress(packed, bytes, FlushDecompress::Finish)?;
    Ok(decompress.total_out() as usize)
}

fn unpack_zstd(packed: &[u8], bytes: &mut [u8]) -> io::Result<usize> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
    let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(bytes));
    loop {
        let before = (input.pos(), output.pos());
        let left = decoder.run(&mut input, &mut output)?;
        // A frame that has ended, a full block, or no progress.
        if left == 0 || output.pos() == output.capacity() || before == (input.pos(), output.pos()) {
            return Ok(output.pos());
        }
    }
}
