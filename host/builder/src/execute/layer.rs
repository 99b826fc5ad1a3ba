//! Making one layer: contents packed, scripts run, or a finished one taken.

use super::{
    image::{ImageBuilder, MadeLayer, Stage, Words, seconds},
    run::{Run, variables},
};
use crate::{
    Error,
    build_file::{ContentSource, Origin},
    contents::{self, Content, Files, Packing, Whence},
    error::Kind,
    packing::{self, temporary_file},
};
use kiln_image::compress::Decompressor;
use kiln_store::Layer;
use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

/// Bytes copied at once.
const COPY_SIZE: usize = 1024 * 1024;

/// Makes the layer of this number and lays it over the image so far. Where more than one step makes it, it is made of
/// several.
pub(super) fn make(builder: &ImageBuilder, stage: &mut Stage, number: usize) -> Result<(), Error> {
    let plan = &stage.plan.layers[number];
    let label = layer_label(stage, number);
    let words = Words {
        created_by: plan.created_by.clone(),
        comment: plan.comment.clone(),
        author: plan.author.clone(),
    };
    let first = stage.made.len();
    let within = |error: Error| error.within(label.trim_end_matches(", "));
    if let Some(tar) = plan.tar.as_deref().filter(|_| !plan.is_difference) {
        let layer = finished(builder, stage, tar).map_err(within)?;
        stage.made.push(MadeLayer { layer, words: words.clone() });
    }
    let is_whole = plan.is_difference || !plan.delete.is_empty();
    if is_whole {
        let layer = difference(builder, stage, number).map_err(within)?;
        stage.made.push(MadeLayer { layer, words: words.clone() });
    }
    if !plan.scripts.is_empty() {
        let contents = if is_whole || plan.contents.is_empty() {
            None
        } else {
            Some(packed(builder, stage, number).map_err(within)?)
        };
        let layer = run(builder, stage, number, &label, contents.as_ref())?;
        stage.made.push(MadeLayer { layer, words: words.clone() });
    } else if !is_whole && !plan.contents.is_empty() {
        let layer = contents_layer(builder, stage, number).map_err(within)?;
        stage.made.push(MadeLayer { layer, words: words.clone() });
    }
    if stage.made.len() > first + 1 {
        super::finish::join(builder, stage, first, words)?;
    }
    Ok(())
}

/// `image app, layer 2, `; nothing where the file is one image.
fn layer_label(stage: &Stage, number: usize) -> String {
    if stage.label.is_empty() && stage.plan.layers.len() < 2 {
        return String::new();
    }
    format!("{}layer {}, ", stage.label, number + 1)
}

/// A finished layer: its bytes as they are, so that its digest is known elsewhere too; unless what is gone is marked in
/// overlayfs's way, which images do not know.
fn finished(builder: &ImageBuilder, stage: &Stage, tar: &Path) -> Result<Layer, Error> {
    let surroundings = builder.surroundings;
    surroundings.phase(&format!("{}taking {}", stage.label, tar.display()));
    builder.inputs.add_file("layer", tar)?;
    let read = |source| Kind::Read { path: tar.to_owned(), source };
    let corrupt = |source| Kind::Image { what: format!("cannot read the layer {}", tar.display()), source };
    let file = File::open(tar).map_err(read)?;
    let mut input = Decompressor::new(BufReader::with_capacity(COPY_SIZE, file)).map_err(corrupt)?;
    let mut layer = packing::new_layer(surroundings.store, &stage.compressions, builder.request.threads)?;
    let doing = || format!("decompress {}", tar.display());
    io::copy(&mut input, &mut layer).map_err(|error| corrupt(kiln_image::Error::from_io(error, doing)))?;
    let layer = packing::finish(layer)?;
    let out = || packing::new_layer(surroundings.store, &stage.compressions, builder.request.threads);
    let within = |error: Error| error.within(&tar.display().to_string());
    let layer = match contents::of_overlay(&layer, surroundings.store, out).map_err(within)? {
        Some(rewritten) => packing::finish(rewritten)?,
        None => layer,
    };
    // That it is a layer shows when it is laid over what is below.
    let all = [stage.layers(), vec![layer.clone()]].concat();
    Files::of(&all).map_err(within)?;
    Ok(layer)
}

/// Contents that are the new layer.
fn contents_layer(builder: &ImageBuilder, stage: &Stage, number: usize) -> Result<Layer, Error> {
    let (files, contents) = prepare(builder, stage, number)?;
    let mut packing = Packing::collect(&contents, files.as_ref(), seconds(stage.epoch), builder.packing())?;
    if let Some(files) = &files {
        packing.leave_out_unchanged(files)?;
    }
    let out = packing::new_layer(builder.surroundings.store, &stage.compressions, builder.request.threads)?;
    packing::finish(packing.write(out)?)
}

/// Contents that scripts will find. The agent leaves out what is unchanged, at the end.
fn packed(builder: &ImageBuilder, stage: &Stage, number: usize) -> Result<File, Error> {
    let (files, contents) = prepare(builder, stage, number)?;
    let packing = Packing::collect(&contents, files.as_ref(), seconds(stage.epoch), builder.packing())?;
    packing.write(temporary_file(builder.surroundings.store)?)
}

fn prepare(
    builder: &ImageBuilder,
    stage: &Stage,
    number: usize,
) -> Result<(Option<Files>, Vec<Content>), Error> {
    builder.surroundings.phase(&format!("{}packing contents", layer_label(stage, number)));
    let files = stage.so_far().map(|image| Files::of(&image.layers)).transpose()?;
    let contents = &stage.plan.layers[number].contents;
    Ok((files, contents.iter().map(|content| resolved(builder, stage, content)).collect()))
}

/// The layer that makes of the image so far what it is to be: contents in, what is to be gone gone.
fn difference(builder: &ImageBuilder, stage: &Stage, number: usize) -> Result<Layer, Error> {
    let (files, mut contents) = prepare(builder, stage, number)?;
    let plan = &stage.plan.layers[number];
    if let Some(tar) = plan.tar.as_ref().filter(|_| plan.is_difference) {
        contents.push(Content::whole(tar));
    }
    let difference = contents::Difference {
        contents: &contents,
        is_all: plan.is_difference,
        delete: &plan.delete,
        epoch: seconds(stage.epoch),
    };
    let store = builder.surroundings.store;
    let out = || packing::new_layer(store, &stage.compressions, builder.request.threads);
    packing::finish(difference.write(files.as_ref(), builder.packing(), out)?)
}

fn run(
    builder: &ImageBuilder,
    stage: &Stage,
    number: usize,
    label: &str,
    contents: Option<&File>,
) -> Result<Layer, Error> {
    let plan = stage.plan;
    for script in &plan.layers[number].scripts {
        builder.inputs.add_script(script);
    }
    let tools = plan.tools.as_ref().map(|tools| builder.source(plan, tools, true));
    let base = stage.so_far();
    let run = Run {
        scripts: &plan.layers[number].scripts,
        label,
        base: base.as_ref(),
        tools: tools.as_ref(),
        contents,
        environment: variables(&stage.base_config(), &plan.config),
        epoch: stage.epoch,
        compressions: &stage.compressions,
    };
    let ahead = packing::compress_ahead(
        base.as_ref(),
        builder.surroundings.store,
        &stage.compressions,
        &stage.recompressions,
        builder.request.threads,
    );
    let layer = run.run(builder.request, builder.surroundings)?;
    // It reports nothing: what it could not do is tried again, and reported, when it is needed.
    let _ = ahead.map(std::thread::JoinHandle::join);
    Ok(layer)
}

fn resolved(builder: &ImageBuilder, stage: &Stage, content: &ContentSource) -> Content {
    let whence = match &content.origin {
        Origin::Path(path) => Whence::Path(path.clone()),
        Origin::Image { image, path } => {
            Whence::Image { layers: builder.source(stage.plan, image, false).layers, path: path.clone() }
        }
    };
    Content { whence, dest: content.dest.clone(), owner: content.owner }
}

impl<'a> ImageBuilder<'a> {
    pub fn packing(&self) -> contents::Surroundings<'a> {
        contents::Surroundings { store: self.surroundings.store, inputs: self.inputs }
    }
}
