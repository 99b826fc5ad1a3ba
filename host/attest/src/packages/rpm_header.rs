//! A package's header as rpm keeps it in its database: an index of tags over a store of values.
//!
//! `il` (entries), `dl` (bytes of the store), then `il` entries of tag, type, offset in the store and
//! count, then the store. All numbers are big-endian.
//! <https://rpm-software-management.github.io/rpm/manual/format_header.html>

/// Bytes of `il` and `dl`.
const INTRODUCTION: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 16;
/// Most entries, as in rpm (`HEADER_TAGS_MAX`).
const MAX_ENTRIES: usize = 0xffff;
/// Types of values.
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Which value of a package.
/// <https://rpm-software-management.github.io/rpm/manual/tags.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Tag {
    Name = 1000,
    Version = 1001,
    Release = 1002,
    Epoch = 1003,
    Summary = 1004,
    Vendor = 1011,
    License = 1014,
    Packager = 1015,
    Url = 1020,
    Arch = 1022,
    SourceRpm = 1044,
    DirIndexes = 1116,
    BaseNames = 1117,
    DirNames = 1118,
}

/// A header whose entries are within the blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    entries: &'a [u8],
    store: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "a package's header that ends early";
        let number = |at: usize| u32_at(blob, at).ok_or(SHORT).map(|number| number as usize);
        let (count, store_size) = (number(0)?, number(4)?);
        if count > MAX_ENTRIES {
            return Err("a package's header of too many tags");
        }
        let store = INTRODUCTION + count * ENTRY;
        Ok(Self {
            entries: blob.get(INTRODUCTION..store).ok_or(SHORT)?,
            store: blob.get(store..).and_then(|rest| rest.get(..store_size)).ok_or(SHORT)?,
        })
    }

    /// A string: of translations the first, which is that of the C locale.
    pub(super) fn string(&self, tag: Tag) -> Option<&'a [u8]> {
        self.strings(tag).next()
    }

    /// All strings of an array.
    pub(super) fn strings(&self, tag: Tag) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let entry = self.entry(tag).filter(|entry| [STRING, STRING_ARRAY, I18N_STRING].contains(&entry.kind));
        let (count, values) = entry.map_or((0, &[][..]), |entry| (entry.count, entry.values));
        // What follows the last NUL is no string: the store would be cut.
        let ends = values.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        values[..ends].split(|byte| *byte == 0).take(count)
    }

    /// All numbers of an array.
    pub(super) fn numbers(&self, tag: Tag) -> impl Iterator<Item = u32> + use<'a> {
        let entry = self.entry(tag).filter(|entry| entry.kind == INT32);
        let (count, values) = entry.map_or((0, &[][..]), |entry| (entry.count, entry.values));
        values.as_chunks().0.iter().take(count).map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn entry(&self, tag: Tag) -> Option<Entry<'a>> {
        let entry = self.entries.chunks_exact(ENTRY).find(|entry| u32_at(entry, 0) == Some(tag as u32))?;
        let offset = u32_at(entry, 8)? as usize;
        Some(Entry {
            kind: u32_at(entry, 4)?,
            values: self.store.get(offset..)?,
            count: u32_at(entry, 12)? as usize,
        })
    }
}

/// A tag's type and count, and the store from its first value on.
struct Entry<'a> {
    kind: u32,
    count: usize,
    values: &'a [u8],
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Headers for tests.
#[cfg(test)]
pub(super) mod build {
    use super::*;

    pub(in crate::packages) enum Given<'a> {
        Text(&'a str),
        Texts(&'a [&'a str]),
        Numbers(&'a [u32]),
    }

    pub(in crate::packages) fn header(tags: &[(Tag, Given)]) -> Vec<u8> {
        let (mut entries, mut store) = (Vec::new(), Vec::new());
        for (tag, value) in tags {
            while store.len() % 4 != 0 {
                store.push(0);
            }
            let offset = store.len();
            let (kind, count) = match value {
                Given::Text(text) => (STRING, put(&mut store, &[text])),
                Given::Texts(texts) => (STRING_ARRAY, put(&mut store, texts)),
                Given::Numbers(numbers) => {
                    store.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
                    (INT32, numbers.len())
                }
            };
            for number in [*tag as u32, kind, offset.try_into().unwrap(), count.try_into().unwrap()] {
                entries.extend(number.to_be_bytes());
            }
        }
        let sizes = [tags.len(), store.len()].map(|size| u32::try_from(size).unwrap().to_be_bytes());
        [sizes.concat(), entries, store].concat()
    }

    fn put(store: &mut Vec<u8>, texts: &[&str]) -> usize {
        for text in texts {
            store.extend(text.bytes().chain([0]));
        }
        texts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::build::{Given, header};
    use super::*;

    #[test]
    fn values_by_tag() {
        let blob = header(&[
            (Tag::Name, Given::Text("bash")),
            (Tag::Epoch, Given::Numbers(&[7])),
            (Tag::BaseNames, Given::Texts(&["a", "", "b"])),
            (Tag::Url, Given::Text("")),
        ]);
        let header = Header::parse(&blob).unwrap();
        assert_eq!(header.string(Tag::Name), Some(&b"bash"[..]));
        assert_eq!(header.strings(Tag::BaseNames).collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
        assert_eq!(header.numbers(Tag::Epoch).collect::<Vec<_>>(), [7]);
        assert_eq!(header.string(Tag::Url), Some(&b""[..]));
        assert_eq!((header.string(Tag::Epoch), header.string(Tag::Arch)), (None, None));
        assert_eq!(header.numbers(Tag::Name).count(), 0);
    }

    #[test]
    fn damage() {
        let blob = header(&[(Tag::Name, Given::Text("bash"))]);
        for length in 0..blob.len() {
            assert_eq!(Header::parse(&blob[..length]).unwrap_err(), "a package's header that ends early");
        }
        assert_eq!(Header::parse(&[0xff; 32]).unwrap_err(), "a package's header of too many tags");
        let outside = [&blob[..16], &[0xff; 4], &blob[20..]].concat();
        assert_eq!(Header::parse(&outside).unwrap().string(Tag::Name), None);
    }
}
