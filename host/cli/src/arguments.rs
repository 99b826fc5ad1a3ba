//! The command line.
#![allow(rustdoc::broken_intra_doc_links, reason = "comments here are what --help shows, brackets and all")]

mod disk;
mod image;
mod registry;

pub use disk::{ConvertArguments, DiskArguments, OutputArgument};
pub use image::{CopyArguments, DiffArguments, ExportArguments, InspectArguments, RebaseArguments};
pub use registry::RegistryArguments;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use disk::{ToolboxArguments, parse_any_output};
use kiln_builder::{SbomFormat, parse_size};
use kiln_engine::{Accel, CpuModel};
use kiln_image::reference::{ImageName, ImageReference};
use std::{num::NonZeroU8, path::PathBuf, time::Duration};

/// Builds container images as anybody, with root in a throw-away VM.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command per wish.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a build file
    Build(BuildArguments),
    /// Run a throw-away command as root in a base image
    Run(RunArguments),
    /// Make a bootable disk of an image
    Disk(DiskArguments),
    /// Convert a disk from one format to another
    Convert(ConvertArguments),
    /// Copy images from anywhere to anywhere
    Copy(CopyArguments),
    /// Show what is in an image: how it is run, its layers, its files
    Inspect(InspectArguments),
    /// Compare two images, file by file and key by key: exits with 0 when they are the same, with 1 when they
    /// differ, with 2 in case of trouble
    Diff(DiffArguments),
    /// Write an image's files as one tar, or into a directory
    Export(ExportArguments),
    /// Put an image on a newer base without building it again
    Rebase(RebaseArguments),
    /// Say what this host can do, and how to mend what it can't
    Doctor(DoctorArguments),
    /// Look after the cache
    #[command(subcommand)]
    Cache(CacheCommand),
}

/// `kiln build`
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Build file [default: kiln.toml in CONTEXT]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name and tag of the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<ImageName>,
    /// Where to write the image: type=docker-archive|oci|oci-archive|dir|registry|tar,dest=PATH|-
    /// [,name=NAME][,compression=gzip[:N]|zstd[:N]|none], or oci:DIR:TAG, docker://NAME:TAG and so on; may be
    /// given several times. Disks: type=raw|qcow2|vmdk|vhd|vhdx|vdi|ova|xva and more, see docs/disks.md [default:
    /// NAME.tar here]
    #[arg(short, long, value_name = "SPEC", value_parser = parse_any_output)]
    pub output: Vec<OutputArgument>,
    /// The toolbox.
    #[command(flatten)]
    pub toolbox: ToolboxArguments,
    /// Image of the build file that is written, by id or number; may be given several times
    #[arg(long, value_name = "ID")]
    pub target: Vec<String>,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was built to this file: JSON with buildkit's keys and more
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// List the packages of the image, attached to it where the output can have that
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "spdx"
    )]
    pub sbom: Option<SbomArgument>,
    /// Write that list to this file instead
    #[arg(long, value_name = "FILE")]
    pub sbom_file: Option<PathBuf>,
    /// State what the image was made from, attached to it where the output can have that
    #[arg(long)]
    pub provenance: bool,
    /// Write that statement to this file instead
    #[arg(long, value_name = "FILE")]
    pub provenance_file: Option<PathBuf>,
    /// How the VM is run.
    #[command(flatten)]
    pub machine: MachineArguments,
    /// Progress: a line that moves on a terminal, plain lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Directory with the build file
    #[arg(default_value = ".", value_name = "CONTEXT")]
    pub context: PathBuf,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `kiln run`
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Base image: docker-archive:FILE[:NAME:TAG], oci:DIR[:TAG], docker://NAME[:TAG] or a path [default: that
    /// of ./kiln.toml]
    #[arg(long, value_name = "REF")]
    pub base: Option<ImageReference>,
    /// User and group, each a name or a number, instead of root
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Set a variable in the command's environment; without a value, to kiln's own
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse_variable)]
    pub env: Vec<String>,
    /// Directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Pass standard input to the command
    #[arg(short, long)]
    pub interactive: bool,
    /// How the VM is run.
    #[command(flatten)]
    pub machine: MachineArguments,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What `build` and `run` have in common.
#[derive(Debug, Args)]
pub struct MachineArguments {
    /// How the VM is accelerated
    #[arg(long, value_enum, default_value_t = AccelArgument::Auto)]
    pub accel: AccelArgument,
    /// Guest kernel, vmlinux or bzImage, instead of kiln's own
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// Memory of the VM; only what is used is taken from the host
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "2GiB")]
    pub memory: u64,
    /// Processors of the VM [default: all of the host's, at most 8; 1 when emulated]
    #[arg(long, value_name = "N")]
    pub cpus: Option<NonZeroU8>,
    /// What the processors look like; emulation has a model of its own
    #[arg(long, value_enum, default_value_t = CpuArgument::V3, value_name = "MODEL")]
    pub cpu: CpuArgument,
    /// Size of the scratch disk; only what is used is taken from the host [default: 64GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub disk_size: Option<u64>,
    /// Give up after this time, such as 90s, 10m or 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Show what kiln does; twice: the guest's console too
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// `--accel`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelArgument {
    /// KVM where it works, emulation otherwise
    Auto,
    /// KVM or nothing
    Kvm,
    /// QEMU's emulation
    Tcg,
}

impl From<AccelArgument> for Accel {
    fn from(argument: AccelArgument) -> Self {
        match argument {
            AccelArgument::Auto => Self::Auto,
            AccelArgument::Kvm => Self::Kvm,
            AccelArgument::Tcg => Self::Tcg,
        }
    }
}

/// `--cpu`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CpuArgument {
    /// The same on every host
    #[value(name = "x86-64-v3")]
    V3,
    /// The same on every host, and on older ones
    #[value(name = "x86-64-v2")]
    V2,
    /// All that the host's have
    Host,
}

impl From<CpuArgument> for CpuModel {
    fn from(argument: CpuArgument) -> Self {
        match argument {
            CpuArgument::V3 => Self::X86_64V3,
            CpuArgument::V2 => Self::X86_64V2,
            CpuArgument::Host => Self::Host,
        }
    }
}

/// `--sbom`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SbomArgument {
    /// SPDX 2.3
    #[value(alias = "spdx-json")]
    Spdx,
    /// CycloneDX 1.6
    #[value(alias = "cyclonedx-json")]
    Cyclonedx,
}

impl From<SbomArgument> for SbomFormat {
    fn from(argument: SbomArgument) -> Self {
        match argument {
            SbomArgument::Spdx => Self::SpdxJson,
            SbomArgument::Cyclonedx => Self::CycloneDxJson,
        }
    }
}

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// `plain`, with a moving line on a terminal
    Auto,
    /// Plain lines
    Plain,
    /// One JSON object per line on standard error
    Json,
}

/// `kiln doctor`
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `kiln cache`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what the cache holds
    Du,
    /// Remove what no running build uses
    Prune {
        /// Everything, not only what was not used for a week
        #[arg(long)]
        all: bool,
    },
}

fn parse_variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err("a variable is written NAME=VALUE".to_owned());
    }
    Ok(text.to_owned())
}

/// `90s`, `10m`, `1h`, or plain seconds; fractions are fine.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write it like 90s, 10m or 1h");
    let (number, unit_seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('s') => (number, 1.0),
        Some(number) if text.ends_with('m') => (number, 60.0),
        Some(number) => (number, 3600.0),
        None => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_accepted_and_what_is_not() {
        let accepted = [
            "build -t a -t b:1 -o oci:d:1 -o type=docker-archive,dest=x.tar --target web --sbom --provenance",
            "build --sbom=cyclonedx --sbom-file s.json --iidfile i --metadata-file m",
            "build --creds me:secret --tls-verify=false --registry-mirror docker.io=localhost:5000",
            "copy a.tar oci:d:1",
            "copy a.tar b.tar docker-archive:c.tar",
            "copy --all --preserve-digests --referrers docker://example.org/a oci:d:1",
            "copy --squash --compression zstd:19 --format docker a.tar dir:d",
            "copy --platform linux/arm64/v8 --tls-verify docker://localhost:5000/a docker://localhost:5000/b",
            "inspect a.tar --json --layers --tree --depth 2 --path /etc --layer 1",
            "inspect --raw oci:d:1",
            "inspect --config oci:d:1",
            "diff --json a.tar oci:d:1",
            "export a.tar -o - --uid-map 0:1000:10 --root-password-file env:PASSWORD",
            "rebase a.tar --old-base b.tar --new-base c.tar -o oci:d:1 -o oci:e:1",
        ];
        let refused = [
            "build --creds :secret",
            "build --registry-mirror docker.io",
            "build --sbom=xml",
            "copy a.tar",
            "copy --all --squash a.tar b.tar",
            "copy --all --platform linux/amd64 a.tar b.tar",
            "copy --compression bzip2 a.tar b.tar",
            "copy --preserve-digests --squash a.tar b.tar",
            "inspect --raw --json a.tar",
            "inspect --raw --config a.tar",
            "inspect --depth 1 a.tar",
            "diff a.tar",
            "export a.tar",
            "rebase a.tar --old-base b.tar --new-base c.tar",
        ];
        let parsed = |line: &str| Arguments::try_parse_from(["kiln"].into_iter().chain(line.split(' ')));
        for line in accepted {
            assert!(parsed(line).is_ok(), "{line}: {}", parsed(line).unwrap_err());
        }
        for line in refused {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [("90s", 90_000), ("10m", 600_000), ("1h", 3_600_000), ("0.5", 500)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1e400", "nan"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
