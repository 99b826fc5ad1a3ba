//! Reads `kiln.toml` (see `docs/build-file.md`) and checks everything that can be checked before
//! anything runs.

mod located;
mod schema;

pub use located::Located;

use crate::{Error, ImageSource, contents::parse_owner, error::Kind, parse_size};
use kiln_image::{
    config::ContainerConfig,
    contents::Owner,
    reference::{ArchiveReference, ImageName},
};
use schema::{Content, Document, Script};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};
use toml::Spanned;

/// Largest script, in bytes; all of a build's scripts travel to the guest in one message.
const MAX_SCRIPT_SIZE: u64 = 1024 * 1024;

/// A checked build file: paths are resolved, files exist, scripts are read.
#[derive(Debug)]
pub struct BuildFile {
    /// The base image.
    pub from: Option<ImageSource>,
    /// The image whose userland the hooks run in.
    pub tools: Option<ImageSource>,
    /// The image's name and tag.
    pub name: Option<ImageName>,
    /// What is put into the new layer.
    pub contents: Vec<ContentSource>,
    /// What is run, in order.
    pub scripts: Vec<HookScript>,
    /// Size of the scratch disk in bytes.
    pub disk_size: Option<u64>,
    /// What changes in the container configuration.
    pub config: ContainerConfig,
}

/// One item of `contents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSource {
    /// A directory or a tar.
    pub path: PathBuf,
    /// Where its contents go: relative to the image's root, in the form of an entry's path.
    pub dest: Vec<u8>,
    /// Who owns them.
    pub owner: Owner,
}

/// A script and when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookScript {
    /// The build file's key.
    pub hook: Hook,
    /// The script's text.
    pub text: Vec<u8>,
}

/// The places where scripts run, in the order they do. The names but `RunAsRoot` are those of
/// nixpkgs' `runWithOverlay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the overlay is mounted.
    PreMount,
    /// With the merged tree as `/`.
    RunAsRoot,
    /// With the merged tree at `$mnt`.
    PostMount,
    /// After the overlay is gone.
    PostUmount,
    /// Last, in the layer.
    ExtraCommands,
}

impl Hook {
    /// The build file's key.
    pub fn key(self) -> &'static str {
        match self {
            Self::PreMount => "pre-mount",
            Self::RunAsRoot => "run-as-root",
            Self::PostMount => "post-mount",
            Self::PostUmount => "post-umount",
            Self::ExtraCommands => "extra-commands",
        }
    }
}

impl BuildFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// With line and column for everything that is wrong in the file; when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Kind::ReadBuildFile { path: path.to_owned(), source })?;
        let text = String::from_utf8_lossy(&bytes);
        let checked = Checker { path, text: &text }.check();
        Ok(checked.map_err(Kind::BuildFile)?)
    }
}

/// Turns what is written into what is meant.
struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Checker<'_> {
    fn check(&self) -> Result<BuildFile, Located> {
        if let Some(at) = self.text.find(char::REPLACEMENT_CHARACTER) {
            return Err(Located::new(self.path, self.text, &(at..at), "this is not UTF-8"));
        }
        let document: Document = toml::from_str(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            Located::new(self.path, self.text, &span, error.message())
        })?;
        Ok(BuildFile {
            from: self.reference(document.from.as_ref())?,
            tools: self.reference(document.tools.as_ref())?,
            contents: document.contents.iter().map(|c| self.content(c)).collect::<Result<_, _>>()?,
            disk_size: self.optional(document.disk_size.as_ref(), parse_size)?,
            config: self.config(&document.config)?,
            name: self.name(document.name.as_ref(), document.tag.as_ref())?,
            scripts: self.scripts(document)?,
        })
    }

    fn reference(&self, value: Option<&Spanned<String>>) -> Result<Option<ImageSource>, Located> {
        let Some(value) = value else { return Ok(None) };
        let reference: ArchiveReference = self.parsed(value, str::parse)?;
        let source = ImageSource::new(reference, self.directory());
        if self.existing(value, &source.path)?.is_dir() {
            return Err(
                self.wrong(value, format!("{} is a directory, not an archive", source.path.display()))
            );
        }
        Ok(Some(source))
    }

    fn name(
        &self,
        name: Option<&Spanned<String>>,
        tag: Option<&Spanned<String>>,
    ) -> Result<Option<ImageName>, Located> {
        let Some(name) = name else {
            return tag.map_or(Ok(None), |tag| Err(self.wrong(tag, "a tag needs a `name`")));
        };
        let untagged: ImageName = self.parsed(name, str::parse)?;
        let Some(tag) = tag else { return Ok(Some(untagged)) };
        if name.get_ref().rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(self.wrong(tag, "the `name` has a tag already"));
        }
        self.parsed(tag, |tag| format!("{}:{tag}", name.get_ref()).parse()).map(Some)
    }

    fn content(&self, content: &Content) -> Result<ContentSource, Located> {
        let path = self.directory().join(content.src.get_ref());
        let metadata = self.existing(&content.src, &path)?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(self.wrong(&content.src, format!("{} is no directory and no tar", path.display())));
        }
        let dest = self.optional(content.dest.as_ref(), parse_dest)?.unwrap_or_default();
        let owner = self.optional(content.owner.as_ref(), parse_owner)?.unwrap_or_default();
        Ok(ContentSource { path, dest, owner })
    }

    fn scripts(&self, document: Document) -> Result<Vec<HookScript>, Located> {
        let written = [
            (Hook::PreMount, document.pre_mount),
            (Hook::RunAsRoot, document.run_as_root),
            (Hook::PostMount, document.post_mount),
            (Hook::PostUmount, document.post_umount),
            (Hook::ExtraCommands, document.extra_commands),
        ];
        let given = written.into_iter().filter_map(|(hook, script)| Some((hook, script?)));
        given.map(|(hook, script)| Ok(HookScript { hook, text: self.script(script)? })).collect()
    }

    fn script(&self, script: Script) -> Result<Vec<u8>, Located> {
        let file = match script {
            Script::Text(text) => return Ok(text.into_bytes()),
            Script::File(file) => file,
        };
        let path = self.directory().join(file.get_ref());
        if self.existing(&file, &path)?.len() > MAX_SCRIPT_SIZE {
            let limit = MAX_SCRIPT_SIZE >> 20;
            return Err(self.wrong(&file, format!("a script of more than {limit} MiB: {}", path.display())));
        }
        fs::read(&path).map_err(|error| self.wrong(&file, format!("cannot read {}: {error}", path.display())))
    }

    fn config(&self, config: &schema::Config) -> Result<ContainerConfig, Located> {
        for variable in &config.env {
            if variable.get_ref().find('=').is_none_or(|at| at == 0) {
                return Err(self.wrong(variable, "a variable is written NAME=value"));
            }
        }
        if let Some(directory) = &config.working_dir
            && !directory.get_ref().starts_with('/')
        {
            return Err(self.wrong(directory, "a working directory begins with /"));
        }
        let env: Vec<_> = config.env.iter().map(|variable| variable.get_ref().clone()).collect();
        let volumes = config.volumes.0.iter().map(|volume| volume.get_ref().clone()).collect();
        Ok(ContainerConfig {
            user: config.user.clone(),
            exposed_ports: set(self.ports(&config.exposed_ports.0)?),
            env: Some(env).filter(|env| !env.is_empty()),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            volumes: set(volumes),
            working_dir: config.working_dir.as_ref().map(|directory| directory.get_ref().clone()),
            labels: Some(config.labels.clone()).filter(|labels| !labels.is_empty()),
            stop_signal: config.stop_signal.clone(),
            ..ContainerConfig::default()
        })
    }

    fn ports(&self, ports: &[Spanned<String>]) -> Result<Vec<String>, Located> {
        ports.iter().map(|port| self.parsed(port, parse_port)).collect()
    }

    /// Applies `parse`; what it complains about is shown at the value's place.
    fn parsed<T, E: ToString>(
        &self,
        value: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Located> {
        parse(value.get_ref()).map_err(|error| self.wrong(value, error.to_string()))
    }

    fn optional<T, E: ToString>(
        &self,
        value: Option<&Spanned<String>>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Located> {
        value.map(|value| self.parsed(value, parse)).transpose()
    }

    fn existing(&self, value: &Spanned<String>, path: &Path) -> Result<fs::Metadata, Located> {
        fs::metadata(path).map_err(|error| self.wrong(value, format!("{}: {error}", path.display())))
    }

    fn wrong(&self, value: &Spanned<String>, message: impl Into<String>) -> Located {
        Located::new(self.path, self.text, &value.span(), message)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// A set as the specification's JSON has it; `None` if empty.
fn set(names: Vec<String>) -> Option<kiln_image::config::Set> {
    let empty_objects = names.into_iter().map(|name| (name, serde_json::json!({})));
    Some(empty_objects.collect()).filter(|set: &kiln_image::config::Set| !set.is_empty())
}

/// `80`, `80/tcp` or `8000-8010/udp`; the protocol is `tcp` if not given.
fn parse_port(text: &str) -> Result<String, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    if !is_port(first) || !is_port(last) || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(format!("`{text}` is no port; write it like 80/tcp"));
    }
    Ok(format!("{range}/{protocol}"))
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

#[cfg(test)]
mod tests;
