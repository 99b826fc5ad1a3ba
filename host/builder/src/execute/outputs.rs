//! Which images go where, and writing them.

use super::{BuildRequest, Built, BuiltImage, destinations, disks};
use crate::{
    Error, Event, Image,
    attestations::{self, About},
    error::Kind,
    guest::Surroundings,
    inputs::Input,
};
use kiln_image::{
    compress::Compression,
    digest::Digest,
    manifest::{Dialect, Platform},
    reference::{Choice, ImageName, Location, TagChoice},
};
use kiln_store::StoredImage;
use kiln_transport::{Attachment, OutputImage, OutputSpec, Written};

/// An output with its images, by their indexes.
#[derive(Debug)]
pub(super) struct PlannedOutput {
    pub spec: OutputSpec,
    pub images: Vec<usize>,
}

/// Checks that each output can hold what it is to hold.
pub(super) fn plan(request: &BuildRequest) -> Result<Vec<PlannedOutput>, Error> {
    let of_file = request.file.outputs.iter().map(|output| (&output.spec, &output.images));
    let of_request = request.outputs.iter().map(|spec| (spec, &request.targets));
    let by_file = request.outputs.is_empty() && request.disk_outputs.is_empty();
    let written: Vec<_> = if by_file { of_file.collect() } else { of_request.collect() };
    let outputs: Vec<PlannedOutput> = written
        .into_iter()
        .map(|(spec, ids)| {
            let ids = if request.targets.is_empty() { ids } else { &request.targets };
            planned(request, spec, ids)
        })
        .collect::<Result<_, _>>()?;
    let to_stdout = outputs.iter().filter(|output| output.spec.dest.location.path() == Some("-")).count();
    if to_stdout > 1 {
        return Err(Kind::Request("standard output can take one output only".to_owned()).into());
    }
    for output in &outputs {
        destinations::check_image(&output.spec)?;
    }
    for output in disks::outputs(request) {
        disks::images(request, output)?;
        destinations::check_disk(output)?;
    }
    if outputs.is_empty() && disks::outputs(request).is_empty() {
        return Err(Kind::Request("there is no output".to_owned()).into());
    }
    Ok(outputs)
}

fn planned(request: &BuildRequest, spec: &OutputSpec, ids: &[String]) -> Result<PlannedOutput, Error> {
    let images = chosen(request, ids)?;
    if !request.names.is_empty() && images.len() > 1 && !have_own_platforms(request, &images) {
        let message = format!("a name cannot be that of {} images; choose one of them", images.len());
        return Err(Kind::Request(message).into());
    }
    let plans: Vec<&Image> = images.iter().map(|index| &request.file.images[*index]).collect();
    let mut spec = spec.clone();
    spec.dialect = dialect(&spec, &plans)?;
    Ok(PlannedOutput { spec, images })
}

/// Images for different machines may share a name.
fn have_own_platforms(request: &BuildRequest, images: &[usize]) -> bool {
    let platform = |index: &usize| request.file.images[*index].platform.as_ref();
    let is_alone =
        |index: &usize| images.iter().filter(|other| platform(other) == platform(index)).count() == 1;
    images.iter().all(is_alone)
}

fn chosen(request: &BuildRequest, ids: &[String]) -> Result<Vec<usize>, Error> {
    if ids.is_empty() {
        return Ok(request.file.default_images());
    }
    let images = &request.file.images;
    let find = |id: &String| {
        let named = images.iter().position(|image| image.id == *id);
        let found = named.or_else(|| id.parse().ok().filter(|index| *index < images.len()));
        let known: Vec<&str> = images.iter().map(|image| image.id.as_str()).collect();
        found.ok_or_else(|| {
            Error::from(Kind::Request(format!(
                "there is no image `{id}` in the build file; there are {}",
                known.join(", ")
            )))
        })
    };
    let mut found: Vec<usize> = ids.iter().map(find).collect::<Result<_, _>>()?;
    // In the order of the file, whatever the order of the words.
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The dialect of an output: what it says itself or must be, else what its images are meant for or need.
fn dialect(spec: &OutputSpec, images: &[&Image]) -> Result<Option<Dialect>, Error> {
    let fixed = match &spec.dest.location {
        Location::DockerArchive { .. } => Some(Dialect::Docker),
        Location::Oci { .. } | Location::OciArchive { .. } => Some(spec.dialect.unwrap_or(Dialect::Oci)),
        // Only files: neither.
        Location::Rootfs { .. } => return Ok(None),
        Location::Dir { .. } | Location::Registry(_) | Location::Path { .. } | Location::Scratch => {
            spec.dialect
        }
    };
    let asked = images.iter().find_map(|image| image.format);
    let needed =
        images.iter().flat_map(|image| &image.particular).map(|particular| particular.dialect).next();
    let dialect = fixed.or(asked).or(needed);
    for image in images {
        check_dialect(spec, image, dialect)?;
    }
    Ok(if matches!(spec.dest.location, Location::DockerArchive { .. }) { spec.dialect } else { dialect })
}

fn check_dialect(spec: &OutputSpec, image: &Image, dialect: Option<Dialect>) -> Result<(), Error> {
    let Some(dialect) = dialect else { return Ok(()) };
    let foreign = image.particular.iter().find(|particular| particular.dialect != dialect);
    let Some(foreign) = foreign else { return Ok(()) };
    let of = match dialect {
        Dialect::Oci => "an OCI image",
        Dialect::Docker => "a docker image",
    };
    let more = format!(", and {} is to be {of}", spec.dest.location);
    Err(Kind::BuildFile(foreign.refusal.clone().with(&more)).into())
}

/// The compressions that new layers of an image get, as the outputs will ask for them.
pub(super) fn compressions(
    outputs: &[PlannedOutput],
    is_in: impl Fn(&PlannedOutput) -> bool,
) -> Vec<Compression> {
    let mut compressions = Vec::new();
    for output in outputs.iter().filter(|output| is_in(output)) {
        let wanted = crate::output_spec::compression_of_layers(&output.spec);
        let wanted = wanted.filter(|compression| *compression != Compression::None);
        compressions.extend(wanted.filter(|compression| !compressions.contains(compression)));
    }
    compressions
}

/// Whether layers that came compressed are compressed for an output all the same.
pub(super) fn recompresses(output: &PlannedOutput) -> bool {
    output.spec.force_compression || matches!(output.spec.dest.location, Location::DockerArchive { .. })
}

/// Writes all outputs. `images` are those of the file, `None` where one was not needed.
pub(super) fn write(
    request: &BuildRequest,
    outputs: &[PlannedOutput],
    images: &[Option<StoredImage>],
    inputs: Vec<Input>,
    surroundings: Surroundings,
) -> Result<Built, Error> {
    let mut built = Built { images: Vec::new(), outputs: Vec::new(), inputs };
    let mut indexes: Vec<usize> = outputs.iter().flat_map(|output| output.images.iter().copied()).collect();
    indexes.sort_unstable();
    indexes.dedup();
    for index in &indexes {
        let image = images[*index].as_ref().expect("what is written was built");
        built.images.push(describe(request, *index, image, &built.inputs, surroundings)?);
    }
    for output in outputs {
        surroundings.check()?;
        surroundings.phase(if outputs.len() == 1 { "writing the image" } else { "writing images" });
        let out = |index: &usize| OutputImage {
            image: images[*index].clone().expect("what is written was built"),
            names: names(request, *index, Some(&output.spec)),
            annotations: request.file.images[*index].annotations.clone(),
            attachments: attachments(request, &output.spec, &built, &request.file.images[*index].id),
        };
        let out: Vec<OutputImage> = output.images.iter().map(out).collect();
        let written = surroundings.places.write(&out, &output.spec);
        surroundings.check()?;
        let written = written?;
        tell(&written, surroundings);
        for (position, image) in indexes.iter().zip(&mut built.images) {
            let at = output.images.iter().position(|index| index == position);
            image.manifests.push(at.and_then(|at| written.images.get(at)?.manifest));
        }
        built.outputs.push(written);
    }
    for (index, built_image) in indexes.iter().zip(&mut built.images) {
        let image = images[*index].as_ref().expect("what is written was built");
        let BuiltImage { id, names, manifests, documents, .. } = built_image;
        let manifests: Vec<Digest> = manifests.iter().copied().flatten().collect();
        let about = About { id, names, image };
        attestations::name_manifests(request, &about, &manifests, &built.inputs, documents);
    }
    Ok(built)
}

fn describe(
    request: &BuildRequest,
    index: usize,
    image: &StoredImage,
    inputs: &[Input],
    surroundings: Surroundings,
) -> Result<BuiltImage, Error> {
    let (id, names) = (request.file.images[index].id.clone(), names(request, index, None));
    let about = About { id: &id, names: &names, image };
    let documents = attestations::documents(request, &about, inputs, surroundings)?;
    let platform = Platform::of(&image.config);
    Ok(BuiltImage { id, image_id: image.image_id, manifests: Vec::new(), names, platform, documents })
}

/// The documents that an output gets with an image.
fn attachments(request: &BuildRequest, spec: &OutputSpec, built: &Built, id: &str) -> Vec<Attachment> {
    let has_referrers = matches!(
        spec.dest.location,
        Location::Oci { .. } | Location::OciArchive { .. } | Location::Registry(_)
    );
    let image = built.images.iter().find(|image| image.id == id);
    let documents = image.filter(|_| request.attestations.attach && has_referrers);
    documents.map(|image| image.documents.clone()).unwrap_or_default()
}

fn tell(written: &Written, surroundings: Surroundings) {
    let ids: Vec<String> = written.images.iter().map(|image| image.image_id.to_string()).collect();
    let image_id = ids.join(", ");
    let Written { dest, size, .. } = written;
    surroundings.observer.event(Event::Written { dest, image_id: &image_id, size: *size });
}

/// An image's names: the output's own, else the command line's, else the file's.
fn names(request: &BuildRequest, index: usize, spec: Option<&OutputSpec>) -> Vec<ImageName> {
    if let Some(name) = spec.and_then(|spec| name_of(&spec.dest.location)) {
        return vec![name];
    }
    if request.names.is_empty() { request.file.images[index].names.clone() } else { request.names.clone() }
}

/// The name that a place gives to the image in it.
fn name_of(location: &Location) -> Option<ImageName> {
    match location {
        Location::DockerArchive { choice: Choice::Name(name), .. } => Some(name.clone()),
        Location::Oci { choice: TagChoice::Tag(tag), .. }
        | Location::OciArchive { choice: TagChoice::Tag(tag), .. }
            if tag.contains(['/', ':']) =>
        {
            tag.parse().ok()
        }
        _ => None,
    }
}
