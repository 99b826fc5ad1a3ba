//! `kiln inspect`.

use crate::{arguments::InspectArguments, files, progress, workplace::Workplace};
use anyhow::{Context, Result};
use kiln_image::reference::{ImageName, Location};
use kiln_inspect::{LayerFacts, Listing, ListingOptions, Subject, Summary};
use kiln_store::{Layer, StoredImage};
use kiln_transport::Imported;
use std::io::{self, Write};

/// Shows the image.
pub fn run(arguments: &InspectArguments) -> Result<()> {
    let workplace = Workplace::open(&arguments.registry, Box::new(progress::Quiet))?;
    let imported = workplace.import(&arguments.reference, arguments.platform.as_ref())?;
    let mut out = io::stdout().lock();
    if arguments.raw {
        let manifest = imported.image.manifest.as_ref();
        let manifest =
            manifest.context("there is no manifest in such a place; --config shows what there is")?;
        out.write_all(&manifest.bytes)?;
    } else if arguments.config {
        out.write_all(&imported.image.config_json)?;
    } else {
        out.write_all(shown(arguments, &imported)?.as_bytes())?;
    }
    Ok(out.flush()?)
}

fn shown(arguments: &InspectArguments, imported: &Imported) -> Result<String> {
    let image = &imported.image;
    let names = names(arguments, imported);
    let facts: Vec<LayerFacts> = image.layers.iter().map(facts).collect();
    let subject = Subject {
        names: &names,
        image_id: image.image_id,
        config: &image.config,
        manifest: image.manifest.as_deref(),
        layers: &facts,
    };
    let summary = Summary::new(&subject);
    if !arguments.layers && !arguments.tree {
        return if arguments.json { pretty(&summary.to_json()) } else { Ok(summary.to_text()) };
    }
    files_shown(arguments, image, &summary, &facts)
}

/// With what has to be read of the layers.
fn files_shown(
    arguments: &InspectArguments,
    image: &StoredImage,
    summary: &Summary,
    facts: &[LayerFacts],
) -> Result<String> {
    let history = files::history(image)?;
    let (mut json, mut text) = (summary.to_json(), String::new());
    if arguments.layers {
        let reports = kiln_inspect::layers(&image.config, facts, &history);
        text.push_str(&kiln_inspect::layers_text(&reports));
        json["LayerReports"] = serde_json::to_value(&reports)?;
    }
    if arguments.tree {
        let path = arguments.path.as_deref();
        let options = ListingOptions {
            depth: arguments.depth,
            path: path.map(|path| path.as_bytes().to_vec()),
            layer: arguments.layer,
            colour: arguments.colour,
        };
        let listing = Listing::new(&history, &options);
        let listing = listing.with_context(|| format!("there is no {} in the image", path.unwrap_or("/")))?;
        text.push_str(&listing.to_text());
        json["Files"] = listing.to_json();
    }
    if arguments.json { pretty(&json) } else { Ok(text) }
}

/// As skopeo writes it, to be read by people too.
fn pretty(json: &serde_json::Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

/// What it is called where it came from.
fn names(arguments: &InspectArguments, imported: &Imported) -> Vec<String> {
    match &arguments.reference.location {
        Location::Registry(reference) if imported.names.is_empty() => vec![reference.name().to_string()],
        _ => imported.names.iter().map(ImageName::to_string).collect(),
    }
}

fn facts(layer: &Layer) -> LayerFacts {
    let blob = layer.blob.as_ref().map(|blob| &blob.descriptor);
    LayerFacts {
        blob: blob.map(|blob| (blob.digest, blob.size, blob.media_type.clone())),
        unpacked_size: layer.length,
    }
}
