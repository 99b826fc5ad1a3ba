//! One image of the file.

use super::{
    Checker, Located,
    plan::{
        About, ContentSource, Finish, Hook, HookScript, IdRange, Image, Layer, Origin, Parent, Particular,
        RootPassword, Source, Squash,
    },
    schema::{self, Content, ImageKeys, ParentTable, Script},
    values::{TextOr, Written},
};
use crate::contents::parse_owner;
use kiln_image::{
    config::Timestamp,
    manifest::{Dialect, Platform},
    reference::{Choice, ImageReference, Location, TagChoice},
};
use kiln_transport::ImageAnnotations;
use std::{
    fs,
    path::{Component, Path, PathBuf},
};
use toml::Spanned;

/// Largest script, in bytes; all of a layer's scripts travel to the guest in one message.
const MAX_SCRIPT_SIZE: u64 = 1024 * 1024;

/// As many as docker can lay over one another.
const MAX_LAYERS: i64 = 127;

impl Checker<'_> {
    pub(super) fn image(&self, image: schema::Image, id: &str) -> Result<Image, Located> {
        let keys = image.keys;
        let platform = self.optional(keys.platform.as_ref(), str::parse::<Platform>)?;
        let format = self.optional(keys.format.as_ref(), parse_format)?;
        let mut particular = self.of_docker(&keys.config);
        let annotations = self.annotations(&keys)?;
        particular.extend(self.of_oci(&keys));
        if let (Some(format), true) = (format, keys.format.is_some())
            && let Some(at) = particular.iter().position(|particular| particular.dialect != format)
        {
            return Err(particular.swap_remove(at).refusal);
        }
        Ok(Image {
            id: id.to_owned(),
            parent: self.parent(&keys)?,
            platform,
            tools: keys.tools.as_ref().map(|tools| self.source(tools)).transpose()?,
            names: self.names(&keys)?,
            about: self.about(&keys)?,
            config: self.config(&keys.config)?,
            finish: self.finish(&keys)?,
            disk: keys.disk.as_ref().map(|disk| self.disk(disk)).transpose()?,
            layers: image.layers.into_iter().map(|layer| self.layer(layer)).collect::<Result<_, _>>()?,
            annotations,
            format,
            particular,
        })
    }

    fn parent(&self, keys: &ImageKeys) -> Result<Parent, Located> {
        match (&keys.from, &keys.parent) {
            (Some(_), Some(parent)) => Err(self.wrong(parent, "an image has `from` or `parent`, not both")),
            (None, None) => Ok(Parent::Scratch),
            (Some(from), None) => Ok(from_elsewhere(self.reference(from)?)),
            (None, Some(parent)) => match parent.get_ref() {
                Written::Text(id) => self.parent_of(parent, id),
                Written::Number(index) => self.parent_of(parent, &index.to_string()),
                Written::Table(table) => self.indexed(table).map(from_elsewhere),
                Written::Flag(_) => {
                    Err(self.wrong(parent, "a parent is an image's id, its index, or a table"))
                }
            },
        }
    }

    fn parent_of(&self, place: &Spanned<Written<ParentTable>>, id: &str) -> Result<Parent, Located> {
        let missing = || self.wrong(place, format!("there is no image `{id}`; one from elsewhere is `from`"));
        self.image_of(id).map(Parent::Image).ok_or_else(missing)
    }

    fn indexed(&self, table: &ParentTable) -> Result<ImageReference, Located> {
        let mut reference = self.reference(&table.from)?;
        let Some(index) = &table.index else { return Ok(reference) };
        let number = *index.get_ref();
        let chosen = match &mut reference.location {
            Location::DockerArchive { choice: choice @ Choice::Only, .. } => {
                *choice = Choice::Index(number);
                true
            }
            Location::Oci { choice: choice @ TagChoice::Only, .. }
            | Location::OciArchive { choice: choice @ TagChoice::Only, .. } => {
                *choice = TagChoice::Index(number);
                true
            }
            _ => false,
        };
        let message = "an index needs `oci:`, `oci-archive:` or `docker-archive:` without a name";
        if chosen { Ok(reference) } else { Err(self.wrong(index, message)) }
    }

    /// An image of the file by its id, or else one from elsewhere.
    fn source(&self, value: &Spanned<String>) -> Result<Source, Located> {
        match self.ids.iter().position(|id| id == value.get_ref()) {
            Some(index) => Ok(Source::Image(index)),
            None => self.reference(value).map(Source::From),
        }
    }

    fn about(&self, keys: &ImageKeys) -> Result<About, Located> {
        let word = |value: &Option<Spanned<String>>| self.optional(value.as_ref(), parse_word);
        Ok(About {
            architecture: word(&keys.architecture)?,
            os: word(&keys.os)?,
            variant: keys.variant.clone(),
            os_version: keys.os_version.clone(),
            os_features: keys.os_features.clone(),
            author: keys.author.clone(),
            comment: keys.comment.clone(),
            created: self.optional(keys.created.as_ref(), str::parse::<Timestamp>)?,
        })
    }

    fn finish(&self, keys: &ImageKeys) -> Result<Finish, Located> {
        let ranges = |values: &[Spanned<String>]| {
            values.iter().map(|range| self.parsed(range, parse_range)).collect::<Result<Vec<_>, _>>()
        };
        let finish = Finish {
            max_layers: keys.layered.as_ref().map(|layered| self.max_layers(layered)).transpose()?,
            shadow_setup: keys.shadow_setup,
            root_password: keys.root_password.as_ref().map(|password| self.password(password)).transpose()?,
            uid_map: ranges(&keys.uid_map)?,
            gid_map: ranges(&keys.gid_map)?,
            squash: keys.squash.as_ref().map(|squash| self.squash(squash)).transpose()?.flatten(),
        };
        if let (Some(layered), Some(_)) = (&keys.layered, finish.squash) {
            return Err(
                self.wrong(layered, "an image is `layered` or has its layers as one (`squash`), not both")
            );
        }
        Ok(finish)
    }

    fn max_layers(&self, layered: &Spanned<Written<schema::LayeredTable>>) -> Result<usize, Located> {
        let wrong = || self.wrong(layered, format!("`layered` is a number of layers from 1 to {MAX_LAYERS}"));
        let number = match layered.get_ref() {
            Written::Number(number) => *number,
            Written::Table(table) => table.max_layers,
            _ => return Err(wrong()),
        };
        let fits = Some(number).filter(|number| (1..=MAX_LAYERS).contains(number));
        fits.and_then(|number| usize::try_from(number).ok()).ok_or_else(wrong)
    }

    fn squash(&self, squash: &Spanned<Written<schema::NoTable>>) -> Result<Option<Squash>, Located> {
        match squash.get_ref() {
            Written::Flag(flag) => Ok(flag.then_some(Squash::New)),
            Written::Text(text) if text == "all" => Ok(Some(Squash::All)),
            _ => Err(self.wrong(squash, "`squash` is true, false or \"all\"")),
        }
    }

    pub(super) fn password(&self, password: &Spanned<schema::RootPassword>) -> Result<RootPassword, Located> {
        let schema::RootPassword { file, env, hash } = password.get_ref();
        match (file, env, hash) {
            (Some(file), None, None) => {
                let path = self.directory().join(file.get_ref());
                self.existing(file, &path)?;
                Ok(RootPassword::File(path))
            }
            (None, Some(env), None) => Ok(RootPassword::Env(env.get_ref().clone())),
            (None, None, Some(hash)) => {
                if !is_hash(hash.get_ref()) {
                    // Not shown: it may be the password itself.
                    let place = hash.span().start..hash.span().start;
                    return Err(
                        self.hidden(&place, "a hash begins with $ and has no `:`, as crypt(5) has it")
                    );
                }
                Ok(RootPassword::Hash(hash.get_ref().clone()))
            }
            _ => Err(self.hidden(
                &password.span(),
                "a password is { file = PATH }, { env = NAME } or { hash = TEXT }",
            )),
        }
    }

    /// An error whose line is not shown.
    fn hidden(&self, span: &schema::Span, message: &str) -> Located {
        self.at(span, message).without_line()
    }

    fn layer(&self, layer: schema::Layer) -> Result<Layer, Located> {
        if let Some(tar) = layer.tar.as_ref().filter(|_| !layer.contents.is_empty()) {
            return Err(
                self.wrong(tar, "a finished layer (`tar`) has no `contents`; put it among them, or beside")
            );
        }
        let is_difference = layer.difference.as_ref().is_some_and(|flag| *flag.get_ref());
        if let Some(difference) = layer.difference.as_ref().filter(|_| is_difference)
            && layer.contents.is_empty()
            && layer.tar.is_none()
        {
            return Err(self
                .wrong(difference, "`difference` is that of `contents` or `tar`, of which there are none"));
        }
        let absolute = |path: &Spanned<String>| self.parsed(path, parse_dest);
        let delete: Vec<Vec<u8>> = layer.delete.iter().map(absolute).collect::<Result<_, _>>()?;
        if let Some(at) = delete.iter().position(Vec::is_empty) {
            return Err(self.wrong(&layer.delete[at], "the root cannot be deleted"));
        }
        Ok(Layer {
            contents: layer.contents.iter().map(|content| self.content(content)).collect::<Result<_, _>>()?,
            tar: layer.tar.as_ref().map(|tar| self.tar(tar)).transpose()?,
            is_difference,
            delete,
            created_by: layer.created_by.clone(),
            comment: layer.comment.clone(),
            author: layer.author.clone(),
            scripts: self.scripts(layer)?,
        })
    }

    fn tar(&self, tar: &Spanned<String>) -> Result<PathBuf, Located> {
        let path = self.directory().join(tar.get_ref());
        if !self.existing(tar, &path)?.is_file() {
            return Err(self.wrong(tar, format!("{} is no tar", path.display())));
        }
        Ok(path)
    }

    fn content(&self, content: &Content) -> Result<ContentSource, Located> {
        let origin = match &content.image {
            Some(image) => Origin::Image {
                image: self.source(image)?,
                path: self.optional(content.src.as_ref(), parse_dest)?.unwrap_or_default(),
            },
            None => Origin::Path(self.content_path(content)?),
        };
        let dest = self.optional(content.dest.as_ref(), parse_dest)?.unwrap_or_default();
        let owner = self.optional(content.owner.as_ref(), parse_owner)?.unwrap_or_default();
        Ok(ContentSource { origin, dest, owner })
    }

    fn content_path(&self, content: &Content) -> Result<PathBuf, Located> {
        let src = content.src.as_ref().ok_or_else(|| self.at(&content.span, "missing field `src`"))?;
        let path = self.directory().join(src.get_ref());
        let metadata = self.existing(src, &path)?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(self.wrong(src, format!("{} is no directory and no tar", path.display())));
        }
        Ok(path)
    }

    fn scripts(&self, layer: schema::Layer) -> Result<Vec<HookScript>, Located> {
        let written = [
            (Hook::PreMount, layer.pre_mount),
            (Hook::RunAsRoot, layer.run_as_root),
            (Hook::PostMount, layer.post_mount),
            (Hook::PostUmount, layer.post_umount),
            (Hook::ExtraCommands, layer.extra_commands),
        ];
        let given = written.into_iter().filter_map(|(hook, script)| Some((hook, script?)));
        given.map(|(hook, script)| self.script(hook, script)).collect()
    }

    fn script(&self, hook: Hook, script: Script) -> Result<HookScript, Located> {
        let (text, file) = self.script_text(&script)?;
        Ok(HookScript { hook, text, file })
    }

    /// A script's text, and the file it was read from.
    pub(super) fn script_text(&self, script: &Script) -> Result<(Vec<u8>, Option<PathBuf>), Located> {
        let file = match script {
            Script::Text(text) => return Ok((text.clone().into_bytes(), None)),
            Script::File(file) => file,
        };
        let path = self.directory().join(file.get_ref());
        if self.existing(file, &path)?.len() > MAX_SCRIPT_SIZE {
            let limit = MAX_SCRIPT_SIZE >> 20;
            return Err(self.wrong(file, format!("a script of more than {limit} MiB: {}", path.display())));
        }
        let text = fs::read(&path);
        let text =
            text.map_err(|error| self.wrong(file, format!("cannot read {}: {error}", path.display())))?;
        Ok((text, Some(path)))
    }

    /// Texts are the manifest's; tables say whose they are.
    fn annotations(&self, keys: &ImageKeys) -> Result<ImageAnnotations, Located> {
        let mut annotations = ImageAnnotations::default();
        let Some(written) = &keys.annotations else { return Ok(annotations) };
        for (key, value) in written.get_ref() {
            match (key.as_str(), value) {
                (_, TextOr::Text(text)) => drop(annotations.manifest.insert(key.clone(), text.clone())),
                ("manifest", TextOr::Table(table)) => annotations.manifest.extend(table.clone()),
                ("descriptor", TextOr::Table(table)) => annotations.descriptor.extend(table.clone()),
                ("index", TextOr::Table(table)) => annotations.index.extend(table.clone()),
                (_, TextOr::Table(_)) => {
                    let message = format!("`{key}` has no annotations; index, manifest and descriptor have");
                    return Err(self.wrong(written, message));
                }
            }
        }
        Ok(annotations)
    }

    /// What only OCI knows.
    fn of_oci(&self, keys: &ImageKeys) -> Option<Particular> {
        let annotations =
            keys.annotations.as_ref().filter(|annotations| !annotations.get_ref().is_empty())?;
        let message = "annotations are OCI's; docker's formats have none";
        Some(Particular { dialect: Dialect::Oci, refusal: self.wrong(annotations, message) })
    }
}

fn from_elsewhere(reference: ImageReference) -> Parent {
    if reference.location == Location::Scratch { Parent::Scratch } else { Parent::From(reference) }
}

fn parse_format(text: &str) -> Result<Dialect, String> {
    match text {
        "docker" => Ok(Dialect::Docker),
        "oci" => Ok(Dialect::Oci),
        _ => Err(format!("unknown format `{text}`; there are docker and oci")),
    }
}

/// A word of Go's, such as `amd64`.
fn parse_word(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(format!("`{text}` is none of Go's words, such as linux, amd64 or arm64"));
    }
    Ok(text.to_owned())
}

fn is_hash(text: &str) -> bool {
    text.starts_with('$')
        && text.len() > 3
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// `FROM:TO:COUNT`, as virt-bootstrap has it.
fn parse_range(text: &str) -> Result<IdRange, String> {
    let wrong = || format!("`{text}` is no range; write it like 0:1000:10, FROM:TO:COUNT");
    let numbers: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let [from, to, count] = numbers[..] else { return Err(wrong()) };
    let fits = |start: u32| start.checked_add(count).is_some();
    if count == 0 || !fits(from) || !fits(to) {
        return Err(wrong());
    }
    Ok(IdRange { from, to, count })
}

/// Where contents go: an absolute path, returned relative to the root.
fn parse_dest(text: &str) -> Result<Vec<u8>, String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` must be an absolute path in the image"));
    }
    let mut parts = Vec::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => parts.push(part.as_encoded_bytes()),
            Component::ParentDir => return Err(format!("`{text}` must not contain `..`")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(parts.join(&b'/'))
}
