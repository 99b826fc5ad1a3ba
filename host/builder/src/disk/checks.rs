//! What a plan says that cannot be, whatever the image or with this one; and what it leaves out.

use super::identity::{Uuid, parse_identity};
use super::plan::{DiskPlan, FileSystem, Loader, PartitionPlan, PartitionSize, Table, is_writable};
use super::survey::{self, Kernel};
use kiln_image::tree::{Content, Tree};
use std::collections::BTreeMap;

/// What is wrong, and with which partition, by its index.
type Wrong = (Option<usize>, String);

const MIB: u64 = 1 << 20;
/// Where an EFI system partition is mounted that is mounted nowhere else.
const ESP_MOUNT: &str = "/boot/efi";

/// Partitions of a disk that says nothing of them: what its loaders need, and the root.
pub(crate) fn default_partitions(plan: &DiskPlan) -> Vec<PartitionPlan> {
    let root_size =
        if plan.size.is_some() { PartitionSize::Rest } else { PartitionSize::Fit { slack: 256 * MIB } };
    let mut partitions = Vec::new();
    let starts_by_bios = plan.boot.contains(&Loader::GrubBios);
    if starts_by_bios && plan.table == Table::Gpt {
        partitions.push(PartitionPlan {
            size: PartitionSize::Bytes(MIB),
            kind: Some("bios-boot".to_owned()),
            ..PartitionPlan::default()
        });
    }
    if plan.boot.iter().any(|loader| loader.needs_esp()) {
        partitions.push(PartitionPlan {
            size: PartitionSize::Fit { slack: 32 * MIB },
            kind: Some("efi".to_owned()),
            file_system: Some(FileSystem::Vfat),
            mount: Some(ESP_MOUNT.to_owned()),
            ..PartitionPlan::default()
        });
    }
    partitions.push(PartitionPlan {
        size: root_size,
        file_system: Some(FileSystem::Ext4),
        mount: Some("/".to_owned()),
        ..PartitionPlan::default()
    });
    partitions
}

/// Fills in what is usual.
pub(crate) fn complete(plan: &mut DiskPlan) {
    if plan.partitions.is_empty() {
        plan.partitions = default_partitions(plan);
    }
    for partition in &mut plan.partitions {
        if partition.is_esp() && partition.mount.is_none() && partition.file_system.is_some() {
            partition.mount = Some(ESP_MOUNT.to_owned());
        }
    }
}

/// Checks what can be checked without the image.
pub(crate) fn check_plan(plan: &DiskPlan) -> Result<(), Wrong> {
    if plan.table == Table::None && plan.partitions.len() != 1 {
        let count = plan.partitions.len();
        return Err((
            None,
            format!("a disk without a table is one file system, and here are {count} partitions"),
        ));
    }
    check_identifier(plan).map_err(|message| (None, message))?;
    check_loaders(plan).map_err(|message| (None, message))?;
    check_system(plan).map_err(|message| (None, message))?;
    for (index, partition) in plan.partitions.iter().enumerate() {
        check_partition(plan, index, partition).map_err(|message| (Some(index), message))?;
    }
    check_mounts(plan)?;
    check_identities(plan)
}

/// Systems find their file systems by UUID.
fn check_identities(plan: &DiskPlan) -> Result<(), Wrong> {
    type Get = fn(&PartitionPlan) -> Option<Uuid>;
    let of_file_system: Get = |partition| parse_identity(partition.file_system, partition.uuid.as_deref()?);
    let of_partition: Get = |partition| parse_identity(None, partition.partition_uuid.as_deref()?);
    for (what, get) in [("UUID", of_file_system), ("partition UUID", of_partition)] {
        let mut known: BTreeMap<Uuid, usize> = BTreeMap::new();
        for (index, partition) in plan.partitions.iter().enumerate() {
            let Some(first) = get(partition).and_then(|uuid| known.insert(uuid, index)) else { continue };
            return Err((Some(index), format!("partition {} has this {what} already", first + 1)));
        }
    }
    Ok(())
}

fn check_identifier(plan: &DiskPlan) -> Result<(), String> {
    let Some(text) = &plan.identifier else { return Ok(()) };
    match plan.table {
        Table::Gpt if super::identity::parse_uuid(text).is_none() => {
            Err(format!("`{text}` is no UUID, which a GPT is identified by"))
        }
        Table::Mbr if u32::from_str_radix(text.trim_start_matches("0x"), 16).is_err() => {
            Err(format!("`{text}` is not up to eight hexadecimal digits, which an MBR is identified by"))
        }
        Table::None => Err("a disk without a table has no identifier".to_owned()),
        _ => Ok(()),
    }
}

fn check_loaders(plan: &DiskPlan) -> Result<(), String> {
    let of = |loaders: &[Loader]| -> Vec<&'static str> {
        plan.boot.iter().filter(|loader| loaders.contains(loader)).map(|loader| loader.name()).collect()
    };
    let groups = [
        (&[Loader::GrubBios, Loader::GrubLegacy, Loader::Extlinux][..], "the first sector"),
        (&[Loader::GrubEfi, Loader::SystemdBoot][..], "the firmware's default path"),
        (&[Loader::GrubEfi, Loader::Uki][..], "the firmware's default path"),
    ];
    for (loaders, place) in groups {
        let found = of(loaders);
        if found.len() > 1 {
            return Err(format!("{place} can start one of them only: {}", found.join(", ")));
        }
    }
    Ok(())
}

fn check_system(plan: &DiskPlan) -> Result<(), String> {
    if plan.kernel_options.contains(char::is_control) {
        let options = &plan.kernel_options;
        return Err(format!("`kernel-options` are one line of words, and here is {options:?}"));
    }
    let root = plan.root().and_then(|root| plan.partitions[root].file_system);
    let fixed = root.filter(|root| !is_writable(*root) || *root == FileSystem::Vfat);
    match fixed.filter(|_| plan.system.grow) {
        Some(root) => Err(format!("`grow` is for ext2 to ext4, XFS and btrfs; {} cannot grow", root.name())),
        None => Ok(()),
    }
}

fn check_partition(plan: &DiskPlan, index: usize, partition: &PartitionPlan) -> Result<(), String> {
    if let (Some(label), Some(file_system)) = (&partition.label, partition.file_system) {
        kiln_disk::table::check_label(file_system, label).map_err(|error| error.to_string())?;
    }
    if partition.label.is_some() && partition.file_system.is_none() {
        return Err(
            "a label is that of a file system, and here is none; a GPT partition's is `name`".to_owned()
        );
    }
    if let Some(text) = &partition.uuid
        && parse_identity(partition.file_system, text).is_none()
    {
        let or_serial = if partition.file_system == Some(FileSystem::Vfat) {
            ", nor eight hexadecimal digits as of a FAT"
        } else {
            ""
        };
        return Err(format!("`{text}` is no UUID{or_serial}"));
    }
    if let Some(text) = &partition.partition_uuid
        && parse_identity(None, text).is_none()
    {
        return Err(format!("`{text}` is no UUID of a partition"));
    }
    if partition.is_bios_boot() {
        let is_fit = |other: &PartitionPlan| matches!(other.size, PartitionSize::Fit { .. });
        let is_rest = |other: &PartitionPlan| other.size == PartitionSize::Rest;
        let (before, behind) = (&plan.partitions[..index], &plan.partitions[index..]);
        let moves = before.iter().any(is_fit) || before.iter().any(is_rest) && behind.iter().any(is_fit);
        if moves {
            return Err("a bios-boot partition comes before those that fit their contents: what is installed into it \
                        knows where it lies"
                .to_owned());
        }
    }
    let file_system = partition.file_system.filter(|file_system| *file_system != FileSystem::Vfat);
    if let Some(file_system) = file_system.filter(|_| partition.is_esp()) {
        let name = file_system.name();
        return Err(format!("firmware reads no {name}: an EFI system partition has filesystem = \"vfat\""));
    }
    if let Some(options) = &partition.mount_options
        && (options.is_empty() || options.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        return Err(format!("`mount-options` are words with commas and no blanks between, not {options:?}"));
    }
    let holds_files = partition.mount.is_some();
    if let Some(file_system) =
        partition.file_system.filter(|file_system| !is_writable(*file_system) && !holds_files)
    {
        return Err(format!("{} is made with its files: it needs a `mount`", file_system.name()));
    }
    Ok(())
}

fn check_mounts(plan: &DiskPlan) -> Result<(), Wrong> {
    for (index, partition) in plan.partitions.iter().enumerate() {
        let Some(mount) = partition.mount_path() else { continue };
        let earlier = plan.partitions[..index].iter().position(|other| other.mount_path() == Some(mount));
        if let Some(earlier) = earlier {
            return Err((Some(index), format!("/{mount} is on partition {} already", earlier + 1)));
        }
    }
    Ok(())
}

/// A file system is mounted on a directory, and not on what a link in the image leads to.
pub(crate) fn check_mount_points(plan: &DiskPlan, tree: &Tree) -> Result<(), String> {
    for path in plan.partitions.iter().filter_map(|partition| partition.mount_path()) {
        if let Some((real, id)) = survey::find(tree, path)
            && (real != path || !tree.is_directory(id))
        {
            return Err(format!("/{path} is no directory of its own in the image: it leads to /{real}"));
        }
    }
    Ok(())
}

/// Kernels and initial RAM disks that are copied to an EFI system partition of a size of its own have to fit.
pub(crate) fn check_copies(plan: &DiskPlan, tree: &Tree, kernels: &[Kernel]) -> Result<(), String> {
    if !plan.boot.iter().any(|loader| matches!(loader, Loader::SystemdBoot | Loader::Uki)) {
        return Ok(());
    }
    let files = kernels.iter().flat_map(|kernel| [Some(&kernel.path), kernel.initrd.as_ref()]).flatten();
    let sizes = files.filter_map(|path| match tree.node(survey::find(tree, path)?.1).content {
        Content::File { size, .. } => Some(size),
        _ => None,
    });
    let needed: u64 = sizes.sum();
    for (index, partition) in plan.partitions.iter().enumerate().filter(|(_, partition)| partition.is_esp()) {
        if let PartitionSize::Bytes(bytes) = partition.size
            && bytes < needed
        {
            return Err(format!(
                "partition {} of {} MiB is too small for the {} MiB of kernels and initial RAM disks that are started from it",
                index + 1,
                bytes >> 20,
                needed.div_ceil(MIB)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemPlan;
    use kiln_image::{entry::Metadata, tree::Node};

    fn partition(file_system: Option<FileSystem>, mount: &str) -> PartitionPlan {
        let mount = (!mount.is_empty()).then(|| mount.to_owned());
        PartitionPlan { file_system, mount, ..PartitionPlan::default() }
    }

    #[test]
    fn two_of_the_same_name_are_refused() {
        let uuid = "11111111-2222-4333-8444-555555555555";
        let with = |mount: &str, fixed: bool| {
            let mut partition = partition(Some(FileSystem::Ext4), mount);
            let place = if fixed { &mut partition.uuid } else { &mut partition.partition_uuid };
            *place = Some(uuid.to_owned());
            partition
        };
        let refused = |one, other| {
            let plan =
                DiskPlan { partitions: vec![with("/", one), with("/srv", other)], ..DiskPlan::default() };
            check_plan(&plan).map_err(|(_, message)| message)
        };
        assert_eq!(refused(true, false), Ok(()));
        assert_eq!(refused(true, true), Err("partition 1 has this UUID already".to_owned()));
        assert_eq!(refused(false, false), Err("partition 1 has this partition UUID already".to_owned()));
    }

    fn refusal(plan: &DiskPlan) -> String {
        check_plan(plan).unwrap_err().1
    }

    #[test]
    fn what_cannot_be_is_told_before_anything_is_done() {
        let root = || partition(Some(FileSystem::Ext4), "/");
        let plan = |partitions| DiskPlan { partitions, ..DiskPlan::default() };
        let bios = PartitionPlan { kind: Some("bios-boot".into()), ..partition(None, "") };
        let esp = PartitionPlan { kind: Some("esp".into()), ..partition(Some(FileSystem::Ext4), "/efi") };
        let blanks = PartitionPlan { mount_options: Some("ro, noatime".into()), ..root() };
        let system = SystemPlan { grow: true, ..SystemPlan::default() };
        let read_only = plan(vec![partition(Some(FileSystem::Squashfs), "/")]);
        let table: [(DiskPlan, &str); 10] = [
            (plan(vec![root(), esp]), "firmware reads no ext4"),
            (plan(vec![blanks]), "no blanks between"),
            (DiskPlan { system, ..read_only }, "squashfs cannot grow"),
            (DiskPlan { kernel_options: "quiet\nro".into(), ..plan(vec![root()]) }, "one line of words"),
            (DiskPlan { table: Table::None, ..plan(vec![root(), root()]) }, "one file system"),
            (plan(vec![root(), root()]), "/ is on partition 1 already"),
            (plan(vec![root(), bios]), "comes before those"),
            (plan(vec![partition(Some(FileSystem::Squashfs), "")]), "needs a `mount`"),
            (
                DiskPlan { boot: vec![Loader::Extlinux, Loader::GrubBios], ..plan(vec![root()]) },
                "extlinux, grub-bios",
            ),
            (DiskPlan { identifier: Some("x".into()), ..plan(vec![root()]) }, "no UUID"),
        ];
        for (plan, wanted) in table {
            let message = refusal(&plan);
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn defaults_hold_what_the_loaders_need() {
        let mut plan = DiskPlan { boot: vec![Loader::GrubBios, Loader::GrubEfi], ..DiskPlan::default() };
        complete(&mut plan);
        let kinds: Vec<_> = plan.partitions.iter().map(|partition| partition.kind.as_deref()).collect();
        assert_eq!(kinds, [Some("bios-boot"), Some("efi"), None]);
        check_plan(&plan).unwrap();
    }

    #[test]
    fn a_bios_boot_partition_stays_where_it_is() {
        let sized = |size: PartitionSize, kind: Option<&str>| {
            let partition = partition(Some(FileSystem::Ext4), "");
            PartitionPlan { size, kind: kind.map(str::to_owned), ..partition }
        };
        let (fit, rest) = (PartitionSize::Fit { slack: 0 }, PartitionSize::Rest);
        let refused = |before, behind| {
            let bios =
                PartitionPlan { file_system: None, ..sized(PartitionSize::Bytes(MIB), Some("bios-boot")) };
            let partitions = vec![sized(before, None), bios, sized(behind, None)];
            check_plan(&DiskPlan { partitions, ..DiskPlan::default() }).is_err()
        };
        assert!(refused(fit, PartitionSize::Bytes(MIB)));
        assert!(refused(rest, fit));
        assert!(!refused(rest, PartitionSize::Bytes(MIB)));
        assert!(!refused(PartitionSize::Bytes(MIB), fit));
    }

    /// With a link `srv` to `/var`, a directory `var` and a kernel of 20 MiB.
    fn image() -> Tree {
        let mut tree = Tree::new();
        let contents = [
            ("srv", Content::Symlink(b"/var".to_vec())),
            ("var", Content::Directory(BTreeMap::new())),
            ("kernel", Content::File { size: 20 * MIB, extents: Vec::new() }),
        ];
        for (name, content) in contents {
            let id = tree.insert(Node { metadata: Metadata::default(), content });
            tree.children_mut(Tree::ROOT).unwrap().insert(name.into(), id);
        }
        tree
    }

    #[test]
    fn mount_points_are_directories_of_their_own() {
        let refused = |mount| {
            let partitions = vec![partition(Some(FileSystem::Ext4), mount)];
            check_mount_points(&DiskPlan { partitions, ..DiskPlan::default() }, &image())
        };
        assert_eq!(refused("/var"), Ok(()));
        assert_eq!(refused("/new"), Ok(()));
        let wanted = "/srv is no directory of its own in the image: it leads to /var";
        assert_eq!(refused("/srv"), Err(wanted.to_owned()));
        assert!(refused("/kernel").is_err());
    }

    #[test]
    fn kernels_fit_where_they_are_copied() {
        let kernel = Kernel { version: "6".to_owned(), path: "kernel".to_owned(), initrd: None };
        let refused = |mib: u64, loader| {
            let esp = PartitionPlan {
                size: PartitionSize::Bytes(mib * MIB),
                kind: Some("efi".to_owned()),
                ..partition(Some(FileSystem::Vfat), "/boot/efi")
            };
            let plan = DiskPlan { partitions: vec![esp], boot: vec![loader], ..DiskPlan::default() };
            check_copies(&plan, &image(), std::slice::from_ref(&kernel))
        };
        assert_eq!(refused(19, Loader::GrubEfi), Ok(()));
        assert_eq!(refused(20, Loader::Uki), Ok(()));
        assert!(
            refused(19, Loader::Uki)
                .unwrap_err()
                .contains("of 19 MiB is too small for the 20 MiB of kernels")
        );
    }
}
