//! What is done to an image's files before its first layer and after its last.

use super::image::{ImageBuilder, MadeLayer, Stage, Words, seconds};
use crate::{
    Error,
    build_file::{Finish, IdRange, Squash},
    contents::{self, Change},
    error::Kind,
    packing,
    password::{self, Salt},
};
use kiln_image::{id_map::IdMap, shadow};
use kiln_store::{Layer, NewLayer};

impl Finish {
    /// Whether owners are given other numbers.
    pub(super) fn maps_ids(&self) -> bool {
        !self.uid_map.is_empty() || !self.gid_map.is_empty()
    }
}

/// Below the layers of the plan: what they may count on.
pub(super) fn before(builder: &ImageBuilder, stage: &mut Stage) -> Result<(), Error> {
    if !stage.plan.finish.shadow_setup {
        return Ok(());
    }
    let epoch = seconds(stage.epoch);
    let add: Change = &mut |tree, sources| {
        let source = sources.next();
        let bytes = shadow::add(tree, source, epoch);
        let what = || "cannot add the files of shadow-setup".to_owned();
        sources.add_bytes(bytes.map_err(|source| Kind::Image { what: what(), source })?);
        Ok(())
    };
    rewrite(builder, stage, add, "shadow-setup")
}

/// Above and instead of the layers of the plan.
pub(super) fn after(builder: &ImageBuilder, stage: &mut Stage) -> Result<(), Error> {
    let finish = &stage.plan.finish;
    if let Some(root_password) = &finish.root_password {
        let salt = Salt::of(stage.layers().iter().map(|layer| &layer.diff_id));
        let hashed = password::hashed(root_password, &salt, "root")?;
        let set: Change = &mut |tree, sources| contents::set_password(tree, sources, &hashed);
        rewrite(builder, stage, set, "root-password")?;
    }
    let is_remade = finish.squash.is_some() || finish.max_layers.is_some() || finish.maps_ids();
    if is_remade {
        stage.compressions = builder.final_compressions(stage.plan);
    }
    match finish.squash {
        Some(Squash::New) if stage.made.len() > 1 && !finish.maps_ids() => {
            join(builder, stage, 0, Words::default())?;
        }
        Some(Squash::All) => all_as_one(builder, stage)?,
        _ if finish.maps_ids() => all_as_one(builder, stage)?,
        _ => {}
    }
    finish.max_layers.map_or(Ok(()), |max_layers| split(builder, stage, max_layers))
}

/// Makes one layer of those from `first`.
pub(super) fn join(
    builder: &ImageBuilder,
    stage: &mut Stage,
    first: usize,
    words: Words,
) -> Result<(), Error> {
    let layers: Vec<Layer> = stage.made.drain(first..).map(|made| made.layer).collect();
    let store = builder.surroundings.store;
    let joined = contents::joined(
        &stage.layers(),
        &layers,
        &mut |_, _| Ok(()),
        seconds(stage.epoch),
        store,
        new_layer(builder, stage)?,
    );
    let layer = finished(joined, stage)?;
    stage.made.push(MadeLayer { layer, words });
    Ok(())
}

/// One layer of all, its owners under the numbers that were asked for.
fn all_as_one(builder: &ImageBuilder, stage: &mut Stage) -> Result<(), Error> {
    let finish = &stage.plan.finish;
    let (users, groups) = (id_map(&finish.uid_map)?, id_map(&finish.gid_map)?);
    let map: Change = &mut |tree, _| {
        tree.map_ids(&users, &groups);
        Ok(())
    };
    let (store, epoch) = (builder.surroundings.store, seconds(stage.epoch));
    let joined = contents::joined(&[], &stage.layers(), map, epoch, store, new_layer(builder, stage)?);
    let layer = finished(joined, stage)?;
    stage.made = vec![MadeLayer { layer, words: Words::default() }];
    stage.forget_parent();
    Ok(())
}

/// The new layers as others: files that change together, in layers that images may have in common.
fn split(builder: &ImageBuilder, stage: &mut Stage, max_layers: usize) -> Result<(), Error> {
    let below = stage.parent_layers();
    let new: Vec<Layer> = stage.made.drain(..).map(|made| made.layer).collect();
    let all = [below.clone(), new].concat();
    let mut split = contents::Split::of(&below, &all, seconds(stage.epoch), builder.surroundings.store)?;
    split.split_into(max_layers)?;
    for number in 0..split.count() {
        let written = split.write(number, new_layer(builder, stage)?);
        let layer = finished(written, stage)?;
        stage.made.push(MadeLayer { layer, words: Words::default() });
    }
    Ok(())
}

/// A layer that changes the files so far, where it changes any.
fn rewrite(builder: &ImageBuilder, stage: &mut Stage, change: Change, created_by: &str) -> Result<(), Error> {
    let (store, epoch) = (builder.surroundings.store, seconds(stage.epoch));
    let layers = stage.layers();
    let joined = contents::joined(&layers, &[], change, epoch, store, new_layer(builder, stage)?);
    let layer = finished(joined, stage)?;
    if packing::is_empty(&layer)? {
        return Ok(());
    }
    let words = Words { created_by: Some(created_by.to_owned()), ..Words::default() };
    stage.made.push(MadeLayer { layer, words });
    Ok(())
}

fn new_layer(builder: &ImageBuilder, stage: &Stage) -> Result<NewLayer, Error> {
    packing::new_layer(builder.surroundings.store, &stage.compressions, builder.request.threads)
}

fn finished(written: Result<NewLayer, Error>, stage: &Stage) -> Result<Layer, Error> {
    packing::finish(written.map_err(|error| error.within(stage.label.trim_end_matches(", ")))?)
}

fn id_map(ranges: &[IdRange]) -> Result<IdMap, Error> {
    let text: Vec<String> =
        ranges.iter().map(|IdRange { from, to, count }| format!("{from}:{to}:{count}")).collect();
    let what = "cannot change the numbers of owners".to_owned();
    Ok(IdMap::parse(&text.join(",")).map_err(|source| Kind::Image { what, source })?)
}
