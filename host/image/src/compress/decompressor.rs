//! Decompression of a stream whose format its first bytes tell.

use crate::error::{Error, Kind};
use flate2::bufread::GzDecoder;
use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// What a stream is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames.
    Zstd,
    /// Not at all.
    None,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "uncompressed",
        })
    }
}

/// Bytes enough to tell every format from every other.
const MAGIC_BYTES: usize = 10;
/// RFC 1952, 2.3.1: ID1, ID2 and the only compression method there is.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
/// RFC 8878, 3.1.1.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// RFC 8878, 3.1.2, after a first byte of 0x50 to 0x5f: frames to skip, which pzstd begins with.
const ZSTD_SKIPPABLE_MAGIC: &[u8] = &[0x2a, 0x4d, 0x18];
/// <https://tukaani.org/xz/xz-file-format.txt>, 2.1.1.1.
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// After `BZh` and a level comes the first block's magic, or, when there is none, the end's.
const BZIP2_MAGIC: &[u8] = b"BZh";
const BZIP2_BLOCK_MAGICS: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];

/// Compressed in a way that container tools have never agreed on; the name of the way.
struct Unsupported(&'static str);

impl Format {
    /// The format of a stream that begins so, or `None` when it is one of those not read.
    pub(crate) fn detect(head: &[u8]) -> Option<Self> {
        Self::try_detect(head).ok()
    }

    fn try_detect(head: &[u8]) -> Result<Self, Unsupported> {
        if head.starts_with(GZIP_MAGIC) {
            return Ok(Self::Gzip);
        }
        if head.starts_with(ZSTD_MAGIC) || is_zstd_skippable(head) {
            return Ok(Self::Zstd);
        }
        if head.starts_with(XZ_MAGIC) {
            return Err(Unsupported("xz"));
        }
        if is_bzip2(head) {
            return Err(Unsupported("bzip2"));
        }
        Ok(Self::None)
    }
}

fn is_zstd_skippable(head: &[u8]) -> bool {
    head.first().is_some_and(|first| first & 0xf0 == 0x50) && head[1..].starts_with(ZSTD_SKIPPABLE_MAGIC)
}

/// Looks further than `BZh`: a tar's first name may begin so.
fn is_bzip2(head: &[u8]) -> bool {
    head.starts_with(BZIP2_MAGIC)
        && head.get(4..).is_some_and(|rest| BZIP2_BLOCK_MAGICS.iter().any(|magic| rest.starts_with(magic)))
}

/// Reads a gzip, zstd or uncompressed stream to its very end.
///
/// Its errors carry an [`Error`] that tells a truncated stream from a corrupt one; errors of the
/// reader beneath pass as they are.
pub struct Decompressor<R: Read> {
    /// For messages.
    name: String,
    format: Format,
    inner: Inner<R>,
}

/// The bytes that told the format, then the rest.
type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, Source<R>>>;

enum Inner<R: Read> {
    Gzip(Box<Members<Input<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<R>>),
    None(Input<R>),
}

impl<R: Read> Decompressor<R> {
    /// Reads the first bytes of `source` and decides.
    ///
    /// # Errors
    /// When the source cannot be read, or is xz or bzip2.
    pub fn new(source: R) -> Result<Self, Error> {
        Self::named(source, "the input".to_owned())
    }

    /// As [`new`](Self::new); messages call the source `name`.
    pub(crate) fn named(source: R, name: String) -> Result<Self, Error> {
        let mut source = Source { inner: source, offset: 0, failed: false };
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        let reading = |error| Error::from_io(error, || format!("read {name}"));
        (&mut source).take(MAGIC_BYTES as u64).read_to_end(&mut head).map_err(reading)?;
        let format = Format::try_detect(&head).map_err(|Unsupported(way)| {
            Kind::Unsupported(format!("{name} is {way}-compressed: kiln reads gzip, zstd and uncompressed"))
        })?;
        let input = BufReader::with_capacity(64 << 10, Cursor::new(head).chain(source));
        let inner = match format {
            Format::Gzip => Inner::Gzip(Box::new(Members::new(input))),
            Format::Zstd => Inner::Zstd(zstd::stream::read::Decoder::with_buffer(input).map_err(reading)?),
            Format::None => Inner::None(input),
        };
        Ok(Self { name, format, inner })
    }

    /// What the stream is compressed with.
    pub fn format(&self) -> Format {
        self.format
    }

    fn source(&self) -> &Source<R> {
        let input = match &self.inner {
            Inner::Gzip(members) => members.get_ref(),
            Inner::Zstd(decoder) => decoder.get_ref(),
            Inner::None(input) => input,
        };
        input.get_ref().get_ref().1
    }

    /// What a decoder's error means: they use the error kinds of the reader beneath for their own.
    fn explain(&self, error: io::Error) -> io::Error {
        let source = self.source();
        if source.failed || error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let what = format!("{}, a {} stream,", self.name, self.format);
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof => Kind::Truncated { what, offset: source.offset },
            _ => Kind::caused(what, format!("before byte {}", source.offset), error),
        };
        Error::from(kind).into()
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.inner {
            Inner::Gzip(members) => members.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::None(input) => input.read(buffer),
        };
        result.map_err(|error| self.explain(error))
    }
}

/// A reader that knows how far it got, and whether an error was its own.
struct Source<R> {
    inner: R,
    offset: u64,
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(count) => self.offset += *count as u64,
            Err(error) => self.failed = error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

/// The members of a gzip file, one after the other.
///
/// flate2's own `MultiGzDecoder` refuses the zeros that tools which write whole blocks put behind
/// the last member, and gzip itself takes; and to it a few bytes of garbage are a member cut short.
struct Members<B: BufRead> {
    /// Always there, but while one member's input is handed to the next.
    member: Option<GzDecoder<Member<B>>>,
    ended: bool,
}

/// A member's first bytes, where they were looked at, then the rest.
type Member<B> = Chain<Cursor<Vec<u8>>, B>;

impl<B: BufRead> Members<B> {
    fn new(input: B) -> Self {
        Self { member: Some(member(Vec::new(), input)), ended: false }
    }

    fn get_ref(&self) -> &B {
        self.member.as_ref().expect("there between calls").get_ref().get_ref().1
    }

    fn member(&mut self) -> &mut GzDecoder<Member<B>> {
        self.member.as_mut().expect("there between calls")
    }

    /// Begins the next member, if there is one.
    fn advance(&mut self) -> io::Result<()> {
        let mut head = Vec::with_capacity(GZIP_MAGIC.len());
        let input = self.member().get_mut();
        input.take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
        if head.iter().all(|&byte| byte == 0) {
            skip_zeros(input)?;
            self.ended = true;
        } else if GZIP_MAGIC.starts_with(&head) {
            self.member = self.member.take().map(|done| member(head, done.into_inner().into_inner().1));
        } else {
            return Err(garbage());
        }
        Ok(())
    }
}

fn member<B: BufRead>(head: Vec<u8>, rest: B) -> GzDecoder<Member<B>> {
    GzDecoder::new(Cursor::new(head).chain(rest))
}

fn garbage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "other bytes follow the last member")
}

impl<B: BufRead> Read for Members<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let count = self.member().read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.advance()?;
        }
        Ok(0)
    }
}

fn skip_zeros(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        let count = bytes.len();
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(garbage());
        }
        if count == 0 {
            return Ok(());
        }
        input.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::{Compression, piece};
    use proptest::prelude::*;

    fn read(input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut decompressor = Decompressor::new(input)?;
        let result = decompressor.read_to_end(&mut out);
        result.map_err(|e| Error::from_io(e, || "read".into()))?;
        Ok(out)
    }

    /// Two pieces, so that the end of one is in the middle.
    fn sample(compression: Compression) -> Vec<u8> {
        let text: Vec<u8> = (0..1000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        [piece(compression, &text), piece(compression, b"end")].concat()
    }

    #[test]
    fn formats_by_their_first_bytes() {
        for (head, expected) in [
            (&b"\x1f\x8b\x08\x00"[..], Format::Gzip),
            (b"\x28\xb5\x2f\xfd\x00", Format::Zstd),
            (b"\x50\x2a\x4d\x18\x00", Format::Zstd),
            (b"\x5f\x2a\x4d\x18\x00", Format::Zstd),
            (b"", Format::None),
            (b"\x1f", Format::None),
            (b"P", Format::None),
            (b"BZh9name.txt", Format::None),
            (b"manifest.json", Format::None),
        ] {
            assert_eq!(Format::detect(head).unwrap(), expected, "{head:?}");
        }
    }

    #[test]
    fn other_compressions_are_refused_by_name() {
        for (head, name) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
            (b"BZh91AY&SY\0\0", "bzip2"),
            (b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2"),
        ] {
            let error = read(head).unwrap_err();
            assert!(error.is_unsupported());
            let expected = format!("the input is {name}-compressed: kiln reads gzip, zstd and uncompressed");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn cut_anywhere_it_is_truncated() {
        for compression in [Compression::GZIP, Compression::ZSTD] {
            let whole = sample(compression);
            let second = whole.len() - piece(compression, b"end").len();
            for cut in (MAGIC_BYTES..whole.len()).filter(|&cut| cut != second) {
                let error = read(&whole[..cut]).unwrap_err();
                assert!(error.is_truncated(), "{compression} {cut}: {error:?}");
                let expected =
                    format!("the input, a {} stream, ends early, at byte {cut}", compression.format());
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    /// Where a format has bits that mean nothing, the contents must still be right.
    #[test]
    fn a_flipped_bit_is_found_or_harmless() {
        for compression in [Compression::GZIP, Compression::ZSTD] {
            let whole = sample(compression);
            let expected = read(&whole).unwrap();
            for at in MAGIC_BYTES..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                match read(&flipped) {
                    Ok(contents) => assert!(contents == expected, "{compression} {at}"),
                    Err(error) => assert!(error.is_corrupt() || error.is_truncated(), "{at}: {error:?}"),
                }
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_corrupt_and_says_where() {
        let mut whole = piece(Compression::GZIP, b"kiln");
        let end = whole.len();
        whole[end - 8] ^= 1;
        let error = read(&whole).unwrap_err();
        assert!(error.is_corrupt());
        assert_eq!(error.to_string(), "the input, a gzip stream, is corrupt: before byte 27");
    }

    #[test]
    fn zeros_may_follow_gzip_and_nothing_else() {
        let mut padded = sample(Compression::GZIP);
        let expected = read(&padded).unwrap();
        padded.extend([0; 100_000]);
        assert_eq!(read(&padded).unwrap(), expected);
        let whole = sample(Compression::GZIP);
        for garbage in [
            &b"\0\0x"[..],
            b"\0\0\0x",
            b"x",
            b"no member",
            b"\x1f",
            b"\x1f\0",
            b"\x1f\x8b\x07aaaaaaaaaaaaaaaaaaaaa",
        ] {
            let input = [&whole, garbage].concat();
            let error = read(&input).unwrap_err();
            if garbage == b"\x1f" {
                assert!(error.is_truncated(), "{error:?}");
                continue;
            }
            assert!(error.is_corrupt(), "{garbage:?}: {error:?}");
            let before = input.len();
            assert_eq!(
                error.to_string(),
                format!("the input, a gzip stream, is corrupt: before byte {before}")
            );
            let cause = std::error::Error::source(&error).unwrap();
            assert_eq!(cause.to_string(), "other bytes follow the last member");
        }
    }

    #[test]
    fn an_error_of_the_source_is_passed_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let source = sample(compression);
            let mut reader = Decompressor::new(source[..100].chain(Broken)).unwrap();
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{compression}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            magic in prop_oneof![Just(&b""[..]), Just(GZIP_MAGIC), Just(ZSTD_MAGIC)],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = read(&[magic, &rest].concat());
        }
    }
}
