//! Mirrors of `registries.conf`, version 2, as podman and skopeo read it.
//! <https://github.com/containers/image/blob/v5.30.0/docs/containers-registries.conf.5.md>

use anyhow::{Context, Result};
use kiln_registry::Mirror;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Deserialize)]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    mirror: Vec<Location>,
}

#[derive(Deserialize)]
struct Location {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// The mirrors of the first of these files that is there.
pub fn mirrors(files: &[PathBuf]) -> Result<Vec<Mirror>> {
    for file in files {
        match read(file) {
            Ok(text) => return parse(&text).with_context(|| format!("cannot use {}", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }
    Ok(Vec::new())
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(text)
}

/// A registry's own `location`, where it differs from the prefix or is insecure, counts as the last mirror.
fn parse(text: &str) -> Result<Vec<Mirror>> {
    let configuration: Configuration = toml::from_str(text)?;
    let mut mirrors = Vec::new();
    for registry in configuration.registry {
        let Some(prefix) = registry.prefix.clone().or_else(|| registry.location.clone()) else { continue };
        // Of whole domains: images are asked for under their own names.
        if prefix.starts_with("*.") {
            continue;
        }
        let own = registry.location.filter(|location| *location != prefix || registry.insecure);
        let own = own.map(|location| Location { location, insecure: registry.insecure });
        mirrors.extend(registry.mirror.into_iter().chain(own).map(|mirror| Mirror {
            prefix: prefix.clone(),
            location: mirror.location,
            tls_verify: !mirror.insecure,
        }));
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_locations() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            prefix = "docker.io/library"
            location = "docker.io/library"
            [[registry.mirror]]
            location = "mirror.example.org/library"
            [[registry.mirror]]
            location = "localhost:5000"
            insecure = true
            [[registry]]
            prefix = "a.example.org"
            location = "b.example.org/a"
            [[registry]]
            location = "localhost:5001"
            insecure = true
            [[registry]]
            prefix = "*.example.org"
            location = "c.example.org"
        "#;
        let lines: Vec<String> = parse(text)
            .unwrap()
            .iter()
            .map(|mirror| format!("{} {} {}", mirror.prefix, mirror.location, mirror.tls_verify))
            .collect();
        let expected = [
            "docker.io/library mirror.example.org/library true",
            "docker.io/library localhost:5000 false",
            "a.example.org b.example.org/a true",
            "localhost:5001 localhost:5001 false",
        ];
        assert_eq!(lines, expected);
        assert!(parse("registry = 1").is_err());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn files_that_are_not_there_say_nothing() {
        assert!(mirrors(&["/nowhere/registries.conf".into()]).unwrap().is_empty());
    }
}
