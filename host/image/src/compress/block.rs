//! One block of input to one gzip member or zstd frame.

use super::Compression;

/// Input bytes of one gzip member. The window of deflate is 32 KiB, so that blocks of this size
/// cost next to nothing. Another value gives other (still valid) output: digests of compressed files change.
const GZIP_BLOCK: usize = 1 << 20;
/// Input bytes of one zstd frame. Another value gives other (still valid) output.
const ZSTD_BLOCK: usize = 4 << 20;

/// Input bytes of one block, which do not depend on the machine.
pub(super) fn block_size(compression: Compression) -> usize {
    match compression {
        Compression::Gzip(_) | Compression::None => GZIP_BLOCK,
        Compression::Zstd(_) => ZSTD_BLOCK,
    }
}

/// Compresses blocks, one by one, each on its own.
pub(super) enum Codec {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl Codec {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::Gzip(level) => Self::Gzip(gzip(level.get())),
            Compression::Zstd(level) => Self::Zstd(zstd(level.get())),
            Compression::None => Self::None,
        }
    }

    /// Replaces `out` by the compressed form of `block`.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Gzip(compressor) => {
                out.resize(compressor.gzip_compress_bound(block.len()), 0);
                let size = compressor.gzip_compress(block, out).expect("the bound holds");
                out.truncate(size);
            }
            Self::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, out).expect("the bound holds");
            }
            Self::None => out.extend_from_slice(block),
        }
    }
}

/// libdeflate writes no name, no time, and 255 (unknown) as the operating system.
fn gzip(level: u8) -> libdeflater::Compressor {
    let level = libdeflater::CompressionLvl::new(level.into()).expect("levels 1 to 9 exist");
    libdeflater::Compressor::new(level)
}

/// With a checksum, as the zstd program writes it, and never with threads of its own.
fn zstd(level: u8) -> zstd::bulk::Compressor<'static> {
    let mut compressor = zstd::bulk::Compressor::new(level.into()).expect("levels 1 to 22 exist");
    compressor.include_checksum(true).expect("zstd has checksums");
    compressor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here changes the digest of every compressed file ever promised to be reproducible.
    #[test]
    fn golden() {
        let mut out = Vec::new();
        Codec::new(Compression::GZIP).compress(b"kiln", &mut out);
        assert_eq!(
            out,
            [
                0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 4, 0, 0xfb, 0xff, b'k', b'i', b'l', b'n', 0x45,
                0x37, 0x27, 0xe9, 4, 0, 0, 0
            ]
        );
        Codec::new(Compression::ZSTD).compress(b"kiln", &mut out);
        assert_eq!(
            out,
            [0x28, 0xb5, 0x2f, 0xfd, 0x24, 4, 0x21, 0, 0, b'k', b'i', b'l', b'n', 0xba, 0xb7, 0x11, 0x7d,]
        );
    }

    #[test]
    fn nothing_is_something_compressed() {
        let mut out = Vec::new();
        for (compression, empty) in
            [(Compression::GZIP, false), (Compression::ZSTD, false), (Compression::None, true)]
        {
            Codec::new(compression).compress(b"", &mut out);
            assert_eq!(out.is_empty(), empty, "{compression}");
        }
    }
}
