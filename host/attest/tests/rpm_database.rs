//! An rpm database made by SQLite itself, through Python's `sqlite3`: page sizes, overflow chains and
//! trees of several levels are as SQLite makes them, not as our reader thinks they are.

use kiln_attest::packages::{Inventory, installed};
use kiln_attest::{Files, owners};
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Standard input: lines of key and header in hexadecimal. Arguments: database, page size.
const MAKE: &str = r#"
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute(f"PRAGMA page_size = {sys.argv[2]}")
database.execute("CREATE TABLE Other (a TEXT, b REAL)")
database.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
database.execute("CREATE TABLE 'Name' (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
database.execute("CREATE INDEX Name_key ON Name(key)")
for line in sys.stdin:
    key, blob = line.split()
    database.execute("INSERT INTO Packages VALUES (?, ?)", (int(key), bytes.fromhex(blob)))
    database.execute("INSERT INTO Other VALUES (?, ?)", ("x" * 100, 1.5))
database.commit()
"#;

/// Tags of a header and the types of their values.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const DESCRIPTION: u32 = 1005;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// A header of one value for each tag.
fn header(tags: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, kind, value) in tags {
        let offset = u32::try_from(store.len()).unwrap();
        index.extend([*tag, *kind, offset, 1].map(u32::to_be_bytes).concat());
        store.extend_from_slice(value);
    }
    let sizes = [tags.len(), store.len()].map(|size| u32::try_from(size).unwrap().to_be_bytes());
    [sizes.concat(), index, store].concat()
}

/// A package with a file `/usr/bin/pNUMBER` and a description of some bytes.
fn package(number: usize, description: usize) -> Vec<u8> {
    let name = format!("p{number}\0");
    let description = [vec![b'd'; description], vec![0]].concat();
    header(&[
        (DIR_INDEXES, INT32, &[0; 4]),
        (NAME, STRING, name.as_bytes()),
        (VERSION, STRING, b"1\0"),
        (RELEASE, STRING, b"2\0"),
        (DESCRIPTION, STRING, &description),
        (BASE_NAMES, STRING_ARRAY, name.as_bytes()),
        (DIR_NAMES, STRING_ARRAY, b"/usr/bin/\0"),
    ])
}

fn make(page_size: u32, packages: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rpmdb.sqlite");
    let mut python = Command::new("python3")
        .args(["-c", MAKE, path.to_str().unwrap(), &page_size.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("this test needs python3, with its module sqlite3");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = packages.iter().map(|(key, blob)| format!("{key} {}\n", hex(blob))).collect();
    python.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success(), "python3 could not make the database");
    std::fs::read(path).unwrap()
}

/// A root file system of one database, where every path is a file.
struct System {
    path: &'static str,
    database: Vec<u8>,
}

impl Files for System {
    fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        let cut = |bytes: &[u8]| bytes[..bytes.len().min(usize::try_from(limit).unwrap())].to_vec();
        Ok((path == self.path.as_bytes()).then(|| cut(&self.database)))
    }

    fn list(&self, _: &[u8]) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        (path == self.path.as_bytes() || path.starts_with(b"usr/bin/")).then(|| path.to_vec())
    }
}

fn system(database: Vec<u8>) -> System {
    System { path: "var/lib/rpm/rpmdb.sqlite", database }
}

fn names(inventory: &Inventory) -> Vec<String> {
    let name = |package: &kiln_attest::packages::Package| format!("{} {}", package.name, package.version);
    inventory.packages.iter().map(name).collect()
}

#[test]
fn every_page_size() {
    for page_size in [512, 1024, 4096, 65536] {
        // Around the sizes where a row begins to overflow, and far beyond.
        let size = |number: usize| number * 61 % 5000 + if number.is_multiple_of(50) { 200_000 } else { 0 };
        let packages: Vec<_> =
            (0..300).map(|number| (number as i64 * 7 - 9, package(number, size(number)))).collect();
        let system = system(make(page_size, &packages));
        let inventory = installed(&system).unwrap();
        let mut expected: Vec<_> = (0..300).map(|number| format!("p{number} 1-2")).collect();
        expected.sort();
        assert_eq!((names(&inventory), inventory.unread), (expected, vec![]), "{page_size}");
        let owners = owners(&system).unwrap();
        assert_eq!(owners.len(), 300);
        assert_eq!(owners[&b"usr/bin/p17"[..]], "p17");
    }
}

#[test]
fn a_row_at_each_size_around_the_overflow() {
    let packages: Vec<_> = (0..700).map(|number| (number as i64, package(number, number))).collect();
    let inventory = installed(&system(make(512, &packages))).unwrap();
    assert_eq!((inventory.packages.len(), inventory.unread.len()), (700, 0));
}

#[test]
fn damage_anywhere_is_an_error_or_a_shorter_list() {
    let packages: Vec<_> = (0..40).map(|number| (number as i64, package(number, number * 40))).collect();
    let whole = make(512, &packages);
    for length in (0..whole.len()).step_by(97) {
        let inventory = installed(&system(whole[..length].to_vec())).unwrap();
        assert!(inventory.packages.len() == 40 || inventory.unread.len() == 1, "{length}");
    }
    // Every byte once, with the worst values for sizes and page numbers.
    for at in (0..whole.len()).step_by(13) {
        for byte in [0, 0xff, whole[at] ^ 1] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            assert!(installed(&system(damaged)).unwrap().packages.len() <= 42, "{at}");
        }
    }
}

#[test]
fn pages_are_used_once() {
    let whole = make(512, &(0..40).map(|number| (number, package(7, 300))).collect::<Vec<_>>());
    // The root of the schema leads to itself.
    let mut cycle = whole.clone();
    cycle[100] = 0x05;
    cycle[103..105].copy_from_slice(&[0, 0]);
    cycle[108..112].copy_from_slice(&[0, 0, 0, 1]);
    let unread = installed(&system(cycle)).unwrap().unread;
    assert_eq!(unread[0].why, "/var/lib/rpm/rpmdb.sqlite, byte 108: a page that is used twice");
}

#[test]
fn other_kinds_of_databases_are_named() {
    for (path, why) in [
        ("var/lib/rpm/Packages", "it is a Berkeley DB (convert it with rpmdb --rebuilddb)"),
        ("usr/lib/sysimage/rpm/Packages.db", "it is an NDB database (convert it with rpmdb --rebuilddb)"),
    ] {
        let inventory = installed(&System { path, database: b"x".to_vec() }).unwrap();
        assert_eq!(inventory.unread[0].why, format!("/{path} is not read: {why}"));
        assert_eq!(inventory.packages, []);
    }
    let text = installed(&system(b"SQLite".to_vec())).unwrap();
    assert_eq!(text.unread[0].why, "/var/lib/rpm/rpmdb.sqlite, byte 0: not an SQLite database");
}
