//! Node's packages. <https://docs.npmjs.com/cli/v10/configuring-npm/package-json>

use super::{Database, Found, Manager, Package, package};
use crate::error::{Error, Problem};
use crate::reader::Reader;
use crate::text;
use kiln_image::path::MAX_PATH;
use serde::Deserialize;
use serde_json::Value;

/// Where node's own packages are, and an image's program usually.
const ROOTS: [&[u8]; 5] = [
    b"usr/lib/node_modules",
    b"usr/local/lib/node_modules",
    b"node_modules",
    b"app/node_modules",
    b"usr/src/app/node_modules",
];
/// Most bytes of a package's description of itself.
const LIMIT: u64 = 1 << 20;

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    let mut pending: Vec<Vec<u8>> = ROOTS.iter().rev().map(|root| root.to_vec()).collect();
    while let Some(modules) = pending.pop() {
        for name in reader.list(&modules) {
            let directory = [modules.as_slice(), b"/", &name].concat();
            // What is no directory, as a link to one, could lead in circles.
            if directory.len() > MAX_PATH || reader.locate(&directory).is_some() {
                continue;
            }
            if name.starts_with(b"@") {
                pending.push(directory);
                continue;
            }
            found.file(reader, &[&directory, &b"/package.json"[..]].concat(), LIMIT, parse)?;
            pending.push([&directory, &b"/node_modules"[..]].concat());
        }
    }
    Ok(())
}

/// Of `package.json`.
#[derive(Deserialize)]
struct PackageJson {
    name: Option<Value>,
    version: Option<Value>,
    author: Option<Value>,
    license: Option<Value>,
    description: Option<Value>,
    homepage: Option<Value>,
}

fn parse(database: &mut Database, contents: &[u8]) -> Result<(), Error> {
    let json: PackageJson = serde_json::from_slice(contents)
        .map_err(|error| database.error(Problem::line(error.line(), "not a package's JSON object")))?;
    // Parts of a package may have files of this name that only say what kind of module they are.
    let (Some(name), Some(version)) = (&json.name, &json.version) else {
        return Ok(());
    };
    let bytes = |value| text_of(value, "").map(str::as_bytes);
    let package = package(Manager::Npm, bytes(name), bytes(version))
        .map_err(|why| database.error(Problem::line(1, why)))?;
    let text = |value: &Option<Value>, key| {
        value.as_ref().and_then(|value| text_of(value, key)).and_then(|text| text::line(text.as_bytes()))
    };
    database.add(Package {
        supplier: text(&json.author, "name"),
        license: text(&json.license, "type"),
        description: text(&json.description, ""),
        homepage: text(&json.homepage, "url"),
        ..package
    })
}

/// A string, or that with a key in an object.
fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.as_str().or_else(|| value.get(key)?.as_str())
}

#[cfg(test)]
mod tests {
    use crate::files::fake::FakeFiles;
    use crate::packages::installed;

    #[test]
    fn nested_and_scoped() {
        let files = FakeFiles::of(&[
            (
                "usr/local/lib/node_modules/npm/package.json",
                r#"{"name":"npm","version":"10.1.0","license":{"type":"Artistic-2.0"},"author":{"name":"GitHub"},
                "description":"a manager","homepage":"https://example.org"}"#,
            ),
            (
                "usr/local/lib/node_modules/npm/node_modules/@a/b/package.json",
                r#"{"name":"@a/b","version":"1"}"#,
            ),
            ("app/node_modules/c/package.json", r#"{"type":"module"}"#),
            ("app/node_modules/d/package.json", "[1"),
            ("app/node_modules/.bin", ""),
        ]);
        let inventory = installed(&files).unwrap();
        let names: Vec<_> = inventory.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["@a/b", "npm"]);
        assert_eq!(inventory.packages[1].license.as_deref(), Some("Artistic-2.0"));
        assert_eq!(inventory.packages[1].supplier.as_deref(), Some("GitHub"));
        assert_eq!(
            inventory.unread[0].why,
            "/app/node_modules/d/package.json, line 1: not a package's JSON object"
        );
    }
}
