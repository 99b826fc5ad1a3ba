//! `[disk]`: what an image is to boot from.

use super::{BuildFile, Checker, Image, Located, Parent, schema, values::Written};
use crate::{
    Error,
    disk::{
        DiskOutput, DiskPlan, DiskScript, DiskUser, FileSystem, Initrd, Loader, MachineId, PartitionPlan,
        PartitionSize, SystemPlan, Table, check_plan, complete, disk_output,
    },
    error::Kind,
    parse_size,
};
use kiln_image::{
    reference::ImageReference,
    system::{Group, PrimaryGroup, User},
};
use std::{fmt::Display, fs, path::Path};
use toml::Spanned;

impl BuildFile {
    /// A file that makes nothing but a disk of an image: with the keys of `[disk]` in the file at `path`, if given, and
    /// these over them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of_disk(
        path: Option<&Path>,
        image: &ImageReference,
        keys: &[(&'static str, String)],
    ) -> Result<Self, Error> {
        let shown = path.unwrap_or(Path::new("the command line"));
        let text = match path {
            None => String::new(),
            Some(path) => fs::read_to_string(path)
                .map_err(|source| Kind::ReadBuildFile { path: path.to_owned(), source })?,
        };
        let checker = Checker { path: shown, text: &text, ids: vec!["0".to_owned()] };
        let plan = checker.disk_of_text(keys).map_err(Kind::BuildFile)?;
        let image = Image {
            id: "0".to_owned(),
            parent: Parent::From(image.clone()),
            platform: None,
            tools: None,
            names: Vec::new(),
            about: Default::default(),
            layers: Vec::new(),
            config: Default::default(),
            annotations: Default::default(),
            finish: Default::default(),
            format: None,
            disk: Some(plan),
            particular: Vec::new(),
        };
        Ok(Self {
            path: shown.to_owned(),
            is_short: true,
            images: vec![image],
            outputs: Vec::new(),
            disk_outputs: Vec::new(),
            disk_size: None,
        })
    }
}

impl Checker<'_> {
    fn disk_of_text(&self, given: &[(&'static str, String)]) -> Result<DiskPlan, Located> {
        let mut keys =
            schema::Disk::parse(self.text).map_err(|mistake| self.at(&mistake.span, mistake.message))?;
        let spanned = |text: &str| Spanned::new(0..0, text.to_owned());
        let mut root = None;
        for (key, value) in given {
            match *key {
                "size" => keys.size = Some(spanned(value)),
                "table" => keys.table = Some(spanned(value)),
                "kernel-options" => keys.kernel_options = Some(value.clone()),
                "filesystem" => root = Some(spanned(value)),
                _ if value == "none" => keys.boot = Some(Vec::new()),
                _ => keys.boot = Some(value.split(',').map(spanned).collect()),
            }
        }
        // Without a word, a disk that boots anywhere, or where its table can.
        let usual: &[&str] = match keys.table.as_ref().map(|table| table.get_ref().as_str()) {
            None | Some("gpt") => &["grub-bios", "grub-efi"],
            Some("mbr") => &["grub-bios"],
            Some(_) => &[],
        };
        keys.boot.get_or_insert_with(|| usual.iter().map(|loader| spanned(loader)).collect());
        let mut plan = self.disk(&Spanned::new(0..self.text.len(), keys))?;
        if let Some(file_system) = root
            && let Some(index) = plan.root()
        {
            plan.partitions[index].file_system = self.parsed(&file_system, parse_file_system)?;
            check_plan(&plan).map_err(|(_, message)| self.wrong(&file_system, message))?;
        }
        Ok(plan)
    }

    pub(super) fn disk(&self, disk: &Spanned<schema::Disk>) -> Result<DiskPlan, Located> {
        let keys = disk.get_ref();
        let table = self.optional(keys.table.as_ref(), parse_table)?.unwrap_or_default();
        let boot: Vec<Loader> = keys
            .boot
            .iter()
            .flatten()
            .map(|loader| self.parsed(loader, parse_loader))
            .collect::<Result<_, _>>()?;
        let mut plan = DiskPlan {
            size: self.optional(keys.size.as_ref(), parse_size)?,
            table,
            identifier: keys.identifier.as_ref().map(|text| text.get_ref().clone()),
            alignment: self.optional(keys.alignment.as_ref(), parse_size)?,
            geometry: self.optional(keys.geometry.as_ref(), parse_geometry)?,
            partitions: keys.partition.iter().map(|p| self.partition(p)).collect::<Result<_, _>>()?,
            boot,
            kernel_options: keys.kernel_options.clone().unwrap_or_default(),
            boot_timeout: keys.boot_timeout,
            initrd: self.optional(keys.initrd.as_ref(), parse_initrd)?.unwrap_or_default(),
            scripts: self.disk_scripts(&keys.scripts, "script")?,
            system: self.system(keys)?,
            is_plain: false,
            toolbox: keys.toolbox.as_ref().map(|toolbox| self.reference(toolbox)).transpose()?,
        };
        complete(&mut plan);
        check_plan(&plan).map_err(|(index, message)| {
            let place = index.and_then(|index| keys.partition.get(index));
            self.at(&place.map_or(disk.span(), Spanned::span), message)
        })?;
        Ok(plan)
    }

    /// An output that is a disk's; `None` if it is an image's.
    pub(super) fn disk_output(&self, output: &schema::Output) -> Result<Option<DiskOutput>, Located> {
        let (Some(kind), Some(dest)) = (&output.r#type, &output.dest) else { return Ok(None) };
        let mut keys = vec![("type", kind.get_ref().clone()), ("dest", dest.get_ref().clone())];
        for (key, value) in [("name", &output.name), ("compression", &output.compression)] {
            keys.extend(value.as_ref().map(|value| (key, value.get_ref().clone())));
        }
        for (key, value) in output.of_disks() {
            let text = match value.get_ref() {
                Written::Text(text) => text.clone(),
                Written::Number(number) => number.to_string(),
                _ => return Err(self.wrong(value, format!("`{key}` is a word or a number"))),
            };
            keys.push((key, text));
        }
        let pairs: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let Some(parsed) = disk_output(&pairs) else {
            let foreign = output.of_disks().next();
            return foreign.map_or(Ok(None), |(key, value)| {
                Err(self.wrong(value, format!("`{key}` is said of disks, and {} is none", kind.get_ref())))
            });
        };
        let mut parsed = parsed.map_err(|message| self.wrong(kind, message))?;
        if parsed.dest != Path::new("-") {
            parsed.dest = self.directory().join(&parsed.dest);
        }
        for id in &output.images {
            self.image_of(id.get_ref()).ok_or_else(|| self.no_image(id))?;
        }
        parsed.images = output.images.iter().map(|id| id.get_ref().clone()).collect();
        Ok(Some(parsed))
    }

    fn partition(&self, partition: &Spanned<schema::Partition>) -> Result<PartitionPlan, Located> {
        let keys = partition.get_ref();
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.get_ref().clone());
        let file_system = self.optional(keys.filesystem.as_ref(), parse_file_system)?.flatten();
        let is_swap = file_system == Some(FileSystem::Swap);
        let mount = self.optional(keys.mount.as_ref(), parse_mount)?;
        let flags =
            keys.flags.iter().map(|flag| self.parsed(flag, parse_flag)).collect::<Result<Vec<_>, _>>()?;
        if let (Some(mount), true) = (&keys.mount, is_swap || file_system.is_none()) {
            return Err(self.wrong(mount, "only a file system with files is mounted somewhere"));
        }
        Ok(PartitionPlan {
            size: self.optional(keys.size.as_ref(), parse_partition_size)?.unwrap_or_default(),
            start: self.optional(keys.start.as_ref(), parse_size)?,
            kind: text(&keys.r#type),
            name: text(&keys.name),
            is_bootable: !flags.is_empty(),
            attributes: keys.attributes.iter().map(|text| text.get_ref().clone()).collect(),
            partition_uuid: text(&keys.partition_uuid),
            file_system,
            label: text(&keys.label),
            uuid: text(&keys.uuid),
            mount,
            mount_options: keys.mount_options.clone(),
            mkfs_options: keys.mkfs_options.clone(),
        })
    }

    fn disk_scripts(&self, scripts: &[schema::Script], what: &str) -> Result<Vec<DiskScript>, Located> {
        let named = |(index, script): (usize, &schema::Script)| {
            let (text, _) = self.script_text(script)?;
            let name = match script {
                schema::Script::File(path) => path.get_ref().clone(),
                schema::Script::Text(_) => format!("{what} {}", index + 1),
            };
            Ok(DiskScript { name, text })
        };
        scripts.iter().enumerate().map(named).collect()
    }

    fn system(&self, keys: &schema::Disk) -> Result<SystemPlan, Located> {
        Ok(SystemPlan {
            hostname: keys.hostname.as_ref().map(|name| name.get_ref().clone()),
            machine_id: self.optional(keys.machine_id.as_ref(), parse_machine_id)?,
            groups: keys.group.iter().map(disk_group).collect(),
            users: keys.user.iter().map(|user| self.disk_user(user)).collect::<Result<_, _>>()?,
            keeps_ssh_keys: self
                .optional(keys.ssh_host_keys.as_ref(), parse_ssh_host_keys)?
                .unwrap_or_default(),
            grow: keys.grow,
            first_boot: self.disk_scripts(&keys.first_boot, "first-boot script")?,
        })
    }
}

impl Checker<'_> {
    fn disk_user(&self, user: &Spanned<schema::DiskUser>) -> Result<DiskUser, Located> {
        let keys = user.get_ref();
        let group = match keys.group.as_ref().map(|group| (group, group.get_ref())) {
            None => None,
            Some((_, Written::Text(name))) => Some(PrimaryGroup::Name(name.clone())),
            Some((place, Written::Number(gid))) => {
                let gid = u32::try_from(*gid).map_err(|_| self.wrong(place, "no number of a group"))?;
                Some(PrimaryGroup::Gid(gid))
            }
            Some((place, _)) => return Err(self.wrong(place, "a group is a name or a number")),
        };
        Ok(DiskUser {
            user: User {
                name: keys.name.clone(),
                uid: keys.uid,
                group,
                groups: keys.groups.clone(),
                home: keys.home.clone(),
                shell: keys.shell.clone(),
                comment: keys.comment.clone(),
                password: None,
                authorized_keys: keys.authorized_keys.clone(),
                is_system: keys.system,
            },
            password: keys.password.as_ref().map(|password| self.password(password)).transpose()?,
        })
    }
}

fn disk_group(group: &schema::DiskGroup) -> Group {
    Group { name: group.name.clone(), gid: group.gid, is_system: group.system }
}

/// One of a few words.
fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is no {what}; there are {}", words.join(", "))
    })
}

fn parse_table(text: &str) -> Result<Table, String> {
    word(text, "partition table", &[("mbr", Table::Mbr), ("gpt", Table::Gpt), ("none", Table::None)])
}

fn parse_loader(text: &str) -> Result<Loader, String> {
    word(text, "boot loader", &Loader::ALL.map(|loader| (loader.name(), loader)))
}

fn parse_file_system(text: &str) -> Result<Option<FileSystem>, String> {
    let parsed: FileSystem = text.parse().map_err(|error: kiln_disk::Error| error.to_string())?;
    Ok(Some(parsed).filter(|file_system| *file_system != FileSystem::None))
}

/// An absolute path, with one slash between its parts.
fn parse_mount(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let is_odd = parts.iter().any(|part| matches!(*part, "." | "..")) || text.contains(char::is_control);
    if !text.starts_with('/') || is_odd {
        return Err("a mount point is an absolute path, without `.`, `..` and control characters".to_owned());
    }
    Ok(format!("/{}", parts.join("/")))
}

fn parse_flag(text: &str) -> Result<(), String> {
    word(text, "flag of a partition", &[("boot", ()), ("active", ())])
}

fn parse_initrd(text: &str) -> Result<Initrd, String> {
    word(
        text,
        "way with initial RAM disks",
        &[("missing", Initrd::Missing), ("always", Initrd::Always), ("never", Initrd::Never)],
    )
}

fn parse_machine_id(text: &str) -> Result<MachineId, String> {
    let is_id = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match text {
        "remove" => Ok(MachineId::Remove),
        "keep" => Ok(MachineId::Keep),
        _ if is_id => Ok(MachineId::Fixed(text.to_owned())),
        _ => Err("a machine ID is 32 digits, 0 to 9 and a to f, \"remove\" or \"keep\"".to_owned()),
    }
}

fn parse_ssh_host_keys(text: &str) -> Result<bool, String> {
    word(text, "way with SSH host keys", &[("remove", false), ("keep", true)])
}

fn parse_geometry(text: &str) -> Result<(u8, u8), String> {
    let parts =
        text.split_once('/').and_then(|(heads, sectors)| Some((heads.parse().ok()?, sectors.parse().ok()?)));
    parts
        .filter(|(heads, sectors): &(u8, u8)| *heads > 0 && (1..=63).contains(sectors))
        .ok_or_else(|| format!("`{text}` is no geometry; write HEADS/SECTORS, such as 255/63"))
}

/// `512MiB`, `rest`, `fit` or `fit+200MiB`.
/// Far more than anybody fills from an image, in bytes; and with it, sums do not overflow.
const PARTITION_MAX: u64 = 64 << 40;

fn parse_partition_size(text: &str) -> Result<PartitionSize, String> {
    let wrong = |why: &dyn Display| {
        format!("{why}; a partition's size is such as 512MiB, `rest`, `fit` or `fit+100MiB`")
    };
    let parse_size = |text: &str| match parse_size(text) {
        Ok(size) if size > PARTITION_MAX => {
            Err(format!("`{text}` is more than the 64 TiB that are meant here"))
        }
        parsed => parsed,
    };
    match text.strip_prefix("fit") {
        _ if text == "rest" => Ok(PartitionSize::Rest),
        Some("") => Ok(PartitionSize::Fit { slack: 0 }),
        Some(rest) if rest.starts_with('+') => {
            parse_size(&rest[1..]).map(|slack| PartitionSize::Fit { slack }).map_err(|why| wrong(&why))
        }
        _ => parse_size(text).map(PartitionSize::Bytes).map_err(|why| wrong(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_paths() {
        assert_eq!(parse_mount("/"), Ok("/".to_owned()));
        assert_eq!(parse_mount("//srv///with space/"), Ok("/srv/with space".to_owned()));
        for text in ["", "srv", "/a/../b", "/./a", "/a\nb"] {
            assert!(parse_mount(text).unwrap_err().contains("absolute path"), "{text:?}");
        }
    }

    fn plan(text: &str, keys: &[(&'static str, &str)]) -> Result<DiskPlan, String> {
        let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let checker = Checker { path: Path::new("disk.toml"), text, ids: Vec::new() };
        checker.disk_of_text(&keys).map_err(|error| error.to_string())
    }

    #[test]
    fn a_root_of_the_command_line_is_checked_as_any() {
        let xfs = plan("", &[("filesystem", "xfs")]).unwrap();
        assert_eq!(xfs.partitions[xfs.root().unwrap()].file_system, Some(FileSystem::Xfs));
        let error = plan("grow = true\n", &[("filesystem", "squashfs")]).unwrap_err();
        assert!(error.contains("squashfs cannot grow"), "{error}");
    }

    #[test]
    fn disks_boot_without_a_word() {
        let both = [Loader::GrubBios, Loader::GrubEfi];
        assert_eq!(plan("", &[]).unwrap().boot, both);
        assert_eq!(plan("", &[("table", "gpt")]).unwrap().boot, both);
        assert_eq!(plan("", &[("table", "mbr")]).unwrap().boot, [Loader::GrubBios]);
        assert_eq!(plan("table = 'mbr'\nboot = []\n", &[]).unwrap().boot, []);
        assert_eq!(plan("", &[("table", "mbr"), ("boot", "none")]).unwrap().boot, []);
    }

    #[test]
    fn flags_are_known_or_refused() {
        assert_eq!(parse_flag("boot"), Ok(()));
        assert!(parse_flag("bot").unwrap_err().contains("there are boot, active"));
    }
}
