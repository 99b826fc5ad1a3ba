//! Arch's packages: for each a directory with `desc` and `files`, of sections headed by `%NAME%`.
//! <https://man.archlinux.org/man/alpm-db-desc.5.en>

use super::{Database, Found, Manager, Package, Source, package};
use crate::error::{Error, Problem};
use crate::reader::{FILE_LIMIT, Reader};
use crate::text;

const LOCAL: &[u8] = b"var/lib/pacman/local";

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    for name in reader.list(LOCAL) {
        found.file(reader, &file(&name, b"desc"), FILE_LIMIT, parse)?;
    }
    Ok(())
}

fn file(package: &[u8], name: &[u8]) -> Vec<u8> {
    [LOCAL, package, name].join(&b'/')
}

fn parse(database: &mut Database, contents: &[u8]) -> Result<(), Error> {
    let first = |name: &str| section(contents, name).next();
    let text = |name: &str| first(name).and_then(text::line);
    let package = package(Manager::Pacman, first("NAME"), first("VERSION"))
        .map_err(|why| database.error(Problem::line(1, why)))?;
    // Several licences are all to be kept: SPDX's AND.
    let licenses: Vec<_> = section(contents, "LICENSE").filter_map(text::line).collect();
    database.add(Package {
        architecture: text("ARCH"),
        source: text("BASE").map(|name| Source { name, version: None }),
        supplier: text("PACKAGER"),
        license: text::line(licenses.join(" AND ").as_bytes()),
        description: text("DESC"),
        homepage: text("URL"),
        ..package
    })
}

/// The lines below a heading, up to an empty one.
fn section<'a>(contents: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let heading = format!("%{name}%").into_bytes();
    let mut lines = contents.split(|byte| *byte == b'\n');
    lines.by_ref().find(|line| *line == heading);
    lines.take_while(|line| !line.is_empty())
}

/// Calls `own` with each path of each package: the path without leading `/` and the package's name.
pub(crate) fn owned(reader: &Reader, own: &mut dyn FnMut(&[u8], &str)) -> Result<(), Error> {
    for directory in reader.list(LOCAL) {
        let desc = reader.read(&file(&directory, b"desc"), FILE_LIMIT)?.unwrap_or_default();
        let Some(package) = section(&desc, "NAME").next().and_then(text::identity) else {
            continue;
        };
        let files = reader.read(&file(&directory, b"files"), FILE_LIMIT)?.unwrap_or_default();
        for path in section(&files, "FILES") {
            own(path, &package);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fake::FakeFiles;
    use crate::packages::installed;

    #[test]
    fn every_field() {
        let desc = "%NAME%\nbash\n\n%VERSION%\n5.2.037-1\n\n%BASE%\nbash\n\n%DESC%\nThe GNU shell\n\n\
            %URL%\nhttps://www.gnu.org/software/bash/\n\n%ARCH%\nx86_64\n\n%PACKAGER%\nA <a@example.org>\n\n\
            %LICENSE%\nGPL-3.0-or-later\nMIT\n\n%DEPENDS%\nglibc\n";
        let files = FakeFiles::of(&[
            ("var/lib/pacman/local/bash-5.2.037-1/desc", desc),
            ("var/lib/pacman/local/ALPM_DB_VERSION", "9"),
            ("var/lib/pacman/local/bad/desc", "%NAME%\n\n"),
        ]);
        let inventory = installed(&files).unwrap();
        let bash = Package {
            architecture: Some("x86_64".into()),
            source: Some(Source { name: "bash".into(), version: None }),
            supplier: Some("A <a@example.org>".into()),
            license: Some("GPL-3.0-or-later AND MIT".into()),
            description: Some("The GNU shell".into()),
            homepage: Some("https://www.gnu.org/software/bash/".into()),
            database: "var/lib/pacman/local/bash-5.2.037-1/desc".into(),
            ..Package::new(Manager::Pacman, "bash", "5.2.037-1")
        };
        assert_eq!(inventory.packages, [bash]);
        assert_eq!(inventory.unread[0].path, "var/lib/pacman/local/bad/desc");
    }
}
