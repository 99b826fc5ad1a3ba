//! Debian's packages.
//! <https://manpages.debian.org/bookworm/dpkg/dpkg-query.1.en.html>

use super::copyright::licenses;
use super::stanza::{Stanza, stanzas};
use super::{Database, Found, Manager, Package, Source, package};
use crate::error::{Error, Problem};
use crate::reader::{FILE_LIMIT, Reader};
use crate::text;

/// What dpkg knows of every package.
const STATUS: &[u8] = b"var/lib/dpkg/status";
/// A file for each package, in images made without dpkg (distroless).
const STATUS_DIRECTORY: &[u8] = b"var/lib/dpkg/status.d";
/// Beside the status files of such images.
const CHECKSUMS_SUFFIX: &[u8] = b".md5sums";
/// A `.list` of files for each package.
const INFO_DIRECTORY: &[u8] = b"var/lib/dpkg/info";

/// Most bytes of a package's copyright file.
const COPYRIGHT_LIMIT: u64 = 1 << 20;

/// The last word of `Status` when nothing of the package's files is there.
const ABSENT: [&[u8]; 2] = [b"not-installed", b"config-files"];

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    let status = |database: &mut Database, contents: &[u8]| status(reader, database, contents);
    found.file(reader, STATUS, FILE_LIMIT, status)?;
    for name in reader.list(STATUS_DIRECTORY) {
        if !name.ends_with(CHECKSUMS_SUFFIX) {
            found.file(reader, &[STATUS_DIRECTORY, b"/", &name].concat(), FILE_LIMIT, status)?;
        }
    }
    Ok(())
}

fn status(reader: &Reader, database: &mut Database, contents: &[u8]) -> Result<(), Error> {
    for stanza in stanzas(contents) {
        let stanza = stanza.map_err(|problem| database.error(problem))?;
        if is_installed(&stanza) {
            let package =
                of_stanza(&stanza).map_err(|why| database.error(Problem::line(stanza.line, why)))?;
            database.add(Package { license: license(reader, &package.name)?, ..package })?;
        }
    }
    Ok(())
}

/// What the package's copyright file says, if it is one that programs can read.
fn license(reader: &Reader, package: &str) -> Result<Option<String>, Error> {
    if package.contains('/') {
        return Ok(None);
    }
    match reader.read(format!("usr/share/doc/{package}/copyright").as_bytes(), COPYRIGHT_LIMIT) {
        Ok(copyright) => Ok(copyright.as_deref().and_then(licenses)),
        Err(error) if error.is_io() => Err(error),
        // Without licence the package is listed all the same.
        Err(_) => Ok(None),
    }
}

/// Distroless has no `Status`: what is there is installed.
fn is_installed(stanza: &Stanza) -> bool {
    let state = stanza.get("Status").and_then(|status| status.rsplit(|byte| *byte == b' ').next());
    !state.is_some_and(|state| ABSENT.contains(&state))
}

fn of_stanza(stanza: &Stanza) -> Result<Package, &'static str> {
    let package = package(Manager::Dpkg, stanza.get("Package"), stanza.get("Version"))?;
    Ok(Package {
        architecture: stanza.text("Architecture"),
        source: stanza.get("Source").and_then(source),
        supplier: stanza.text("Maintainer"),
        description: stanza.text("Description"),
        homepage: stanza.text("Homepage"),
        ..package
    })
}

/// `NAME` or `NAME (VERSION)`.
fn source(field: &[u8]) -> Option<Source> {
    let mut words = field.splitn(2, |byte| *byte == b' ');
    let name = words.next().and_then(text::identity)?;
    let version = words.next().map(<[u8]>::trim_ascii);
    let version = version.and_then(|version| version.strip_prefix(b"(")?.strip_suffix(b")"));
    Some(Source { name, version: version.and_then(text::identity) })
}

/// Calls `own` with each path of each package: the path as dpkg spells it and the package's name.
pub(crate) fn owned(reader: &Reader, own: &mut dyn FnMut(&[u8], &str)) -> Result<(), Error> {
    for name in reader.list(INFO_DIRECTORY) {
        let Some(package) = name.strip_suffix(b".list").and_then(package_of_list) else {
            continue;
        };
        let list = reader.read(&[INFO_DIRECTORY, b"/", &name].concat(), FILE_LIMIT)?;
        for line in list.iter().flat_map(|list| list.split(|byte| *byte == b'\n')) {
            own(line, &package);
        }
    }
    Ok(())
}

/// A list is named after its package, with `:ARCHITECTURE` when several can be installed.
fn package_of_list(name: &[u8]) -> Option<String> {
    text::identity(name.split(|byte| *byte == b':').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fake::FakeFiles;
    use crate::packages::installed;

    const BASH: &str = "Package: bash\nEssential: yes\nStatus: install ok installed\nPriority: required\n\
        Maintainer: Matthias Klose <doko@debian.org>\nArchitecture: amd64\nVersion: 5.2.15-2+b7\n\
        Source: bash (5.2.15-2)\nDepends: base-files (>= 2.1.12)\n\
        Description: GNU Bourne Again SHell\n Bash is an sh-compatible\n .\n command language.\n\
        Homepage: http://tiswww.case.edu/php/chet/bash/bashtop.html\n";

    fn names(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let inventory = installed(&FakeFiles::of(files)).unwrap();
        let name = |package: Package| format!("{} {}", package.name, package.version);
        let why = |unread: super::super::Unread| unread.why;
        (inventory.packages.into_iter().map(name).collect(), inventory.unread.into_iter().map(why).collect())
    }

    #[test]
    fn every_field() {
        let copyright = "Format: x\n\nFiles: *\nLicense: GPL-3+\n";
        let files = [("var/lib/dpkg/status", BASH), ("usr/share/doc/bash/copyright", copyright)];
        let inventory = installed(&FakeFiles::of(&files)).unwrap();
        let expected = Package {
            license: Some("GPL-3.0-or-later".into()),
            architecture: Some("amd64".into()),
            source: Some(Source { name: "bash".into(), version: Some("5.2.15-2".into()) }),
            supplier: Some("Matthias Klose <doko@debian.org>".into()),
            description: Some("GNU Bourne Again SHell".into()),
            homepage: Some("http://tiswww.case.edu/php/chet/bash/bashtop.html".into()),
            database: "var/lib/dpkg/status".into(),
            ..Package::new(Manager::Dpkg, "bash", "5.2.15-2+b7")
        };
        assert_eq!(inventory.packages, [expected]);
        assert!(inventory.unread.is_empty());
    }

    #[test]
    fn only_what_is_there() {
        let status = "Package: a\nVersion: 1\nStatus: deinstall ok config-files\n\n\
            Package: b\nVersion: 1\nStatus: install ok half-configured\n\n\
            Package: c\nVersion: 1\nStatus: unknown ok not-installed\n";
        let distroless = [
            ("var/lib/dpkg/status.d/base", "Package: base\nVersion: 12\n"),
            ("var/lib/dpkg/status.d/base.md5sums", "d41d8 usr/x"),
            ("var/lib/dpkg/status", status),
        ];
        assert_eq!(names(&distroless).0, ["b 1", "base 12"]);
    }

    #[test]
    fn damage_is_named_and_the_rest_is_kept() {
        let long = format!("Package: a\nVersion: {}\n", "1".repeat(2000));
        let cases = [
            (
                "Package: a\nVersion: 1\n\nVersion: 2\n",
                1,
                "line 4: a package without name, or with too long a one",
            ),
            (
                "Package: a\nVersion: 1\n\nPackage: b\nVersion:\n",
                1,
                "line 4: a package without version, or with too long a one",
            ),
            (
                "Package: a\nVersion: 1\n\nPackage: b\nrubbish\n",
                1,
                "line 5: neither a field nor the rest of one",
            ),
            (&long, 0, "line 1: a package without version, or with too long a one"),
        ];
        for (status, count, why) in cases {
            let (packages, unread) = names(&[("var/lib/dpkg/status", status)]);
            assert_eq!(packages.len(), count);
            assert_eq!(unread, [format!("/var/lib/dpkg/status, {why}")]);
        }
    }

    #[test]
    fn sources() {
        let source = |field: &str| source(field.as_bytes()).map(|source| (source.name, source.version));
        assert_eq!(source("glibc"), Some(("glibc".into(), None)));
        assert_eq!(source("gcc-12 (12.2.0-14)"), Some(("gcc-12".into(), Some("12.2.0-14".into()))));
        assert_eq!(source("x (1"), Some(("x".into(), None)));
        assert_eq!(source(""), None);
    }
}
