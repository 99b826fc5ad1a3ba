//! The machine's id: every machine's own, or one that was declared
//! ([machine-id(5)](https://www.freedesktop.org/software/systemd/man/latest/machine-id.html)).

use super::init::Init;
use super::{Removal, SystemFile};
use crate::Error;
use crate::error::Kind;

const MACHINE_ID: &str = "etc/machine-id";
const DBUS_MACHINE_ID: &str = "var/lib/dbus/machine-id";

/// Hexadecimal digits of an id.
const DIGITS: usize = 32;

/// What becomes of the machine's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineId {
    /// Every machine makes its own. The file is empty and not gone, nor has `uninitialized` in it: systemd
    /// would then take the boot for the system's first and enable services by their presets, against what was
    /// enabled in the image.
    Removed,
    /// As [`Self::Removed`], and systemd takes it for the first boot: `uninitialized`, since systemd 247.
    FirstBoot,
    /// This one, in 32 lower-case hexadecimal digits.
    Fixed(String),
}

impl MachineId {
    /// Takes `removed`, `first-boot` or 32 hexadecimal digits that are not all zero.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "removed" => Ok(Self::Removed),
            "first-boot" => Ok(Self::FirstBoot),
            _ => Self::fixed(text),
        }
    }

    fn fixed(text: &str) -> Result<Self, Error> {
        let wrong = |why| Err(Kind::Syntax { what: "a machine id", text: text.to_owned(), why }.into());
        if text.len() != DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return wrong("it must be `removed`, `first-boot` or 32 hexadecimal digits");
        }
        if text.bytes().all(|byte| byte == b'0') {
            return wrong("its digits are all zero");
        }
        Ok(Self::Fixed(text.to_ascii_lowercase()))
    }

    /// The files that the system gets and loses. `has_dbus` says that there is a `/var/lib/dbus`, whose
    /// own id is made the same one. Without systemd D-Bus makes an id only where no file is.
    pub fn changes(&self, init: Init, has_dbus: bool) -> (Vec<SystemFile>, Vec<Removal>) {
        if init != Init::Systemd && !matches!(self, Self::Fixed(_)) {
            let removals = [("etc", "machine-id"), ("var/lib/dbus", "machine-id")];
            return (Vec::new(), removals.map(|(directory, name)| Removal { directory, name }).to_vec());
        }
        let mut files = vec![SystemFile::file(MACHINE_ID, 0o444, self.text())];
        if has_dbus {
            files.push(SystemFile::symlink(DBUS_MACHINE_ID.to_owned(), format!("/{MACHINE_ID}")));
        }
        (files, Vec::new())
    }

    fn text(&self) -> String {
        match self {
            Self::Removed => String::new(),
            Self::FirstBoot => "uninitialized\n".to_owned(),
            Self::Fixed(id) => format!("{id}\n"),
        }
    }
}
