//! The machine that a disk is for.

use super::error::Problem;
use super::xml;
use crate::Error;
use std::str::FromStr;

/// Bytes of a mebibyte, in which packages count memory.
pub(super) const MEBIBYTE: u64 = 1 << 20;
/// 64 TiB: more than any hypervisor gives.
const MAX_MEMORY: u64 = 64 << 40;
const MAX_PROCESSORS: u32 = 1024;
/// Bytes of a machine's name, as VMware has it.
const MAX_NAME: usize = 80;
/// Bytes of a description.
const MAX_DESCRIPTION: usize = 64 * 1024;
/// Bytes of a member's name: tar has 100 for a path, and there are a directory and an ending too.
const MAX_FILE_NAME: usize = 64;

/// A virtual machine with one disk.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What people see.
    pub name: String,
    /// More of that.
    pub description: String,
    /// How many processors.
    pub processors: u32,
    /// Bytes, in whole MiB.
    pub memory: u64,
    /// What it boots with.
    pub firmware: Firmware,
    /// What the disk is attached to.
    pub adapter: Adapter,
    /// Its network card, if any.
    pub network_card: Option<NetworkCard>,
    /// VMware's: 10 is ESXi 5.5's and later.
    pub hardware_version: u32,
}

impl Machine {
    /// A machine of one processor, 1 GiB of memory, a BIOS, an LSI Logic SCSI adapter and an E1000.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            processors: 1,
            memory: 1 << 30,
            firmware: Firmware::Bios,
            adapter: Adapter::LsiLogic,
            network_card: Some(NetworkCard::E1000),
            hardware_version: 10,
        }
    }

    /// Whether it can be.
    pub(super) fn check(&self) -> Result<(), Error> {
        text("the name of the machine", &self.name, 1..=MAX_NAME, |character| !character.is_control())?;
        text("the description", &self.description, 0..=MAX_DESCRIPTION, |_| true)?;
        if !(1..=MAX_PROCESSORS).contains(&self.processors) {
            return Err(Problem::Processors(self.processors).into());
        }
        if self.memory == 0 || !self.memory.is_multiple_of(MEBIBYTE) || self.memory > MAX_MEMORY {
            return Err(Problem::Memory(self.memory).into());
        }
        if !(4..=99).contains(&self.hardware_version) {
            return Err(Problem::HardwareVersion(self.hardware_version).into());
        }
        Ok(())
    }
}

/// Whether a text is not too long and has only characters that XML, and `allows`, allow.
pub(super) fn text(
    what: &'static str,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    allows: impl Fn(char) -> bool,
) -> Result<(), Error> {
    if !length.contains(&text.len()) {
        let max = *length.end();
        // Only its start: it may be very long.
        let shown = text.chars().take(MAX_NAME).collect();
        return Err(Problem::Length { what, text: shown, length: text.len(), max }.into());
    }
    let wrong = |character: &char| !xml::allows(*character) || !allows(*character);
    match text.chars().find(wrong) {
        Some(character) => Err(Problem::Character { what, text: text.to_owned(), character }.into()),
        None => Ok(()),
    }
}

/// Whether a name is one that files have everywhere: up to 64 ASCII letters, digits, dots, hyphens, underscores, the first
/// no dot nor hyphen. What a package calls its members must be so; who makes the disk first may ask before.
///
/// # Errors
/// When it is not.
pub fn check_file_name(name: &str) -> Result<(), Error> {
    let what = "the file name";
    text(what, name, 1..=MAX_FILE_NAME, |character| {
        character.is_ascii_alphanumeric() || "._-".contains(character)
    })?;
    match name.chars().next().filter(|first| ".-".contains(*first)) {
        Some(character) => Err(Problem::Character { what, text: name.to_owned(), character }.into()),
        None => Ok(()),
    }
}

/// What a machine boots with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// The PC's of old.
    Bios,
    /// UEFI.
    Efi,
}

impl FromStr for Firmware {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "bios" => Ok(Self::Bios),
            "efi" | "uefi" => Ok(Self::Efi),
            _ => Err(Problem::Firmware(text.to_owned()).into()),
        }
    }
}

/// What a disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// SCSI, parallel: what every hypervisor has.
    LsiLogic,
    /// SCSI, older still.
    BusLogic,
    /// SCSI, serially attached.
    LsiSas,
    /// VMware's own SCSI.
    ParavirtualScsi,
    /// IDE.
    Ide,
    /// Serial ATA.
    Ahci,
}

impl FromStr for Adapter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "lsilogic" => Self::LsiLogic,
            "buslogic" => Self::BusLogic,
            "lsisas1068" | "lsilogicsas" => Self::LsiSas,
            "pvscsi" => Self::ParavirtualScsi,
            "ide" => Self::Ide,
            "ahci" | "sata" => Self::Ahci,
            _ => return Err(Problem::Adapter(text.to_owned()).into()),
        })
    }
}

/// A network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkCard {
    /// Intel's 82545: what every hypervisor has.
    E1000,
    /// Intel's 82574.
    E1000e,
    /// VMware's own.
    Vmxnet3,
    /// AMD's, of old.
    Pcnet32,
}

impl FromStr for NetworkCard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "e1000" => Self::E1000,
            "e1000e" => Self::E1000e,
            "vmxnet3" => Self::Vmxnet3,
            "pcnet32" => Self::Pcnet32,
            _ => return Err(Problem::NetworkCard(text.to_owned()).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl Fn(&mut Machine)) -> String {
        let mut machine = Machine::new("machine");
        machine.check().unwrap();
        change(&mut machine);
        machine.check().unwrap_err().to_string()
    }

    #[test]
    fn machines_that_cannot_be() {
        assert_eq!(
            error(|machine| machine.name.clear()),
            "the name of the machine \"\" has 0 bytes: it must have 1 to 80"
        );
        assert_eq!(
            error(|machine| machine.name = "a\n".to_owned()),
            "the name of the machine \"a\\n\" has '\\n', which cannot be in it"
        );
        assert_eq!(
            error(|machine| machine.description = "\u{1}".to_owned()),
            "the description \"\\u{1}\" has '\\u{1}', which cannot be in it"
        );
        assert_eq!(
            error(|machine| machine.processors = 0),
            "a machine with 0 processors: it must have 1 to 1024"
        );
        for memory in [0, MEBIBYTE + 1, u64::MAX] {
            let expected = format!(
                "a machine with {memory} bytes of memory: it must have whole MiB, 1 to 64 TiB of them"
            );
            assert_eq!(error(|machine| machine.memory = memory), expected);
        }
        assert_eq!(
            error(|machine| machine.hardware_version = 3),
            "virtual hardware version 3: VMware's are 4 to 99"
        );
    }

    #[test]
    fn file_names() {
        check_file_name("debian-12_disk1.vmdk").unwrap();
        for name in ["", ".x", "-x", "a/b", "a b", "ä", &"x".repeat(65)] {
            check_file_name(name).unwrap_err();
        }
    }

    #[test]
    fn names_of_hardware() {
        assert_eq!("pvscsi".parse::<Adapter>().unwrap(), Adapter::ParavirtualScsi);
        let error = "scsi".parse::<Adapter>().unwrap_err().to_string();
        assert!(error.starts_with("\"scsi\" is no adapter of a disk: it is one of lsilogic, "), "{error}");
        assert_eq!("vmxnet3".parse::<NetworkCard>().unwrap(), NetworkCard::Vmxnet3);
        assert!("ne2k".parse::<NetworkCard>().is_err());
        assert_eq!("uefi".parse::<Firmware>().unwrap(), Firmware::Efi);
        assert_eq!(
            "grub".parse::<Firmware>().unwrap_err().to_string(),
            "\"grub\" is no firmware: it is bios or efi"
        );
    }
}
