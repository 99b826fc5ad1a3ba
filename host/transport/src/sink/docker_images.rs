//! A docker-archive of several images: `manifest.json` lists them, and layers that they share are there once.
//!
//! What daemons before 1.10 read has one image only and is left out. As with one image, the pieces of a compressed archive
//! just follow one another ([`kiln_image::compress`]).

use crate::error::Context;
use crate::{Error, OutputImage};
use kiln_image::compress::{Compression, piece};
use kiln_image::digest::Digest;
use kiln_image::docker_archive::{LayerSource, StoredLayer};
use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::reference::ImageName;
use kiln_image::tar;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

/// Members are padded to a multiple of this.
const TAR_BLOCK: u64 = 512;
/// Nobody should change them.
const FILE_MODE: u16 = 0o444;

/// Writes images to `out`.
pub(super) fn write(
    out: &mut dyn Write,
    compression: Compression,
    images: &[OutputImage],
    layers: &mut impl LayerSource,
) -> Result<(), Error> {
    let mut archive = Archive { out, compression, pending: Vec::new(), names: BTreeSet::new() };
    for output in images {
        for diff_id in &output.image.config.rootfs.diff_ids {
            archive.layer(diff_id, layers)?;
        }
        archive.document(&config_member(output), &output.image.config_json)?;
    }
    archive.document("manifest.json", &manifest(images))?;
    archive.finish()
}

fn config_member(output: &OutputImage) -> String {
    format!("{}.json", output.image.image_id.hex())
}

fn layer_member(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

/// <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md#combined-image-json--filesystem-changeset-format>
fn manifest(images: &[OutputImage]) -> Vec<u8> {
    let item = |output: &OutputImage| {
        let names: Vec<String> = output.names.iter().map(ImageName::to_string).collect();
        let layers: Vec<String> = output.image.config.rootfs.diff_ids.iter().map(layer_member).collect();
        serde_json::json!({ "Config": config_member(output), "RepoTags": names, "Layers": layers })
    };
    let items: Vec<serde_json::Value> = images.iter().map(item).collect();
    serde_json::to_vec(&items).expect("text only")
}

/// Puts compressed pieces together.
struct Archive<'o> {
    out: &'o mut dyn Write,
    compression: Compression,
    /// What is to be compressed as one piece before the next layer.
    pending: Vec<u8>,
    /// Members so far.
    names: BTreeSet<String>,
}

impl Archive<'_> {
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if !self.names.insert(name.to_owned()) {
            return Ok(());
        }
        let mut tar = tar::Writer::new(&mut self.pending);
        tar.append(&entry(name, bytes.len() as u64), &mut &*bytes).context(|| format!("cannot write {name}"))
    }

    fn layer(&mut self, diff_id: &Digest, layers: &mut impl LayerSource) -> Result<(), Error> {
        let name = layer_member(diff_id);
        if self.names.contains(&name) {
            return Ok(());
        }
        let failed = |e| Error::io(|| format!("cannot copy layer {diff_id}"), e);
        let StoredLayer { size, mut bytes } = layers.open(diff_id).map_err(failed)?;
        let begun = tar::Writer::new(&mut self.pending).begin(&entry(&name, size));
        begun.context(|| format!("cannot write {name}"))?;
        self.flush_piece()?;
        self.copy(&mut bytes).map_err(failed)?;
        let padding = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
        self.pending.resize(usize::try_from(padding).expect("less than a block"), 0);
        self.names.insert(name);
        Ok(())
    }

    fn copy(&mut self, bytes: &mut impl Read) -> io::Result<u64> {
        io::copy(bytes, &mut self.out)
    }

    fn flush_piece(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        let written = self.out.write_all(&piece(self.compression, &pending));
        written.map_err(|e| Error::io(|| "cannot write the archive".to_owned(), e))
    }

    fn finish(mut self) -> Result<(), Error> {
        let finished = tar::Writer::new(&mut self.pending).finish().map(drop);
        finished.context(|| "cannot write the archive".to_owned())?;
        self.flush_piece()
    }
}

fn entry(name: &str, size: u64) -> Entry {
    let metadata = Metadata { mode: FILE_MODE, ..Metadata::default() };
    Entry { path: name.into(), metadata, kind: Kind::File { size } }
}
