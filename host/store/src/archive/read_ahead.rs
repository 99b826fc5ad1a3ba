//! Decompressing on another core than the one that hashes and writes.

use kiln_image::compress::Decompressor;
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Bytes handed over at once.
const PIECE_SIZE: usize = 256 * 1024;
/// Pieces that may wait.
const PIECES: usize = 8;

/// What a thread decompressed, in pieces.
pub(super) struct ReadAhead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

impl ReadAhead {
    /// Reads a regular file: the thread ends soon after this is dropped, as it never waits for input.
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, '_>, file: &'scope File) -> Self {
        let (sender, pieces) = sync_channel(PIECES);
        scope.spawn(move || {
            if let Err(error) = decompress(file, &sender) {
                // Nobody is left to tell when the reader gave up.
                let _ = sender.send(Err(error));
            }
        });
        Self { pieces, piece: io::Cursor::default() }
    }
}

fn decompress(file: &File, pieces: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut stream = Decompressor::new(file)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_SIZE);
        let read = (&mut stream).take(PIECE_SIZE as u64).read_to_end(&mut piece);
        let is_end = piece.is_empty();
        // What came before an error is handed over first: the error may be about what follows.
        if (is_end || pieces.send(Ok(piece)).is_err()) && read.is_ok() {
            return Ok(());
        }
        read?;
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        match self.pieces.recv() {
            Ok(piece) => self.piece = io::Cursor::new(piece?),
            // The thread is done.
            Err(_) => return Ok(0),
        }
        self.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::compress::{Compression, ParallelCompressor};
    use std::io::{Seek, Write};
    use std::num::NonZeroUsize;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut compressor = ParallelCompressor::new(Compression::GZIP, NonZeroUsize::MIN, Vec::new());
        compressor.write_all(bytes).unwrap();
        compressor.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let mut out = Vec::new();
        let end = std::thread::scope(|scope| ReadAhead::new(scope, &file).read_to_end(&mut out));
        (out, end)
    }

    #[test]
    fn all_that_is_compressed_comes_out() {
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(read(&gzip(&bytes)).0 == bytes);
        assert!(read(&bytes).0 == bytes);
        assert!(read(b"").0.is_empty());
    }

    #[test]
    fn an_error_comes_after_what_was_before_it_and_keeps_its_cause() {
        let bytes = vec![b'x'; 3 * PIECE_SIZE];
        let compressed = gzip(&bytes);
        let (out, end) = read(&compressed[..compressed.len() - 4]);
        assert!(bytes.starts_with(&out) && !out.is_empty());
        let cause = end.unwrap_err().downcast::<kiln_image::Error>().unwrap();
        assert!(cause.is_truncated(), "{cause}");
    }

    #[test]
    fn a_reader_that_gives_up_does_not_leave_the_thread_waiting() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * PIECE_SIZE as u64).unwrap();
        std::thread::scope(|scope| drop(ReadAhead::new(scope, &file)));
    }
}
