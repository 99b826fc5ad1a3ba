//! Which labels file systems take.

use super::error::Problem;
use crate::Error;
use std::str::FromStr;

/// What a partition is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their names say it")]
pub enum FileSystem {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Swap,
    Squashfs,
    Erofs,
    /// Nothing: the partition is left as it is.
    None,
}

const NAMES: [(&str, FileSystem); 10] = [
    ("ext2", FileSystem::Ext2),
    ("ext3", FileSystem::Ext3),
    ("ext4", FileSystem::Ext4),
    ("xfs", FileSystem::Xfs),
    ("btrfs", FileSystem::Btrfs),
    ("vfat", FileSystem::Vfat),
    ("swap", FileSystem::Swap),
    ("squashfs", FileSystem::Squashfs),
    ("erofs", FileSystem::Erofs),
    ("none", FileSystem::None),
];

impl FileSystem {
    /// Its name, as `mount` and `fstab` have it.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// How many bytes its label has at most; `None` for a file system without labels.
    pub fn max_label(self) -> Option<usize> {
        match self {
            // s_volume_name
            Self::Ext2 | Self::Ext3 | Self::Ext4 => Some(16),
            // sb_fname
            Self::Xfs => Some(12),
            // BTRFS_LABEL_SIZE is 256, with a zero
            Self::Btrfs => Some(255),
            // BS_VolLab, the name of a directory's entry
            Self::Vfat => Some(11),
            // volume_name has 16, of which mkswap keeps one for a zero
            Self::Swap => Some(15),
            // volume_name has 16, of which mkfs.erofs keeps one for a zero since 1.8
            Self::Erofs => Some(15),
            Self::Squashfs | Self::None => None,
        }
    }

    fn allows(self, character: char) -> bool {
        match self {
            Self::Btrfs => !matches!(character, '/' | '\n' | '\0'),
            Self::Vfat => matches!(character, ' '..='~') && !"\"*+,./:;<=>?[\\]|".contains(character),
            _ => character != '\0',
        }
    }
}

impl FromStr for FileSystem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, found)| *found).ok_or_else(|| Problem::FileSystemName(text.to_owned()).into())
    }
}

/// The label as the file system stores it: in upper case for vfat, else as it is.
///
/// # Errors
/// When it is longer than the file system has room for, or has a character that it does not allow.
pub fn check_label(file_system: FileSystem, label: &str) -> Result<String, Error> {
    let (name, shown) = (file_system.name(), label.to_owned());
    let Some(max) = file_system.max_label() else {
        return Err(Problem::NoLabel { file_system: name, label: shown }.into());
    };
    if label.len() > max {
        return Err(Problem::LabelLength { file_system: name, label: shown, length: label.len(), max }.into());
    }
    if let Some(character) = label.chars().find(|character| !file_system.allows(*character)) {
        return Err(Problem::LabelCharacter { file_system: name, label: shown, character }.into());
    }
    Ok(if file_system == FileSystem::Vfat { label.to_ascii_uppercase() } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        for (index, (name, file_system)) in NAMES.iter().enumerate() {
            assert_eq!(*file_system as usize, index);
            assert_eq!(name.parse::<FileSystem>().unwrap(), *file_system);
        }
        let error = "fat".parse::<FileSystem>().unwrap_err().to_string();
        assert!(error.starts_with("\"fat\" is no file system: it is one of ext2, "), "{error}");
    }

    #[test]
    fn labels_as_long_as_can_be() {
        for (file_system, max) in [
            (FileSystem::Ext4, 16),
            (FileSystem::Xfs, 12),
            (FileSystem::Btrfs, 255),
            (FileSystem::Vfat, 11),
            (FileSystem::Swap, 15),
            (FileSystem::Erofs, 15),
        ] {
            check_label(file_system, &"l".repeat(max)).unwrap();
            let error = check_label(file_system, &"l".repeat(max + 1)).unwrap_err().to_string();
            let name = file_system.name();
            let expected = format!("has {} bytes, more than the {max} of {name}: shorten it", max + 1);
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn characters() {
        assert_eq!(check_label(FileSystem::Vfat, "efi sys").unwrap(), "EFI SYS");
        assert_eq!(check_label(FileSystem::Ext4, "größe/1").unwrap(), "größe/1");
        for (file_system, label) in [
            (FileSystem::Vfat, "a.b"),
            (FileSystem::Vfat, "ä"),
            (FileSystem::Vfat, "a\u{1}"),
            (FileSystem::Btrfs, "a/b"),
            (FileSystem::Btrfs, "a\nb"),
            (FileSystem::Ext4, "a\0b"),
        ] {
            let error = check_label(file_system, label).unwrap_err().to_string();
            assert!(error.contains(&format!("which {} does not allow", file_system.name())), "{error}");
        }
        assert_eq!(
            check_label(FileSystem::Squashfs, "root").unwrap_err().to_string(),
            "label \"root\" for squashfs, which has no labels: leave it out"
        );
    }
}
