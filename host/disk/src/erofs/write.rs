//! Writing a layout's bytes, from the first to the last.

use super::Layout;
use super::directory::{self, Dirent};
use super::file::{Chunk, File, Form};
use super::inode::{self, Inode};
use super::layout::{Data, Placed, sorted_names};
use super::superblock::Superblock;
use crate::Error;
use crate::error::Kind;
use crate::field::low_u32;
use kiln_image::tree::Extent;
use std::io::{self, Write};

/// Gives bytes of the sources, for the few contents that have to be copied.
pub trait ReadSource {
    /// Fills `buffer` from `offset` of source number `source`.
    ///
    /// # Errors
    /// When they cannot all be read.
    fn read_exact_at(&mut self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<F: FnMut(u32, u64, &mut [u8]) -> io::Result<()>> ReadSource for F {
    fn read_exact_at(&mut self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self(source, offset, buffer)
    }
}

/// Bytes that are copied at once.
const COPY_BUFFER_SIZE: u64 = 64 * 1024;
/// Place of a chunk that is a hole: `EROFS_NULL_ADDR`.
const NULL_ADDRESS: u32 = u32::MAX;

impl Layout<'_> {
    /// Writes the index: [`Layout::index_length`] bytes. The same tree gives the same bytes.
    ///
    /// # Errors
    /// When `out` cannot be written or a source not be read.
    pub fn write(&self, out: impl Write, sources: &mut impl ReadSource) -> Result<(), Error> {
        let mut out = Output { inner: out, position: 0 };
        out.write(&self.superblock().encode())?;
        for (number, placed) in self.inodes.iter().enumerate() {
            out.pad_to(placed.offset)?;
            self.write_inode(number, placed, &mut out)?;
        }
        for (position, placed) in self.inodes.iter().enumerate() {
            self.write_data(position, placed, sources, &mut out)?;
        }
        out.pad_to(self.index_length())?;
        out.inner.flush().map_err(|e| Kind::Write(out.position, e).into())
    }

    fn superblock(&self) -> Superblock {
        let chunked = |placed: &Placed<'_>| placed.layout() == inode::DataLayout::ChunkBased;
        Superblock {
            block_bits: self.block_bits,
            root_nid: u16::try_from(self.inodes[0].nid()).expect("the root comes first"),
            inodes: self.inodes.len() as u64,
            blocks: self.block(self.disk_length()),
            chunked: self.inodes.iter().any(chunked),
        }
    }

    /// The block that starts at `offset` of the disk, of which the layout knows that it has no more
    /// than 32 bits of them.
    fn block(&self, offset: u64) -> u32 {
        low_u32(offset >> self.block_bits)
    }

    fn source_block(&self, source: u32, offset: u64) -> u32 {
        self.block(self.source_offsets()[source as usize] + offset)
    }

    fn write_inode<W: Write>(
        &self,
        position: usize,
        placed: &Placed<'_>,
        out: &mut Output<W>,
    ) -> Result<(), Kind> {
        let inode = Inode {
            metadata: &placed.visit.node.metadata,
            content: &placed.visit.node.content,
            layout: placed.layout(),
            size: placed.size(),
            union: self.union(placed),
            number: position as u32 + 1,
            links: placed.visit.links,
            xattr_bytes: placed.xattrs.len(),
        };
        out.write(&inode.encode())?;
        out.write(&placed.xattrs)?;
        match &placed.data {
            Data::File(file) => self.write_chunk_table(file, placed.data_offset, out),
            Data::Directory { .. } if placed.inline => out.write(&self.directory(position)),
            Data::Symlink(target) if placed.inline => out.write(target),
            _ => Ok(()),
        }
    }

    /// `i_u`.
    fn union(&self, placed: &Placed<'_>) -> u32 {
        match &placed.data {
            Data::Device(number) => *number,
            Data::File(file) => match file.form {
                Form::Empty => 0,
                Form::InPlace { source, offset } => self.source_block(source, offset),
                Form::Chunks { bits, .. } => u32::from(bits - self.block_bits),
            },
            Data::Fifo => 0,
            Data::Directory { .. } | Data::Symlink(_) if placed.inline => 0,
            Data::Directory { .. } | Data::Symlink(_) => self.block(placed.data_offset),
        }
    }

    fn write_chunk_table<W: Write>(
        &self,
        file: &File,
        copies_offset: u64,
        out: &mut Output<W>,
    ) -> Result<(), Kind> {
        let mut copy_offset = copies_offset;
        for chunk in file.chunks(self.block_bits) {
            let block = match chunk {
                Chunk::Hole => NULL_ADDRESS,
                Chunk::InPlace { source, offset } => self.source_block(source, offset),
                Chunk::Copy { length, .. } => {
                    let block = self.block(copy_offset);
                    copy_offset += length.next_multiple_of(self.block_size());
                    block
                }
            };
            out.write(&block.to_le_bytes())?;
        }
        Ok(())
    }

    fn directory(&self, position: usize) -> Vec<u8> {
        let placed = &self.inodes[position];
        let Data::Directory { children, .. } = placed.data else {
            unreachable!("only called for directories");
        };
        let leads_to = |name: &[u8]| match name {
            b"." => position,
            b".." => placed.visit.parent,
            _ => self.walk.position(children[name]),
        };
        let names = sorted_names(children).into_iter();
        let entries: Vec<_> = names.map(|name| self.dirent(name, leads_to(name))).collect();
        directory::encode(&entries, self.block_size() as usize)
    }

    fn dirent<'n>(&self, name: &'n [u8], leads_to: usize) -> Dirent<'n> {
        let target = &self.inodes[leads_to];
        let file_type = inode::file_type(&target.visit.node.content);
        Dirent { name, nid: target.nid(), file_type }
    }

    /// Writes what belongs into the index's blocks.
    fn write_data<W: Write>(
        &self,
        position: usize,
        placed: &Placed<'_>,
        sources: &mut impl ReadSource,
        out: &mut Output<W>,
    ) -> Result<(), Error> {
        out.pad_to(placed.data_offset)?;
        match &placed.data {
            Data::Directory { .. } if !placed.inline => out.write(&self.directory(position))?,
            Data::Symlink(target) if !placed.inline => out.write(target)?,
            Data::File(file) => self.copy_chunks(file, sources, out).map_err(|kind| match kind {
                Kind::Read(..) => Error::at(&self.walk.path(position), kind),
                other => other.into(),
            })?,
            _ => {}
        }
        Ok(())
    }

    fn copy_chunks<W: Write>(
        &self,
        file: &File,
        sources: &mut impl ReadSource,
        out: &mut Output<W>,
    ) -> Result<(), Kind> {
        if file.copied() == 0 {
            return Ok(());
        }
        for chunk in file.chunks(self.block_bits) {
            if let Chunk::Copy { start, length } = chunk {
                let base = out.position;
                for piece in file.pieces(start, length) {
                    out.pad_to(base + (piece.file_offset - start))?;
                    copy(&piece, sources, out)?;
                }
                out.pad_to(base + length.next_multiple_of(self.block_size()))?;
            }
        }
        Ok(())
    }
}

fn copy<W: Write>(piece: &Extent, sources: &mut impl ReadSource, out: &mut Output<W>) -> Result<(), Kind> {
    let mut buffer = vec![0; piece.length.min(COPY_BUFFER_SIZE) as usize];
    let mut done = 0;
    while done < piece.length {
        let part = &mut buffer[..(piece.length - done).min(COPY_BUFFER_SIZE) as usize];
        let offset = piece.source_offset + done;
        sources.read_exact_at(piece.source, offset, part).map_err(|e| Kind::Read(piece.source, offset, e))?;
        out.write(part)?;
        done += part.len() as u64;
    }
    Ok(())
}

/// Where the index goes, and how far it got.
struct Output<W> {
    inner: W,
    position: u64,
}

impl<W: Write> Output<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Kind> {
        self.inner.write_all(bytes).map_err(|e| Kind::Write(self.position, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), Kind> {
        let zeros = [0; 4096];
        while self.position < offset {
            let length = (offset - self.position).min(zeros.len() as u64);
            self.write(&zeros[..length as usize])?;
        }
        debug_assert_eq!(self.position, offset, "the layout's places rise");
        Ok(())
    }
}
