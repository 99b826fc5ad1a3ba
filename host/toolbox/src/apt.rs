//! The system's own apt, run as an ordinary user: it knows how this machine reaches the network, and checks an archive's signatures. All
//! that it keeps is in a directory of ours; of the system's settings only those are taken that say how to reach a mirror.
//! <https://manpages.debian.org/trixie/apt/apt-get.8.en.html>, <https://manpages.debian.org/trixie/apt/apt.conf.5.en.html>

use crate::Error;
use crate::assemble::Observer;
use crate::error::Kind;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long between two looks whether apt has ended.
const POLL: Duration = Duration::from_millis(20);

/// Lines of what apt said that are shown, and bytes of each.
const SAID_LINES: usize = 6;
const SAID_LINE_SIZE: usize = 300;

/// Settings of the system that are taken: proxies, certificates, time limits, which address family, which clock errors to forgive.
const REACHING: [&str; 5] =
    ["Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::ForceIPv", "Acquire::Check-"];

/// Settings of ours. The system's own files are not read: their hooks are not for us. Packages are pinned by digest, so that an
/// archive's age is no matter, and one of snapshots can be used. Without the error mode, an archive that cannot be reached is
/// only a warning.
const SETTINGS: &str = r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"#;

/// An apt with a state of its own in a directory, which is to be removed after.
pub(crate) struct Apt<'a> {
    directory: &'a Path,
    observer: &'a dyn Observer,
}

impl<'a> Apt<'a> {
    /// With these lines of sources.list(5).
    pub(crate) fn new(directory: &'a Path, sources: &str, observer: &'a dyn Observer) -> Result<Self, Error> {
        let apt = Self { directory, observer };
        for path in ["state/lists/partial", "cache/archives/partial", "downloads"] {
            let path = directory.join(path);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        apt.write("status", "")?;
        apt.write("sources.list", sources)?;
        apt.write("apt.conf", &format!("{SETTINGS}{}", how_to_reach(directory, observer)?))?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, e))
    }

    /// Fetches what the archives offer.
    pub(crate) fn update(&self) -> Result<(), Error> {
        let said = self.run(["update"])?;
        said.check("learn what Debian offers")
    }

    /// Where files of these packages are, a line each: address, file name, size, digest.
    pub(crate) fn print_uris(&self, packages: &[String]) -> Result<Said, Error> {
        self.run(["download", "--print-uris"].into_iter().chain(packages.iter().map(String::as_str)))
    }

    /// Fetches files of these packages, and returns the directory they are in.
    pub(crate) fn download(&self, packages: &[String]) -> Result<PathBuf, Error> {
        let said = self.run(["download"].into_iter().chain(packages.iter().map(String::as_str)))?;
        said.check("fetch the toolbox's packages")?;
        Ok(self.directory.join("downloads"))
    }

    fn run<'s>(&self, arguments: impl IntoIterator<Item = &'s str>) -> Result<Said, Error> {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .current_dir(self.directory.join("downloads"));
        for (setting, name) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            let mut option = OsString::from(format!("{setting}="));
            option.push(self.directory.join(name));
            command.args([OsStr::new("-o"), &option]);
        }
        command.arg("-q").args(arguments);
        run(&mut command, self.directory, self.observer)
    }
}

/// What the system's apt is told of mirrors: which of them are Debian's.
pub(crate) fn index_targets(directory: &Path, observer: &dyn Observer) -> Result<Said, Error> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"]);
    run(&mut command, directory, observer)
}

/// The system's settings that are taken.
fn how_to_reach(directory: &Path, observer: &dyn Observer) -> Result<String, Error> {
    let said = run(Command::new("apt-config").arg("dump"), directory, observer)?;
    let taken = |line: &&str| REACHING.iter().any(|setting| line.starts_with(setting));
    Ok(said.output.lines().filter(taken).map(|line| format!("{line}\n")).collect())
}

/// What a run of apt printed, and how it ended.
pub(crate) struct Said {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Said {
    fn check(&self, doing: &'static str) -> Result<(), Error> {
        if self.status.success() {
            return Ok(());
        }
        Err(Kind::Apt { doing, said: self.problems() }.into())
    }

    /// What apt calls errors, or else what it said last.
    pub(crate) fn problems(&self) -> String {
        let lines =
            self.output.lines().chain(self.errors.lines()).map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.collect();
        let beginning = |word: &str| {
            let found = lines.iter().filter(|line| line.starts_with(word));
            found.copied().take(SAID_LINES).collect::<Vec<_>>()
        };
        let last = lines[lines.len().saturating_sub(SAID_LINES)..].to_vec();
        let shown = [beginning("E:"), beginning("Err:"), last].into_iter().find(|lines| !lines.is_empty());
        let shown = shown.unwrap_or_default();
        let shown = shown.iter().map(|line| line.chars().take(SAID_LINE_SIZE).collect::<String>());
        let said = shown.collect::<Vec<_>>().join("; ");
        if said.is_empty() { format!("nothing, and ends with {}", self.status) } else { said }
    }
}

/// Runs a program to its end, or to that of the observer's patience. What it prints goes through files, so that it never waits for us.
fn run(command: &mut Command, directory: &Path, observer: &dyn Observer) -> Result<Said, Error> {
    let failed = |e| Error::io("make a temporary file in", directory, e);
    let mut prints = [
        tempfile::tempfile_in(directory).map_err(failed)?,
        tempfile::tempfile_in(directory).map_err(failed)?,
    ];
    let [output, errors] = &prints;
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(output.try_clone().map_err(failed)?).stderr(errors.try_clone().map_err(failed)?);
    let status = wait(command, observer)?;
    let [output, errors] = prints.each_mut().map(read_all);
    Ok(Said { status, output: output.map_err(failed)?, errors: errors.map_err(failed)? })
}

fn wait(command: &mut Command, observer: &dyn Observer) -> Result<ExitStatus, Error> {
    let program = PathBuf::from(command.get_program());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Kind::NoApt.into(),
        _ => Error::io("run", &program, e),
    })?;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| Error::io("run", &program, e))? {
            return Ok(status);
        }
        if observer.is_interrupted() {
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Kind::Interrupted.into());
        }
        std::thread::sleep(POLL);
    }
}

/// Most bytes of what a program printed that are looked at.
const PRINT_LIMIT: u64 = 16 << 20;

fn read_all(file: &mut File) -> io::Result<String> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(PRINT_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn said(output: &str, errors: &str) -> Said {
        Said { status: ExitStatus::from_raw(100 << 8), output: output.into(), errors: errors.into() }
    }

    #[test]
    fn errors_are_apts_own_words() {
        let fetch = said("Get:1 a\nErr:2 b\n  Could not connect\n", "W: c\nE: Failed to fetch b\n");
        assert_eq!(fetch.problems(), "E: Failed to fetch b");
        assert_eq!(said("Get:1 a\nErr:2 b\n", "W: c\n").problems(), "Err:2 b");
        assert_eq!(said("", "dies\n").problems(), "dies");
        assert_eq!(said("", "").problems(), "nothing, and ends with exit status: 100");
        let many = said("", &"E: x\n".repeat(100));
        assert_eq!(many.problems().matches("E: x").count(), SAID_LINES);
    }

    /// Wants no more after some looks.
    struct Impatient;

    impl Observer for Impatient {
        fn event(&self, _: crate::Event<'_>) {}

        fn is_interrupted(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let result = run(Command::new("sleep").arg("1000"), directory.path(), &Impatient);
        assert!(result.err().unwrap().is_interrupted());
    }

    #[test]
    fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            run(&mut Command::new("/nonexistent/apt-get"), directory.path(), &Impatient).err().unwrap();
        assert!(error.to_string().starts_with("this system has no apt-get"), "{error}");
    }
}
