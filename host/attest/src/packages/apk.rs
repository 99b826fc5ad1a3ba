//! Alpine's packages: lines of one letter, a colon and a value, packages apart by empty lines.
//! <https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2>

use super::{Database, Found, Manager, Package, Source, package};
use crate::error::{Error, Problem};
use crate::reader::{FILE_LIMIT, Reader};
use crate::text;

/// The second is where Alpine with a merged `/usr` has it.
const DATABASES: [&[u8]; 2] = [b"lib/apk/db/installed", b"usr/lib/apk/db/installed"];

/// The one of the two that there is: with a merged `/usr` both are the same file.
fn database(reader: &Reader) -> Option<&'static [u8]> {
    DATABASES.into_iter().find(|path| reader.locate(path).is_some())
}

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    match database(reader) {
        Some(path) => found.file(reader, path, FILE_LIMIT, parse),
        None => Ok(()),
    }
}

/// The values of interest of the package that is being read.
#[derive(Default)]
struct Record<'a> {
    /// Of its first line; zero when there is none yet.
    line: usize,
    name: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    architecture: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    maintainer: Option<&'a [u8]>,
    license: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    url: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    fn set(&mut self, number: usize, key: u8, value: &'a [u8]) {
        if self.line == 0 {
            self.line = number;
        }
        let field = match key {
            b'P' => &mut self.name,
            b'V' => &mut self.version,
            b'A' => &mut self.architecture,
            b'o' => &mut self.origin,
            b'm' => &mut self.maintainer,
            b'L' => &mut self.license,
            b'T' => &mut self.description,
            b'U' => &mut self.url,
            // Checksum, sizes, dependencies, files.
            _ => return,
        };
        *field = Some(value);
    }

    fn package(&self) -> Result<Package, Problem> {
        let package =
            package(Manager::Apk, self.name, self.version).map_err(|why| Problem::line(self.line, why))?;
        let text = |value: Option<&[u8]>| value.and_then(text::line);
        Ok(Package {
            architecture: text(self.architecture),
            source: text(self.origin).map(|name| Source { name, version: None }),
            supplier: text(self.maintainer),
            license: text(self.license),
            description: text(self.description),
            homepage: text(self.url),
            ..package
        })
    }
}

fn parse(database: &mut Database, contents: &[u8]) -> Result<(), Error> {
    let mut record = Record::default();
    for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
        match line {
            [] => finish(database, &mut record)?,
            [key, b':', value @ ..] => record.set(index + 1, *key, value),
            _ => return Err(database.error(Problem::line(index + 1, "neither a field nor an empty line"))),
        }
    }
    finish(database, &mut record)
}

fn finish(database: &mut Database, record: &mut Record) -> Result<(), Error> {
    let record = std::mem::take(record);
    if record.line == 0 {
        return Ok(());
    }
    let package = record.package().map_err(|problem| database.error(problem))?;
    database.add(package)
}

/// Calls `own` with each path of each package: the path without leading `/` and the package's name.
pub(crate) fn owned(reader: &Reader, own: &mut dyn FnMut(&[u8], &str)) -> Result<(), Error> {
    let Some(path) = database(reader) else {
        return Ok(());
    };
    let contents = reader.read(path, FILE_LIMIT)?.unwrap_or_default();
    let mut package = None;
    let mut directory: &[u8] = b"";
    for line in contents.split(|byte| *byte == b'\n') {
        match (line, &package) {
            ([], _) => package = None,
            ([b'P', b':', name @ ..], _) => package = text::identity(name),
            ([b'F', b':', path @ ..], _) => directory = path,
            ([b'R', b':', name @ ..], Some(package)) => own(&[directory, b"/", name].concat(), package),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fake::FakeFiles;
    use crate::packages::installed;

    const INSTALLED: &str = "C:Q1L+\nP:musl\nV:1.2.4-r2\nA:x86_64\nS:383459\nT:the musl c library (libc)\n\
        U:https://musl.libc.org/\nL:MIT\no:musl\nm:Timo <timo@example.org>\nF:lib\nR:ld-musl-x86_64.so.1\n\
        a:0:0:755\nZ:Q1a\n\nP:zlib\nV:1.2.13-r1\n";

    #[test]
    fn every_field() {
        let inventory = installed(&FakeFiles::of(&[("lib/apk/db/installed", INSTALLED)])).unwrap();
        let musl = Package {
            architecture: Some("x86_64".into()),
            source: Some(Source { name: "musl".into(), version: None }),
            supplier: Some("Timo <timo@example.org>".into()),
            license: Some("MIT".into()),
            description: Some("the musl c library (libc)".into()),
            homepage: Some("https://musl.libc.org/".into()),
            database: "lib/apk/db/installed".into(),
            ..Package::new(Manager::Apk, "musl", "1.2.4-r2")
        };
        assert_eq!(inventory.packages[0], musl);
        assert_eq!(inventory.packages[1].name, "zlib");
        assert_eq!((inventory.packages.len(), inventory.unread.len()), (2, 0));
    }

    #[test]
    fn damage_is_named() {
        let cases = [
            ("P:a\nV:1\n\nV:2\n", "line 4: a package without name, or with too long a one"),
            ("P:a\nV:1\nrubbish\n", "line 3: neither a field nor an empty line"),
        ];
        for (contents, why) in cases {
            let inventory = installed(&FakeFiles::of(&[("usr/lib/apk/db/installed", contents)])).unwrap();
            assert_eq!(inventory.unread[0].why, format!("/usr/lib/apk/db/installed, {why}"));
        }
    }
}
