//! Making images: parents first, each once.

use super::{
    BuildRequest, finish, layer,
    outputs::{self, PlannedOutput},
};
use crate::{
    Error, Image, Parent,
    build_file::{About, Origin, Source},
    error::Kind,
    guest::Surroundings,
    inputs::Inputs,
};
use kiln_image::{
    compress::Compression,
    config::{Change, ContainerConfig, ImageConfig, Timestamp},
    digest::Digest,
    manifest::Platform,
    reference::{ImageReference, Location},
};
use kiln_store::{Layer, StoredImage};

/// What the VM can run.
const GUEST_ARCHITECTURE: &str = "amd64";

/// All images of a build on their way.
pub(super) struct ImageBuilder<'a> {
    pub request: &'a BuildRequest,
    outputs: &'a [PlannedOutput],
    pub inputs: &'a Inputs,
    pub surroundings: Surroundings<'a>,
    /// What is built, by index, parents first.
    order: Vec<usize>,
    imported: Vec<Known>,
    /// By index.
    built: Vec<Option<StoredImage>>,
}

/// An image from elsewhere.
struct Known {
    reference: ImageReference,
    platform: Platform,
    image: StoredImage,
}

/// An image's new layer, with what the history says of it.
pub(super) struct MadeLayer {
    pub layer: Layer,
    pub words: Words,
}

/// What the history says of a layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    pub created_by: Option<String>,
    pub comment: Option<String>,
    pub author: Option<String>,
}

/// An image on its way, over its parent.
pub(super) struct Stage<'a> {
    pub plan: &'a Image,
    /// Before what is said of it: nothing where the file is one image.
    pub label: String,
    /// What its layers are laid over.
    pub parent: Option<StoredImage>,
    pub epoch: Timestamp,
    /// Of layers that will be written as they are.
    pub compressions: Vec<Compression>,
    /// Of layers that came compressed, where that does not do.
    pub recompressions: Vec<Compression>,
    pub made: Vec<MadeLayer>,
    /// The layers made stand for all of the parent's too.
    is_alone: bool,
}

impl<'a> ImageBuilder<'a> {
    pub fn new(
        request: &'a BuildRequest,
        outputs: &'a [PlannedOutput],
        inputs: &'a Inputs,
        surroundings: Surroundings<'a>,
    ) -> Self {
        let images = &request.file.images;
        let of_disks = super::disks::outputs(request).iter();
        let of_disks = of_disks.flat_map(|output| super::disks::images(request, output).unwrap_or_default());
        let wanted = outputs.iter().flat_map(|output| output.images.iter().copied()).chain(of_disks);
        let order = order(images, wanted);
        let built = images.iter().map(|_| None).collect();
        Self { request, outputs, inputs, surroundings, order, imported: Vec::new(), built }
    }

    /// Everything from elsewhere, before anything runs.
    pub fn import_all(&mut self) -> Result<(), Error> {
        for index in self.order.clone() {
            let plan = &self.request.file.images[index];
            let platform = self.platform(plan);
            if let Parent::From(reference) = &plan.parent {
                self.import(reference, &platform)?;
                self.check_platform(plan, reference)?;
            }
            for content in plan.layers.iter().flat_map(|layer| &layer.contents) {
                if let Origin::Image { image: Source::From(reference), .. } = &content.origin {
                    self.import(reference, &platform)?;
                }
            }
            if let Some(Source::From(reference)) = &plan.tools {
                self.import(reference, &Platform::default())?;
            }
        }
        Ok(())
    }

    fn import(&mut self, reference: &ImageReference, platform: &Platform) -> Result<(), Error> {
        if self.known(reference, platform).is_some() {
            return Ok(());
        }
        let image = import(reference, platform, self.surroundings)?;
        self.inputs.add_image(reference, &image);
        self.imported.push(Known { reference: reference.clone(), platform: platform.clone(), image });
        Ok(())
    }

    /// What an image is for, as far as the file says: its own, or its parent's, or the usual.
    fn platform(&self, plan: &Image) -> Platform {
        let mut plan = plan;
        loop {
            match (&plan.platform, &plan.parent) {
                (Some(platform), _) => return platform.clone(),
                (None, Parent::Image(parent)) => plan = &self.request.file.images[*parent],
                (None, Parent::Scratch | Parent::From(_)) => return Platform::default(),
            }
        }
    }

    /// An image that is not one of several is what it is, whatever was asked for.
    fn check_platform(&self, plan: &Image, reference: &ImageReference) -> Result<(), Error> {
        let Some(wanted) = &plan.platform else { return Ok(()) };
        let found = self.known(reference, wanted).map(|image| Platform::of(&image.config));
        match found.filter(|found| !wanted.accepts(found)) {
            Some(found) => {
                let place = crate::places::shown(&reference.location);
                Err(Kind::Request(format!("{place} is for {found}, not for {wanted}")).into())
            }
            None => Ok(()),
        }
    }

    fn known(&self, reference: &ImageReference, platform: &Platform) -> Option<&StoredImage> {
        let is_it = |known: &&Known| known.reference == *reference && known.platform == *platform;
        self.imported.iter().find(is_it).map(|known| &known.image)
    }

    /// Scripts run on one architecture only; better said before anything ran.
    pub fn check_architectures(&self) -> Result<(), Error> {
        for index in &self.order {
            let plan = &self.request.file.images[*index];
            let architecture = self.architecture(plan);
            let has_scripts = plan.layers.iter().any(|layer| !layer.scripts.is_empty());
            if has_scripts && architecture != GUEST_ARCHITECTURE {
                let what = self.name(plan).unwrap_or_else(|| "the image".to_owned());
                return Err(Kind::Request(format!(
                    "{what} has scripts, which cannot be run for {architecture}: the VM is {GUEST_ARCHITECTURE}"
                ))
                .into());
            }
        }
        Ok(())
    }

    fn architecture(&self, plan: &Image) -> String {
        let mut plan = plan;
        loop {
            if let Some(architecture) = &plan.about.architecture {
                return architecture.clone();
            }
            let platform = self.platform(plan);
            match &plan.parent {
                Parent::Image(parent) => plan = &self.request.file.images[*parent],
                Parent::Scratch => return platform.architecture,
                Parent::From(reference) => {
                    let known = self.known(reference, &platform);
                    return known.map_or(platform.architecture, |image| image.config.architecture.clone());
                }
            }
        }
    }

    pub fn build_all(&mut self) -> Result<(), Error> {
        for index in self.order.clone() {
            let image = self.build(index)?;
            self.built[index] = Some(image);
        }
        Ok(())
    }

    /// The images, by index; `None` where one was not needed.
    pub fn finish(self) -> Vec<Option<StoredImage>> {
        self.built
    }

    fn build(&self, index: usize) -> Result<StoredImage, Error> {
        let plan = &self.request.file.images[index];
        let parent = self.parent(plan);
        let of_parent = || parent.as_ref()?.config.created.as_deref()?.parse().ok();
        let mut stage = Stage {
            plan,
            label: self.name(plan).map_or_else(String::new, |name| format!("{name}, ")),
            // A parent's creation time is as fixed as the parent itself, and more truthful than 1970.
            epoch: self.request.source_date_epoch.or_else(of_parent).unwrap_or_default(),
            compressions: self.compressions(index, |_| true),
            recompressions: self.compressions(index, outputs::recompresses),
            parent,
            made: Vec::new(),
            is_alone: false,
        };
        finish::before(self, &mut stage)?;
        for number in 0..plan.layers.len() {
            self.surroundings.check()?;
            layer::make(self, &mut stage, number)?;
        }
        finish::after(self, &mut stage)?;
        self.keep(stage)
    }

    /// `image app`, unless the file is one image.
    fn name(&self, plan: &Image) -> Option<String> {
        (!self.request.file.is_short).then(|| format!("image {}", plan.id))
    }

    fn parent(&self, plan: &Image) -> Option<StoredImage> {
        match &plan.parent {
            Parent::Scratch => None,
            Parent::Image(index) => self.built[*index].clone(),
            Parent::From(reference) => self.known(reference, &self.platform(plan)).cloned(),
        }
    }

    /// An image from which files or tools are taken.
    pub fn source(&self, plan: &Image, source: &Source, is_tools: bool) -> StoredImage {
        let platform = if is_tools { Platform::default() } else { self.platform(plan) };
        let found = match source {
            Source::Image(index) => self.built[*index].clone(),
            Source::From(reference) => self.known(reference, &platform).cloned(),
        };
        found.expect("what an image is made from came before it")
    }

    /// Of an image's new layers, which are also those of its children.
    fn compressions(&self, index: usize, is_meant: fn(&PlannedOutput) -> bool) -> Vec<Compression> {
        let images = &self.request.file.images;
        let finish = &images[index].finish;
        if finish.squash.is_some() || finish.max_layers.is_some() || finish.maps_ids() {
            return Vec::new();
        }
        let is_below = |mut image: usize| loop {
            if image == index {
                return true;
            }
            match images[image].parent {
                Parent::Image(parent) => image = parent,
                Parent::Scratch | Parent::From(_) => return false,
            }
        };
        let is_in = |output: &PlannedOutput| output.images.iter().any(|image| is_below(*image));
        outputs::compressions(self.outputs, |output| is_meant(output) && is_in(output))
    }

    /// Of layers that are made of an image's layers in the end.
    pub fn final_compressions(&self, plan: &Image) -> Vec<Compression> {
        let is_it = |index: &usize| std::ptr::eq(&self.request.file.images[*index], plan);
        outputs::compressions(self.outputs, |output| output.images.iter().any(is_it))
    }

    /// The configuration of it all.
    fn keep(&self, stage: Stage) -> Result<StoredImage, Error> {
        let (plan, parent) = (stage.plan, &stage.parent);
        let created = plan.about.created.unwrap_or(stage.epoch);
        let mut config = base_config(plan, parent.as_ref());
        let mut layers = stage.parent_layers();
        if stage.is_alone {
            config.rootfs = Default::default();
            config.history = Vec::new();
        }
        if stage.made.is_empty() {
            config = derive(&config, None, plan, created, &Words::default());
        }
        for made in &stage.made {
            config = derive(&config, Some(made.layer.diff_id), plan, created, &made.words);
            layers.push(made.layer.clone());
        }
        let json = config.to_json();
        let kept = self.surroundings.store.keep_image(config, json, layers);
        Ok(kept.map_err(|source| Kind::Store { what: "cannot keep the image".to_owned(), source })?)
    }
}

/// The images that are needed, parents first. The file has no cycles.
fn order(images: &[Image], wanted: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let mut pending: Vec<usize> = wanted.collect();
    pending.reverse();
    while let Some(next) = pending.last().copied() {
        let missing = images[next].made_from().into_iter().find(|index| !order.contains(index));
        match missing {
            Some(missing) => pending.push(missing),
            None => {
                pending.pop();
                if !order.contains(&next) {
                    order.push(next);
                }
            }
        }
    }
    order
}

/// A configuration to derive from, with what the plan says that is no container configuration.
fn base_config(plan: &Image, parent: Option<&StoredImage>) -> ImageConfig {
    let platform = plan.platform.clone().unwrap_or_default();
    let mut config = match parent {
        Some(parent) => parent.config.clone(),
        None => {
            let mut config = ImageConfig::scratch(&platform.architecture, &platform.os);
            config.variant = platform.variant;
            config
        }
    };
    let about = &plan.about;
    if let Some(architecture) = &about.architecture {
        // A variant is one of its architecture.
        config.variant = None;
        config.architecture.clone_from(architecture);
    }
    if let Some(os) = &about.os {
        config.os.clone_from(os);
    }
    if about.variant.is_some() {
        config.variant.clone_from(&about.variant);
    }
    with_os(config, about)
}

/// Sets keys as JSON, whether they have fields of their own or not.
fn with_os(config: ImageConfig, about: &About) -> ImageConfig {
    if about.os_version.is_none() && about.os_features.is_empty() {
        return config;
    }
    let mut json = serde_json::to_value(&config).expect("maps with text keys only");
    let keys = json.as_object_mut().expect("a configuration is an object");
    if let Some(version) = &about.os_version {
        keys.insert("os.version".to_owned(), version.clone().into());
    }
    if !about.os_features.is_empty() {
        keys.insert("os.features".to_owned(), about.os_features.clone().into());
    }
    serde_json::from_value(json).expect("texts where texts are meant")
}

fn derive(
    base: &ImageConfig,
    layer: Option<Digest>,
    plan: &Image,
    created: Timestamp,
    words: &Words,
) -> ImageConfig {
    let mut change = change(layer, created, plan.config.clone());
    change.author.clone_from(&plan.about.author);
    change.comment = words.comment.clone().or_else(|| plan.about.comment.clone());
    if let Some(created_by) = &words.created_by {
        change.created_by.clone_from(created_by);
    }
    let mut child = base.derive(change);
    if let Some(entry) = child.history.last_mut() {
        entry.author = words.author.clone().or_else(|| plan.about.author.clone());
    }
    child
}

/// A change that says as little as can be said.
pub(super) fn change(layer: Option<Digest>, created: Timestamp, config: ContainerConfig) -> Change {
    Change { layer, created, created_by: "kiln build".to_owned(), comment: None, author: None, config }
}

impl Stage<'_> {
    /// The image so far; `None` while nothing is in it.
    pub fn so_far(&self) -> Option<StoredImage> {
        let mut image = match (&self.parent, self.made.is_empty()) {
            (None, true) => return None,
            (Some(parent), _) => parent.clone(),
            (None, false) => {
                let config = base_config(self.plan, None);
                let config_json = config.to_json();
                let image_id = Digest::of(&config_json);
                StoredImage { image_id, config, config_json, layers: Vec::new(), manifest: None }
            }
        };
        image.layers.extend(self.made.iter().map(|made| made.layer.clone()));
        Some(image)
    }

    /// The layers so far, the parent's too.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = self.parent_layers();
        layers.extend(self.made.iter().map(|made| made.layer.clone()));
        layers
    }

    /// The layers below those made.
    pub fn parent_layers(&self) -> Vec<Layer> {
        let parent = self.parent.as_ref().filter(|_| !self.is_alone);
        parent.map(|parent| parent.layers.clone()).unwrap_or_default()
    }

    /// From now on the layers made are all.
    pub fn forget_parent(&mut self) {
        self.is_alone = true;
    }

    pub fn base_config(&self) -> ImageConfig {
        base_config(self.plan, self.parent.as_ref())
    }
}

/// The image of a reference, verified and in the store.
pub(crate) fn import(
    reference: &ImageReference,
    platform: &Platform,
    surroundings: Surroundings,
) -> Result<StoredImage, Error> {
    // Of a registry it is told what is fetched.
    if !matches!(reference.location, Location::Registry(_)) {
        surroundings.phase(&format!("importing {}", crate::places::shown(&reference.location)));
    }
    let imported = surroundings.places.import(reference, platform);
    surroundings.check()?;
    Ok(imported?.image)
}

pub(super) fn seconds(epoch: Timestamp) -> i64 {
    i64::try_from(epoch.unix_seconds()).expect("years have four digits")
}
