//! ZIP archives, streamed, of members that are mostly zero.
//!
//! APPNOTE 6.3.10: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>. Before each member stands a *local header*, which cannot
//! know yet how long the compressed bytes will be: so a *data descriptor* behind them says it, and the *central directory* at the
//! end says it once more. Where a number does not fit in 32 bits, the field has all bits set and an extra field of *ZIP64*
//! has the number.
//!
//! Deflate streams can be cut at byte boundaries: a member is cut at multiples of [`BLOCK_BYTES`], each block compressed by itself, and
//! a block of zeroes is the same bytes every time. So several threads can compress, and holes change nothing.

use super::copy::{Sink, is_zero};
use super::error::Problem;
use super::gzip::BLOCK_BYTES;
use crate::Error;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::io::{self, Write};
use std::num::NonZeroUsize;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DATA_DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

/// A data descriptor follows, and names are in UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;
const DEFLATE: u16 = 8;
/// What a reader must know: deflate, or ZIP64.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Made on Unix, as its attributes are.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;
/// A regular file of mode 0644.
const ATTRIBUTES: u32 = 0o100_644 << 16;
const ZIP64_EXTRA: u16 = 1;
/// Members of more bytes get ZIP64: incompressible bytes become a little more, which must fit too.
const ZIP64_FROM: u64 = 0xf000_0000;
/// An empty last block, of fixed codes.
const LAST_BLOCK: [u8; 2] = [3, 0];
/// Level of flate2, as `zip -6`.
const LEVEL: u32 = 6;

/// An archive of regular files.
pub(super) struct Zip<'a> {
    out: &'a mut dyn Write,
    position: u64,
    /// MS-DOS date and time, of every member.
    stamp: (u16, u16),
    threads: NonZeroUsize,
    zeroes: ZeroBlock,
    members: Vec<Member>,
}

/// A compressed block of zeroes, and its checksum.
struct ZeroBlock {
    deflated: Vec<u8>,
    crc: Crc,
}

/// What the central directory says.
struct Member {
    name: String,
    offset: u64,
    crc: u32,
    length: u64,
    compressed: u64,
    zip64: bool,
}

impl<'a> Zip<'a> {
    pub fn new(out: &'a mut dyn Write, mtime: i64, threads: NonZeroUsize) -> Self {
        let block = vec![0; BLOCK_BYTES];
        let mut crc = Crc::new();
        crc.update(&block);
        let zeroes = ZeroBlock { deflated: deflated(&block), crc };
        Self { out, position: 0, stamp: dos_time(mtime), threads, zeroes, members: Vec::new() }
    }

    /// A member of `length` bytes, which `content` must write.
    pub fn member(
        &mut self,
        name: &str,
        length: u64,
        content: impl FnOnce(&mut dyn Sink) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error| Error::from(Problem::Write(name.to_owned(), error));
        let (offset, zip64) = (self.position, length >= ZIP64_FROM);
        self.put(&self.local_header(name, zip64)).map_err(failed)?;
        let mut deflate = Deflate::new(self.out, &self.zeroes, self.threads);
        content(&mut deflate)?;
        let (crc, compressed) = deflate.finish().map_err(failed)?;
        self.position += compressed;
        let member = Member { name: name.to_owned(), offset, crc, length, compressed, zip64 };
        self.put(&descriptor(&member)).map_err(failed)?;
        self.members.push(member);
        Ok(())
    }

    /// The central directory.
    pub fn finish(mut self) -> Result<(), Error> {
        let start = self.position;
        let headers: Vec<_> = self.members.iter().map(|member| self.central_header(member)).collect();
        let directory = headers.concat();
        let end = self.end(start, directory.len() as u64);
        let failed = |error| Problem::Write("the directory of the archive".to_owned(), error);
        self.put(&[directory, end].concat()).map_err(failed)?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn local_header(&self, name: &str, zip64: bool) -> Vec<u8> {
        let (time, date) = self.stamp;
        // With ZIP64, the descriptor has numbers of 64 bits.
        let (version, size) = if zip64 { (VERSION_ZIP64, u32::MAX) } else { (VERSION, 0) };
        let extra = if zip64 { zip64_extra(&[0, 0]) } else { Vec::new() };
        let mut header = Fields::new(LOCAL_HEADER);
        header.u16s(&[version, FLAGS, DEFLATE, time, date]).u32s(&[0, size, size]);
        header.u16s(&[name.len() as u16, extra.len() as u16]).bytes(name.as_bytes()).bytes(&extra);
        header.0
    }

    fn central_header(&self, member: &Member) -> Vec<u8> {
        let (time, date) = self.stamp;
        let mut wide = Vec::new();
        // In this order, and only those that need it.
        let [length, compressed, offset] = [member.length, member.compressed, member.offset].map(|number| {
            let is_small = number < u32::MAX.into();
            wide.extend((!is_small).then_some(number));
            if is_small { number as u32 } else { u32::MAX }
        });
        let extra = if wide.is_empty() { Vec::new() } else { zip64_extra(&wide) };
        let version = if member.zip64 || !wide.is_empty() { VERSION_ZIP64 } else { VERSION };
        let mut header = Fields::new(CENTRAL_HEADER);
        header.u16s(&[MADE_BY, version, FLAGS, DEFLATE, time, date]).u32s(&[member.crc, compressed, length]);
        // No comment, on the first disk, no internal attributes.
        header.u16s(&[member.name.len() as u16, extra.len() as u16, 0, 0, 0]).u32s(&[ATTRIBUTES, offset]);
        header.bytes(member.name.as_bytes()).bytes(&extra);
        header.0
    }

    fn end(&self, start: u64, length: u64) -> Vec<u8> {
        let count = self.members.len() as u64;
        let mut fields = Fields(Vec::new());
        if count >= u16::MAX.into() || start >= u32::MAX.into() || length >= u32::MAX.into() {
            fields.u32s(&[ZIP64_END]).u64s(&[44]).u16s(&[MADE_BY, VERSION_ZIP64]).u32s(&[0, 0]);
            fields.u64s(&[count, count, length, start]);
            fields.u32s(&[ZIP64_LOCATOR, 0]).u64s(&[start + length]).u32s(&[1]);
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        fields.u32s(&[END]).u16s(&[0, 0, count, count]).u32s(&[small(length), small(start)]).u16s(&[0]);
        fields.0
    }
}

fn descriptor(member: &Member) -> Vec<u8> {
    let mut descriptor = Fields::new(DATA_DESCRIPTOR);
    descriptor.u32s(&[member.crc]);
    if member.zip64 {
        descriptor.u64s(&[member.compressed, member.length]);
    } else {
        descriptor.u32s(&[member.compressed as u32, member.length as u32]);
    }
    descriptor.0
}

fn zip64_extra(numbers: &[u64]) -> Vec<u8> {
    let mut extra = Fields(Vec::new());
    extra.u16s(&[ZIP64_EXTRA, 8 * numbers.len() as u16]).u64s(numbers);
    extra.0
}

/// Little-endian numbers, one after the other.
struct Fields(Vec<u8>);

impl Fields {
    fn new(signature: u32) -> Self {
        Self(signature.to_le_bytes().to_vec())
    }

    fn u16s(&mut self, numbers: &[u16]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    fn u32s(&mut self, numbers: &[u32]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    fn u64s(&mut self, numbers: &[u64]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A member's deflate stream.
struct Deflate<'a> {
    out: &'a mut dyn Write,
    zeroes: &'a ZeroBlock,
    threads: NonZeroUsize,
    /// The block that is being filled.
    block: Vec<u8>,
    /// Blocks that wait to be compressed together.
    waiting: Vec<Vec<u8>>,
    crc: Crc,
    compressed: u64,
}

impl<'a> Deflate<'a> {
    fn new(out: &'a mut dyn Write, zeroes: &'a ZeroBlock, threads: NonZeroUsize) -> Self {
        let block = Vec::with_capacity(BLOCK_BYTES);
        Self { out, zeroes, threads, block, waiting: Vec::new(), crc: Crc::new(), compressed: 0 }
    }

    fn finish(mut self) -> io::Result<(u32, u64)> {
        self.end_block()?;
        self.compress_waiting()?;
        self.put(&LAST_BLOCK)?;
        Ok((self.crc.sum(), self.compressed))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.compressed += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        if block.len() == BLOCK_BYTES && is_zero(&block) {
            return self.zero_block();
        }
        if !block.is_empty() {
            self.crc.update(&block);
            self.waiting.push(block);
        }
        if self.waiting.len() >= self.threads.get() { self.compress_waiting() } else { Ok(()) }
    }

    fn zero_block(&mut self) -> io::Result<()> {
        self.compress_waiting()?;
        self.crc.combine(&self.zeroes.crc);
        self.put(&self.zeroes.deflated)
    }

    fn compress_waiting(&mut self) -> io::Result<()> {
        let blocks = std::mem::take(&mut self.waiting);
        let done: Vec<Vec<u8>> = match &blocks[..] {
            [] => return Ok(()),
            [block] => vec![deflated(block)],
            blocks => std::thread::scope(|scope| {
                let workers: Vec<_> = blocks.iter().map(|block| scope.spawn(|| deflated(block))).collect();
                // A panic of a worker is one here.
                let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
                    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                workers.into_iter().map(join).collect()
            }),
        };
        done.iter().try_for_each(|bytes| self.put(bytes))
    }
}

impl Sink for Deflate<'_> {
    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(part);
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn zeroes(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            if self.block.is_empty() && count >= BLOCK_BYTES as u64 {
                self.zero_block()?;
                count -= BLOCK_BYTES as u64;
                continue;
            }
            let part = count.min((BLOCK_BYTES - self.block.len()) as u64);
            self.block.resize(self.block.len() + part as usize, 0);
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
            count -= part;
        }
        Ok(())
    }
}

/// A block compressed by itself, up to a byte boundary.
fn deflated(block: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    // Stored, it would have five bytes more for each 64 KiB or less, and the flush some.
    let mut out = Vec::with_capacity(block.len() + block.len() / 1024 + 1024);
    loop {
        let rest = &block[compress.total_in() as usize..];
        let status = compress.compress_vec(rest, &mut out, FlushCompress::Sync).expect("memory to memory");
        // Room left means that the flush is done.
        if status != Status::BufError
            && compress.total_in() == block.len() as u64
            && out.len() < out.capacity()
        {
            return out;
        }
        out.reserve(block.len() / 1024 + 1024);
    }
}

/// MS-DOS time and date of seconds since the Unix epoch, in UTC: from 1980 to 2107, in steps of two seconds.
fn dos_time(mtime: i64) -> (u16, u16) {
    /// 1980-01-01 and the end of 2107, in seconds.
    const RANGE: (i64, i64) = (315_532_800, 4_354_819_199);
    let seconds = mtime.clamp(RANGE.0, RANGE.1);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    let date = (year - 1980) << 9 | month << 5 | day;
    (time as u16, date as u16)
}

/// Year, month and day of days since 1970-01-01, in the Gregorian calendar: years that begin in March have their leap day last.
fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip(runs: &[(u8, u64)], holes: bool, threads: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut zip = Zip::new(&mut bytes, 0, NonZeroUsize::new(threads).unwrap());
        let length = runs.iter().map(|(_, count)| count).sum();
        let write = |out: &mut dyn Sink| {
            for (byte, count) in runs {
                match (byte, holes) {
                    (0, true) => out.zeroes(*count).unwrap(),
                    _ => out.data(&vec![*byte; *count as usize]).unwrap(),
                }
            }
            Ok(())
        };
        zip.member("a", length, write).unwrap();
        zip.finish().unwrap();
        bytes
    }

    #[test]
    fn the_bytes_of_an_empty_member() {
        let mut expected = Fields::new(LOCAL_HEADER);
        expected.u16s(&[20, 0x808, 8, 0, 0x21]).u32s(&[0, 0, 0]).u16s(&[1, 0]).bytes(b"a\x03\x00");
        expected.u32s(&[DATA_DESCRIPTOR, 0, 2, 0]);
        expected.u32s(&[CENTRAL_HEADER]).u16s(&[0x32d, 20, 0x808, 8, 0, 0x21]).u32s(&[0, 2, 0]);
        expected.u16s(&[1, 0, 0, 0, 0]).u32s(&[0x81a4_0000, 0]).bytes(b"a");
        expected.u32s(&[END]).u16s(&[0, 0, 1, 1]).u32s(&[47, 49]).u16s(&[0]);
        assert_eq!(zip(&[], true, 1), expected.0);
    }

    #[test]
    fn holes_and_threads_change_nothing() {
        let block = BLOCK_BYTES as u64;
        let runs = [(1, 5000), (0, 3 * block), (2, 2 * block + 1), (0, 100), (3, 1), (0, 2 * block)];
        let expected = zip(&runs, true, 1);
        for (holes, threads) in [(false, 1), (true, 3), (false, 2)] {
            assert!(zip(&runs, holes, threads) == expected, "{holes} {threads}");
        }
    }

    #[test]
    fn times_of_ms_dos() {
        let at = |year: u16, month: u16, day: u16| (year - 1980) << 9 | month << 5 | day;
        for (mtime, time, date) in [
            (0, 0, at(1980, 1, 1)),
            (1_700_000_000, 22 << 11 | 13 << 5 | 10, at(2023, 11, 14)),
            (951_782_399, 23 << 11 | 59 << 5 | 29, at(2000, 2, 28)),
            (951_782_400, 0, at(2000, 2, 29)),
            (951_868_800, 0, at(2000, 3, 1)),
            (i64::MAX, 23 << 11 | 59 << 5 | 29, at(2107, 12, 31)),
        ] {
            assert_eq!(dos_time(mtime), (time, date), "{mtime}");
        }
    }
}
