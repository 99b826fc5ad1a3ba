//! What a build file means.

use super::Located;
use crate::disk::{DiskOutput, DiskPlan};
use kiln_image::{
    config::{ContainerConfig, Timestamp},
    contents::Owner,
    manifest::{Dialect, Platform},
    reference::{ImageName, ImageReference},
};
use kiln_transport::{ImageAnnotations, OutputSpec};
use std::{fmt, path::PathBuf};

/// A checked build file: paths are resolved, files exist, scripts are read, parents come before their children.
#[derive(Debug)]
pub struct BuildFile {
    /// Where it is.
    pub path: PathBuf,
    /// The file is itself the one image, which then needs no name in messages.
    pub is_short: bool,
    /// The images, in the order of the file.
    pub images: Vec<Image>,
    /// Where they go, unless the command line says so.
    pub outputs: Vec<Output>,
    /// Where disks go, unless the command line says so.
    pub disk_outputs: Vec<DiskOutput>,
    /// Size of the scratch disk in bytes.
    pub disk_size: Option<u64>,
}

/// Where some of the images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where and how.
    pub spec: OutputSpec,
    /// Ids; those of [`BuildFile::default_images`] if empty.
    pub images: Vec<String>,
}

/// One image.
#[derive(Debug)]
pub struct Image {
    /// By which others name it; its index, from 0, if not given.
    pub id: String,
    /// What is below its layers.
    pub parent: Parent,
    /// Which image of an index is meant, and what an image from scratch is for.
    pub platform: Option<Platform>,
    /// The image whose userland the hooks run in.
    pub tools: Option<Source>,
    /// Its names.
    pub names: Vec<ImageName>,
    /// What its configuration says besides how it is run.
    pub about: About,
    /// What is laid over the parent, lowest first.
    pub layers: Vec<Layer>,
    /// What changes in the container configuration.
    pub config: ContainerConfig,
    /// Annotations.
    pub annotations: ImageAnnotations,
    /// What is done to the files in the end.
    pub finish: Finish,
    /// The dialect it is meant for.
    pub format: Option<Dialect>,
    /// What it is to boot from.
    pub disk: Option<DiskPlan>,
    /// What is said that only one dialect knows.
    pub particular: Vec<Particular>,
}

/// An option that only one dialect knows.
#[derive(Debug)]
pub struct Particular {
    /// Which.
    pub dialect: Dialect,
    /// An error that says so, at its place in the file.
    pub refusal: Located,
}

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// Nothing.
    Scratch,
    /// An image from elsewhere.
    From(ImageReference),
    /// An image of the file, by its index.
    Image(usize),
}

/// An image from which files are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An image from elsewhere.
    From(ImageReference),
    /// An image of the file, by its index.
    Image(usize),
}

/// What a configuration says besides how the image is run; what is not given is the parent's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// In Go's words.
    pub architecture: Option<String>,
    /// In Go's words.
    pub os: Option<String>,
    /// Of the CPU.
    pub variant: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// What is required of the operating system.
    pub os_features: Vec<String>,
    /// Who made it.
    pub author: Option<String>,
    /// For the history.
    pub comment: Option<String>,
    /// When it was made, unless the build's time.
    pub created: Option<Timestamp>,
}

/// What is done to an image's files when its layers are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finish {
    /// At most so many layers, split by how often their files are in images.
    pub max_layers: Option<usize>,
    /// Files that user tools need, where they are missing.
    pub shadow_setup: bool,
    /// root's password.
    pub root_password: Option<RootPassword>,
    /// Other numbers for owners.
    pub uid_map: Vec<IdRange>,
    /// Other numbers for groups.
    pub gid_map: Vec<IdRange>,
    /// Several layers as one.
    pub squash: Option<Squash>,
}

/// `FROM:TO:COUNT`: `count` numbers from `from` become those from `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First number as it is.
    pub from: u32,
    /// What it becomes.
    pub to: u32,
    /// How many there are.
    pub count: u32,
}

/// Which layers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squash {
    /// Those over the parent.
    New,
    /// All.
    All,
}

/// Where a password is. Shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub enum RootPassword {
    /// In the first line of a file.
    File(PathBuf),
    /// In a variable of kiln's own environment.
    Env(String),
    /// Hashed, as crypt(5) has it.
    Hash(String),
}

impl fmt::Debug for RootPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Hash(_) => f.write_str("Hash(..)"),
        }
    }
}

/// One layer.
#[derive(Debug, Default)]
pub struct Layer {
    /// What goes in.
    pub contents: Vec<ContentSource>,
    /// A finished layer.
    pub tar: Option<PathBuf>,
    /// The contents are all that is to be in the image.
    pub is_difference: bool,
    /// What is to be gone: relative to the root, in the form of an entry's path.
    pub delete: Vec<Vec<u8>>,
    /// What is run, in order.
    pub scripts: Vec<HookScript>,
    /// For the history.
    pub created_by: Option<String>,
    /// For the history.
    pub comment: Option<String>,
    /// For the history.
    pub author: Option<String>,
}

/// One item of `contents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSource {
    /// What.
    pub origin: Origin,
    /// Where its contents go: relative to the image's root, in the form of an entry's path.
    pub dest: Vec<u8>,
    /// Who owns them.
    pub owner: Owner,
}

/// Where contents are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A directory or a tar.
    Path(PathBuf),
    /// A file or directory of an image.
    Image {
        /// Which.
        image: Source,
        /// Which of its files, as an entry's path.
        path: Vec<u8>,
    },
}

/// A script and when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookScript {
    /// The build file's key.
    pub hook: Hook,
    /// The script's text.
    pub text: Vec<u8>,
    /// Where the text was read from.
    pub file: Option<PathBuf>,
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
    /// The images that are written unless others are chosen, by their indexes: those with a name, and where none has one,
    /// those of which no other is made.
    pub fn default_images(&self) -> Vec<usize> {
        let all = 0..self.images.len();
        let named: Vec<usize> = all.clone().filter(|index| !self.images[*index].names.is_empty()).collect();
        if !named.is_empty() {
            return named;
        }
        let used: Vec<usize> = self.images.iter().flat_map(Image::made_from).collect();
        all.filter(|index| !used.contains(index)).collect()
    }

    /// The first image's parent from elsewhere.
    pub fn base(&self) -> Option<&ImageReference> {
        match &self.images.first()?.parent {
            Parent::From(reference) => Some(reference),
            Parent::Scratch | Parent::Image(_) => None,
        }
    }

    /// Whether an image that is written by default has a disk.
    pub fn makes_disk(&self) -> bool {
        self.default_images().into_iter().any(|index| self.images[index].disk.is_some())
    }

    /// The first name of the images that are written by default.
    pub fn name(&self) -> Option<&ImageName> {
        self.default_images().into_iter().find_map(|index| self.images[index].names.first())
    }
}

impl Image {
    /// The images of the file that it needs, by their indexes.
    pub fn made_from(&self) -> Vec<usize> {
        let parent = match self.parent {
            Parent::Image(index) => Some(index),
            Parent::Scratch | Parent::From(_) => None,
        };
        let contents = self.layers.iter().flat_map(|layer| &layer.contents);
        let taken = contents.filter_map(|content| match &content.origin {
            Origin::Image { image, .. } => image.index(),
            Origin::Path(_) => None,
        });
        let tools = self.tools.iter().filter_map(Source::index);
        parent.into_iter().chain(taken).chain(tools).collect()
    }
}

impl Source {
    fn index(&self) -> Option<usize> {
        match self {
            Self::Image(index) => Some(*index),
            Self::From(_) => None,
        }
    }
}
