//! Compression on several threads, with output that does not depend on how many.
//!
//! The thread that writes into a [`ParallelCompressor`] cuts blocks, hands them to the workers, and
//! writes what they made, in order, to the output. Only it touches the output, so that an error of
//! the output is simply returned, and nobody waits for anybody who is gone: a worker ends when the
//! compressor does, and a full queue makes the writing thread wait for the oldest block only.

use super::Compression;
use super::block::{Codec, block_size};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

/// Blocks under way for each worker: one it works on, one it takes next.
const BLOCKS_PER_WORKER: usize = 2;

/// Compresses what is written to it, block by block, on worker threads.
///
/// The output depends on the input and the [`Compression`] only: not on the number of threads, nor
/// on how the input was cut into writes. It may be concatenated with other output of the same format.
/// Memory is bounded by a few blocks for each thread. No thread is started for input of less than a block.
///
/// [`finish`](Self::finish) must be called; dropped without it, the output lacks its end.
pub struct ParallelCompressor<W: Write> {
    out: W,
    compressed: u64,
    compression: Compression,
    block_size: usize,
    /// The block being filled.
    current: Buffers,
    begun: bool,
    pool: Pool,
    failed: bool,
}

impl<W: Write> ParallelCompressor<W> {
    /// Compresses to `out` with at most this many threads beside the calling one.
    pub fn new(compression: Compression, threads: NonZeroUsize, out: W) -> Self {
        Self {
            out,
            compressed: 0,
            compression,
            block_size: block_size(compression),
            current: Buffers::default(),
            begun: false,
            pool: Pool::new(compression, threads.get()),
            failed: false,
        }
    }

    /// Writes the rest. Gives the output and the number of bytes written to it.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.check()?;
        while let Some(done) = self.pool.wait() {
            self.put(&done.compressed)?;
        }
        if !self.current.block.is_empty() || !self.begun {
            self.put(&super::piece(self.compression, &self.current.block))?;
        }
        self.out.flush()?;
        Ok((self.out, self.compressed))
    }

    fn check(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("this compressor failed before"));
        }
        Ok(())
    }

    fn put(&mut self, compressed: &[u8]) -> io::Result<()> {
        self.failed = true;
        self.out.write_all(compressed)?;
        self.failed = false;
        self.compressed += compressed.len() as u64;
        Ok(())
    }

    /// Takes `bytes` up to the end of the current block.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let block = &mut self.current.block;
        if block.capacity() == 0 {
            block.reserve_exact(self.block_size);
        }
        let count = bytes.len().min(self.block_size - block.len());
        block.extend_from_slice(&bytes[..count]);
        count
    }

    fn submit_block(&mut self) -> io::Result<()> {
        self.begun = true;
        let next = self.pool.spare.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.current, next);
        self.pool.submit(block).inspect_err(|_| self.failed = true)?;
        while let Some(done) = self.pool.next_if_due() {
            let result = self.put(&done.compressed);
            self.pool.recycle(done);
            result?;
        }
        Ok(())
    }
}

impl<W: Write> Write for ParallelCompressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if self.compression == Compression::None {
            self.begun = true;
            self.put(bytes)?;
            return Ok(bytes.len());
        }
        let count = self.fill(bytes);
        if self.current.block.len() == self.block_size {
            self.submit_block()?;
        }
        Ok(count)
    }

    /// Flushes the output. What was not yet compressed stays: flushing would change the result.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A block, and room for its compressed form. They go round and are filled again and again.
#[derive(Default)]
struct Buffers {
    block: Vec<u8>,
    compressed: Vec<u8>,
}

/// A block on its way to a worker.
struct Job {
    buffers: Buffers,
    reply: Sender<Buffers>,
}

/// The workers, and the blocks they have, in order.
struct Pool {
    limit: usize,
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    pending: VecDeque<Receiver<Buffers>>,
    spare: Vec<Buffers>,
}

/// What the workers have in common.
struct Shared {
    compression: Compression,
    jobs: Mutex<Receiver<Job>>,
    /// The compressed form of a block of zeros: sparse files have many.
    zeros: OnceLock<Vec<u8>>,
    /// Nobody waits for what is still queued.
    cancelled: AtomicBool,
}

impl Pool {
    fn new(compression: Compression, limit: usize) -> Self {
        let (sender, receiver) = channel();
        let (jobs, zeros) = (Mutex::new(receiver), OnceLock::new());
        let shared = Shared { compression, jobs, zeros, cancelled: AtomicBool::new(false) };
        Self {
            limit,
            jobs: Some(sender),
            shared: Arc::new(shared),
            workers: Vec::new(),
            pending: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    fn submit(&mut self, buffers: Buffers) -> io::Result<()> {
        if self.workers.len() < self.limit && self.workers.len() <= self.pending.len() {
            let started = self.start_worker();
            // With fewer threads than allowed, the output is the same.
            if self.workers.is_empty() {
                started?;
            }
        }
        let (reply, receiver) = channel();
        let jobs = self.jobs.as_ref().expect("open until dropped");
        jobs.send(Job { buffers, reply }).expect("the pool holds the receiver");
        self.pending.push_back(receiver);
        Ok(())
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let worker = std::thread::Builder::new().name("compress".into()).spawn(move || shared.work())?;
        self.workers.push(worker);
        Ok(())
    }

    /// The oldest block when it is done, or, when too many are under way, as soon as it is.
    fn next_if_due(&mut self) -> Option<Buffers> {
        if self.pending.len() > BLOCKS_PER_WORKER * self.limit {
            return self.wait();
        }
        let done = self.pending.front()?.try_recv().ok()?;
        self.pending.pop_front();
        Some(done)
    }

    /// The oldest block, or `None` when none is under way.
    fn wait(&mut self) -> Option<Buffers> {
        let oldest = self.pending.pop_front()?;
        Some(oldest.recv().expect("a worker answers every job"))
    }

    fn recycle(&mut self, mut done: Buffers) {
        done.block.clear();
        self.spare.push(done);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so on standard error.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A worker's life: until the pool is dropped.
    fn work(&self) {
        let mut codec = Codec::new(self.compression);
        while let Some(job) = self.next_job().filter(|_| !self.cancelled.load(Ordering::Relaxed)) {
            let Job { mut buffers, reply } = job;
            self.compress(&mut codec, &buffers.block, &mut buffers.compressed);
            // Nobody waits any more when the output failed.
            let _ = reply.send(buffers);
        }
    }

    fn next_job(&self) -> Option<Job> {
        self.jobs.lock().ok()?.recv().ok()
    }

    fn compress(&self, codec: &mut Codec, block: &[u8], out: &mut Vec<u8>) {
        if !is_zero(block) {
            return codec.compress(block, out);
        }
        let zeros = self.zeros.get_or_init(|| {
            codec.compress(block, out);
            out.clone()
        });
        out.clone_from(zeros);
    }
}

/// Whole blocks only come here, so that all blocks of zeros are alike.
fn is_zero(block: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    block.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Decompressor;
    use std::io::Read;

    /// Letters from a fixed generator, with a long hole.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 24) as u8 % 17
        };
        let mut bytes: Vec<u8> = (0..99_991).map(|_| next()).collect();
        bytes = bytes.repeat(length / bytes.len() + 1);
        bytes.truncate(length);
        bytes[length / 4..length / 2].fill(0);
        bytes
    }

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn compressed(compression: Compression, count: usize, input: &[u8], cut: usize) -> Vec<u8> {
        let mut compressor = ParallelCompressor::new(compression, threads(count), Vec::new());
        for piece in input.chunks(cut) {
            compressor.write_all(piece).unwrap();
        }
        let (out, size) = compressor.finish().unwrap();
        assert_eq!(out.len() as u64, size);
        out
    }

    fn decompressed(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Decompressor::new(input).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn the_same_output_with_any_number_of_threads_and_any_cut() {
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let block = block_size(compression);
            for length in [0, 1, block, 5 * block + 5] {
                let input = sample(length);
                let expected = compressed(compression, 1, &input, 1 << 16);
                assert_eq!(decompressed(&expected), input, "{compression} {length}");
                for (count, cut) in [(2, 999_983), (16, usize::MAX)] {
                    let again = compressed(compression, count, &input, cut);
                    assert!(again == expected, "{compression} {length} {count} {cut}");
                }
            }
        }
    }

    #[test]
    fn pieces_make_a_whole() {
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let mut whole = crate::compress::piece(compression, b"head");
            whole.extend(compressed(compression, 2, &sample(5 << 20), 1 << 16));
            whole.extend(crate::compress::piece(compression, b""));
            whole.extend(crate::compress::piece(compression, b"tail"));
            let expected = [&b"head"[..], &sample(5 << 20), b"tail"].concat();
            assert!(decompressed(&whole) == expected, "{compression}");
        }
    }

    /// Takes so many bytes, then fails.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failing_output_is_an_error_at_once_and_ever_after() {
        let mut compressor = ParallelCompressor::new(Compression::GZIP, threads(4), Full(1000));
        let error = compressor.write_all(&sample(20 << 20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let again = compressor.write(b"x").unwrap_err();
        assert_eq!(again.to_string(), "this compressor failed before");
        assert_eq!(compressor.finish().err().unwrap().to_string(), again.to_string());
    }

    #[test]
    fn a_failure_at_the_end_is_an_error_too() {
        let mut compressor = ParallelCompressor::new(Compression::ZSTD, threads(2), Full(10));
        compressor.write_all(&sample(100)).unwrap();
        assert_eq!(compressor.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn dropped_half_way_it_leaves_no_thread_waiting() {
        let mut compressor = ParallelCompressor::new(Compression::GZIP, threads(4), Vec::new());
        compressor.write_all(&sample(6 << 20)).unwrap();
        let shared = Arc::clone(&compressor.pool.shared);
        drop(compressor);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    #[test]
    fn little_input_starts_no_thread_and_much_no_more_than_allowed() {
        let mut compressor = ParallelCompressor::new(Compression::GZIP, threads(3), io::sink());
        compressor.write_all(&[0; 1000]).unwrap();
        assert_eq!(compressor.pool.workers.len(), 0);
        compressor.write_all(&sample(12 << 20)).unwrap();
        assert!((1..=3).contains(&compressor.pool.workers.len()));
        let buffers = compressor.pool.spare.len() + compressor.pool.pending.len();
        assert!(buffers <= BLOCKS_PER_WORKER * 3 + 2, "{buffers}");
        compressor.finish().unwrap();
    }
}
