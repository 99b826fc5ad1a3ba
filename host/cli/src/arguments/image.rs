//! Arguments of the commands on images that are there: copy, inspect, diff, export, rebase.

use super::{Progress, RegistryArguments};
use clap::{Args, ValueEnum};
use kiln_builder::parse_output;
use kiln_image::{
    compress::Compression,
    manifest::{Dialect, Platform},
    reference::{ImageName, ImageReference},
};
use kiln_transport::OutputSpec;
use std::path::PathBuf;

/// `kiln copy`
#[derive(Debug, Args)]
#[command(override_usage = "kiln copy [OPTIONS] SRC... DST")]
pub struct CopyArguments {
    /// Images, and at last where they go: docker-archive:FILE[:NAME:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG],
    /// dir:DIR, docker://NAME[:TAG], rootfs:FILE; a source also as plain path. Several sources make an archive or
    /// layout of several images
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    pub places: Vec<ImageReference>,
    /// All images of an index, not only this platform's
    #[arg(long, conflicts_with_all = ["platform", "squash"])]
    pub all: bool,
    /// Which image of an index [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Compression of layers that are not compressed: gzip[:N], zstd[:N] or none
    #[arg(long, value_name = "FORMAT", value_parser = parse_compression)]
    pub compression: Option<Compression>,
    /// Compress also layers that came compressed in another way
    #[arg(long)]
    pub force_compression: bool,
    /// Media types of manifest and layers [default: the source's]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Fail rather than change a manifest
    #[arg(long, conflicts_with_all = ["squash", "force_compression"])]
    pub preserve_digests: bool,
    /// Name of the image, instead of the source's
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<ImageName>,
    /// One layer of all
    #[arg(long)]
    pub squash: bool,
    /// Signatures, SBOMs and whatever else refers to the image too
    #[arg(long, conflicts_with = "squash")]
    pub referrers: bool,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write the digest of the manifest, or of the index, to this file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// Progress: lines that move on a terminal, plain lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Of the Open Container Initiative
    Oci,
    /// Schema 2
    #[value(alias = "v2s2")]
    Docker,
}

impl From<Format> for Dialect {
    fn from(format: Format) -> Self {
        match format {
            Format::Oci => Self::Oci,
            Format::Docker => Self::Docker,
        }
    }
}

/// `kiln inspect`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whole").args(["raw", "config"]).conflicts_with_all(["json", "layers", "tree"]))]
pub struct InspectArguments {
    /// Image: docker-archive:FILE[:NAME:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG], dir:DIR, docker://NAME[:TAG]
    /// or a path
    #[arg(value_name = "REF")]
    pub reference: ImageReference,
    /// One JSON document, with the keys of `skopeo inspect` and more; with what --layers and --tree add
    #[arg(long)]
    pub json: bool,
    /// What each layer holds: files added, changed and deleted, and bytes that other layers waste
    #[arg(long)]
    pub layers: bool,
    /// All files, with the layers that added and changed them
    #[arg(long)]
    pub tree: bool,
    /// Of the tree, directories down to this depth
    #[arg(long, value_name = "N", requires = "tree")]
    pub depth: Option<usize>,
    /// Of the tree, this file or directory
    #[arg(long, value_name = "PATH", requires = "tree")]
    pub path: Option<String>,
    /// Of the tree, what this layer added or changed, counted from 0
    #[arg(long, value_name = "N", requires = "tree")]
    pub layer: Option<usize>,
    /// The tree in colours
    #[arg(long, visible_alias = "color", requires = "tree", conflicts_with = "json")]
    pub colour: bool,
    /// The manifest as it came, byte by byte
    #[arg(long)]
    pub raw: bool,
    /// The configuration as it came, byte by byte
    #[arg(long)]
    pub config: bool,
    /// Which image of an index [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `kiln diff`
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// An image, as of `kiln inspect`
    #[arg(value_name = "A")]
    pub left: ImageReference,
    /// Another
    #[arg(value_name = "B")]
    pub right: ImageReference,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// Files that differ in their times only are the same
    #[arg(long)]
    pub ignore_mtimes: bool,
    /// Which image of an index [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `kiln export`
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Image, as of `kiln inspect`
    #[arg(value_name = "REF")]
    pub reference: ImageReference,
    /// A tar, compressed as its name says (.tar, .tar.gz, .tar.zst), or - for standard output; or a directory:
    /// one that is there and empty, or a name that ends with /
    #[arg(short, long, value_name = "FILE|DIR|-")]
    pub output: String,
    /// Users under other numbers, START:TARGET:COUNT,...: 0:1000:10,500:2000:10
    #[arg(long, value_name = "MAP")]
    pub uid_map: Option<String>,
    /// Groups under other numbers
    #[arg(long, value_name = "MAP")]
    pub gid_map: Option<String>,
    /// Set root's password to the first line of this file, of the variable NAME, or of standard input
    #[arg(long, value_name = "FILE|env:NAME|-")]
    pub root_password_file: Option<String>,
    /// Which image of an index [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Progress: lines that move on a terminal, plain lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `kiln rebase`
#[derive(Debug, Args)]
pub struct RebaseArguments {
    /// Image, as of `kiln inspect`
    #[arg(value_name = "REF")]
    pub reference: ImageReference,
    /// What the image was built on
    #[arg(long, value_name = "REF")]
    pub old_base: ImageReference,
    /// What it is to lie on
    #[arg(long, value_name = "REF")]
    pub new_base: ImageReference,
    /// Where to write it, as of `kiln build`
    #[arg(short, long, value_name = "SPEC", value_parser = parse_output, required = true)]
    pub output: Vec<OutputSpec>,
    /// Name of the image, instead of the one it has
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<ImageName>,
    /// Which image of an index [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Progress: lines that move on a terminal, plain lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|error: kiln_image::Error| error.to_string())
}
