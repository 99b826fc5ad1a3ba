//! Root file systems made to do harm: nothing panics, memory and time are bounded, and what was not read
//! is named.

use kiln_attest::packages::{Inventory, installed};
use kiln_attest::{Files, owners};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;

/// A file's contents, which may be many times those bytes.
#[derive(Clone)]
struct Repeated {
    unit: Vec<u8>,
    size: u64,
}

#[derive(Default)]
struct System(BTreeMap<Vec<u8>, Repeated>);

impl System {
    fn with(mut self, path: &str, unit: &[u8]) -> Self {
        self.0.insert(path.into(), Repeated { unit: unit.to_vec(), size: unit.len() as u64 });
        self
    }

    fn with_repeated(mut self, path: &str, unit: &str, size: u64) -> Self {
        self.0.insert(path.into(), Repeated { unit: unit.into(), size });
        self
    }
}

impl Files for System {
    fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = |file: &Repeated| {
            let size = usize::try_from(file.size.min(limit)).unwrap();
            let mut bytes = file.unit.repeat(size / file.unit.len().max(1) + 1);
            bytes.truncate(size);
            bytes
        };
        Ok(self.0.get(path).map(bytes))
    }

    fn list(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let prefix = [directory, b"/"].concat();
        let rest = self.0.keys().filter_map(|path| path.strip_prefix(prefix.as_slice()));
        let mut names: Vec<_> =
            rest.filter_map(|rest| rest.split(|byte| *byte == b'/').next()).map(<[u8]>::to_vec).collect();
        names.dedup();
        names
    }

    fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.0.contains_key(path).then(|| path.to_vec())
    }
}

fn reasons(inventory: &Inventory) -> Vec<&str> {
    inventory.unread.iter().map(|unread| unread.why.as_str()).collect()
}

const STATUS: &str = "var/lib/dpkg/status";

#[test]
fn sizes_are_bounded() {
    let cases = [
        (STATUS, 1 << 60, "/var/lib/dpkg/status is larger than the 67108864 bytes that are read of it"),
        (
            "lib/apk/db/installed",
            1 << 40,
            "/lib/apk/db/installed is larger than the 67108864 bytes that are read of it",
        ),
        ("etc/os-release", 1 << 20, "/etc/os-release is larger than the 65536 bytes that are read of it"),
        (
            "app/node_modules/x/package.json",
            1 << 30,
            "/app/node_modules/x/package.json is larger than the 1048576 bytes that are read of it",
        ),
        (
            "usr/lib/python3/site-packages/x.egg-info",
            1 << 30,
            "/usr/lib/python3/site-packages/x.egg-info is larger than the 4194304 bytes that are read of it",
        ),
    ];
    for (path, size, why) in cases {
        let inventory = installed(&System::default().with_repeated(path, "\n", size)).unwrap();
        assert_eq!(reasons(&inventory), [why]);
    }
}

#[test]
fn many_names_of_a_large_file_are_bounded() {
    let path = |index| format!("var/lib/dpkg/status.d/{index:02}");
    let system = (0..20).fold(System::default(), |system, index| {
        system.with_repeated(
            &path(index),
            " \n# a note that is long enough to be read fast .................\n",
            60 << 20,
        )
    });
    let inventory = installed(&system).unwrap();
    assert_eq!(inventory.unread.len(), 3);
    assert!(
        inventory.unread[0].why.ends_with("the package databases have more than 1073741824 bytes together")
    );
}

#[test]
fn packages_are_counted() {
    let system = System::default().with_repeated(STATUS, "Package: a\nVersion: 1\n\n", 23 * 300_000);
    let inventory = installed(&system).unwrap();
    assert_eq!(reasons(&inventory), ["/var/lib/dpkg/status: more than 250000 packages"]);
    // They are all the same.
    assert_eq!(inventory.packages.len(), 1);
}

#[test]
fn words_are_made_plain() {
    let status =
        b"Package: a\nVersion: 1\nMaintainer: J\xf6rg \x1b[2J\x07 <j@example.org>\nHomepage: \xff\n\n\
        Package: \xc3\xa4\nVersion: 2";
    let inventory = installed(&System::default().with(STATUS, status)).unwrap();
    let [a, b] = inventory.packages.as_slice() else { panic!("{inventory:?}") };
    assert_eq!(a.supplier.as_deref(), Some("J\u{fffd}rg  [2J  <j@example.org>"));
    assert_eq!(a.homepage.as_deref(), Some("\u{fffd}"));
    assert_eq!(b.name, "ä");
    assert_eq!(b.purl(None), "pkg:deb/%C3%A4@2");
}

#[test]
fn paths_in_messages_are_escaped() {
    let system = System::default().with("var/lib/dpkg/status.d/a\u{1b}\nb", b"rubbish");
    let inventory = installed(&system).unwrap();
    assert_eq!(
        reasons(&inventory),
        [r"/var/lib/dpkg/status.d/a\u{1b}\nb, line 1: neither a field nor the rest of one"]
    );
}

/// Fails for one file.
struct Broken;

impl Files for Broken {
    fn read(&self, path: &[u8], _: u64) -> io::Result<Option<Vec<u8>>> {
        if path == STATUS.as_bytes() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) }
    }

    fn list(&self, _: &[u8]) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        Some(path.to_vec())
    }
}

#[test]
fn what_the_caller_cannot_read_is_the_callers_error() {
    let error = installed(&Broken).unwrap_err();
    assert!(error.is_io() && !error.is_corrupt());
    assert_eq!(error.to_string(), "cannot read /var/lib/dpkg/status");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "unexpected end of file");
}

const PATHS: [&str; 14] = [
    STATUS,
    "var/lib/dpkg/status.d/a",
    "var/lib/dpkg/info/a:b.list",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages",
    "var/lib/pacman/local/a/desc",
    "var/lib/pacman/local/a/files",
    "etc/os-release",
    "usr/lib/os-release",
    "usr/lib/python3.11/site-packages/a.dist-info/METADATA",
    "usr/local/lib/python3/dist-packages/a.egg-info/PKG-INFO",
    "usr/lib/node_modules/a/package.json",
    "usr/lib/node_modules/@a/b/package.json",
];

/// Words of all formats, in any order.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"Package: a\n".to_vec()),
        Just(b"Version: 1:2-3\n".to_vec()),
        Just(b"Name: x\n".to_vec()),
        Just(b"P:a\nV:1\n".to_vec()),
        Just(b"%NAME%\na\n".to_vec()),
        Just(b"%VERSION%\n".to_vec()),
        Just(b"ID=\"a".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"{\"name\":[\"a\"],".to_vec()),
        Just(b"\"version\":\"\\u0000\"}".to_vec()),
        Just(b"SQLite format 3\0\x02\x00\x01\x01\x00".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn nothing_panics(files in proptest::collection::vec((0..PATHS.len(), contents()), 0..6)) {
        let system = files.iter().fold(System::default(), |system, (path, contents)| system.with(PATHS[*path], contents));
        let inventory = installed(&system).unwrap();
        prop_assert_eq!(&inventory, &installed(&system).unwrap());
        for package in &inventory.packages {
            prop_assert!(!package.name.is_empty() && !package.version.is_empty());
            prop_assert!(package.purl(inventory.distribution.as_ref()).is_ascii());
        }
        let _ = owners(&system);
    }
}
