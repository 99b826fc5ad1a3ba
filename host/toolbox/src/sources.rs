//! Where packages come from: the archives of Debian that the system's apt knows, at the lock's releases. And what they offer now.

use crate::Error;
use crate::apt::{self, Apt, Said};
use crate::archives;
use crate::assemble::{Event, Observer, Settings};
use crate::error::Kind;
use crate::lock::{Lock, Package};
use kiln_image::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Debian's keys, where its package of them puts these. Without them apt takes the system's. A name of the system's package
/// `debian-archive-keyring`; the second is that of later releases.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Lines of sources.list(5) for these releases. <https://manpages.debian.org/trixie/apt/sources.list.5.en.html>
pub(crate) fn list(
    suites: &[&str],
    mirror: Option<&str>,
    directory: &Path,
    observer: &dyn Observer,
) -> Result<String, Error> {
    let mirrors = match mirror {
        Some(mirror) => BTreeSet::from([check_mirror(mirror)?.to_owned()]),
        None => mirrors_of(&apt::index_targets(directory, observer)?.output),
    };
    if mirrors.is_empty() {
        return Err(Kind::NoSource.into());
    }
    let keyring = KEYRINGS.iter().find(|keyring| Path::new(keyring).exists());
    let options = keyring.map(|keyring| format!("[signed-by={keyring}] ")).unwrap_or_default();
    let lines = mirrors.iter().flat_map(|mirror| suites.iter().map(move |suite| (mirror, suite)));
    Ok(lines.map(|(mirror, suite)| format!("deb {options}{mirror} {suite} main\n")).collect())
}

fn check_mirror(mirror: &str) -> Result<&str, Error> {
    let is_word =
        !mirror.contains(|char: char| char.is_whitespace() || char.is_control() || "[]".contains(char));
    let has_scheme = mirror.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty());
    if is_word && has_scheme && mirror.starts_with(|char: char| char.is_ascii_alphabetic()) {
        return Ok(mirror);
    }
    Err(Kind::Mirror(mirror.to_owned()).into())
}

/// Of lines of origin, release and address: Debian's, but for those of updates and security, which have other releases.
fn mirrors_of(targets: &str) -> BTreeSet<String> {
    let mirror = |line| match str::split_ascii_whitespace(line).collect::<Vec<_>>()[..] {
        ["Debian", codename, mirror] if !codename.contains('-') => {
            check_mirror(mirror).ok().map(str::to_owned)
        }
        _ => None,
    };
    targets.lines().filter_map(mirror).collect()
}

/// The lock with the versions that its releases have now.
///
/// # Errors
/// When apt, the network or Debian fail, or a package is no more.
pub fn renew(settings: &Settings, observer: &dyn Observer) -> Result<Lock, Error> {
    let home = archives::Home::open(&settings.cache)?;
    // Whoever holds it removes others' directories.
    let _held = home.lock(observer)?;
    let room = home.temporary()?;
    let old = &settings.lock;
    let sources = list(&old.suites(), settings.mirror.as_deref(), room.path(), observer)?;
    let apt = Apt::new(room.path(), &sources, observer)?;
    observer.event(Event::Phase("learning what Debian offers"));
    apt.update()?;
    let wanted: Vec<String> =
        old.packages.iter().map(|package| format!("{}/{}", package.name, package.suite)).collect();
    let said = apt.print_uris(&wanted)?;
    if !said.status.success() {
        return Err(not_offered(&old.packages.iter().collect::<Vec<_>>(), &said));
    }
    let offered = parse_offers(&said.output);
    let packages = old.packages.iter().map(|package| {
        let offer = offered.get(package.name.as_str()).copied();
        let offer = offer.ok_or_else(|| not_offered(&[package], &said))?;
        renewed(package, offer).ok_or_else(|| not_offered(&[package], &said))
    });
    // Read back: what apt said is not ours.
    Lock { packages: packages.collect::<Result<_, _>>()? }.to_string().parse()
}

/// A file of an archive, as apt says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer<'a> {
    file_name: &'a str,
    size: u64,
    digest: Digest,
}

/// Of lines `'address' name_version_architecture.deb size SHA256:hash`, by name.
fn parse_offers(text: &str) -> BTreeMap<&str, Offer<'_>> {
    let parse = |line| {
        let [_, file_name, size, hash] = str::split_ascii_whitespace(line).collect::<Vec<_>>()[..] else {
            return None;
        };
        let digest = Digest::from_hex(hash.strip_prefix("SHA256:")?)?;
        let (name, _) = file_name.split_once('_')?;
        Some((name, Offer { file_name, size: size.parse().ok()?, digest }))
    };
    text.lines().filter_map(parse).collect()
}

fn renewed(package: &Package, offer: Offer<'_>) -> Option<Package> {
    let mut parts = offer.file_name.strip_suffix(".deb")?.split('_');
    let (_, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Package {
        version: version.replace("%3a", ":"),
        architecture: architecture.to_owned(),
        size: offer.size,
        digest: offer.digest,
        ..package.clone()
    })
}

/// The error of packages that apt does not find, which it names.
pub(crate) fn not_offered(packages: &[&Package], said: &Said) -> Error {
    let is_named = |package: &&&Package| {
        let lines = said.errors.lines().filter(|line| line.starts_with("E:"));
        let mut words = lines.flat_map(|line| line.split([' ', '\'']));
        words.any(|word| word == package.name)
    };
    let mut missing: Vec<String> =
        packages.iter().filter(is_named).map(|package| package.with_version()).collect();
    if missing.is_empty() {
        missing = packages.iter().map(|package| package.with_version()).collect();
    }
    Kind::NotOffered { packages: missing, said: said.problems() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const HASH: &str = "2fd7b04f1b7caa29c4e683f5216e6af354a41e3cdcf6e75394d7cda680f9ab82";

    #[test]
    fn mirrors_are_debians_own() {
        let targets = "Debian bookworm http://a.example.org/debian/\n\
                       Debian bookworm-security http://a.example.org/debian-security/\n\
                       Debian trixie http://a.example.org/debian/\n\
                       Other bookworm http://b.example.org/\n\
                       broken\n";
        assert_eq!(Vec::from_iter(mirrors_of(targets)), ["http://a.example.org/debian/"]);
    }

    #[test]
    fn a_mirror_that_would_be_more_than_one_word_is_refused() {
        for good in ["http://localhost:80/debian/20260101T000000Z/", "file:/srv/debian", "mirror+file:/etc/x"]
        {
            assert_eq!(check_mirror(good).unwrap(), good);
        }
        for bad in ["", "x", "http://a b", "http://a\ndeb", "[trusted=yes]", "http://a[", "/srv/debian", ":x"]
        {
            let error = check_mirror(bad).unwrap_err();
            assert!(error.is_usage());
            assert!(error.to_string().starts_with(&format!("the mirror {bad:?} ")), "{error}");
        }
    }

    fn package(name: &str) -> Package {
        format!("{name} trixie 1 amd64 12 {HASH}").parse::<Lock>().unwrap().packages.remove(0)
    }

    #[test]
    fn offers_become_packages() {
        let text = format!(
            "'http://example.org/a_1_amd64.deb' a_2%3a1.5-1_all.deb 77 SHA256:{HASH}\nnoise\n\
             'http://example.org/b' b_1_amd64.deb many SHA256:{HASH}\n"
        );
        let offers = parse_offers(&text);
        assert_eq!(Vec::from_iter(offers.keys().copied()), ["a"]);
        let renewed = renewed(&package("a"), offers["a"]).unwrap();
        assert_eq!(renewed.to_string(), format!("a trixie 2:1.5-1 all 77 {HASH}"));
    }

    #[test]
    fn a_version_that_is_gone_is_named() {
        let errors = "E: Version '1' for 'b' was not found\n".to_owned();
        let said = Said { status: ExitStatus::from_raw(100 << 8), output: String::new(), errors };
        let packages = ["a", "b"].map(package);
        let error = not_offered(&packages.iter().collect::<Vec<_>>(), &said);
        assert!(error.is_not_offered());
        let text = error.to_string();
        assert!(
            text.starts_with("Debian no longer offers packages that the toolbox is locked to (b=1): renew"),
            "{text}"
        );
        assert!(text.ends_with("apt says: E: Version '1' for 'b' was not found"), "{text}");
    }
}
