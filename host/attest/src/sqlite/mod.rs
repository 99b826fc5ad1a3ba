//! Reading a table of an SQLite database that is in memory.
//!
//! # Primer
//! A database is pages of one size; page 1 begins with the file's header. A table is a B-tree of pages:
//! interior pages hold cells of a child's page number and a key, leaf pages hold rows. A row is its
//! key (`rowid`) and a record; a record that does not fit into its page goes on in a chain of overflow
//! pages. The tree whose root is page 1 is the table `sqlite_schema`: each table's name and root page.
//! <https://www.sqlite.org/fileformat2.html>
//!
//! # Hostile databases
//! A page belongs to one tree or one chain, so each is used once at most, and a page's rows have to fit
//! into it: that bounds the time and the bytes given out by the file's own size, whatever its pointers
//! say. Not read: indexes, tables
//! `WITHOUT ROWID`, UTF-16, and write-ahead logs, of which the caller has to take care.

mod bytes;
mod header;
mod record;

use crate::error::Problem;
use bytes::{byte, u16_at, u32_at, varint};
use header::Header;
pub(crate) use record::Value;
use record::record;

/// Bytes of the file's header, before page 1's own.
const FILE_HEADER: usize = 100;
/// A page's kind, by its first byte.
const INTERIOR_TABLE_PAGE: u8 = 0x05;
const LEAF_TABLE_PAGE: u8 = 0x0d;
/// Bytes of the headers of these pages; the pointers to their cells follow.
const INTERIOR_HEADER: usize = 12;
const LEAF_HEADER: usize = 8;
/// Bytes of a pointer to a cell.
const CELL_POINTER: usize = 2;
/// Deepest tree: a page has two children at least, but a corrupt one may have one.
const MAX_DEPTH: usize = 64;
/// Pages are counted from here.
const SCHEMA_ROOT: u32 = 1;
/// Columns of `sqlite_schema`.
const SCHEMA_TYPE: usize = 0;
const SCHEMA_NAME: usize = 1;
const SCHEMA_ROOTPAGE: usize = 3;

/// A database in memory.
pub(crate) struct Database<'a> {
    bytes: &'a [u8],
    header: Header,
}

/// A row: its key and its columns.
pub(crate) type Row<'r, 'a> = (i64, &'r [Value<'a>]);

impl<'a> Database<'a> {
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        Ok(Self { bytes, header: Header::parse(bytes)? })
    }

    /// Calls `visit` with each row of a table, in the order of their keys, until it fails.
    pub(crate) fn rows<E: From<Problem>>(
        &self,
        table: &str,
        visit: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.root_of(table)? {
            Some(root) => Scan::new(self).tree(root, visit),
            None => Err(Problem::byte(FILE_HEADER, "there is no such table").into()),
        }
    }

    fn root_of(&self, table: &str) -> Result<Option<u32>, Problem> {
        let mut root = None;
        Scan::new(self).tree(SCHEMA_ROOT, &mut |(_, columns): Row| {
            let is = |column: usize, word: &str| {
                columns.get(column).and_then(Value::text) == Some(word.as_bytes())
            };
            if is(SCHEMA_TYPE, "table") && is(SCHEMA_NAME, table) {
                root = columns.get(SCHEMA_ROOTPAGE).and_then(Value::integer);
            }
            Ok::<_, Problem>(())
        })?;
        Ok(root.and_then(|page| u32::try_from(page).ok()))
    }
}

/// One walk over trees of a database.
struct Scan<'d, 'a> {
    database: &'d Database<'a>,
    /// By page number less one.
    used: Vec<bool>,
}

impl<'d, 'a> Scan<'d, 'a> {
    fn new(database: &'d Database<'a>) -> Self {
        let pages = database.bytes.len() / database.header.page_size;
        Self { database, used: vec![false; pages] }
    }

    /// A page that was not used before.
    fn page(&mut self, number: u32, from: usize) -> Result<Page<'a>, Problem> {
        let index = (number as usize).checked_sub(1).filter(|index| *index < self.used.len());
        let index = index.ok_or(Problem::byte(from, "a page that the file does not have"))?;
        if std::mem::replace(&mut self.used[index], true) {
            return Err(Problem::byte(from, "a page that is used twice"));
        }
        let Header { page_size, usable_size } = self.database.header;
        let start = index * page_size;
        Ok(Page { start, bytes: &self.database.bytes[start..start + usable_size] })
    }

    fn tree<E: From<Problem>>(
        &mut self,
        root: u32,
        visit: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pending = vec![Pending { page: root, from: 0, depth: 0 }];
        while let Some(Pending { page, from, depth }) = pending.pop() {
            let page = self.page(page, from)?;
            match page.kind()? {
                LEAF_TABLE_PAGE => self.leaf(&page, visit)?,
                INTERIOR_TABLE_PAGE if depth < MAX_DEPTH => {
                    let children = page.children()?;
                    let child = |(page, from)| Pending { page, from, depth: depth + 1 };
                    pending.extend(children.into_iter().rev().map(child));
                }
                INTERIOR_TABLE_PAGE => {
                    return Err(Problem::byte(page.start, "a tree that is too deep").into());
                }
                _ => return Err(Problem::byte(page.start, "not a page of a table").into()),
            }
        }
        Ok(())
    }

    fn leaf<E: From<Problem>>(
        &mut self,
        page: &Page<'a>,
        visit: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut room = page.bytes.len();
        for cell in page.cells(LEAF_HEADER)? {
            let Payload { row, size_in_page, payload } = self.payload(page, cell)?;
            let overlap = Problem::byte(page.start + cell, "rows that overlap");
            room = room.checked_sub(size_in_page).ok_or(overlap)?;
            let columns = record(&payload).map_err(|why| Problem::row(row, why))?;
            visit((row, &columns))?;
        }
        Ok(())
    }

    /// A leaf's cell: its key and its record, of which the page has the beginning.
    fn payload(&mut self, page: &Page<'a>, cell: usize) -> Result<Payload, Problem> {
        let error = |why| Problem::byte(page.start + cell, why);
        let truncated = || error("a row that ends outside of its page");
        let (size, after_size) = varint(page.bytes, cell).ok_or_else(truncated)?;
        let (row, start) = varint(page.bytes, after_size).ok_or_else(truncated)?;
        let size = usize::try_from(size).map_err(|_| error("a row of a negative size"))?;
        if size > self.database.bytes.len() {
            return Err(error("a row that is larger than the file"));
        }
        let local = self.database.header.local_size(size);
        let end = start + local;
        let mut payload = page.bytes.get(start..end).ok_or_else(truncated)?.to_vec();
        if local < size {
            let first = u32_at(page.bytes, end).ok_or_else(truncated)?;
            self.overflow(first, page.start + end, size, &mut payload)?;
        }
        Ok(Payload { row, size_in_page: end - cell, payload })
    }

    /// Appends what is in a chain of overflow pages, until the payload has its size.
    fn overflow(
        &mut self,
        first: u32,
        from: usize,
        size: usize,
        payload: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let (mut next, mut from) = (first, from);
        while payload.len() < size {
            let page = self.page(next, from)?;
            let (pointer, content) = page.bytes.split_at(size_of::<u32>());
            payload.extend_from_slice(&content[..content.len().min(size - payload.len())]);
            next = u32_at(pointer, 0).unwrap_or(0);
            from = page.start;
        }
        Ok(())
    }
}

/// A leaf's cell.
struct Payload {
    row: i64,
    /// Bytes of the cell.
    size_in_page: usize,
    payload: Vec<u8>,
}

/// A page still to visit, and where in the file its number is.
struct Pending {
    page: u32,
    from: usize,
    depth: usize,
}

/// A page of a tree or a chain.
struct Page<'a> {
    /// In the file.
    start: usize,
    /// Without the part that SQLite's extensions reserve.
    bytes: &'a [u8],
}

impl Page<'_> {
    /// Of the page's header, in the page.
    fn header(&self) -> usize {
        if self.start == 0 { FILE_HEADER } else { 0 }
    }

    fn kind(&self) -> Result<u8, Problem> {
        byte(self.bytes, self.header()).ok_or(Problem::byte(self.start, "a page without header"))
    }

    /// Where the page's cells begin.
    fn cells(&self, header_size: usize) -> Result<Vec<usize>, Problem> {
        /// Of the number of cells in a page's header.
        const CELL_COUNT: usize = 3;
        let outside = || Problem::byte(self.start, "more cells than fit into the page");
        let count = u16_at(self.bytes, self.header() + CELL_COUNT).ok_or_else(outside)?;
        let first = self.header() + header_size;
        let pointer = |index: u16| u16_at(self.bytes, first + CELL_POINTER * usize::from(index));
        (0..count).map(|index| pointer(index).map(usize::from).ok_or_else(outside)).collect()
    }

    /// The children of an interior page, and where in the file their numbers are.
    fn children(&self) -> Result<Vec<(u32, usize)>, Problem> {
        /// Of the last child, which has no cell, in a page's header.
        const RIGHT_CHILD: usize = 8;
        let mut places = self.cells(INTERIOR_HEADER)?;
        places.push(self.header() + RIGHT_CHILD);
        let child = |place: usize| {
            let number = u32_at(self.bytes, place);
            number
                .map(|number| (number, self.start + place))
                .ok_or(Problem::byte(self.start + place, "a cell that ends outside of its page"))
        };
        places.into_iter().map(child).collect()
    }
}
