//! Red Hat's packages: headers in a table of an SQLite database.
//! <https://rpm-software-management.github.io/rpm/manual/>

use super::rpm_header::{Header, Tag};
use super::{Found, Manager, Package, Source, package};
use crate::error::{Error, Kind, Path, Problem};
use crate::reader::Reader;
use crate::{sqlite, text};

/// Where rpm keeps its database: of old, now, and of systems made with OSTree.
const DIRECTORIES: [&str; 3] = ["usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"];
const DATABASE: &str = "rpmdb.sqlite";
/// What would have to be read too to know all packages, and is not.
const NOT_READ: [(&str, &str); 4] = [
    ("Packages", "it is a Berkeley DB (convert it with rpmdb --rebuilddb)"),
    ("Packages.db", "it is an NDB database (convert it with rpmdb --rebuilddb)"),
    ("rpmdb.sqlite-journal", "it is a transaction that was not finished"),
    ("rpmdb.sqlite-wal", "it has changes that are not in the database yet"),
];
/// Most bytes of the database: it has every file of every package in it.
const LIMIT: u64 = 512 << 20;
/// Most directories of a package.
const MAX_DIRECTORIES: usize = 1 << 20;
const TABLE: &str = "Packages";
const BLOB_COLUMN: usize = 1;
/// Names of the keys that packages are signed with, which rpm keeps as packages.
const PUBLIC_KEY: &[u8] = b"gpg-pubkey";

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    for directory in directories(reader) {
        let path = format!("{directory}/{DATABASE}");
        found.file(reader, path.as_bytes(), LIMIT, |database, contents| {
            let mut add = |row, header: Header| {
                let package = of_header(&header).map_err(|why| database.error(Problem::row(row, why)))?;
                package.map_or(Ok(()), |package| database.add(package))
            };
            headers(path.as_bytes(), contents, &mut add)
        })?;
        for (name, why) in NOT_READ {
            let path = format!("{directory}/{name}");
            if has_contents(reader, path.as_bytes())? {
                let error = Kind::Unsupported { path: Path::new(path.as_bytes()), why };
                found.note(path.as_bytes(), Err(error.into()))?;
            }
        }
    }
    Ok(())
}

fn has_contents(reader: &Reader, path: &[u8]) -> Result<bool, Error> {
    match reader.read(path, 0) {
        Ok(_) => Ok(false),
        Err(error) if error.is_io() => Err(error),
        // There is more than nothing.
        Err(_) => Ok(true),
    }
}

/// Where there are databases: each once, though `var/lib/rpm` often is a link to another.
fn directories(reader: &Reader) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut is_new = |directory: &str| {
        let files = [DATABASE].into_iter().chain(NOT_READ.map(|(name, _)| name));
        let place = files.filter_map(|name| reader.locate(format!("{directory}/{name}").as_bytes())).next();
        let is_new = place.as_ref().is_some_and(|place| !seen.contains(place));
        seen.extend(place);
        is_new
    };
    DIRECTORIES.into_iter().filter(|directory| is_new(directory)).collect()
}

/// Calls `visit` with each package's row and header.
fn headers(
    path: &[u8],
    contents: &[u8],
    visit: &mut dyn FnMut(i64, Header) -> Result<(), Error>,
) -> Result<(), Error> {
    let table = sqlite::Database::open(contents).map_err(|problem| problem.of(path))?;
    let mut result = Ok(());
    let scanned = table.rows(TABLE, &mut |(row, columns)| {
        let blob = columns.get(BLOB_COLUMN).and_then(sqlite::Value::blob);
        let header = blob.ok_or("a package without header").and_then(Header::parse);
        let header = header.map_err(|why| Stop::Problem(Problem::row(row, why)))?;
        visit(row, header).map_err(|error| {
            result = Err(error);
            Stop::Told
        })
    });
    match scanned {
        Err(Stop::Problem(problem)) => Err(problem.of(path)),
        _ => result,
    }
}

/// Why a scan of the table ended early.
enum Stop {
    Problem(Problem),
    /// The visitor had an error.
    Told,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

fn of_header(header: &Header) -> Result<Option<Package>, &'static str> {
    if header.string(Tag::Name) == Some(PUBLIC_KEY) {
        return Ok(None);
    }
    let package = package(Manager::Rpm, header.string(Tag::Name), evr(header).as_deref())?;
    let text = |tag| header.string(tag).and_then(text::line).filter(|word| word != "(none)");
    Ok(Some(Package {
        architecture: text(Tag::Arch),
        source: header.string(Tag::SourceRpm).and_then(source),
        supplier: text(Tag::Vendor).or_else(|| text(Tag::Packager)),
        license: text(Tag::License),
        description: header.string(Tag::Summary).and_then(text::first_line),
        homepage: text(Tag::Url),
        ..package
    }))
}

/// `[EPOCH:]VERSION-RELEASE`; an epoch of zero is none.
fn evr(header: &Header) -> Option<Vec<u8>> {
    let epoch = header.numbers(Tag::Epoch).next().filter(|epoch| *epoch > 0);
    let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let (version, release) = (header.string(Tag::Version)?, header.string(Tag::Release)?);
    Some([epoch.as_bytes(), version, b"-", release].concat())
}

/// `NAME-VERSION-RELEASE.src.rpm`.
fn source(file: &[u8]) -> Option<Source> {
    let stem = file.strip_suffix(b".src.rpm").or_else(|| file.strip_suffix(b".nosrc.rpm"))?;
    let mut hyphens = stem.iter().enumerate().rev().filter(|(_, byte)| **byte == b'-').map(|(at, _)| at);
    let before_version = hyphens.nth(1)?;
    let (name, version) = (&stem[..before_version], &stem[before_version + 1..]);
    Some(Source { name: text::identity(name)?, version: text::identity(version) })
}

/// Calls `own` with each path of each package: the path as rpm spells it and the package's name.
pub(crate) fn owned(reader: &Reader, own: &mut dyn FnMut(&[u8], &str)) -> Result<(), Error> {
    for directory in directories(reader) {
        let path = format!("{directory}/{DATABASE}");
        let Some(contents) = reader.read(path.as_bytes(), LIMIT)? else {
            continue;
        };
        headers(path.as_bytes(), &contents, &mut |_, header| {
            files(&header, own);
            Ok(())
        })?;
    }
    Ok(())
}

/// A file is the name of its directory, by its index, and its own.
fn files(header: &Header, own: &mut dyn FnMut(&[u8], &str)) {
    let Some(package) = header.string(Tag::Name).and_then(text::identity) else {
        return;
    };
    let directories: Vec<_> = header.strings(Tag::DirNames).take(MAX_DIRECTORIES).collect();
    for (name, directory) in header.strings(Tag::BaseNames).zip(header.numbers(Tag::DirIndexes)) {
        if let Some(directory) = directories.get(directory as usize) {
            own(&[directory, name].concat(), &package);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpm_header::build::{Given, header};
    use super::*;

    #[test]
    fn every_field() {
        let blob = header(&[
            (Tag::Name, Given::Text("vim-minimal")),
            (Tag::Version, Given::Text("9.0")),
            (Tag::Release, Given::Text("1.fc39")),
            (Tag::Epoch, Given::Numbers(&[2])),
            (Tag::Summary, Given::Text("A minimal version\nof vim")),
            (Tag::Vendor, Given::Text("Fedora Project")),
            (Tag::License, Given::Text("Vim AND MIT")),
            (Tag::Url, Given::Text("https://www.vim.org/")),
            (Tag::Arch, Given::Text("x86_64")),
            (Tag::SourceRpm, Given::Text("vim-x-9.0-1.fc39.src.rpm")),
        ]);
        let expected = Package {
            architecture: Some("x86_64".into()),
            source: Some(Source { name: "vim-x".into(), version: Some("9.0-1.fc39".into()) }),
            supplier: Some("Fedora Project".into()),
            license: Some("Vim AND MIT".into()),
            description: Some("A minimal version".into()),
            homepage: Some("https://www.vim.org/".into()),
            ..Package::new(Manager::Rpm, "vim-minimal", "2:9.0-1.fc39")
        };
        assert_eq!(of_header(&Header::parse(&blob).unwrap()).unwrap(), Some(expected));
    }

    #[test]
    fn sources_and_keys() {
        assert_eq!(source(b"(none)"), None);
        assert_eq!(source(b"a-1.src.rpm"), None);
        assert_eq!(source(b"a-1-2.nosrc.rpm").unwrap().name, "a");
        let key = header(&[(Tag::Name, Given::Text("gpg-pubkey"))]);
        assert_eq!(of_header(&Header::parse(&key).unwrap()).unwrap(), None);
        let nameless = header(&[(Tag::Version, Given::Text("1"))]);
        assert!(
            of_header(&Header::parse(&nameless).unwrap()).unwrap_err().starts_with("a package without name")
        );
    }

    #[test]
    fn files_by_directory() {
        let blob = header(&[
            (Tag::Name, Given::Text("p")),
            (Tag::DirNames, Given::Texts(&["/usr/bin/", "/etc/"])),
            (Tag::BaseNames, Given::Texts(&["p", "p.conf", "lost"])),
            (Tag::DirIndexes, Given::Numbers(&[0, 1, 9])),
        ]);
        let mut owned = Vec::new();
        files(&Header::parse(&blob).unwrap(), &mut |path, package| {
            owned.push(format!("{} {package}", String::from_utf8_lossy(path)));
        });
        assert_eq!(owned, ["/usr/bin/p p", "/etc/p.conf p"]);
    }
}
