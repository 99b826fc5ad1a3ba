//! The files of new layers as layers that images may have in common.

use super::{Sources, cannot_pack, difference::changes, files};
use crate::{Error, error::Kind};
use kiln_attest::TreeFiles;
use kiln_image::{
    layer::{LayerItem, LayerWriter, TreeItem},
    layered::{Group, Grouping, SharedLayer, popularity, split},
    tree::Tree,
};
use kiln_store::{Layer, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

mod references;

/// What new layers make of the files below, in parts.
pub(crate) struct Split<'a> {
    sources: Sources<'a>,
    epoch: i64,
    lower: Tree,
    upper: Tree,
    /// Whether something below is gone: the lowest layer then says so.
    has_whiteouts: bool,
    layers: Vec<SharedLayer>,
    below: usize,
    all: Vec<Layer>,
}

impl<'a> Split<'a> {
    /// The files of `all` layers over those of `below`, which are the first of them.
    pub fn of(below: &[Layer], all: &[Layer], epoch: i64, store: &'a Store) -> Result<Self, Error> {
        let (lower, upper) = (files::merged(below, 0)?, files::merged(all, 0)?);
        let sources = Sources::new(store, all);
        let items = changes(&lower, &upper, &sources, epoch)?;
        let has_whiteouts = items.iter().any(|item| hides(&item.item));
        drop(items);
        Ok(Self {
            sources,
            epoch,
            lower,
            upper,
            has_whiteouts,
            layers: Vec::new(),
            below: below.len(),
            all: all.to_vec(),
        })
    }

    /// Splits into at most so many layers.
    pub fn split_into(&mut self, max_layers: usize) -> Result<(), Error> {
        let new = u32::try_from(self.below).expect("fewer than 2^32 layers");
        let tree = files::merged(&self.all[self.below..], new)?;
        let grouping = self.grouping(&tree)?;
        let needs = match grouping {
            Grouping::Store => references::of(&tree, &self.sources)?,
            _ => BTreeMap::<Group, BTreeSet<Group>>::new(),
        };
        let for_files = max_layers - usize::from(self.has_whiteouts && max_layers > 1);
        let layers = split(&tree, &grouping, &popularity(&needs), for_files);
        let what = "cannot split the image into layers".to_owned();
        self.layers = layers.map_err(|source| Kind::Image { what, source })?;
        // What has nothing is no layer, but for the last, which has the directories.
        let last = self.layers.len().saturating_sub(1);
        let mut number = 0;
        self.layers.retain(|layer| {
            number += 1;
            number > last || layer.tree.walk().nth(1).is_some()
        });
        Ok(())
    }

    /// Store paths where there is a store, else packages where files belong to some, else directories.
    fn grouping(&self, tree: &Tree) -> Result<Grouping, Error> {
        let by_place = Grouping::of(tree);
        if by_place == Grouping::Store {
            return Ok(by_place);
        }
        let owners = self.sources.with_reader(|read| kiln_attest::owners(&TreeFiles::new(&self.upper, read)));
        let owners = owners.map_err(|source| Kind::Attestation { source })?;
        if owners.is_empty() {
            return Ok(by_place);
        }
        Ok(Grouping::Owned(owners.into_iter().map(|(path, package)| (path, package.into_bytes())).collect()))
    }

    pub fn count(&self) -> usize {
        self.layers.len() + usize::from(self.has_whiteouts)
    }

    /// Writes the layer of this number, the lowest first.
    pub fn write<W: Write>(&self, number: usize, out: W) -> Result<W, Error> {
        let mut writer = LayerWriter::new(out, self.epoch);
        let failed = |source| cannot_pack(self.sources.store(), source);
        let written = match number.checked_sub(usize::from(self.has_whiteouts)) {
            None => {
                let items = hiding(changes(&self.lower, &self.upper, &self.sources, self.epoch)?);
                self.sources.with_reader(|read| writer.write_items(items, read))
            }
            Some(number) => {
                self.sources.with_reader(|read| writer.write_tree(&self.layers[number].tree, read))
            }
        };
        written.and_then(|()| writer.finish()).map_err(failed)
    }
}

fn hides(item: &LayerItem) -> bool {
    matches!(item, LayerItem::Whiteout { .. } | LayerItem::OpaqueDirectory { .. })
}

/// What hides something, and the directories on the way to it.
fn hiding(items: Vec<TreeItem<'_>>) -> Vec<TreeItem<'_>> {
    let mut on_the_way: BTreeSet<Vec<u8>> = BTreeSet::new();
    for item in items.iter().filter(|item| hides(&item.item)) {
        let path = item.item.path();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        on_the_way.extend(slashes.map(|(end, _)| path[..end].to_vec()));
    }
    let is_needed = |item: &TreeItem| hides(&item.item) || on_the_way.contains(item.item.path());
    items.into_iter().filter(is_needed).collect()
}
