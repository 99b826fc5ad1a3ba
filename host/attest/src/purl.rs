//! Package URLs. <https://github.com/package-url/purl-spec>

use crate::os_release::Distribution;
use crate::packages::{Manager, Package, Source};
use kiln_image::digest::Digest;
use kiln_image::manifest::Platform;
use std::fmt::Write as _;

/// A package's, with `upstream` (the source package, as vulnerability scanners look it up) and `distro`.
pub(crate) fn of_package(package: &Package, distribution: Option<&Distribution>) -> String {
    let system = distribution.map(|distribution| distribution.id.as_str());
    let lower = || package.name.to_lowercase();
    let (kind, namespace, name) = match package.manager {
        Manager::Dpkg => ("deb", system, lower()),
        Manager::Apk => ("apk", system, lower()),
        Manager::Rpm => ("rpm", system, package.name.clone()),
        Manager::Pacman => ("alpm", system, lower()),
        Manager::Python => return language("pypi", None, &lower().replace('_', "-"), &package.version),
        Manager::Npm => return npm(package),
    };
    let (epoch, version) = epoch(package);
    let mut purl = base(kind, namespace, &name, version);
    let qualifiers = [
        ("arch", package.architecture.clone()),
        ("distro", distribution.map(distro)),
        ("epoch", epoch.map(str::to_owned)),
        ("upstream", package.source.as_ref().and_then(|source| upstream(package, source))),
    ];
    qualify(&mut purl, qualifiers);
    purl
}

/// An image's.
pub(crate) fn of_image(name: &str, digest: &Digest, platform: Option<&Platform>) -> String {
    let repository = name.rsplit('/').next().unwrap_or(name);
    let repository = repository.split(['@', ':']).next().unwrap_or(repository).to_lowercase();
    let repository = if repository.is_empty() { "image" } else { &repository };
    let mut purl = base("oci", None, repository, &digest.to_string());
    qualify(&mut purl, [("arch", platform.map(|platform| platform.architecture.clone()))]);
    purl
}

/// `@scope/name` has a namespace.
fn npm(package: &Package) -> String {
    match package.name.split_once('/') {
        Some((scope, name)) => language("npm", Some(scope), &name.to_lowercase(), &package.version),
        None => language("npm", None, &package.name.to_lowercase(), &package.version),
    }
}

fn language(kind: &str, namespace: Option<&str>, name: &str, version: &str) -> String {
    base(kind, namespace, name, version)
}

/// Of rpm, the epoch is apart.
fn epoch(package: &Package) -> (Option<&str>, &str) {
    match package.version.split_once(':') {
        Some((epoch, version)) if package.manager == Manager::Rpm => (Some(epoch), version),
        _ => (None, &package.version),
    }
}

fn distro(distribution: &Distribution) -> String {
    match &distribution.version {
        Some(version) => format!("{}-{version}", distribution.id),
        None => distribution.id.clone(),
    }
}

/// The source package, when it has another name or version than the package.
fn upstream(package: &Package, source: &Source) -> Option<String> {
    let version = source.version.as_ref().filter(|version| **version != package.version);
    match version {
        _ if package.manager == Manager::Rpm && source.name == package.name => None,
        Some(version) => Some(format!("{}@{version}", source.name)),
        None if source.name == package.name => None,
        None => Some(source.name.clone()),
    }
}

fn base(kind: &str, namespace: Option<&str>, name: &str, version: &str) -> String {
    let mut purl = format!("pkg:{kind}/");
    if let Some(namespace) = namespace {
        purl += &encoded(namespace);
        purl.push('/');
    }
    purl += &encoded(name);
    purl.push('@');
    purl += &encoded(version);
    purl
}

/// Appends those that there are, which are given sorted.
fn qualify<const N: usize>(purl: &mut String, qualifiers: [(&str, Option<String>); N]) {
    let given = qualifiers.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    for (index, (key, value)) in given.enumerate() {
        purl.push(if index == 0 { '?' } else { '&' });
        purl.extend([key, "=", &encoded(value)]);
    }
}

/// With everything in percent form but what the specification leaves as it is.
/// <https://github.com/package-url/purl-spec/blob/main/docs/standard/characters-and-encoding.md>
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            other => write!(encoded, "%{other:02X}").expect("a string takes everything"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(manager: Manager, name: &str, version: &str, arch: &str, source: &str) -> Package {
        let (source_name, source_version) = source.split_once(' ').unwrap_or((source, ""));
        let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Package {
            architecture: word(arch),
            source: word(source_name).map(|name| Source { name, version: word(source_version) }),
            ..Package::new(manager, name, version)
        }
    }

    #[test]
    fn packages() {
        let distribution = |id: &str, version: Option<&str>| Distribution {
            id: id.into(),
            version: version.map(Into::into),
            pretty_name: None,
        };
        let debian = distribution("debian", Some("12"));
        let alpine = distribution("alpine", Some("3.19.1"));
        let fedora = distribution("fedora", Some("39"));
        let arch = distribution("arch", None);
        use Manager::*;
        let cases = [
            (
                package(Dpkg, "bash", "5.2-1", "amd64", "bash"),
                Some(&debian),
                "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12",
            ),
            (
                package(Dpkg, "libstdc++6", "1:12.2~rc+1", "amd64", "gcc-12 12.2"),
                Some(&debian),
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2~rc%2B1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2",
            ),
            (
                package(Dpkg, "bash", "5.2-1+b7", "", "bash 5.2-1"),
                None,
                "pkg:deb/bash@5.2-1%2Bb7?upstream=bash%405.2-1",
            ),
            (
                package(Apk, "libcrypto3", "3.1.4-r5", "x86_64", "openssl"),
                Some(&alpine),
                "pkg:apk/alpine/libcrypto3@3.1.4-r5?arch=x86_64&distro=alpine-3.19.1&upstream=openssl",
            ),
            (
                package(Rpm, "vim", "2:9.0-1.fc39", "x86_64", "vim 9.0-1.fc39"),
                Some(&fedora),
                "pkg:rpm/fedora/vim@9.0-1.fc39?arch=x86_64&distro=fedora-39&epoch=2",
            ),
            (
                package(Pacman, "Zlib", "1:1.3-1", "any", "zlib"),
                Some(&arch),
                "pkg:alpm/arch/zlib@1:1.3-1?arch=any&distro=arch&upstream=zlib",
            ),
            (package(Python, "Foo_Bar", "1.0+x y", "", ""), Some(&debian), "pkg:pypi/foo-bar@1.0%2Bx%20y"),
            (package(Npm, "@scope/Name", "1.2.3", "", ""), Some(&debian), "pkg:npm/%40scope/name@1.2.3"),
            (package(Npm, "ä?#", "1", "", ""), None, "pkg:npm/%C3%A4%3F%23@1"),
        ];
        for (package, distribution, expected) in cases {
            assert_eq!(of_package(&package, distribution), expected);
        }
    }

    #[test]
    fn images() {
        let digest = Digest::of(b"");
        let platform = Platform::new("linux", "amd64");
        let purl = |name: &str| of_image(name, &digest, Some(&platform));
        assert_eq!(purl("example.org:5000/Team/App:1.0"), format!("pkg:oci/app@{digest}?arch=amd64"));
        assert_eq!(purl(""), format!("pkg:oci/image@{digest}?arch=amd64"));
        assert_eq!(of_image("app", &digest, None), format!("pkg:oci/app@{digest}"));
    }
}
