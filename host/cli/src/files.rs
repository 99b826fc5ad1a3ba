//! The files of an image of the store: its layers merged, and the bytes in them.

use anyhow::{Context, Result};
use kiln_image::{
    digest::{Digest, Hasher},
    tree::{Content, Extent, Node, Tree},
};
use kiln_inspect::FileHistory;
use kiln_store::{Layer, StoredImage};
use std::{io, os::unix::fs::FileExt};

/// Bytes read at once.
const PIECE_SIZE: usize = 256 * 1024;

/// An image's layers, merged, with who brought what.
pub fn history(image: &StoredImage) -> Result<FileHistory> {
    let mut history = FileHistory::new();
    for layer in &image.layers {
        let pushed = layer.headers().and_then(|mut reader| history.push(reader.entries()));
        pushed.with_context(|| format!("cannot lay layer {} over those below", layer.diff_id))?;
    }
    Ok(history)
}

/// An image's files.
pub struct Files {
    /// Extents refer to the layers by number, then to what was added.
    pub tree: Tree,
    layers: Vec<Layer>,
    added: Vec<Vec<u8>>,
}

impl Files {
    /// Merges an image's layers.
    pub fn of(image: &StoredImage) -> Result<Self> {
        let mut tree = Tree::new();
        for (source, layer) in (0..).zip(&image.layers) {
            let applied = layer.headers().and_then(|mut reader| tree.apply_layer(source, reader.entries()));
            applied.with_context(|| format!("cannot lay layer {} over those below", layer.diff_id))?;
        }
        tree.compact();
        Ok(Self { tree, layers: image.layers.clone(), added: Vec::new() })
    }

    /// The content of a file with these bytes.
    pub fn add(&mut self, bytes: Vec<u8>) -> Content {
        let source = u32::try_from(self.layers.len() + self.added.len()).expect("fewer than 2^32 sources");
        let size = bytes.len() as u64;
        self.added.push(bytes);
        Content::File {
            size,
            extents: vec![Extent { file_offset: 0, length: size, source, source_offset: 0 }],
        }
    }

    /// Fills a buffer from a source.
    pub fn read_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let source = source as usize;
        if let Some(layer) = self.layers.get(source) {
            return layer.file.read_exact_at(buffer, offset);
        }
        let bytes = self.added.get(source - self.layers.len());
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = bytes.and_then(|bytes| bytes.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Gives a file's stored bytes piece by piece, each with its offset in the file; what is not given is zero.
    pub fn pieces(
        &self,
        extents: &[Extent],
        take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; PIECE_SIZE];
        for extent in extents {
            let mut done = 0;
            while done < extent.length {
                let count = usize::try_from(extent.length - done).unwrap_or(usize::MAX).min(PIECE_SIZE);
                self.read_at(extent.source, extent.source_offset + done, &mut buffer[..count])?;
                take(extent.file_offset + done, &buffer[..count])?;
                done += count as u64;
            }
        }
        Ok(())
    }

    /// The digest of a regular file, holes included.
    pub fn digest(&self, node: &Node) -> io::Result<Digest> {
        let Content::File { size, extents } = &node.content else { return Ok(Digest::of(b"")) };
        let (mut hasher, mut position) = (Hasher::new(), 0);
        self.pieces(extents, &mut |offset, bytes| {
            hash_zeroes(&mut hasher, offset - position);
            hasher.update(bytes);
            position = offset + bytes.len() as u64;
            Ok(())
        })?;
        hash_zeroes(&mut hasher, size - position);
        Ok(hasher.finish().digest)
    }
}

fn hash_zeroes(hasher: &mut Hasher, mut count: u64) {
    let zeroes = [0; 4096];
    while count > 0 {
        let piece = usize::try_from(count).unwrap_or(usize::MAX).min(zeroes.len());
        hasher.update(&zeroes[..piece]);
        count -= piece as u64;
    }
}
