//! Base images as disks.

use crate::error::Kind;
use crate::held::{self, Layer};
use crate::pending::Pending;
use crate::segment::{self, Segment};
use crate::{Error, Store, StoredImage};
use kiln_disk::erofs;
use kiln_image::digest::Digest;
use kiln_image::tree::Tree;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Goes up whenever the same layers would merge to another tree.
const MERGE_VERSION: u32 = 1;

/// An image's merged layers as a read-only EROFS disk, in use: nothing removes its parts.
#[derive(Debug, Clone)]
pub struct Base {
    /// The index: the disk's first bytes, whole blocks.
    pub index: Segment,
    /// The layers' tars, lowest first, which follow the index on the disk.
    pub layers: Vec<Layer>,
}

impl Store {
    /// The disk of an image. Its index is made on the first call, and anew when it was damaged in a
    /// way that shows without reading all of it.
    ///
    /// # Errors
    /// When the layers cannot be read or merged, or the index not be written.
    pub fn base(&self, image: &StoredImage) -> Result<Base, Error> {
        let path = self.base_path(&key(&image.layers));
        let index = match find_index(&image.layers, &path)? {
            Some(index) => index,
            None => index(self.make_index(&image.layers, &path)?, &path)?,
        };
        Ok(Base { index, layers: image.layers.clone() })
    }

    fn make_index(&self, layers: &[Layer], path: &Path) -> Result<File, Error> {
        let tree = merge(layers)?;
        let sources: Vec<Segment> = layers.iter().map(Layer::segment).collect();
        let layout = segment::layout(&tree, &sources)?;
        let pending = Pending::create(&self.tmp())?;
        let written = segment::write_index(&layout, &sources, BufWriter::new(&pending));
        written.map_err(|e| Error::writing(path, e, |source| Kind::Layout { source }))?;
        pending.publish(path)
    }
}

/// An index that fits these layers.
fn find_index(layers: &[Layer], path: &Path) -> Result<Option<Segment>, Error> {
    let Some(file) = held::hold(path)? else { return Ok(None) };
    let found = index(file, path)?;
    let behind: u64 = layers.iter().map(|layer| layer.segment().padded_length()).sum();
    let is_whole = is_of_disk(&found.file, found.length + behind).map_err(|e| Error::io("read", path, e))?;
    Ok(is_whole.then_some(found))
}

fn index(file: File, path: &Path) -> Result<Segment, Error> {
    Segment::whole(file).map_err(|e| Error::io("examine", path, e))
}

impl Base {
    /// The disk from its first byte to its last.
    pub fn segments(&self) -> Vec<Segment> {
        [self.index.clone()].into_iter().chain(self.layers.iter().map(Layer::segment)).collect()
    }

    /// The merged file tree, read anew from the layers' headers. Its sources are the layers.
    ///
    /// # Errors
    /// When the layers cannot be read.
    pub fn tree(&self) -> Result<Tree, Error> {
        merge(&self.layers)
    }
}

/// True when an index begins undamaged and was written for a disk of this length in bytes.
fn is_of_disk(index: &File, length: u64) -> io::Result<bool> {
    let mut start = [0; erofs::START_LENGTH];
    match index.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(erofs::disk_length(&start) == Some(length)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Names an index by all that it depends on.
fn key(layers: &[Layer]) -> Digest {
    let mut text = format!("{MERGE_VERSION} {}", erofs::FORMAT_VERSION);
    for layer in layers {
        text.push('\n');
        text.push_str(&layer.diff_id.to_string());
    }
    Digest::of(text.as_bytes())
}

fn merge(layers: &[Layer]) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for (number, layer) in layers.iter().enumerate() {
        let mut reader = layer.headers().map_err(|source| layer.error(source))?;
        let source = u32::try_from(number).expect("fewer than 2^32 layers");
        tree.apply_layer(source, reader.entries()).map_err(|source| layer.error(source))?;
    }
    tree.compact();
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::reference::Choice;
    use std::fs;

    fn image(sample: &Sample) -> StoredImage {
        sample.store().import_docker_archive(&sample.archive(), &Choice::Only, None).unwrap()
    }

    #[test]
    fn layers_are_merged_and_their_contents_stay_where_they_are() {
        let sample = Sample::new(&[
            &[("etc/a", "lower"), ("etc/b", "hidden"), ("etc/c", "kept")],
            &[("etc/a", "upper"), ("etc/.wh.b", "")],
        ]);
        let base = sample.store().base(&image(&sample)).unwrap();
        let tree = base.tree().unwrap();
        assert!(tree.lookup(b"etc/b").is_none());
        let found = tree.lookup(b"etc/a").map(|id| &tree.node(id).content);
        let Some(kiln_image::tree::Content::File { extents, .. }) = found else { panic!("no file") };
        let mut bytes = [0; 5];
        let segments = base.segments();
        let source = &segments[1 + extents[0].source as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*source.file, &mut bytes, extents[0].source_offset)
            .unwrap();
        assert_eq!(&bytes, b"upper");
        assert_eq!(segments.len(), 3);
    }

    #[test]
    fn an_index_is_made_once() {
        let sample = Sample::new(&[&[("a", "b")]]);
        let made = sample.store().base(&image(&sample)).unwrap().index.file;
        let found = sample.store().base(&image(&sample)).unwrap().index.file;
        let inode = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        assert_eq!(inode(&made), inode(&found));
    }

    #[test]
    fn a_damaged_index_is_made_anew() {
        let sample = Sample::new(&[&[("a", "b")]]);
        let store = sample.store();
        let image = image(&sample);
        let path = store.base_path(&key(&image.layers));
        drop(store.base(&image).unwrap());
        let whole = fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let longer = [&whole[..], &[0; 512]].concat();
        let cut = |length: usize| whole[..length].to_vec();
        let damaged = [cut(0), cut(1100), cut(whole.len() - 512), cut(whole.len() - 1), longer];
        for bytes in damaged.into_iter().chain([1024, 1028, 1024 + 0x0e, 1024 + 0x24].map(flipped)) {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(store.base(&image).unwrap().index.length, whole.len() as u64);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }
}
