//! The lock: which packages in which version, as a text of one line each.
//!
//! ```text
//! # name suite version architecture size SHA-256
//! bash trixie 5.2.37-2 amd64 1500792 2fd7…
//! ```

use crate::Error;
use crate::error::Kind;
use kiln_image::digest::Digest;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The one that came with this kiln.
const COMMITTED: &str = include_str!("../debian.lock");

/// Many times what is needed.
const PACKAGES_MAX: usize = 1000;
const PACKAGE_SIZE_LIMIT: u64 = 256 << 20;

/// The packages of a toolbox, in the order in which they are laid over each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Each once.
    pub packages: Vec<Package>,
}

/// A package and what its archive file has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// As Debian names it.
    pub name: String,
    /// Release it comes from: `trixie`.
    pub suite: String,
    /// Of the package, with epoch and revision.
    pub version: String,
    /// `amd64`, or `all` of packages for every architecture.
    pub architecture: String,
    /// Bytes of the archive file.
    pub size: u64,
    /// SHA-256 of the archive file.
    pub digest: Digest,
}

impl Lock {
    /// The lock that came with this kiln.
    pub fn committed() -> Self {
        COMMITTED.parse().expect("a test reads it")
    }

    /// Of its text, which has one spelling.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_string().as_bytes())
    }

    /// The releases its packages come from, each once, in the order of their first packages.
    pub(crate) fn suites(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let suites = self.packages.iter().map(|package| package.suite.as_str());
        suites.filter(|suite| seen.insert(*suite)).collect()
    }
}

impl FromStr for Lock {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut packages: Vec<Package> = Vec::new();
        let mut names = BTreeSet::new();
        for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            let wrong = |why: String| Kind::Lock { line, why };
            let package = parse_package(text).map_err(|why| wrong(why.to_owned()))?;
            if !names.insert(package.name.clone()) {
                return Err(wrong(format!("{} is there twice", package.name)).into());
            }
            packages.push(package);
        }
        match packages.len() {
            0 => Err(Kind::WholeLock { why: "names no package" }.into()),
            1..=PACKAGES_MAX => Ok(Self { packages }),
            _ => Err(Kind::WholeLock { why: "names too many packages" }.into()),
        }
    }
}

fn parse_package(line: &str) -> Result<Package, &'static str> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, suite, version, architecture, size, hash] = fields[..] else {
        return Err("a package has six fields: name, suite, version, architecture, size, SHA-256");
    };
    let plain = |text: &str, more: &[u8]| is_plain(text, more).then(|| text.to_owned());
    Ok(Package {
        name: plain(name, b"+-.").ok_or("that is no name of a package")?,
        suite: plain(suite, b"-").ok_or("that is no name of a release")?,
        version: plain(version, b"+-.~:").ok_or("that is no version of a package")?,
        architecture: plain(architecture, b"-").ok_or("that is no architecture")?,
        size: size
            .parse()
            .ok()
            .filter(|size| *size <= PACKAGE_SIZE_LIMIT)
            .ok_or("that is no size of a package")?,
        digest: Digest::from_hex(hash).ok_or("that is no SHA-256")?,
    })
}

/// What apt takes as one word: nothing that is an option, a path or a pattern to it.
fn is_plain(text: &str, more: &[u8]) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("# The toolbox's packages: name, suite, version, architecture, size, SHA-256.\n")?;
        f.write_str("# Renewed by: scripts/toolbox lock\n")?;
        self.packages.iter().try_for_each(|package| writeln!(f, "{package}"))
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, suite, version, architecture, size, digest } = self;
        write!(f, "{name} {suite} {version} {architecture} {size} {}", digest.hex())
    }
}

impl Package {
    /// As apt names the file it downloads.
    pub(crate) fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }

    /// As people and apt call it.
    pub(crate) fn with_version(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2fd7b04f1b7caa29c4e683f5216e6af354a41e3cdcf6e75394d7cda680f9ab82";

    fn message(error: &Error) -> String {
        error.to_string()
    }

    #[test]
    fn the_committed_lock_has_its_one_spelling() {
        let lock = Lock::committed();
        assert_eq!(lock.to_string(), COMMITTED);
        assert!(lock.suites().contains(&"trixie"));
    }

    #[test]
    fn a_package_has_a_file() {
        let lock: Lock = format!("# x\n\n a trixie 2:1.0~rc+b1-2 amd64 12 {HASH}\n").parse().unwrap();
        let package = &lock.packages[0];
        assert_eq!(package.file_name(), "a_2%3a1.0~rc+b1-2_amd64.deb");
        assert_eq!(package.with_version(), "a=2:1.0~rc+b1-2");
        assert_eq!((package.size, package.digest.hex()), (12, HASH.to_owned()));
    }

    #[test]
    fn a_line_altered_is_an_error() {
        for (line, why) in [
            (
                "a trixie 1 amd64 12",
                "a package has six fields: name, suite, version, architecture, size, SHA-256",
            ),
            ("-oX trixie 1 amd64 12 H", "that is no name of a package"),
            ("../a trixie 1 amd64 12 H", "that is no name of a package"),
            ("a* trixie 1 amd64 12 H", "that is no name of a package"),
            ("a tri/xie 1 amd64 12 H", "that is no name of a release"),
            ("a trixie 1/../2 amd64 12 H", "that is no version of a package"),
            ("a trixie 1 am/d64 12 H", "that is no architecture"),
            ("a trixie 1 amd64 -1 H", "that is no size of a package"),
            ("a trixie 1 amd64 999999999999 H", "that is no size of a package"),
            ("a trixie 1 amd64 12 abc", "that is no SHA-256"),
        ] {
            let text = format!("# first\n{}\n", line.replace('H', HASH));
            let error = text.parse::<Lock>().unwrap_err();
            assert_eq!(message(&error), format!("line 2 of the toolbox's lock: {why}"));
        }
    }

    #[test]
    fn a_package_twice_and_none_are_errors() {
        let line = format!("a trixie 1 amd64 12 {HASH}\n");
        let twice = line.repeat(2).parse::<Lock>().unwrap_err();
        assert_eq!(message(&twice), "line 2 of the toolbox's lock: a is there twice");
        assert_eq!(message(&"# x\n".parse::<Lock>().unwrap_err()), "the toolbox's lock names no package");
    }
}
