//! One layer of all an image's.

use crate::{files::Files, workplace::Workplace};
use anyhow::{Context, Result};
use kiln_image::{
    config::{History, ImageConfig},
    digest::Digest,
    entry::{Entry, Kind},
    layer::{LayerItem, LayerWriter},
    tree::Tree,
};
use kiln_store::{Layer, StoredImage};
use std::io::BufWriter;

/// Bytes written at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// The image with one layer instead of its layers, in the store. Its history stays, of steps without layers.
pub fn squashed(workplace: &Workplace, image: &StoredImage) -> Result<StoredImage> {
    let files = Files::of(image)?;
    one_layer(workplace, image, &files, "kiln copy --squash")
}

/// The image with `files` as its only layer, in the store.
pub fn one_layer(
    workplace: &Workplace,
    image: &StoredImage,
    files: &Files,
    created_by: &str,
) -> Result<StoredImage> {
    let layer = layer(workplace, files)?;
    let config = config(&image.config, layer.diff_id, created_by);
    let json = config.to_json();
    Ok(workplace.store.keep_image(config, json, vec![layer])?)
}

fn layer(workplace: &Workplace, files: &Files) -> Result<Layer> {
    let what = "cannot write the layer";
    let new = workplace.store.new_layer(&[], workplace.transport().threads)?;
    // No time is later than this: they stay.
    let mut writer = LayerWriter::new(BufWriter::with_capacity(BUFFER_SIZE, new), i64::MAX);
    let root = files.tree.node(Tree::ROOT).metadata.clone();
    let root = Entry { path: Vec::new(), metadata: root, kind: Kind::Directory };
    writer.begin(LayerItem::Entry(root)).context(what)?;
    writer
        .write_tree(&files.tree, &mut |source, offset, buffer| files.read_at(source, offset, buffer))
        .context(what)?;
    let out = writer.finish().context(what)?;
    let new = out.into_inner().map_err(|error| error.into_error()).context(what)?;
    Ok(new.finish()?)
}

fn config(before: &ImageConfig, diff_id: Digest, created_by: &str) -> ImageConfig {
    let mut config = before.clone();
    config.rootfs.diff_ids = vec![diff_id];
    for entry in &mut config.history {
        entry.empty_layer = true;
    }
    config.history.push(History {
        created: config.created.clone(),
        created_by: Some(created_by.to_owned()),
        ..History::default()
    });
    config
}
