//! The packages installed in a root file system, as its package managers have written them down.
//!
//! | manager | database |
//! |---|---|
//! | dpkg | `var/lib/dpkg/status`, `var/lib/dpkg/status.d/` |
//! | apk | `lib/apk/db/installed`, `usr/lib/apk/db/installed` |
//! | rpm | `rpmdb.sqlite` in `var/lib/rpm`, `usr/lib/sysimage/rpm`, `usr/share/rpm` |
//! | pacman | `var/lib/pacman/local/` |
//! | Python | `*.dist-info/METADATA` and `*.egg-info` in the system's `site-packages` and `dist-packages` |
//! | npm | `package.json` of what is in the system's `node_modules` |
//!
//! The licences of dpkg's packages are in `usr/share/doc/*/copyright`, where those are for programs.
//!
//! A Python or npm package whose metadata file belongs to one of the system's packages is that package,
//! and not listed again.

mod apk;
mod copyright;
mod dpkg;
mod language;
mod npm;
mod pacman;
mod python;
mod rpm;
mod rpm_header;
mod stanza;

use crate::error::{Error, Kind, Path, Problem};
use crate::os_release::{self, Distribution};
use crate::reader::Reader;
use crate::{Files, purl, text};
use std::fmt;

pub(crate) use {apk::owned as apk_owned, dpkg::owned as dpkg_owned};
pub(crate) use {pacman::owned as pacman_owned, rpm::owned as rpm_owned};

/// Most packages of an image: several times what the largest distributions have to offer.
const MAX_PACKAGES: usize = 250_000;

/// What wrote a package down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manager {
    /// Debian's.
    Dpkg,
    /// Alpine's.
    Apk,
    /// Red Hat's.
    Rpm,
    /// Arch's.
    Pacman,
    /// pip and others.
    Python,
    /// Node's.
    Npm,
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Pacman => "pacman",
            Self::Python => "python",
            Self::Npm => "npm",
        })
    }
}

/// What a package was built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The source package's name.
    pub name: String,
    /// Its version, where it is written down.
    pub version: Option<String>,
}

/// An installed package. All words are single lines of at most 1024 characters, never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// What wrote it down.
    pub manager: Manager,
    /// As the manager spells it.
    pub name: String,
    /// As the manager spells it: of rpm, `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// The manager's word for the CPU: `amd64`, `x86_64`, `all`, `noarch`.
    pub architecture: Option<String>,
    /// The source package, where one is named; dpkg names it only when it has another name or version.
    pub source: Option<Source>,
    /// Who makes the package for this distribution: `Jane Doe <jane@example.org>`.
    pub supplier: Option<String>,
    /// The licence in the package's own words, often but not always an SPDX expression.
    pub license: Option<String>,
    /// What it is, in one line.
    pub description: Option<String>,
    /// A web page.
    pub homepage: Option<String>,
    /// The file of the image that says so, without leading `/`.
    pub database: String,
}

impl Package {
    /// A package of which nothing more is known.
    pub fn new(manager: Manager, name: &str, version: &str) -> Self {
        Self {
            manager,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: None,
            source: None,
            supplier: None,
            license: None,
            description: None,
            homepage: None,
            database: String::new(),
        }
    }

    /// The package's [purl](https://github.com/package-url/purl-spec):
    /// `pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12`.
    pub fn purl(&self, distribution: Option<&Distribution>) -> String {
        purl::of_package(self, distribution)
    }
}

/// A database that was not read, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// The file, without leading `/`.
    pub path: String,
    /// Why, with the file's name and the place in it.
    pub why: String,
}

/// What is installed in a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What the system calls itself.
    pub distribution: Option<Distribution>,
    /// Sorted, without duplicates.
    pub packages: Vec<Package>,
    /// Sorted. When there is one, there may be more packages than are listed.
    pub unread: Vec<Unread>,
}

/// The packages installed in a root file system.
///
/// A database that is damaged or too large fails nothing: it is named in [`Inventory::unread`], and what
/// could be read of it is listed.
///
/// # Errors
/// When `files` fails to read a file.
pub fn installed(files: &dyn Files) -> Result<Inventory, Error> {
    let reader = Reader::new(files);
    let mut found = Found::default();
    let distribution = os_release::distribution(&reader, &mut found)?;
    dpkg::read(&reader, &mut found)?;
    apk::read(&reader, &mut found)?;
    rpm::read(&reader, &mut found)?;
    pacman::read(&reader, &mut found)?;
    language::read(&reader, &mut found)?;
    Ok(found.finish(distribution))
}

/// What has been found so far.
#[derive(Default)]
pub(crate) struct Found {
    packages: Vec<Package>,
    unread: Vec<Unread>,
}

impl Found {
    /// Reads a file of at most `limit` bytes and lets `parse` find packages in it. What is wrong with
    /// the file is noted.
    pub(crate) fn file(
        &mut self,
        reader: &Reader,
        path: &[u8],
        limit: u64,
        parse: impl FnOnce(&mut Database, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let result = match reader.read(path, limit) {
            Ok(Some(contents)) => parse(&mut Database { path, found: self }, &contents),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.note(path, result)
    }

    /// Passes the caller's errors on, and notes those of the image.
    fn note(&mut self, path: &[u8], result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if !error.is_io() => {
                let path = String::from_utf8_lossy(path).into_owned();
                self.unread.push(Unread { path, why: error.to_string() });
                Ok(())
            }
            other => other,
        }
    }

    fn finish(self, distribution: Option<Distribution>) -> Inventory {
        let Self { mut packages, mut unread } = self;
        packages.sort();
        packages.dedup();
        unread.sort();
        Inventory { distribution, packages, unread }
    }
}

/// The database that is being read.
pub(crate) struct Database<'a> {
    path: &'a [u8],
    found: &'a mut Found,
}

impl Database<'_> {
    /// Something is wrong with this database.
    fn error(&self, problem: Problem) -> Error {
        problem.of(self.path)
    }

    /// Adds a package found in this database.
    fn add(&mut self, package: Package) -> Result<(), Error> {
        if self.found.packages.len() == MAX_PACKAGES {
            return Err(Kind::TooMany { path: Path::new(self.path), limit: MAX_PACKAGES }.into());
        }
        let database = String::from_utf8_lossy(self.path).into_owned();
        self.found.packages.push(Package { database, ..package });
        Ok(())
    }
}

/// A package with a name and a version that can be written down.
fn package(manager: Manager, name: Option<&[u8]>, version: Option<&[u8]>) -> Result<Package, &'static str> {
    let name = name.and_then(text::identity).ok_or("a package without name, or with too long a one")?;
    let version =
        version.and_then(text::identity).ok_or("a package without version, or with too long a one")?;
    Ok(Package::new(manager, &name, &version))
}
