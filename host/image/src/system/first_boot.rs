//! Scripts that are run once, in order, when the system first boots.

use super::SystemFile;
use super::init::{Init, Service};
use crate::Error;
use crate::error::Kind;

/// Most scripts: their numbers have two digits.
const MAX_SCRIPTS: usize = 99;

/// Longest name of a script, in bytes: with its number and a suffix it stays a file name.
const MAX_NAME: usize = 200;

/// A script as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBootScript {
    /// A word for messages: letters, digits, `.`, `_` and `-`, not `.` first.
    pub name: String,
    /// Its text, with `#!` at the start for who runs it.
    pub text: Vec<u8>,
}

const SERVICE: Service = Service {
    name: "first-boot",
    description: "Run scripts of the first boot",
    command: "/usr/lib/kiln/first-boot",
    unit_lines: "ConditionPathExists=!/var/lib/kiln/first-boot.done\n\
                 After=network.target kiln-grow-root.service kiln-ssh-host-keys.service\n",
    script_condition: "[ ! -e /var/lib/kiln/first-boot.done ]",
    order: "99",
};

/// What runs these scripts in this order at the first boot. What they print is in `/var/log/kiln-first-boot.log`, and for
/// systemd in the journal. The first that fails ends it, and the service has failed; the next boot goes on with it.
///
/// # Errors
/// When there are more than 99, a name cannot be in a file's, or a text does not begin with `#!`.
pub fn first_boot(scripts: &[FirstBootScript], init: Init) -> Result<Vec<SystemFile>, Error> {
    if scripts.len() > MAX_SCRIPTS {
        return Err(
            Kind::Choice(format!("there are more than {MAX_SCRIPTS} scripts of the first boot")).into()
        );
    }
    let mut files = vec![SystemFile::file("usr/lib/kiln/first-boot", 0o755, include_str!("first-boot.sh"))];
    for (index, script) in scripts.iter().enumerate() {
        check(script)?;
        let path = format!("usr/lib/kiln/first-boot.d/{:02}-{}", index + 1, script.name);
        files.push(SystemFile::file(&path, 0o755, script.text.clone()));
    }
    files.extend(SERVICE.files(init));
    Ok(files)
}

fn check(FirstBootScript { name, text }: &FirstBootScript) -> Result<(), Error> {
    let wrong =
        |why| Kind::Syntax { what: "the name of a script of the first boot", text: name.clone(), why }.into();
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(wrong("it must have 1 to 200 letters"));
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.starts_with('.') || !name.bytes().all(is_word) {
        return Err(wrong("it must be of letters, digits, `.`, `_` and `-`, and not begin with `.`"));
    }
    if !text.starts_with(b"#!") {
        return Err(
            Kind::Choice(format!("script {name:?} of the first boot does not begin with `#!`")).into()
        );
    }
    Ok(())
}
