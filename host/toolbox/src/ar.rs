//! The archive format of ar(1), as far as Debian's packages use it: a magic, then members, each a header of text and its data, padded
//! to even length. Names of more than 16 bytes and symbol tables, which compilers know, do not occur in packages.
//! <https://man7.org/linux/man-pages/man5/deb.5.html>, <https://en.wikipedia.org/wiki/Ar_(Unix)#File_format_details>

use std::io::{self, Read};

/// What an archive begins with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// A member's header: name, time, user, group, mode, size, and its own end, all text padded with spaces.
const HEADER_SIZE: usize = 60;
const NAME: std::ops::Range<usize> = 0..16;
const SIZE: std::ops::Range<usize> = 48..58;
const HEADER_END: &[u8; 2] = b"`\n";

/// Reads an archive member by member. Between two calls of [`next_member`](Self::next_member) it gives the bytes of the member
/// ([`Read`]); those not read are skipped.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    source: R,
    /// Bytes of the member that were not read.
    left: u64,
    padding: u64,
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Without the slash that System V's ar ends it with.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(mut source: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        source.read_exact(&mut magic).map_err(|e| truncated(e, "its magic"))?;
        if magic != *MAGIC {
            return Err(corrupt("it does not begin as an ar archive"));
        }
        Ok(Self { source, left: 0, padding: 0 })
    }

    /// The next member, or `None` at the end.
    pub(crate) fn next_member(&mut self) -> io::Result<Option<Member>> {
        self.skip_rest()?;
        let mut header = [0; HEADER_SIZE];
        if !fill(&mut self.source, &mut header)? {
            return Ok(None);
        }
        let member = parse_header(&header)?;
        self.left = member.size;
        self.padding = member.size % 2;
        Ok(Some(member))
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let wanted = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.source).take(wanted), &mut io::sink())?;
        // The last member's padding may be missing.
        if skipped < self.left {
            return Err(ends_early("a member's data"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(ends_early("a member's data"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn parse_header(header: &[u8; HEADER_SIZE]) -> io::Result<Member> {
    if !header.ends_with(HEADER_END) {
        return Err(corrupt("a member's header has no end"));
    }
    let name = text(&header[NAME])?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    if name.is_empty() || !name.bytes().all(known) {
        return Err(corrupt("a member has a name that no package's has"));
    }
    let digits = text(&header[SIZE])?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let size = digits.parse().ok().filter(|_| is_number);
    let size = size.ok_or_else(|| corrupt("a member's size is no number"))?;
    Ok(Member { name: name.to_owned(), size })
}

/// A field without the spaces behind.
fn text(field: &[u8]) -> io::Result<&str> {
    let text = std::str::from_utf8(field).map_err(|_| corrupt("a member's header is no text"))?;
    Ok(text.trim_end_matches(' '))
}

/// False at the end of the source.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ends_early("a member's header")),
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn truncated(error: io::Error, what: &str) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { ends_early(what) } else { error }
}

fn ends_early(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive ends within {what}"))
}

fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An archive with these members.
    pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, data) in members {
            let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, data.len());
            bytes.extend(header.as_bytes());
            bytes.extend(*data);
            bytes.resize(bytes.len() + data.len() % 2, b'\n');
        }
        bytes
    }

    fn members(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut archive = Archive::new(bytes)?;
        let mut members = Vec::new();
        while let Some(member) = archive.next_member()? {
            let mut data = Vec::new();
            archive.read_to_end(&mut data)?;
            members.push((member.name, data));
        }
        Ok(members)
    }

    #[test]
    fn members_come_with_their_data() {
        let bytes = archive(&[("debian-binary", b"2.0\n"), ("odd/", b"abc"), ("empty", b""), ("last", b"x")]);
        let expected = [("debian-binary", "2.0\n"), ("odd", "abc"), ("empty", ""), ("last", "x")]
            .map(|(n, d)| (n.into(), d.into()));
        assert_eq!(members(&bytes).unwrap(), expected);
        // Without the last padding.
        assert_eq!(members(&bytes[..bytes.len() - 1]).unwrap(), expected);
    }

    #[test]
    fn data_not_read_is_skipped() {
        let bytes = archive(&[("a", b"abc"), ("b", b"d")]);
        let mut archive = Archive::new(&bytes[..]).unwrap();
        assert_eq!(archive.next_member().unwrap().unwrap().size, 3);
        assert_eq!(archive.next_member().unwrap().unwrap().name, "b");
        assert_eq!(archive.next_member().unwrap(), None);
    }

    #[test]
    fn an_archive_cut_anywhere_is_an_error() {
        let bytes = archive(&[("a", b"abcd"), ("b", b"ef")]);
        let whole = [8, 8 + 60 + 4, bytes.len()];
        for length in (0..bytes.len()).filter(|length| !whole.contains(length)) {
            let error = members(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn a_header_altered_is_an_error() {
        let good = archive(&[("name", b"data")]);
        for (at, bytes, why) in [
            (0, "!<arXh>\n", "it does not begin as an ar archive"),
            (8, "../x", "a member has a name that no package's has"),
            (8, "    ", "a member has a name that no package's has"),
            (8 + 48, "-4        ", "a member's size is no number"),
            (8 + 48, "+4        ", "a member's size is no number"),
            (8 + 48, "4 4       ", "a member's size is no number"),
            (8 + 48, "          ", "a member's size is no number"),
            (8 + 48, "5         ", "the archive ends within a member's data"),
            (8 + 48, "9999999999", "the archive ends within a member's data"),
            (8 + 58, "xx", "a member's header has no end"),
        ] {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes.as_bytes());
            assert_eq!(members(&bad).unwrap_err().to_string(), why, "{bytes:?}");
        }
    }
}
