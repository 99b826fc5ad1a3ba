//! What is done to an image's files before its first layer and after its last.

use super::image::{ImageBuilder, MadeLayer, Stage, Words, seconds};
use crate::{
    Error,
    build_file::{Finish, Squash},
    contents::{self},
    packing,
};
use kiln_store::Layer;

impl Finish {
    /// Whether owners are given other numbers.
    pub(super) fn maps_ids(&self) -> bool {
        !self.uid_map.is_empty() || !self.gid_map.is_empty()
    }
}

/// Below the layers of the plan.
pub(super) fn before(_builder: &ImageBuilder, _stage: &mut Stage) -> Result<(), Error> {
    Ok(())
}

/// Above and instead of the layers of the plan.
pub(super) fn after(builder: &ImageBuilder, stage: &mut Stage) -> Result<(), Error> {
    let finish = &stage.plan.finish;
    match finish.squash {
        Some(Squash::New) if stage.made.len() > 1 => {
            stage.compressions = builder.final_compressions(stage.plan);
            join(builder, stage, 0, Words::default())
        }
        Some(Squash::All) => all_as_one(builder, stage),
        _ => Ok(()),
    }
}

/// Makes one layer of those from `first`.
pub(super) fn join(
    builder: &ImageBuilder,
    stage: &mut Stage,
    first: usize,
    words: Words,
) -> Result<(), Error> {
    let layers: Vec<Layer> = stage.made.drain(first..).map(|made| made.layer).collect();
    let below = stage.so_far().map(|image| image.layers).unwrap_or_default();
    let store = builder.surroundings.store;
    let out = packing::new_layer(store, &stage.compressions, builder.request.threads)?;
    let joined = contents::joined(&below, &layers, seconds(stage.epoch), store, out);
    let layer = packing::finish(joined.map_err(|error| error.within(stage.label.trim_end_matches(", ")))?)?;
    stage.made.push(MadeLayer { layer, words });
    Ok(())
}

fn all_as_one(builder: &ImageBuilder, stage: &mut Stage) -> Result<(), Error> {
    let layers = stage.so_far().map(|image| image.layers).unwrap_or_default();
    stage.compressions = builder.final_compressions(stage.plan);
    let store = builder.surroundings.store;
    let out = packing::new_layer(store, &stage.compressions, builder.request.threads)?;
    let layer = packing::finish(contents::joined(&[], &layers, seconds(stage.epoch), store, out)?)?;
    stage.made = vec![MadeLayer { layer, words: Words::default() }];
    stage.forget_parent();
    Ok(())
}
