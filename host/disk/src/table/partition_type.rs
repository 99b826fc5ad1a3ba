//! What partitions are for, by the names that people use, as a byte of MBR or a GUID of GPT.

use super::error::Problem;
use super::guid::Guid;
use crate::Error;
use std::str::FromStr;

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionType {
    /// One of the well-known ones, by its place in the list of them.
    Known(Known),
    /// A type byte of MBR, not 0 and not that of an extended partition.
    Mbr(u8),
    /// A type GUID of GPT, not zero.
    Gpt(Guid),
}

/// A well-known type of partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it, and `KNOWN` what they are")]
pub enum Known {
    Linux,
    Swap,
    Efi,
    BiosBoot,
    LinuxRootX8664,
    LinuxUsrX8664,
    LinuxHome,
    LinuxServerData,
    LinuxVariableData,
    LinuxTemporaryData,
    ExtendedBoot,
    Lvm,
    Raid,
    Luks,
    BasicData,
    Prep,
}

/// The names that a type goes by, its MBR byte and its GPT GUID.
///
/// GUIDs: <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>; bytes: as `sfdisk --list-types`.
struct Row {
    known: Known,
    names: &'static [&'static str],
    mbr: Option<u8>,
    gpt: Guid,
}

#[rustfmt::skip]
const KNOWN: [Row; 16] = [
    row(Known::Linux, &["linux", "linux-generic"], Some(0x83), 0x0fc63daf_8483_4772_8e79_3d69d8477de4),
    row(Known::Swap, &["swap", "linux-swap"], Some(0x82), 0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f),
    row(Known::Efi, &["esp", "efi", "uefi", "efi-system"], Some(0xef), 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b),
    row(Known::BiosBoot, &["bios-boot", "bios", "bios_grub"], None, 0x21686148_6449_6e6f_744e_656564454649),
    row(Known::LinuxRootX8664, &["linux-root-x86-64", "root-x86-64", "root"], Some(0x83), 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709),
    row(Known::LinuxUsrX8664, &["linux-usr-x86-64", "usr-x86-64", "usr"], Some(0x83), 0x8484680c_9521_48c6_9c11_b0720656f69e),
    row(Known::LinuxHome, &["linux-home", "home"], Some(0x83), 0x933ac7e1_2eb4_4f13_b844_0e14e2aef915),
    row(Known::LinuxServerData, &["linux-srv", "srv"], Some(0x83), 0x3b8f8425_20e0_4f3b_907f_1a25a76f98e8),
    row(Known::LinuxVariableData, &["linux-var", "var"], Some(0x83), 0x4d21b016_b534_45c2_a9fb_5c16e091fd2d),
    row(Known::LinuxTemporaryData, &["linux-tmp", "tmp"], Some(0x83), 0x7ec6f557_3bc5_4aca_b293_16ef5df639d1),
    row(Known::ExtendedBoot, &["xbootldr", "linux-extended-boot"], Some(0xea), 0xbc13c2ff_59e6_4262_a352_b275fd6f7172),
    row(Known::Lvm, &["lvm", "linux-lvm"], Some(0x8e), 0xe6d6d379_f507_44c2_a23c_238f2a3df928),
    row(Known::Raid, &["raid", "linux-raid"], Some(0xfd), 0xa19d880f_05fc_4d3b_a006_743f0f84911e),
    row(Known::Luks, &["luks", "linux-luks"], Some(0xe8), 0xca7d7ccb_63ed_4c53_861c_1742536059cc),
    row(Known::BasicData, &["fat32", "vfat", "basic-data", "microsoft-basic-data"], Some(0x0c), 0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7),
    row(Known::Prep, &["prep", "powerpc-prep-boot"], Some(0x41), 0x9e1a2d38_c612_4316_aa26_8b49521e5a8b),
];

const fn row(known: Known, names: &'static [&'static str], mbr: Option<u8>, gpt: u128) -> Row {
    Row { known, names, mbr, gpt: Guid::from_u128(gpt) }
}

/// Extended partitions, of which kiln makes its own: by cylinders, by sectors (what kiln writes), of Linux.
const EXTENDED: [u8; 3] = [0x05, super::mbr::EXTENDED_LBA, 0x85];

impl PartitionType {
    /// Type Linux, of any file system of Linux.
    pub const LINUX: Self = Self::Known(Known::Linux);

    /// Its byte in an MBR, where it has one.
    pub fn mbr(self) -> Option<u8> {
        match self {
            Self::Known(known) => known.row().mbr,
            Self::Mbr(byte) => Some(byte).filter(|byte| *byte != 0 && !EXTENDED.contains(byte)),
            Self::Gpt(_) => None,
        }
    }

    /// Its GUID in a GPT, where it has one.
    pub fn gpt(self) -> Option<Guid> {
        match self {
            Self::Known(known) => Some(known.row().gpt),
            Self::Mbr(_) => None,
            Self::Gpt(guid) => Some(guid).filter(|guid| *guid != Guid::default()),
        }
    }

    /// How it is told to a person: its first name, or what it was given as.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Known(known) => known.row().names[0].to_owned(),
            Self::Mbr(byte) => format!("0x{byte:02x}"),
            Self::Gpt(guid) => guid.to_string(),
        }
    }

    /// The first name of every known type.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|row| row.names[0])
    }
}

impl Known {
    fn row(self) -> &'static Row {
        &KNOWN[self as usize]
    }
}

impl FromStr for PartitionType {
    type Err = Error;

    /// A well-known name in any case, a byte as two hexadecimal digits with or without `0x`, or a GUID.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.strip_prefix("0x").unwrap_or(&lower);
        let is_byte = matches!(digits.len(), 1 | 2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten().map(Self::Mbr);
        let known = || {
            let row = KNOWN.iter().find(|row| row.names.contains(&lower.as_str()))?;
            Some(Self::Known(row.known))
        };
        let guid = || lower.parse().ok().map(Self::Gpt);
        byte.or_else(known).or_else(guid).ok_or_else(|| Problem::TypeName(text.to_owned()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_is_in_its_row() {
        for (index, row) in KNOWN.iter().enumerate() {
            assert_eq!(row.known as usize, index);
            for name in row.names {
                assert_eq!(name.parse::<PartitionType>().unwrap(), PartitionType::Known(row.known), "{name}");
            }
        }
    }

    #[test]
    fn types_as_bytes_and_guids() {
        for text in ["83", "0x83", "0X83"] {
            assert_eq!(text.parse::<PartitionType>().unwrap(), PartitionType::Mbr(0x83), "{text}");
        }
        assert_eq!(
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse::<PartitionType>().unwrap().gpt(),
            PartitionType::Known(Known::Efi).gpt()
        );
        assert_eq!(PartitionType::Mbr(0x0f).mbr(), None);
        assert_eq!(PartitionType::Mbr(0).mbr(), None);
        assert_eq!(PartitionType::Gpt(Guid::default()).gpt(), None);
    }

    #[test]
    fn unknown_types_are_refused() {
        for text in ["", "x", "0x", "0x123", "+f", "linuks", "c12a7328f81f11d2ba4b00a0c93ec93b"] {
            let error = text.parse::<PartitionType>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no type of partition")), "{error}");
        }
    }
}
