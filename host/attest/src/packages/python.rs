//! Python's packages.
//! <https://packaging.python.org/en/latest/specifications/core-metadata/>

use super::stanza::{Stanza, stanzas};
use super::{Database, Found, Manager, Package, package};
use crate::error::{Error, Problem};
use crate::reader::Reader;
use crate::text;

/// Where there are directories `python3.11`.
const LIBRARIES: [&[u8]; 4] = [b"usr/lib", b"usr/lib64", b"usr/local/lib", b"usr/local/lib64"];
const SITES: [&[u8]; 2] = [b"site-packages", b"dist-packages"];
/// Most bytes of a package's metadata, which has its whole manual in it.
const LIMIT: u64 = 4 << 20;

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    for library in LIBRARIES {
        for python in reader.list(library).iter().filter(|name| name.starts_with(b"python")) {
            for site in SITES {
                read_site(reader, found, &[library, python, site].join(&b'/'))?;
            }
        }
    }
    Ok(())
}

fn read_site(reader: &Reader, found: &mut Found, site: &[u8]) -> Result<(), Error> {
    for name in reader.list(site) {
        let metadata: &[&[u8]] = if name.ends_with(b".dist-info") {
            &[b"/METADATA"]
        } else if name.ends_with(b".egg-info") {
            &[b"/PKG-INFO", b""]
        } else {
            &[]
        };
        for file in metadata {
            // One path for each file: `lib64` may be a link to `lib`.
            if let Some(path) = reader.locate(&[site, b"/", &name, file].concat()) {
                found.file(reader, &path, LIMIT, parse)?;
            }
        }
    }
    Ok(())
}

/// The first stanza: the manual follows.
fn parse(database: &mut Database, contents: &[u8]) -> Result<(), Error> {
    let stanza = stanzas(contents).next().unwrap_or_else(|| Ok(Stanza::default()));
    let stanza = stanza.map_err(|problem| database.error(problem))?;
    let package = package(Manager::Python, stanza.get("Name"), stanza.get("Version"))
        .map_err(|why| database.error(Problem::line(1, why)))?;
    database.add(Package {
        supplier: stanza.text("Author-email").or_else(|| stanza.text("Author")),
        license: license(&stanza),
        description: stanza.text("Summary"),
        homepage: stanza.text("Home-page").or_else(|| homepage(&stanza)),
        ..package
    })
}

/// An SPDX expression, or a word, or the last part of `License :: OSI Approved :: MIT License`.
fn license(stanza: &Stanza) -> Option<String> {
    let classified = || {
        let text = stanza.all("Classifier").find(|text| text.starts_with(b"License ::"))?;
        text::line(text.rsplit(|byte| *byte == b':').next()?)
    };
    stanza.text("License-Expression").or_else(|| stanza.text("License")).or_else(classified)
}

/// `Project-URL: Homepage, https://example.org`.
fn homepage(stanza: &Stanza) -> Option<String> {
    let address = |value: &[u8]| {
        let comma = value.iter().position(|byte| *byte == b',')?;
        value[..comma].eq_ignore_ascii_case(b"homepage").then(|| text::line(&value[comma + 1..]))?
    };
    stanza.all("Project-URL").find_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fake::FakeFiles;
    use crate::packages::installed;

    const REQUESTS: &str = "Metadata-Version: 2.1\nName: requests\nVersion: 2.31.0\nSummary: Python HTTP.\n\
        Author-email: Kenneth <me@example.org>\nClassifier: License :: OSI Approved :: Apache Software License\n\
        Project-URL: Source, https://example.org/s\nProject-URL: Homepage, https://example.org\n\n# Requests\n";

    #[test]
    fn every_field_and_nothing_of_the_system() {
        let system = "usr/lib/python3/dist-packages/six-1.16.egg-info";
        let path = "usr/local/lib/python3.11/site-packages/requests-2.31.0.dist-info/METADATA";
        let files = FakeFiles::of(&[
            (path, REQUESTS),
            (system, "Name: six\nVersion: 1.16\n"),
            ("var/lib/dpkg/info/python3-six.list", "/usr/lib/python3/dist-packages/six-1.16.egg-info\n"),
            ("usr/lib/python3/dist-packages/bad.dist-info/METADATA", "Name: bad\n"),
        ]);
        let inventory = installed(&files).unwrap();
        let requests = Package {
            supplier: Some("Kenneth <me@example.org>".into()),
            license: Some("Apache Software License".into()),
            description: Some("Python HTTP.".into()),
            homepage: Some("https://example.org".into()),
            database: path.into(),
            ..Package::new(Manager::Python, "requests", "2.31.0")
        };
        assert_eq!(inventory.packages, [requests]);
        assert_eq!(inventory.unread.len(), 1);
    }
}
