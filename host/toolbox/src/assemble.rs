//! Packages into one layer, and the layer into an image of the store.

use crate::archives::Home;
use crate::error::Kind;
use crate::lock::{Lock, Package};
use crate::{Error, deb, finishing};
use kiln_image::config::ImageConfig;
use kiln_image::digest::Digest;
use kiln_image::entry::{Entry, Kind as EntryKind};
use kiln_image::path;
use kiln_image::tar::{Reader, Writer};
use kiln_store::{Layer, NewLayer, Store, StoredImage};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::SystemTime;

/// Goes up whenever the same packages would become another image.
const RECIPE: u32 = 1;

/// What is left out, as nothing here reads it.
const LEFT_OUT: [&str; 7] = [
    "usr/lib/grub/i386-efi/monolithic",
    "usr/lib/grub/x86_64-efi/monolithic",
    "usr/share/bug",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
];

/// Left out but for the licences.
const DOCUMENTATION: &str = "usr/share/doc";

/// Links of the root into `usr`, which the package base-files has; others may still have files by the old names.
/// <https://wiki.debian.org/UsrMerge>
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

const BUFFER_SIZE: usize = 256 << 10;

/// What a toolbox is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory under which `toolbox/` is kept.
    pub cache: PathBuf,
    /// Address of an archive of Debian, in place of the system's own: of snapshots, of a file system.
    pub mirror: Option<String>,
    /// Which packages.
    pub lock: Lock,
}

impl Settings {
    /// The lock that came with this kiln, from the system's own archives.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache, mirror: None, lock: Lock::committed() }
    }
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// What is done now.
    Phase(&'a str),
    /// apt fetches so much now.
    Fetching {
        /// Files.
        packages: usize,
        /// Bytes of all of them.
        bytes: u64,
    },
    /// A package's files are unpacked now.
    Unpacking {
        /// Its name.
        package: &'a str,
    },
}

/// Who is told, and may want no more.
pub trait Observer: Send + Sync {
    /// Must not block for long.
    fn event(&self, event: Event<'_>);

    /// Asked now and then: the work ends with an error when this becomes true.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// The toolbox: known from an earlier call, or assembled now. Any number of processes may do so at once.
///
/// # Errors
/// When a package cannot be fetched or is not what the lock says, the store cannot be written, or the observer interrupts.
pub fn assemble(store: &Store, settings: &Settings, observer: &dyn Observer) -> Result<StoredImage, Error> {
    let home = Home::open(&settings.cache)?;
    let note = home.note(&key(&settings.lock));
    if let Some(image) = known(store, &note)? {
        return Ok(image);
    }
    let _held = home.lock(observer)?;
    // Another process may have been faster.
    if let Some(image) = known(store, &note)? {
        return Ok(image);
    }
    let archives = home.provide(settings, observer)?;
    let layer = write_layer(store, &settings.lock, archives, observer)?;
    let image = keep(store, layer)?;
    remember(&home, &note, &image)?;
    Ok(image)
}

fn key(lock: &Lock) -> Digest {
    Digest::of(format!("{RECIPE}\n{lock}").as_bytes())
}

/// A note that cannot be read is as good as none.
fn known(store: &Store, note: &std::path::Path) -> Result<Option<StoredImage>, Error> {
    let image_id = fs::read_to_string(note).ok().and_then(|text| text.parse().ok());
    let Some(image_id) = image_id else { return Ok(None) };
    // When it was last used. Whoever cannot say so in a cache that is read-only need not.
    let _ = fs::File::options().append(true).open(note).and_then(|file| file.set_modified(SystemTime::now()));
    store.image(&image_id).map_err(|source| Kind::Store { doing: "find", source }.into())
}

fn remember(home: &Home, note: &std::path::Path, image: &StoredImage) -> Result<(), Error> {
    let room = home.temporary()?;
    let new = room.path().join("note");
    fs::write(&new, image.image_id.to_string()).map_err(|e| Error::io("write", &new, e))?;
    fs::rename(&new, note).map_err(|e| Error::io("create", note, e))
}

fn keep(store: &Store, layer: Layer) -> Result<StoredImage, Error> {
    let mut config = ImageConfig::scratch("amd64", "linux");
    config.rootfs.diff_ids = vec![layer.diff_id];
    let json = config.to_json();
    store.keep_image(config, json, vec![layer]).map_err(|source| Kind::Store { doing: "keep", source }.into())
}

fn write_layer(
    store: &Store,
    lock: &Lock,
    archives: Vec<File>,
    observer: &dyn Observer,
) -> Result<Layer, Error> {
    let new =
        store.new_layer(&[], NonZeroUsize::MIN).map_err(|source| Kind::Store { doing: "begin", source })?;
    let mut files = Files::new(BufWriter::with_capacity(BUFFER_SIZE, new));
    for (package, archive) in lock.packages.iter().zip(archives) {
        if observer.is_interrupted() {
            return Err(Kind::Interrupted.into());
        }
        observer.event(Event::Unpacking { package: &package.name });
        files.add(package, archive)?;
    }
    let new: NewLayer = files.finish()?;
    new.finish_tar().map_err(|source| Kind::Store { doing: "keep", source }.into())
}

/// The layer's tar while packages are laid over each other. Of a file that several have, the last counts.
struct Files<W: Write> {
    archive: Writer<BufWriter<W>>,
    directories: HashSet<Vec<u8>>,
}

impl<W: Write> Files<W> {
    fn new(out: BufWriter<W>) -> Self {
        Self { archive: Writer::new(out), directories: HashSet::new() }
    }

    fn add(&mut self, package: &Package, archive: File) -> Result<(), Error> {
        let name = || package.with_version();
        let tar = deb::data(BufReader::with_capacity(BUFFER_SIZE, archive));
        let tar = tar.map_err(|source| Kind::DebRead { package: name(), source })?;
        let mut reader = Reader::new(BufReader::with_capacity(BUFFER_SIZE, tar));
        let failed = |source| Kind::DebTar { package: name(), source };
        while let Some(found) = reader.next_entry().map_err(failed)? {
            if found.location.sparse.is_some() {
                return Err(Kind::Deb { package: name(), why: "has a file with holes".into() }.into());
            }
            if let Some(entry) = self.placed(found.entry) {
                self.archive.append(&entry, &mut reader).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// A package's file as it comes into the layer, if it does.
    fn placed(&mut self, mut entry: Entry) -> Option<Entry> {
        let is_directory = entry.kind == EntryKind::Directory;
        if entry.path.is_empty() || is_left_out(&entry.path) || (is_directory && is_merged(&entry.path)) {
            return None;
        }
        merge_usr(&mut entry.path);
        if let EntryKind::HardLink { target } = &mut entry.kind {
            merge_usr(target);
        }
        (!is_directory || self.directories.insert(entry.path.clone())).then_some(entry)
    }

    fn finish(mut self) -> Result<W, Error> {
        let failed = |source| Kind::Layer { source };
        for (entry, mut data) in finishing::files() {
            self.archive.append(&entry, &mut data).map_err(failed)?;
        }
        let out = self.archive.finish().map_err(failed)?;
        let unwritten = out.into_inner().map_err(std::io::IntoInnerError::into_error);
        unwritten.map_err(|e| Error::io("write", "the toolbox's layer".as_ref(), e))
    }
}

fn is_left_out(file: &[u8]) -> bool {
    let is_in = |directory: &&str| path::is_below(file, directory.as_bytes());
    let is_licence = || path::split_name(file).is_some_and(|(_, name)| name == b"copyright");
    LEFT_OUT.iter().any(&is_in)
        || (is_in(&DOCUMENTATION) && path::components(file).count() > 4 && !is_licence())
}

fn is_merged(path: &[u8]) -> bool {
    MERGED.iter().any(|name| path == name.as_bytes())
}

/// `bin/x` is `usr/bin/x`.
fn merge_usr(file: &mut Vec<u8>) {
    if MERGED.iter().any(|name| path::is_below(file, name.as_bytes())) {
        *file = path::join(b"usr", file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tests::package;
    use kiln_image::entry::Metadata;
    use kiln_image::tree::Tree;

    struct Silent;

    impl Observer for Silent {
        fn event(&self, _: Event<'_>) {}
    }

    struct Impatient;

    impl Observer for Impatient {
        fn event(&self, _: Event<'_>) {}

        fn is_interrupted(&self) -> bool {
            true
        }
    }

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), metadata: Metadata { mode: 0o755, ..Metadata::default() }, kind }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 4 })
    }

    /// A package with these entries, of which files have four bytes.
    fn package_of(entries: &[Entry]) -> Vec<u8> {
        let mut tar = Writer::new(Vec::new());
        for entry in entries {
            let mut data = if matches!(entry.kind, EntryKind::File { .. }) { &b"data"[..] } else { &[] };
            tar.append(entry, &mut data).unwrap();
        }
        package(&tar.finish().unwrap())
    }

    /// A cache that has these packages, and a lock of them.
    fn cache(packages: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Store, Settings) {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = String::new();
        let archives = directory.path().join("toolbox/archives");
        fs::create_dir_all(&archives).unwrap();
        for (name, bytes) in packages {
            let hash = Digest::of(bytes).hex();
            fs::write(archives.join(format!("{hash}.deb")), bytes).unwrap();
            lock += &format!("{name} trixie 1 amd64 {} {hash}\n", bytes.len());
        }
        let store = Store::open(directory.path()).unwrap();
        let settings = Settings { cache: directory.path().into(), mirror: None, lock: lock.parse().unwrap() };
        (directory, store, settings)
    }

    fn system() -> Vec<(&'static str, Vec<u8>)> {
        let link = EntryKind::Symlink { target: b"usr/bin".to_vec() };
        let base = [
            entry("bin", link),
            entry("usr", EntryKind::Directory),
            entry("usr/bin", EntryKind::Directory),
            entry("usr/share", EntryKind::Directory),
        ];
        let tools = [
            entry("bin", EntryKind::Directory),
            file("bin/old"),
            entry("bin/link", EntryKind::HardLink { target: b"bin/old".to_vec() }),
            entry("usr", EntryKind::Directory),
            entry("usr/share", EntryKind::Directory),
            entry("usr/share/man", EntryKind::Directory),
            file("usr/share/man/page"),
            entry("usr/share/doc", EntryKind::Directory),
            entry("usr/share/doc/tools", EntryKind::Directory),
            file("usr/share/doc/tools/README"),
            file("usr/share/doc/tools/copyright"),
            file("etc/group"),
        ];
        vec![("base", package_of(&base)), ("tools", package_of(&tools))]
    }

    fn tree(image: &StoredImage) -> Tree {
        Tree::from_archive(0, image.layers[0].headers().unwrap().entries()).unwrap()
    }

    #[test]
    fn packages_become_one_tree() {
        let (_directory, store, settings) = cache(&system());
        let image = assemble(&store, &settings, &Silent).unwrap();
        let tree = tree(&image);
        for there in
            ["bin", "usr/bin/old", "usr/bin/link", "usr/share/doc/tools/copyright", "target", "usr/bin/awk"]
        {
            assert!(tree.lookup(there.as_bytes()).is_some(), "{there}");
        }
        for left_out in ["usr/share/man/page", "usr/share/doc/tools/README"] {
            assert!(tree.lookup(left_out.as_bytes()).is_none(), "{left_out}");
        }
        assert!(!tree.is_directory(tree.child(Tree::ROOT, b"bin").unwrap()));
        assert!(store.base(&image).is_ok());
        assert_eq!((image.config.architecture.as_str(), image.config.os.as_str()), ("amd64", "linux"));
    }

    #[test]
    fn the_same_packages_become_the_same_image() {
        let ids = [(); 2].map(|()| {
            let (_directory, store, settings) = cache(&system());
            assemble(&store, &settings, &Silent).unwrap().image_id
        });
        assert_eq!(ids[0], ids[1]);
    }

    #[test]
    fn a_toolbox_is_known_again_without_its_packages() {
        let (directory, store, settings) = cache(&system());
        let first = assemble(&store, &settings, &Silent).unwrap();
        fs::remove_dir_all(directory.path().join("toolbox/archives")).unwrap();
        assert_eq!(assemble(&store, &settings, &Silent).unwrap().image_id, first.image_id);
    }

    #[test]
    fn a_toolbox_whose_layer_is_gone_is_assembled_again() {
        let (directory, store, settings) = cache(&system());
        let first = assemble(&store, &settings, &Silent).unwrap().image_id;
        store.prune(kiln_store::Prune::All).unwrap();
        assert_eq!(assemble(&store, &settings, &Silent).unwrap().image_id, first);
        // Nor is a damaged note of harm.
        let note = directory.path().join("toolbox/images").join(key(&settings.lock).hex());
        fs::write(&note, "sha256:nonsense").unwrap();
        assert_eq!(assemble(&store, &settings, &Silent).unwrap().image_id, first);
    }

    #[test]
    fn several_at_once_have_the_same_toolbox() {
        let (_directory, store, settings) = cache(&system());
        let ids: HashSet<_> = std::thread::scope(|scope| {
            let run = || assemble(&store, &settings, &Silent).unwrap().image_id;
            let running: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn an_interrupted_assembly_leaves_nothing() {
        let (directory, store, settings) = cache(&system());
        assert!(assemble(&store, &settings, &Impatient).unwrap_err().is_interrupted());
        assert_eq!(fs::read_dir(directory.path().join("toolbox/images")).unwrap().count(), 0);
        assert!(store.du().unwrap().iter().all(|usage| usage.count == 0));
    }

    #[test]
    fn packages_that_are_none_or_leave_the_root_are_refused() {
        let good = package_of(&[file("usr/x")]);
        // The same bytes in another order have the same checksum.
        let leaving = |mut package: Vec<u8>| {
            let at = package.windows(5).position(|bytes| bytes == b"x/..y").unwrap();
            package[at..at + 5].copy_from_slice(b"../xy");
            package
        };
        let linked = EntryKind::HardLink { target: b"x/..y".to_vec() };
        for (bad, why) in [
            (leaving(package_of(&[file("x/..y")])), "cannot take files from package a=1"),
            (leaving(package_of(&[file("a"), entry("b", linked)])), "cannot take files from package a=1"),
            (package(b"no tar"), "cannot take files from package a=1"),
            (good[..good.len() - 1500].to_vec(), "cannot take files from package a=1"),
            (b"no package".to_vec(), "cannot read package a=1"),
        ] {
            let (_directory, store, settings) = cache(&[("a", bad)]);
            assert_eq!(assemble(&store, &settings, &Silent).unwrap_err().to_string(), why);
            assert!(store.du().unwrap().iter().all(|usage| usage.count == 0));
        }
    }
}
