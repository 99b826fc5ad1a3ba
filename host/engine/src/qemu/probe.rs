//! Whether there is a QEMU that will do.

use crate::{Unusable, Usable};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name it has in every distribution.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// Major and minor. The oldest version tried; `vhost-user-vsock-device` and sealed shared memory
/// work in it.
const OLDEST: (u32, u32) = (7, 2);

/// Package managers and how each installs QEMU for x86-64.
const INSTALL: [(&str, &str); 5] = [
    ("apt-get", "sudo apt-get install qemu-system-x86"),
    ("dnf", "sudo dnf install qemu-system-x86-core"),
    ("pacman", "sudo pacman -S qemu-system-x86"),
    ("apk", "sudo apk add qemu-system-x86_64"),
    ("zypper", "sudo zypper install qemu-x86"),
];

/// Where `program` is, without starting it.
pub(super) fn find(program: &Path) -> Result<PathBuf, Unusable> {
    found(program).ok_or_else(|| not_installed(program))
}

/// Asks `program` for its version.
pub(super) fn probe(program: &Path) -> Result<Usable, Unusable> {
    let path = find(program)?;
    let output = Command::new(&path).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| unstartable(&path, &error))?;
    judge(&path, &String::from_utf8_lossy(&output.stdout))
}

fn judge(program: &Path, said: &str) -> Result<Usable, Unusable> {
    let (version, number) = version(said).ok_or_else(|| Unusable {
        reason: format!("{} does not tell its version", program.display()),
        remedy: Some(install()),
    })?;
    if number < OLDEST {
        return Err(Unusable {
            reason: format!("QEMU {version} is too old, {}.{} is needed", OLDEST.0, OLDEST.1),
            remedy: Some(install()),
        });
    }
    Ok(Usable { path: program.to_owned(), version })
}

fn not_installed(program: &Path) -> Unusable {
    Unusable { reason: format!("{} is not installed", program.display()), remedy: Some(install()) }
}

fn unstartable(program: &Path, error: &io::Error) -> Unusable {
    let reason = format!("{} cannot be started: {error}", program.display());
    Unusable { reason, remedy: Some(install()) }
}

/// "QEMU emulator version 7.2.22 (Debian ...)": the third word after "QEMU".
fn version(said: &str) -> Option<(String, (u32, u32))> {
    let version = said.split_once("version ")?.1.split_whitespace().next()?;
    let mut numbers = version.split('.').map(str::parse);
    let number = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((version.to_owned(), number))
}

/// The command for this host, or all of them.
fn install() -> String {
    let here = INSTALL.iter().find(|(manager, _)| found(Path::new(manager)).is_some());
    match here {
        Some((_, command)) => format!("install it: {command}; or point $KILN_QEMU to one"),
        None => {
            let commands: Vec<_> = INSTALL.iter().map(|(_, command)| *command).collect();
            format!("install it: {}; or point $KILN_QEMU to one", commands.join(", or "))
        }
    }
}

/// Where the path leads for `program`.
fn found(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(|path| is_program(path));
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|directory| directory.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_qemu_prints_them() {
        let cases = [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright", Some(("7.2.22", (7, 2)))),
            ("QEMU emulator version 10.0.2\n", Some(("10.0.2", (10, 0)))),
            ("QEMU emulator version", None),
            ("QEMU emulator version x.y", None),
            ("", None),
        ];
        for (said, expected) in cases {
            let expected = expected.map(|(text, number): (&str, _)| (text.to_owned(), number));
            assert_eq!(version(said), expected, "{said:?}");
        }
    }

    #[test]
    fn a_missing_program_names_the_remedy() {
        let why = probe(Path::new("/nonexistent/qemu")).err().unwrap();
        assert_eq!(why.reason, "/nonexistent/qemu is not installed");
        assert!(why.remedy.unwrap().starts_with("install it: "));
    }

    #[test]
    fn an_old_version_is_refused_and_a_new_one_is_not() {
        let old = judge(Path::new("qemu"), "QEMU emulator version 6.2.0 (Debian)").unwrap_err();
        assert_eq!(old.reason, "QEMU 6.2.0 is too old, 7.2 is needed");
        assert_eq!(judge(Path::new("qemu"), "QEMU emulator version 10.1.0").unwrap().version, "10.1.0");
    }

    #[test]
    fn a_program_that_is_no_qemu_is_refused() {
        let why = probe(Path::new("/bin/true")).err().unwrap();
        assert_eq!(why.reason, "/bin/true does not tell its version");
    }
}
