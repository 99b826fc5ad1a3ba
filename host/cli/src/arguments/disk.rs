//! Arguments about disks.

use super::{MachineArguments, Progress, RegistryArguments};
use clap::{Args, builder::PossibleValuesParser};
use kiln_builder::{DiskOutput, Loader, parse_disk_output, parse_disk_path, parse_output};
use kiln_disk::formats::DiskFormat;
use kiln_image::reference::ImageReference;
use kiln_transport::OutputSpec;
use std::path::PathBuf;

/// `kiln disk`
#[derive(Debug, Args)]
pub struct DiskArguments {
    /// The image: docker-archive:FILE[:NAME:TAG], oci:DIR[:TAG], docker://NAME[:TAG], rootfs:DIR or a path
    #[arg(value_name = "REF")]
    pub image: ImageReference,
    /// Where to write the disk, and how: a path whose ending says the format, or type=TYPE,dest=PATH[,KEY=VALUE...]
    #[arg(short, long, required = true, value_name = "SPEC", value_parser = parse_disk_path)]
    pub output: Vec<DiskOutput>,
    /// A TOML file with the keys of [disk], instead of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Size of the disk [default: as large as needed]
    #[arg(long, value_name = "SIZE", value_parser = kiln_builder::parse_size)]
    pub size: Option<u64>,
    /// What boots it: grub-bios, grub-efi, grub-legacy, extlinux, systemd-boot, uki or none [default: grub-bios
    /// and grub-efi; with an MBR grub-bios]
    #[arg(long, value_name = "LOADER", value_delimiter = ',', value_parser = loaders(), hide_possible_values = true)]
    pub boot: Vec<String>,
    /// Partition table: mbr, gpt or none [default: gpt]
    #[arg(long, value_name = "TABLE", value_parser = ["mbr", "gpt", "none"], hide_possible_values = true)]
    pub table: Option<String>,
    /// File system of the root: ext2, ext3, ext4, xfs, btrfs, squashfs or erofs [default: ext4]
    #[arg(long, value_name = "FILESYSTEM", value_parser = FILE_SYSTEMS, hide_possible_values = true)]
    pub filesystem: Option<String>,
    /// What the kernel is told besides where its root is
    #[arg(long, value_name = "TEXT")]
    pub kernel_options: Option<String>,
    /// The toolbox.
    #[command(flatten)]
    pub toolbox: ToolboxArguments,
    /// How the VM is run.
    #[command(flatten)]
    pub machine: MachineArguments,
    /// Progress: a line that moves on a terminal, plain lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// `kiln convert`
#[derive(Debug, Args)]
pub struct ConvertArguments {
    /// The disk: raw, qcow2 with what lies below it, VMDK, VHD, VHDX, VDI, an OVA, or one of them compressed by gzip or zstd
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where to write it, and how: a path whose ending says the format, or type=TYPE,dest=PATH[,KEY=VALUE...]
    #[arg(value_name = "OUT", value_parser = parse_disk_path)]
    pub output: DiskOutput,
    /// The format of IN, instead of what it looks like: raw, qcow2, vmdk, vhd, vhdx or vdi
    #[arg(long, value_name = "FORMAT")]
    pub from: Option<DiskFormat>,
}

/// With which tools disks are made.
#[derive(Debug, Args)]
pub struct ToolboxArguments {
    /// Image with the tools that make file systems, instead of kiln's own
    #[arg(long, value_name = "REF")]
    pub toolbox: Option<ImageReference>,
}

/// What `-o` of `kiln build` names.
#[derive(Debug, Clone)]
pub enum OutputArgument {
    /// Images.
    Image(OutputSpec),
    /// A disk.
    Disk(DiskOutput),
}

/// Either, by its type.
pub fn parse_any_output(text: &str) -> Result<OutputArgument, String> {
    match parse_disk_output(text) {
        Some(disk) => disk.map(OutputArgument::Disk),
        None => parse_output(text).map(OutputArgument::Image),
    }
}

/// Those that a root can be on.
const FILE_SYSTEMS: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "squashfs", "erofs"];

fn loaders() -> PossibleValuesParser {
    PossibleValuesParser::new(Loader::ALL.map(Loader::name).into_iter().chain(["none"]))
}
