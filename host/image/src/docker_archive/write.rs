//! A whole archive, both layouts at once, the same bytes every time.
//!
//! Only headers and documents are compressed here; layers are copied as the source has them. That
//! the pieces may just follow one another is explained in [`compress`](crate::compress).

use super::manifest::Item;
use super::v1::{self, V1Layer};
use super::{LayerSource, MANIFEST, REPOSITORIES, StoredLayer};
use crate::compress::{Compression, piece};
use crate::config::ImageConfig;
use crate::copy::copy;
use crate::digest::Digest;
use crate::entry::{self, Entry, Metadata};
use crate::error::{Error, Kind};
use crate::reference::ImageName;
use crate::tar;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Members are padded to a multiple of this.
const TAR_BLOCK: u64 = 512;
/// Nobody should change them.
const FILE_MODE: u16 = 0o444;
/// Symbolic links have no mode of their own.
const SYMLINK_MODE: u16 = 0o777;

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveImage<'a> {
    /// The configuration, whose `rootfs.diff_ids` are the layers.
    pub config_json: &'a [u8],
    /// Its names.
    pub names: &'a [ImageName],
}

/// Writes an archive of one image to `out`, which need not seek, and gives `out` back.
///
/// # Errors
/// As [`write_all`]'s.
pub fn write<W: Write, S: LayerSource>(
    out: W,
    compression: Compression,
    config_json: &[u8],
    names: &[ImageName],
    source: &mut S,
) -> Result<W, Error> {
    write_all(out, compression, &[ArchiveImage { config_json, names }], source)
}

/// Writes an archive of images to `out`, which need not seek, and gives `out` back.
///
/// Each layer is asked for once, however many images have it. Times are zero, owners root: equal input makes equal output.
///
/// # Errors
/// - [corrupt](Error::is_corrupt): a `config_json` is no configuration, or a layer has not the size it
///   was said to have (noticed only when not compressed);
/// - [io](Error::is_io): `out` or `source` failed.
pub fn write_all<W: Write, S: LayerSource>(
    out: W,
    compression: Compression,
    images: &[ArchiveImage<'_>],
    source: &mut S,
) -> Result<W, Error> {
    let mut writer =
        Writer { out, compression, pending: Vec::new(), members: BTreeSet::new(), has_layers: false };
    let (mut items, mut repositories) = (Vec::new(), Repositories::new());
    for image in images {
        let config = ImageConfig::parse(image.config_json)?;
        let diff_ids = &config.rootfs.diff_ids;
        for diff_id in diff_ids {
            writer.layer(diff_id, source)?;
        }
        let config_member = format!("{}.json", Digest::of(image.config_json).hex());
        writer.document(&config_member, image.config_json)?;
        let chain = v1::chain(image.config_json, diff_ids)?;
        for layer in &chain {
            writer.v1_layer(layer)?;
        }
        if let Some(top) = chain.last() {
            add_names(&mut repositories, image.names, &top.id);
        }
        items.push(item(config_member, image.names, diff_ids));
        writer.has_layers |= !chain.is_empty();
    }
    if writer.has_layers {
        writer.document(REPOSITORIES, &serde_json::to_vec(&repositories).expect("text only"))?;
    }
    writer.document(MANIFEST, &serde_json::to_vec(&items).expect("text only"))?;
    writer.finish()
}

fn layer_member(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn item(config: String, names: &[ImageName], diff_ids: &[Digest]) -> Item {
    Item {
        config,
        repo_tags: Some(names.iter().map(ImageName::to_string).collect()),
        layers: Some(diff_ids.iter().map(layer_member).collect()),
        layer_sources: None,
    }
}

/// Names to tags to the top layer.
type Repositories = BTreeMap<String, BTreeMap<String, String>>;

fn add_names(repositories: &mut Repositories, names: &[ImageName], top: &str) {
    for name in names {
        let tags = repositories.entry(name.repository()).or_default();
        tags.insert(name.tag().to_owned(), top.to_owned());
    }
}

/// Puts compressed pieces together.
struct Writer<W> {
    out: W,
    compression: Compression,
    /// What is to be compressed as one piece before the next layer.
    pending: Vec<u8>,
    /// Names so far: images share layers, and may share more.
    members: BTreeSet<String>,
    /// Whether there is anything for the layout before 1.10.
    has_layers: bool,
}

impl<W: Write> Writer<W> {
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if !self.members.insert(name.to_owned()) {
            return Ok(());
        }
        let entry = file(name, bytes.len() as u64);
        tar::Writer::new(&mut self.pending).append(&entry, &mut &*bytes)
    }

    fn v1_layer(&mut self, layer: &V1Layer) -> Result<(), Error> {
        if !self.members.insert(layer.id.clone()) {
            return Ok(());
        }
        let target = format!("../{}", layer_member(&layer.diff_id));
        let link = symlink(&format!("{}/layer.tar", layer.id), target);
        tar::Writer::new(&mut self.pending).begin(&link)?;
        self.document(&format!("{}/VERSION", layer.id), v1::VERSION)?;
        self.document(&format!("{}/json", layer.id), &layer.json)
    }

    /// Copies a layer from the source, unless it is there.
    fn layer(&mut self, diff_id: &Digest, source: &mut impl LayerSource) -> Result<(), Error> {
        if !self.members.insert(layer_member(diff_id)) {
            return Ok(());
        }
        let opening = |source| Kind::Io { doing: format!("open layer {diff_id}"), source };
        let StoredLayer { size, mut bytes } = source.open(diff_id).map_err(opening)?;
        tar::Writer::new(&mut self.pending).begin(&file(&layer_member(diff_id), size))?;
        self.flush_piece()?;
        let doing = || format!("read layer {diff_id}");
        let copied = copy(&mut bytes, doing, |piece| self.out.write_all(piece).map_err(writing))?;
        if self.compression == Compression::None && copied != size {
            let why = format!("it has {copied} bytes, not the {size} it was said to have");
            return Err(Kind::corrupt(format!("layer {diff_id}"), why).into());
        }
        self.pad(size);
        Ok(())
    }

    /// Fills the last block of a member of this size.
    fn pad(&mut self, size: u64) {
        let padding = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
        self.pending.extend(std::iter::repeat_n(0, usize::try_from(padding).expect("less than a block")));
    }

    fn flush_piece(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        self.out.write_all(&piece(self.compression, &pending)).map_err(writing)
    }

    fn finish(mut self) -> Result<W, Error> {
        tar::Writer::new(&mut self.pending).finish()?;
        self.flush_piece()?;
        self.out.flush().map_err(writing)?;
        Ok(self.out)
    }
}

fn file(name: &str, size: u64) -> Entry {
    entry(name, FILE_MODE, entry::Kind::File { size })
}

fn symlink(name: &str, target: String) -> Entry {
    entry(name, SYMLINK_MODE, entry::Kind::Symlink { target: target.into_bytes() })
}

fn entry(name: &str, mode: u16, kind: entry::Kind) -> Entry {
    Entry { path: name.into(), metadata: Metadata { mode, ..Metadata::default() }, kind }
}

fn writing(error: io::Error) -> Error {
    Kind::Io { doing: "write the archive".to_owned(), source: error }.into()
}
