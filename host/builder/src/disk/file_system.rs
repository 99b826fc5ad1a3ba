//! Making file systems: the scripts that run in the toolbox, without ever mounting what they make.
//!
//! Each tool fills the file system as it makes it (`mke2fs -d`, `mkfs.xfs -p`, `mkfs.btrfs --rootdir`, `mcopy`), from a tree
//! that is read-only and always the same. So there is no journal to clean, no time of mounting, and no order in
//! which a kernel happened to write: what is left to pin are identities and times.

use super::{
    identity::{Uuid, format_uuid},
    plan::{FileSystem, Loader},
    shell::line,
};

/// Where the tree is.
const TREE: &str = "/kiln/mnt";

/// Features that Linux before 5.15 and GRUB before 2.12 cannot read.
const EXT4_NEW_FEATURES: &str = "^metadata_csum_seed,^orphan_file";
/// What extlinux 6.04 cannot read beyond these.
const EXTLINUX_FEATURES: &str = "^64bit,^metadata_csum";
/// What kernels since 2020 and their boot loaders know; mkfs.xfs' own default is what the newest do.
const XFS_FEATURES: &str = "options=/usr/share/xfsprogs/mkfs/lts_5.10.conf";
/// Unless asked otherwise: gzip takes many times as long; read by Linux since 4.14.
const SQUASHFS_COMPRESSION: [&str; 4] = ["-comp", "zstd", "-Xcompression-level", "6"];
/// The inodes that GRUB 0.97 can read, in bytes.
const LEGACY_INODE_SIZE: &str = "128";

/// A file system that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Making<'a> {
    pub file_system: FileSystem,
    /// `/dev/vda1`
    pub device: String,
    pub uuid: Uuid,
    pub label: Option<&'a str>,
    pub mkfs_options: &'a [String],
    /// What boots from it.
    pub loaders: &'a [Loader],
    /// Newest time, in seconds since the Unix epoch.
    pub epoch: u64,
}

/// A tree that a file system is filled with.
#[derive(Debug, Clone)]
pub(crate) struct Filling<'a> {
    /// Relative to the root.
    pub path: &'a str,
    /// Directories in it that are file systems of their own, relative to the root.
    pub masked: Vec<Masked>,
    /// Permissions and owner of its top directory.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// How many inodes it takes, where an ext file system of its size would have too few.
    pub inodes: Option<u64>,
}

/// A mount point: an empty directory of the file system it lies in.
#[derive(Debug, Clone)]
pub(crate) struct Masked {
    pub path: String,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
}

impl Making<'_> {
    pub fn is_ext(&self) -> bool {
        matches!(self.file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4)
    }

    /// A script that makes it, empty without a filling.
    pub fn script(&self, filling: Option<&Filling>) -> String {
        let mut lines = vec![
            "set -eu".to_owned(),
            format!("export SOURCE_DATE_EPOCH={} DETERMINISTIC_SEED=1 TZ=UTC", self.epoch),
        ];
        let tree = filling.map(|filling| {
            lines.extend(filling.masked.iter().flat_map(mask));
            match filling.path {
                "" => TREE.to_owned(),
                path => format!("{TREE}/{path}"),
            }
        });
        let tree = tree.as_deref();
        match self.file_system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => lines.extend(self.ext(tree, filling)),
            FileSystem::Xfs => lines.push(self.xfs(tree)),
            FileSystem::Btrfs => lines.push(self.btrfs(tree)),
            FileSystem::Vfat => lines.extend(self.vfat(tree)),
            FileSystem::Swap => lines.push(self.swap()),
            FileSystem::Squashfs => lines.extend(tree.map(|tree| self.squashfs(tree))),
            FileSystem::Erofs => lines.extend(tree.map(|tree| self.erofs(tree))),
            FileSystem::None => {}
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn words<'w>(
        &'w self,
        first: impl IntoIterator<Item = &'w str>,
        last: impl IntoIterator<Item = &'w str>,
    ) -> String {
        let options = self.mkfs_options.iter().map(String::as_str);
        line(first.into_iter().chain(options).chain(last))
    }

    fn ext(&self, tree: Option<&str>, filling: Option<&Filling>) -> Vec<String> {
        let uuid = format_uuid(&self.uuid);
        let given = ExtOptions::of(self.mkfs_options);
        let mut extended = vec![format!("hash_seed={uuid}"), "nodiscard".to_owned()];
        if let Some(Filling { mode, uid, gid, .. }) = filling {
            extended.extend([format!("root_owner={uid}:{gid}"), format!("root_perms={mode:o}")]);
        }
        extended.extend(given.extended.iter().map(|option| (*option).to_owned()));
        let extended = extended.join(",");
        let mut words =
            vec!["mke2fs", "-q", "-F", "-t", self.file_system.name(), "-U", &uuid, "-E", &extended];
        let mut features: Vec<&str> = Vec::new();
        if self.file_system == FileSystem::Ext4 {
            features.push(EXT4_NEW_FEATURES);
        }
        if self.loaders.contains(&Loader::Extlinux) {
            features.push(EXTLINUX_FEATURES);
        }
        features.extend(&given.features);
        let features = features.join(",");
        if !features.is_empty() {
            words.extend(["-O", &features]);
        }
        if self.loaders.contains(&Loader::GrubLegacy) {
            words.extend(["-I", LEGACY_INODE_SIZE]);
        }
        if let Some(label) = self.label {
            words.extend(["-L", label]);
        }
        if let Some(tree) = tree {
            words.extend(["-d", tree]);
        }
        words.extend(given.others);
        let inodes = filling.and_then(|filling| filling.inodes).filter(|_| !self.says_inodes());
        let inodes = inodes.map(|inodes| inodes.to_string());
        if let Some(inodes) = &inodes {
            words.extend(["-N", inodes]);
        }
        words.push(&self.device);
        // Never checked because of its age or of how often it was mounted: a machine made of an image has no say in when it
        // boots.
        let tune = line(["tune2fs", "-i", "0", "-c", "0", &self.device]);
        vec![line(words), format!("{tune} >/dev/null")]
    }

    /// Whether there is a word on how many inodes there are.
    fn says_inodes(&self) -> bool {
        self.mkfs_options.iter().any(|option| ["-N", "-i", "-T"].iter().any(|word| option.starts_with(word)))
    }

    fn xfs(&self, tree: Option<&str>) -> String {
        let uuid = format!("uuid={}", format_uuid(&self.uuid));
        let mut words = vec!["mkfs.xfs", "-q", "-f", "-K", "-c", XFS_FEATURES, "-m", &uuid];
        if let Some(label) = self.label {
            words.extend(["-L", label]);
        }
        if let Some(tree) = tree {
            words.extend(["-p", tree]);
        }
        self.words(words, [self.device.as_str()]) + " >/dev/null"
    }

    fn btrfs(&self, tree: Option<&str>) -> String {
        let uuid = format_uuid(&self.uuid);
        let mut words = vec!["mkfs.btrfs", "-q", "-f", "-K", "-U", &uuid];
        if let Some(label) = self.label {
            words.extend(["-L", label]);
        }
        if let Some(tree) = tree {
            words.extend(["--rootdir", tree]);
        }
        self.words(words, [self.device.as_str()])
    }

    fn vfat(&self, tree: Option<&str>) -> Vec<String> {
        let serial = format!("{:08x}", self.fat_serial());
        let mut words = vec!["mkfs.vfat", "--invariant", "-i", &serial];
        let label = self.label.map(str::to_uppercase);
        if let Some(label) = &label {
            words.extend(["-n", label]);
        }
        let make = self.words(words, [self.device.as_str()]) + " >/dev/null";
        let fill = tree.map(|tree| {
            let copy = line(["mcopy", "-Q", "-s", "-m", "-i", &self.device]);
            // Sorted by the shell: the order of a FAT's directories is that of copying. `./` keeps names apart from
            // options and from drives (`a:`).
            let files =
                "for file in ./* ./.[!.]* ./..?*; do\n[ ! -e \"$file\" ] || set -- \"$@\" \"$file\"\ndone";
            let tree = line([tree]);
            format!("export LC_ALL=C\ncd {tree}\nset --\n{files}\n[ $# = 0 ] || {copy} \"$@\" ::")
        });
        std::iter::once(make).chain(fill).collect()
    }

    /// A FAT's identity has 32 bits.
    pub fn fat_serial(&self) -> u32 {
        u32::from_be_bytes([self.uuid[0], self.uuid[1], self.uuid[2], self.uuid[3]])
    }

    fn swap(&self) -> String {
        let uuid = format_uuid(&self.uuid);
        let mut words = vec!["mkswap", "-q", "-U", &uuid];
        if let Some(label) = self.label {
            words.extend(["-L", label]);
        }
        self.words(words, [self.device.as_str()])
    }

    fn squashfs(&self, tree: &str) -> String {
        let mut words =
            vec!["mksquashfs", tree, &self.device, "-noappend", "-reproducible", "-no-progress", "-quiet"];
        if !self.mkfs_options.iter().any(|option| option == "-comp") {
            words.extend(SQUASHFS_COMPRESSION);
        }
        self.words(words, [])
    }

    fn erofs(&self, tree: &str) -> String {
        let (epoch, uuid) = (self.epoch.to_string(), format_uuid(&self.uuid));
        let words = ["mkfs.erofs", "--quiet", "--mkfs-time", "-T", &epoch, "-U", &uuid];
        self.words(words, [self.device.as_str(), tree])
    }
}

/// How many inodes an ext file system of this size needs for so many files, where those that mke2fs makes by itself
/// (`inode_ratio` of `mke2fs.conf`) are too few: with many small ones.
pub(crate) fn inodes(bytes: u64, files: u64) -> Option<u64> {
    const SMALL: u64 = 512 << 20;
    let ratio = if bytes < SMALL { 4096 } else { 16384 };
    let wanted = files + files / 8 + 1024;
    (bytes / ratio < wanted).then_some(wanted)
}

/// Options of people for mke2fs, of which the last `-E` and the last `-O` count alone: theirs are to add to ours, which hold
/// what makes two runs the same.
#[derive(Default)]
struct ExtOptions<'o> {
    extended: Vec<&'o str>,
    features: Vec<&'o str>,
    others: Vec<&'o str>,
}

impl<'o> ExtOptions<'o> {
    fn of(options: &'o [String]) -> Self {
        let mut found = Self::default();
        let mut words = options.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (place, value) = match (word.strip_prefix("-E"), word.strip_prefix("-O")) {
                (Some(value), _) => (&mut found.extended, value),
                (_, Some(value)) => (&mut found.features, value),
                _ => {
                    found.others.push(word);
                    continue;
                }
            };
            // Its value is the rest of the word, or else the next one.
            place.extend(if value.is_empty() { words.next() } else { Some(value) });
        }
        found
    }
}

/// An empty directory over a mount point; its own metadata is all that is kept of it.
fn mask(masked: &Masked) -> [String; 2] {
    let place = format!("{TREE}/{}", masked.path);
    let options = format!("mode={:o},uid={},gid={},size=64k", masked.mode, masked.uid, masked.gid);
    let time = format!("@{}", masked.mtime);
    [line(["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &place]), line(["touch", "-d", &time, &place])]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(file_system: FileSystem) -> Making<'static> {
        Making {
            file_system,
            device: "/dev/vda1".to_owned(),
            uuid: [0x11; 16],
            label: Some("it's"),
            mkfs_options: &[],
            loaders: &[],
            epoch: 17,
        }
    }

    fn filling() -> Filling<'static> {
        Filling { path: "", masked: Vec::new(), mode: 0o755, uid: 0, gid: 0, inodes: None }
    }

    #[test]
    fn labels_are_words_and_nothing_else() {
        for file_system in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs, FileSystem::Swap] {
            let script = making(file_system).script(None);
            assert!(script.contains(" -L 'it'\\''s' "), "{script}");
        }
        assert!(making(FileSystem::Vfat).script(None).contains("-n 'IT'\\''S'"));
    }

    #[test]
    fn files_of_a_fat_are_those_that_are_hidden_too() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a:b", "-n", ".hidden", "..odd", "two words"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let script = making(FileSystem::Vfat).script(Some(&filling()));
        let (_, copying) = script.split_once("export LC_ALL=C\n").unwrap();
        let copying = copying.replace(TREE, &directory.path().to_string_lossy());
        let copying = copying.replace("mcopy -Q -s -m -i /dev/vda1", "printf '%s\\n'");
        let output = std::process::Command::new("sh").args(["-c", &copying]).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "./-n\n./a:b\n./two words\n./.hidden\n./..odd\n::\n"
        );
    }

    #[test]
    fn options_of_people_add_to_ours() {
        let options =
            ["-E", "lazy_itable_init=0", "-Oencrypt", "-m", "1", "-O", "^has_journal"].map(str::to_owned);
        let making = Making { mkfs_options: &options, ..making(FileSystem::Ext4) };
        let script = making.script(None);
        let extended = "-E hash_seed=11111111-1111-1111-1111-111111111111,nodiscard,lazy_itable_init=0 ";
        let features = "-O '^metadata_csum_seed,^orphan_file,encrypt,^has_journal' ";
        assert!(script.contains(extended), "{script}");
        assert!(script.contains(&features.replace('\'', "")), "{script}");
        assert!(script.contains(" -m 1 /dev/vda1\n"), "{script}");
    }

    #[test]
    fn there_are_inodes_for_many_small_files() {
        assert_eq!(inodes(1 << 30, 50_000), None);
        assert_eq!(inodes(1 << 30, 150_000), Some(169_774));
        assert_eq!(inodes(256 << 20, 50_000), None);
        assert_eq!(inodes(256 << 20, 60_000), Some(68_524));
        let filling = Filling { inodes: Some(169_774), ..filling() };
        let mut making = making(FileSystem::Ext4);
        assert!(making.script(Some(&filling)).contains(" -N 169774 /dev/vda1\n"));
        let own = ["-i".to_owned(), "4096".to_owned()];
        making.mkfs_options = &own;
        assert!(!making.script(Some(&filling)).contains(" -N "));
    }

    #[test]
    fn mount_points_are_empty_directories_with_their_own_metadata() {
        let masked = Masked { path: "boot".into(), mode: 0o700, uid: 1, gid: 2, mtime: 5 };
        let filling = Filling { masked: vec![masked], ..filling() };
        let script = making(FileSystem::Ext4).script(Some(&filling));
        assert!(script.contains("mount -t tmpfs -o mode=700,uid=1,gid=2,size=64k tmpfs /kiln/mnt/boot\n"));
        assert!(script.contains("touch -d @5 /kiln/mnt/boot\n"), "{script}");
    }

    #[test]
    fn old_loaders_get_what_they_can_read() {
        let mut making = making(FileSystem::Ext3);
        making.loaders = &[Loader::GrubLegacy, Loader::Extlinux];
        let script = making.script(None);
        assert!(script.contains("-O ^64bit,^metadata_csum -I 128"), "{script}");
    }
}
