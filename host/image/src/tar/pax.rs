//! Extended headers: what does not fit into a header block, as records before it.
//!
//! A record is `LENGTH KEYWORD=VALUE\n`, LENGTH in decimal and counting all of it, itself included.
//! Only the length tells where a record ends: values hold anything, newlines too
//! ([POSIX pax](https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03)).
//! Taking a newline for the end lets a file's attribute say where a link points.

use super::error::Problem;
use crate::entry::Xattrs;
use crate::path::MAX_PATH;
use crate::xattr;

pub(crate) const PATH: &[u8] = b"path";
pub(crate) const LINKPATH: &[u8] = b"linkpath";
pub(crate) const SIZE: &[u8] = b"size";
pub(crate) const UID: &[u8] = b"uid";
pub(crate) const GID: &[u8] = b"gid";
pub(crate) const MTIME: &[u8] = b"mtime";
pub(crate) const HDRCHARSET: &[u8] = b"hdrcharset";
/// The value of [`HDRCHARSET`] when values need not be UTF-8.
pub(crate) const BINARY: &[u8] = b"BINARY";
/// Before an extended attribute's name; the value is raw. star invented it, everyone reads it.
pub(crate) const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
/// libarchive's own: the name URL-encoded, the value in base 64. Read where SCHILY's is missing.
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";
const GNU_SPARSE: &[u8] = b"GNU.sparse.";

/// What extended headers say of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<i64>,
    pub sparse: Sparse,
    schily_xattrs: Xattrs,
    libarchive_xattrs: Xattrs,
}

/// GNU tar's three ways to describe a sparse file
/// ([formats](https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Format 1.0: the map is in front of the data.
    pub major: Option<u64>,
    pub minor: Option<u64>,
    /// The file's name; the entry's own is made up.
    pub name: Option<Vec<u8>>,
    /// Size with holes.
    pub real_size: Option<u64>,
    /// Formats 0.0 and 0.1: offset and length of each run, one after the other.
    pub map: Vec<u64>,
}

impl Attributes {
    /// What an entry's own records say on top of global ones.
    pub(crate) fn of_entry(global: &Self, records: &[u8]) -> Result<Self, Problem> {
        let mut attributes = global.clone();
        for record in Records(records) {
            let (keyword, value) = record?;
            attributes.apply(keyword, value)?;
        }
        Ok(attributes)
    }

    /// Takes in a global header, which holds for all entries after it.
    pub(crate) fn apply_global(&mut self, records: &[u8]) -> Result<(), Problem> {
        for record in Records(records) {
            let (keyword, value) = record?;
            // They would add up without bound, and nobody means one file's attributes for all files.
            if [SCHILY_XATTR, LIBARCHIVE_XATTR, GNU_SPARSE].iter().any(|prefix| keyword.starts_with(prefix)) {
                return Err(Problem::Pax("a global header with what belongs to one file"));
            }
            // Every entry gets a copy.
            if value.len() > MAX_PATH {
                return Err(Problem::Pax("a global header with a value longer than any path"));
            }
            self.apply(keyword, value)?;
        }
        Ok(())
    }

    /// Attributes from either dialect; SCHILY's win, whose values need no decoding.
    pub(crate) fn take_xattrs(&mut self) -> Xattrs {
        let mut xattrs = std::mem::take(&mut self.libarchive_xattrs);
        xattrs.append(&mut self.schily_xattrs);
        xattrs
    }

    /// Takes in one record. An empty value takes back what an earlier header said.
    fn apply(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), Problem> {
        let text = (!value.is_empty()).then(|| value.to_vec());
        match keyword {
            PATH => self.path = text,
            LINKPATH => self.linkpath = text,
            SIZE => self.size = number("size", value)?,
            UID => self.uid = number("uid", value)?,
            GID => self.gid = number("gid", value)?,
            MTIME => self.mtime = seconds(value)?,
            _ => {
                if let Some(name) = keyword.strip_prefix(SCHILY_XATTR) {
                    insert_xattr(&mut self.schily_xattrs, name.to_vec(), value.to_vec())?;
                } else if let Some(name) = keyword.strip_prefix(LIBARCHIVE_XATTR) {
                    let (name, value) = decode_libarchive(name, value)?;
                    insert_xattr(&mut self.libarchive_xattrs, name, value)?;
                } else if let Some(rest) = keyword.strip_prefix(GNU_SPARSE) {
                    self.sparse.apply(rest, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn apply(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), Problem> {
        match keyword {
            b"major" => self.major = number("GNU.sparse.major", value)?,
            b"minor" => self.minor = number("GNU.sparse.minor", value)?,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = number("GNU.sparse.size", value)?,
            // The one keyword of POSIX's that is repeated and whose order counts.
            b"offset" | b"numbytes" => self.push(keyword == b"numbytes", value)?,
            b"map" => self.map = numbers("GNU.sparse.map", value)?,
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, is_length: bool, value: &[u8]) -> Result<(), Problem> {
        if is_length == self.map.len().is_multiple_of(2) {
            return Err(Problem::Sparse("offsets and lengths do not alternate"));
        }
        self.map.extend(number::<u64>("GNU.sparse.offset", value)?);
        Ok(())
    }
}

fn insert_xattr(xattrs: &mut Xattrs, name: Vec<u8>, value: Vec<u8>) -> Result<(), Problem> {
    if let Err(why) = xattr::check(&name, &value) {
        return Err(Problem::Xattr { name, why });
    }
    xattrs.insert(name, value);
    Ok(())
}

/// Digits, or nothing for `None`.
fn number<N: TryFrom<u64>>(keyword: &'static str, value: &[u8]) -> Result<Option<N>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    let number = decimal(value).and_then(|number| N::try_from(number).ok());
    number.map(Some).ok_or(Problem::PaxValue { keyword })
}

fn numbers(keyword: &'static str, value: &[u8]) -> Result<Vec<u64>, Problem> {
    let texts = value.split(|byte| *byte == b',').filter(|text| !text.is_empty());
    texts.map(|text| decimal(text).ok_or(Problem::PaxValue { keyword })).collect()
}

pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds with an optional fraction, rounded down.
fn seconds(value: &[u8]) -> Result<Option<i64>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    floor_seconds(value).map(Some).ok_or(Problem::PaxValue { keyword: "mtime" })
}

fn floor_seconds(value: &[u8]) -> Option<i64> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let has_fraction = fraction.iter().any(|digit| *digit != b'0');
    Some(if negative { -whole - i64::from(has_fraction) } else { whole })
}

fn decode_libarchive(name: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let malformed = |why| Problem::Xattr { name: name.to_vec(), why };
    let decoded = decode_url(name).ok_or_else(|| malformed("its name is not URL-encoded"))?;
    let value = decode_base_64(value).ok_or_else(|| malformed("its value is not base 64"))?;
    Ok((decoded, value))
}

fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (hex_digit(*high)? * 16 + hex_digit(*low)?, after),
            (b'%', _) => return None,
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Some(decoded)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Base 64 with or without `=` at its end.
fn decode_base_64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (mut decoded, mut bits, mut bit_count) = (Vec::with_capacity(end), 0_u32, 0);
    for digit in &text[..end] {
        bits = bits << 6 | base_64_digit(*digit)?;
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            decoded.push((bits >> bit_count).to_le_bytes()[0]);
        }
    }
    Some(decoded)
}

fn base_64_digit(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Cuts an extended header's data into keywords and values.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.take_record().ok_or(Problem::Pax("a record is not `LENGTH KEYWORD=VALUE\\n`"));
        if record.is_err() {
            self.0 = b"";
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    /// More digits than any record that fits into memory needs.
    const MAX_DIGITS: usize = 10;

    fn take_record(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let blank = self.0.iter().take(Self::MAX_DIGITS + 1).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&self.0[..blank])?).ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = body.iter().position(|byte| *byte == b'=')?;
        self.0 = rest;
        (equals > 0).then(|| (&body[..equals], &body[equals + 1..]))
    }
}

/// Appends a record.
pub(crate) fn push_record(out: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let without_digits = keyword.len() + value.len() + b" =\n".len();
    let mut length = without_digits;
    while length != without_digits + length.to_string().len() {
        length = without_digits + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(keyword);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attributes(records: &[(&str, &[u8])]) -> Result<Attributes, String> {
        let mut bytes = Vec::new();
        for (keyword, value) in records {
            push_record(&mut bytes, keyword.as_bytes(), value);
        }
        Attributes::of_entry(&Attributes::default(), &bytes).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for (value_length, start) in [(1, "6 a="), (4, "9 a="), (5, "11 a="), (92, "98 a="), (93, "99 a=")] {
            let mut out = Vec::new();
            push_record(&mut out, b"a", &vec![b'v'; value_length]);
            assert!(out.starts_with(start.as_bytes()), "{}", out.escape_ascii());
            assert_eq!(out.len().to_string(), start.split(' ').next().unwrap());
        }
    }

    /// alexcrichton/tar-rs issue 428.
    #[test]
    fn a_newline_in_a_value_does_not_start_a_record() {
        let value = b"x\n22 linkpath=/etc/evil\n";
        let mut found = attributes(&[("SCHILY.xattr.user.a", value)]).unwrap();
        assert_eq!(found.linkpath, None);
        assert_eq!(found.take_xattrs()[&b"user.a"[..]], value);
    }

    #[test]
    fn malformed_records_are_refused() {
        let good = b"8 path=\n";
        for bad in [
            &b"path=a\n"[..],
            b"9 path=a ",
            b"99 path=a\n",
            b"8 path=a\n",
            b"7 =abc\n",
            b"8 pathab\n",
            b"0 path=a\n",
            b"1 path=a\n",
            b" path=a\n",
            b"-9 path=a\n",
            b"99999999999999999999 path=a\n",
            b"\0\0\0\0",
        ] {
            let records = [good, bad].concat();
            let problem = Attributes::of_entry(&Attributes::default(), &records).unwrap_err();
            assert_eq!(
                problem.to_string(),
                "malformed extended header: a record is not `LENGTH KEYWORD=VALUE\\n`",
                "{}",
                bad.escape_ascii()
            );
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        for (keyword, value, message) in [
            ("size", "-1", "malformed extended header value for size"),
            ("uid", "4294967296", "malformed extended header value for uid"),
            ("gid", "0x1", "malformed extended header value for gid"),
            ("mtime", "1.2.3", "malformed extended header value for mtime"),
            ("mtime", "9223372036854775808", "malformed extended header value for mtime"),
            ("SCHILY.xattr.", "v", "malformed extended attribute \"\": its name is empty"),
            ("LIBARCHIVE.xattr.a%4", "", "malformed extended attribute \"a%4\": its name is not URL-encoded"),
            ("LIBARCHIVE.xattr.a", "?", "malformed extended attribute \"a\": its value is not base 64"),
            ("GNU.sparse.map", "1,x", "malformed extended header value for GNU.sparse.map"),
            (
                "GNU.sparse.numbytes",
                "1",
                "malformed map of a sparse file: offsets and lengths do not alternate",
            ),
        ] {
            assert_eq!(attributes(&[(keyword, value.as_bytes())]).unwrap_err(), message);
        }
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds) in [
            ("0", 0),
            ("1700000000.999999999", 1_700_000_000),
            ("-1", -1),
            ("-1.0", -1),
            ("-1.5", -2),
            ("-0.1", -1),
            ("5.", 5),
        ] {
            assert_eq!(floor_seconds(text.as_bytes()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn the_later_record_wins_and_an_empty_one_takes_back() {
        let found = attributes(&[("path", b"a"), ("path", b"b"), ("uid", b"5"), ("uid", b"")]).unwrap();
        assert_eq!((found.path, found.uid), (Some(b"b".to_vec()), None));
    }

    #[test]
    fn attributes_in_both_dialects() {
        let mut found = attributes(&[
            ("LIBARCHIVE.xattr.user.both", b"bGliYXJjaGl2ZQ=="),
            ("LIBARCHIVE.xattr.user.%3d%25", b"AP8Q"),
            ("SCHILY.xattr.user.both", b"schily"),
            ("SCHILY.xattr.user.empty", b""),
        ])
        .unwrap();
        let expected = [
            (b"user.=%".to_vec(), b"\x00\xff\x10".to_vec()),
            (b"user.both".to_vec(), b"schily".to_vec()),
            (b"user.empty".to_vec(), Vec::new()),
        ];
        assert_eq!(found.take_xattrs(), Xattrs::from(expected));
    }

    #[test]
    fn base_64_of_every_length() {
        for (text, decoded) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(decode_base_64(text.as_bytes()).as_deref(), Some(decoded.as_bytes()));
        }
    }

    #[test]
    fn global_headers_hold_for_later_entries_but_carry_no_attributes() {
        let mut global = Attributes::default();
        global.apply_global(b"9 uid=77\n").unwrap();
        assert_eq!(Attributes::of_entry(&global, b"").unwrap().uid, Some(77));
        assert_eq!(Attributes::of_entry(&global, b"8 uid=1\n").unwrap().uid, Some(1));
        let mut records = Vec::new();
        push_record(&mut records, b"SCHILY.xattr.user.a", b"b");
        let problem = global.apply_global(&records).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "malformed extended header: a global header with what belongs to one file"
        );
    }

    proptest! {
        #[test]
        fn records_survive(
            pairs in proptest::collection::vec(
                (proptest::collection::vec(1_u8..60, 1..20), proptest::collection::vec(any::<u8>(), 0..2000)),
                0..8,
            ),
        ) {
            let mut bytes = Vec::new();
            for (keyword, value) in &pairs {
                push_record(&mut bytes, keyword, value);
            }
            let read: Vec<_> = Records(&bytes).map(|r| r.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn any_bytes_give_records_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Attributes::of_entry(&Attributes::default(), &bytes);
        }
    }
}
