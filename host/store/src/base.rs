//! Base images as disks.

use crate::error::Kind;
use crate::held::{self, Layer};
use crate::pending::Pending;
use crate::segment::{self, Segment};
use crate::{Error, Store, StoredImage};
use kiln_disk::erofs;
use kiln_image::digest::Digest;
use kiln_image::tar;
use kiln_image::tree::Tree;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

/// Goes up whenever the same layers would merge to another tree.
const MERGE_VERSION: u32 = 1;

/// Bytes of a layer read at once, when only its headers are wanted.
const HEADER_BUFFER_SIZE: usize = 4096;

/// An image's merged layers as a read-only EROFS disk, in use: nothing removes its parts.
#[derive(Debug, Clone)]
pub struct Base {
    /// The index: the disk's first bytes, whole blocks.
    pub index: Segment,
    /// The layers' tars, lowest first, which follow the index on the disk.
    pub layers: Vec<Layer>,
}

impl Store {
    /// The disk of an image. Its index is made on the first call.
    ///
    /// # Errors
    /// When the layers cannot be read or merged, or the index not be written.
    pub fn base(&self, image: &StoredImage) -> Result<Base, Error> {
        let path = self.base_path(&key(&image.layers));
        let file = match held::hold(&path)? {
            Some(file) => file,
            None => self.make_index(&image.layers, &path)?,
        };
        let length = held::length(&file, &path)?;
        let index = Segment { file: Arc::new(file), offset: 0, length };
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
        let headers = BufReader::with_capacity(HEADER_BUFFER_SIZE, layer.reader());
        let mut reader = tar::Reader::seekable(headers).map_err(|source| layer.error(source))?;
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
    fn a_layer_that_is_no_tar_is_named() {
        let sample = Sample::new(&[]);
        let layer = vec![b'?'; 2048];
        let diff_id = Digest::of(&layer);
        sample.write_archive(&[layer], &[diff_id]);
        let error = sample.store().base(&image(&sample)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot lay layer {diff_id} over those below"));
        assert!(error.image_error().unwrap().is_corrupt(), "{:?}", error.image_error());
        assert_eq!(sample.store().du().unwrap()[3].count, 0);
    }
}
