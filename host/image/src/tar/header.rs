//! The header block in front of every entry.
//!
//! Its first fields are as old as Unix's seventh edition; `ustar` added those from the magic on.
//! GNU tar and star put other things where ustar has its prefix, and are told apart by their magic
//! ([POSIX ustar](https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06),
//! [GNU](https://www.gnu.org/software/tar/manual/html_node/Standard.html)).

use super::error::Problem;

/// Unit of an archive, in bytes: headers have this size, data is padded to a multiple of it.
pub(crate) const BLOCK_SIZE: usize = 512;

/// A block's bytes.
pub(crate) type Block = [u8; BLOCK_SIZE];

/// The bytes of a header that mean one thing.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    start: usize,
    length: usize,
}

impl Field {
    const fn first(name: &'static str, length: usize) -> Self {
        Self { name, start: 0, length }
    }

    const fn then(self, name: &'static str, length: usize) -> Self {
        Self { name, start: self.start + self.length, length }
    }

    const fn end(self) -> usize {
        self.start + self.length
    }

    pub(crate) const fn len(self) -> usize {
        self.length
    }

    pub(crate) fn of(self, block: &Block) -> &[u8] {
        &block[self.start..self.end()]
    }

    pub(crate) fn of_mut(self, block: &mut Block) -> &mut [u8] {
        &mut block[self.start..self.end()]
    }
}

pub(crate) const NAME: Field = Field::first("name", 100);
pub(crate) const MODE: Field = NAME.then("mode", 8);
pub(crate) const UID: Field = MODE.then("uid", 8);
pub(crate) const GID: Field = UID.then("gid", 8);
pub(crate) const SIZE: Field = GID.then("size", 12);
pub(crate) const MTIME: Field = SIZE.then("mtime", 12);
pub(crate) const CHKSUM: Field = MTIME.then("chksum", 8);
pub(crate) const TYPEFLAG: Field = CHKSUM.then("typeflag", 1);
pub(crate) const LINKNAME: Field = TYPEFLAG.then("linkname", 100);
/// POSIX's magic and version in one: `ustar`, NUL, `00`; GNU's is `ustar`, two blanks, NUL.
pub(crate) const MAGIC: Field = LINKNAME.then("magic", 8);
pub(crate) const UNAME: Field = MAGIC.then("uname", 32);
pub(crate) const GNAME: Field = UNAME.then("gname", 32);
pub(crate) const DEVMAJOR: Field = GNAME.then("devmajor", 8);
pub(crate) const DEVMINOR: Field = DEVMAJOR.then("devminor", 8);
pub(crate) const PREFIX: Field = DEVMINOR.then("prefix", 155);
const PADDING: Field = PREFIX.then("padding", 12);
const _: () = assert!(PADDING.end() == BLOCK_SIZE);

const GNU_ATIME: Field = DEVMINOR.then("atime", 12);
const GNU_CTIME: Field = GNU_ATIME.then("ctime", 12);
const GNU_OFFSET: Field = GNU_CTIME.then("offset", 12);
const GNU_LONGNAMES: Field = GNU_OFFSET.then("longnames", 4);
const GNU_UNUSED: Field = GNU_LONGNAMES.then("unused", 1);
/// Four of the sparse file's runs.
pub(crate) const GNU_SPARSE: Field = GNU_UNUSED.then("sparse", 4 * GNU_SPARSE_RUN);
/// Not zero when a block with more runs follows.
pub(crate) const GNU_IS_EXTENDED: Field = GNU_SPARSE.then("isextended", 1);
/// Size of a sparse file with its holes.
pub(crate) const GNU_REALSIZE: Field = GNU_IS_EXTENDED.then("realsize", 12);

/// Bytes of a run in a GNU sparse map: two numbers of [`GNU_SPARSE_NUMBER`] bytes.
pub(crate) const GNU_SPARSE_RUN: usize = 2 * GNU_SPARSE_NUMBER;
pub(crate) const GNU_SPARSE_NUMBER: usize = 12;
/// In an extension block: the runs, and whether another such block follows.
pub(crate) const GNU_EXTENSION_SPARSE: Field = Field::first("sparse", 21 * GNU_SPARSE_RUN);
pub(crate) const GNU_EXTENSION_IS_EXTENDED: Field = GNU_EXTENSION_SPARSE.then("isextended", 1);

const STAR_PREFIX: Field = DEVMINOR.then("prefix", 131);
const STAR_TRAILER: Field = STAR_PREFIX.then("atime and ctime", 24).then("padding", 8).then("trailer", 4);
const _: () = assert!(STAR_TRAILER.end() == BLOCK_SIZE);

pub(crate) const POSIX_MAGIC: [u8; 8] = *b"ustar\x0000";
const POSIX_MAGIC_WITHOUT_VERSION: [u8; 6] = *b"ustar\0";
const GNU_MAGIC: [u8; 8] = *b"ustar  \0";
const STAR_MAGIC: [u8; 4] = *b"tar\0";

/// Values of `typeflag`.
pub(crate) mod typeflag {
    pub(crate) const FILE: u8 = b'0';
    /// A file before ustar; with a name that ends in `/`, a directory.
    pub(crate) const OLD_FILE: u8 = 0;
    pub(crate) const HARD_LINK: u8 = b'1';
    pub(crate) const SYMLINK: u8 = b'2';
    pub(crate) const CHARACTER_DEVICE: u8 = b'3';
    pub(crate) const BLOCK_DEVICE: u8 = b'4';
    pub(crate) const DIRECTORY: u8 = b'5';
    pub(crate) const FIFO: u8 = b'6';
    /// A file that was contiguous on its disk.
    pub(crate) const CONTIGUOUS_FILE: u8 = b'7';
    pub(crate) const PAX: u8 = b'x';
    pub(crate) const PAX_GLOBAL: u8 = b'g';
    pub(crate) const GNU_LONG_NAME: u8 = b'L';
    pub(crate) const GNU_LONG_LINK: u8 = b'K';
    pub(crate) const GNU_SPARSE: u8 = b'S';
}

/// A header whose checksum is right.
pub(crate) struct Header(Block);

impl Header {
    /// Checks the sum. Some old implementations added signed bytes; both sums are accepted.
    pub(crate) fn new(block: Block) -> Result<Self, Problem> {
        let stored = number(&block, CHKSUM)?;
        let (unsigned, signed) = checksums(&block);
        if stored == i64::from(unsigned) || stored == i64::from(signed) {
            Ok(Self(block))
        } else {
            Err(Problem::Checksum { stored, computed: unsigned })
        }
    }

    pub(crate) fn block(&self) -> &Block {
        &self.0
    }

    pub(crate) fn typeflag(&self) -> u8 {
        TYPEFLAG.of(&self.0)[0]
    }

    /// The number in a field; zero when it is blank.
    pub(crate) fn number(&self, field: Field) -> Result<i64, Problem> {
        number(&self.0, field)
    }

    pub(crate) fn link_name(&self) -> Vec<u8> {
        text(LINKNAME.of(&self.0)).to_vec()
    }

    /// Prefix and name, joined.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(NAME.of(&self.0));
        match self.prefix() {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    fn prefix(&self) -> &[u8] {
        let magic = MAGIC.of(&self.0);
        if magic == GNU_MAGIC {
            self.prefix_of_old_go()
        } else if !magic.starts_with(&POSIX_MAGIC_WITHOUT_VERSION) {
            b""
        } else if STAR_TRAILER.of(&self.0) == STAR_MAGIC {
            text(STAR_PREFIX.of(&self.0))
        } else {
            text(PREFIX.of(&self.0))
        }
    }

    /// GNU has times where ustar has the prefix. Go before 1.8, and so old Docker, did not know
    /// and wrote a prefix under GNU's magic. Like today's Go, take what is no time for a prefix.
    fn prefix_of_old_go(&self) -> &[u8] {
        let is_time = |field: Field| field.of(&self.0)[0] == 0 || self.number(field).is_ok();
        let prefix = text(PREFIX.of(&self.0));
        if is_time(GNU_ATIME) && is_time(GNU_CTIME) || !prefix.is_ascii() { b"" } else { prefix }
    }
}

/// The sums of a header's bytes, taken as unsigned and as signed, its checksum field counted as blanks.
pub(crate) fn checksums(block: &Block) -> (u32, i32) {
    let mut counted = *block;
    CHKSUM.of_mut(&mut counted).fill(b' ');
    let unsigned = counted.iter().map(|byte| u32::from(*byte)).sum();
    let signed = counted.iter().map(|byte| i32::from(byte.cast_signed())).sum();
    (unsigned, signed)
}

/// What stands before the first NUL.
pub(crate) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(block: &Block, field: Field) -> Result<i64, Problem> {
    parse_number(field.of(block)).ok_or(Problem::NotANumber { field: field.name })
}

/// A number in octal digits among blanks and NULs, or in GNU's base 256, which the top bit of the
/// first byte announces.
pub(crate) fn parse_number(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => parse_base_256(bytes),
        _ => parse_octal(bytes),
    }
}

fn parse_octal(bytes: &[u8]) -> Option<i64> {
    let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !is_filler(byte)).unwrap_or(bytes.len());
    let digits = text(&bytes[start..]).trim_ascii_end();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian, in all bits but the top one.
fn parse_base_256(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    let sign_extended = (first << 1).cast_signed() >> 1;
    rest.iter().try_fold(i64::from(sign_extended), |value, byte| {
        value.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

/// Writes octal digits and a NUL over the whole field; false when the number does not fit.
pub(crate) fn put_octal(block: &mut Block, field: Field, value: u64) -> bool {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}\0");
    let fits = text.len() == field.len();
    if fits {
        field.of_mut(block).copy_from_slice(text.as_bytes());
    }
    fits
}

/// Writes the checksum: six digits, a NUL and a blank, as it has been since the beginning.
pub(crate) fn put_checksum(block: &mut Block) {
    let text = format!("{:06o}\0 ", checksums(block).0);
    CHKSUM.of_mut(block).copy_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_archives_have_them() {
        let cases: [(&[u8], Option<i64>); 16] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"17\0junk!", Some(0o17)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"12 34\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (bytes, value) in cases {
            assert_eq!(parse_number(bytes), value, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_number_that_does_not_fit_leaves_the_field_alone() {
        let mut block = [b'.'; BLOCK_SIZE];
        assert!(!put_octal(&mut block, UID, 0o10_000_000));
        assert_eq!(UID.of(&block), b"........");
        assert!(put_octal(&mut block, UID, 0o7_777_777));
        assert_eq!(UID.of(&block), b"7777777\0");
    }

    fn with_checksum(mut block: Block) -> Block {
        put_checksum(&mut block);
        block
    }

    #[test]
    fn the_checksum_may_be_of_signed_bytes() {
        let mut block = [0; BLOCK_SIZE];
        NAME.of_mut(&mut block)[..2].copy_from_slice(b"\xc3\xa9");
        let signed = checksums(&block).1;
        CHKSUM.of_mut(&mut block).copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert!(Header::new(block).is_ok());
        block[0] ^= 1;
        let problem = Header::new(block).err().expect("one bit is wrong").to_string();
        assert_eq!(problem, "the header's checksum is 108, but its bytes add up to 619");
    }

    #[test]
    fn where_the_prefix_is_depends_on_the_magic() {
        let path = |magic: &[u8], prefix: &[u8], trailer: &[u8]| {
            let mut block = [0; BLOCK_SIZE];
            NAME.of_mut(&mut block)[..4].copy_from_slice(b"name");
            MAGIC.of_mut(&mut block)[..magic.len()].copy_from_slice(magic);
            PREFIX.of_mut(&mut block)[..prefix.len()].copy_from_slice(prefix);
            STAR_TRAILER.of_mut(&mut block)[..trailer.len()].copy_from_slice(trailer);
            String::from_utf8(Header::new(with_checksum(block)).unwrap().path()).unwrap()
        };
        let star = [&[b'p'; 131][..], b"00000000001 00000000002 "].concat();
        assert_eq!(path(&POSIX_MAGIC, b"dir", b""), "dir/name");
        assert_eq!(path(&POSIX_MAGIC, &star, &STAR_MAGIC), format!("{}/name", "p".repeat(131)));
        assert_eq!(path(&GNU_MAGIC, b"14000000000\x0014000000000\0", b""), "name");
        assert_eq!(path(&GNU_MAGIC, b"a/long/directory", b""), "a/long/directory/name");
        assert_eq!(path(b"", b"dir", b""), "name");
    }
}
