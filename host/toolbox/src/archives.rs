//! The toolbox's directory in the cache, and the packages' archive files in it: fetched once, verified whenever they are used.

use crate::apt::Apt;
use crate::assemble::{Event, Observer, Settings};
use crate::error::Kind;
use crate::lock::Package;
use crate::{Error, sources};
use kiln_image::digest::{Digest, Hashed, HashingWriter};
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long between two looks whether another process has finished.
const POLL: Duration = Duration::from_millis(100);

/// In the cache.
const DIRECTORY: &str = "toolbox";

/// Names of temporary directories begin so.
const TEMPORARY: &str = "tmp.";

/// The toolbox's directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn open(cache: &Path) -> Result<Self, Error> {
        let home = Self(cache.join(DIRECTORY));
        for path in [home.archives(), home.notes()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|e| Error::io("create", &path, e))?;
        }
        // apt runs elsewhere.
        Ok(Self(fs::canonicalize(&home.0).map_err(|e| Error::io("open", &home.0, e))?))
    }

    /// `None` where there never was a toolbox.
    pub(crate) fn existing(cache: &Path) -> Result<Option<Self>, Error> {
        if cache.join(DIRECTORY).is_dir() { Self::open(cache).map(Some) } else { Ok(None) }
    }

    pub(crate) fn archives(&self) -> PathBuf {
        self.0.join("archives")
    }

    pub(crate) fn notes(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Where the image assembled by a recipe is noted.
    pub(crate) fn note(&self, key: &Digest) -> PathBuf {
        self.notes().join(key.hex())
    }

    fn archive(&self, package: &Package) -> PathBuf {
        self.archives().join(format!("{}.deb", package.digest.hex()))
    }

    /// A directory that is gone when it is dropped.
    pub(crate) fn temporary(&self) -> Result<TempDir, Error> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.0)
            .map_err(|e| Error::io("make a directory in", &self.0, e))
    }

    /// Waits until nobody else assembles. Held until it is dropped.
    pub(crate) fn lock(&self, observer: &dyn Observer) -> Result<File, Error> {
        let (file, path) = self.open_lock()?;
        if !try_lock(&file, &path)? {
            observer.event(Event::Phase("waiting for another kiln that assembles the toolbox"));
            while !try_lock(&file, &path)? {
                if observer.is_interrupted() {
                    return Err(Kind::Interrupted.into());
                }
                std::thread::sleep(POLL);
            }
        }
        self.remove_abandoned()?;
        Ok(file)
    }

    /// `None` when somebody assembles. Held until it is dropped.
    pub(crate) fn try_lock(&self) -> Result<Option<File>, Error> {
        let (file, path) = self.open_lock()?;
        Ok(try_lock(&file, &path)?.then_some(file))
    }

    fn open_lock(&self) -> Result<(File, PathBuf), Error> {
        let path = self.0.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        Ok((file.map_err(|e| Error::io("open", &path, e))?, path))
    }

    /// What killed processes left: whoever works here holds the lock.
    fn remove_abandoned(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.0).map_err(|e| Error::io("list", &self.0, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &self.0, e))?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                fs::remove_dir_all(entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// The verified archive files of the lock's packages, in its order. apt fetches those that are not there.
    pub(crate) fn provide(&self, settings: &Settings, observer: &dyn Observer) -> Result<Vec<File>, Error> {
        let packages = &settings.lock.packages;
        // What is damaged is as good as not there.
        let mut files: Vec<Option<File>> =
            packages.iter().map(|package| open(package, &self.archive(package)).ok()).collect();
        let missing = packages.iter().zip(&files).filter(|(_, file)| file.is_none());
        let missing: Vec<&Package> = missing.map(|(package, _)| package).collect();
        if !missing.is_empty() {
            self.fetch(&missing, settings, observer)?;
        }
        let kept = packages.iter().zip(&mut files).map(|(package, file)| match file.take() {
            Some(file) => Ok(file),
            None => open(package, &self.archive(package)),
        });
        kept.collect()
    }

    fn fetch(&self, missing: &[&Package], settings: &Settings, observer: &dyn Observer) -> Result<(), Error> {
        let room = self.temporary()?;
        observer.event(Event::Phase("learning what Debian offers"));
        let suites = settings.lock.suites();
        let sources = sources::list(&suites, settings.mirror.as_deref(), room.path(), observer)?;
        let apt = Apt::new(room.path(), &sources, observer)?;
        apt.update()?;
        let wanted: Vec<String> = missing.iter().map(|package| package.with_version()).collect();
        let offered = apt.print_uris(&wanted)?;
        if !offered.status.success() {
            return Err(sources::not_offered(missing, &offered));
        }
        let bytes = missing.iter().map(|package| package.size).sum();
        observer.event(Event::Fetching { packages: missing.len(), bytes });
        let downloads = apt.download(&wanted)?;
        missing.iter().try_for_each(|package| self.take(package, &downloads.join(package.file_name())))
    }

    /// Takes in what was fetched, when it is what it should be.
    fn take(&self, package: &Package, downloaded: &Path) -> Result<(), Error> {
        let file = open(package, downloaded)?;
        file.sync_data().map_err(|e| Error::io("write", downloaded, e))?;
        let to = self.archive(package);
        fs::rename(downloaded, &to).map_err(|e| Error::io("create", &to, e))
    }
}

/// False when somebody else has it.
fn try_lock(file: &File, path: &Path) -> Result<bool, Error> {
    let lock = || rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    match rustix::io::retry_on_intr(lock) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::io("lock", path, e.into())),
    }
}

/// Opens a package's archive file, which has to have its size and digest.
fn open(package: &Package, path: &Path) -> Result<File, Error> {
    let failed = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let got = file.metadata().map_err(failed)?.len();
    if got != package.size {
        return Err(
            Kind::SizeMismatch { package: package.with_version(), expected: package.size, got }.into()
        );
    }
    let mut hash = HashingWriter::new(io::sink());
    io::copy(&mut file, &mut hash).map_err(failed)?;
    let Hashed { digest: got, .. } = hash.finish().1;
    if got != package.digest {
        return Err(
            Kind::DigestMismatch { package: package.with_version(), expected: package.digest, got }.into()
        );
    }
    io::Seek::rewind(&mut file).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lock;

    fn package_of(bytes: &[u8]) -> Package {
        let line = format!("a trixie 1 amd64 {} {}", bytes.len(), Digest::of(bytes).hex());
        line.parse::<Lock>().unwrap().packages.remove(0)
    }

    #[test]
    fn an_archive_that_is_another_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.deb");
        let package = package_of(b"good");
        fs::write(&path, "good").unwrap();
        assert_eq!(io::read_to_string(open(&package, &path).unwrap()).unwrap(), "good");
        fs::write(&path, "evil").unwrap();
        let error = open(&package, &path).unwrap_err();
        assert!(error.is_digest_mismatch());
        let (expected, got) = (Digest::of(b"good"), Digest::of(b"evil"));
        assert_eq!(
            error.to_string(),
            format!("digest mismatch: package a=1 should be {expected}, but is {got}")
        );
        fs::write(&path, "goo").unwrap();
        let error = open(&package, &path).unwrap_err().to_string();
        assert_eq!(error, "package a=1 should have 4 bytes, but has 3");
    }

    #[test]
    fn only_what_is_right_is_taken_in() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let (package, path) = (package_of(b"good"), directory.path().join("downloaded"));
        fs::write(&path, "evil").unwrap();
        assert!(home.take(&package, &path).is_err());
        assert!(!home.archive(&package).exists());
        fs::write(&path, "good").unwrap();
        home.take(&package, &path).unwrap();
        assert!(open(&package, &home.archive(&package)).is_ok());
    }

    #[test]
    fn a_damaged_archive_is_as_good_as_none() {
        let (directory, package) = (tempfile::tempdir().unwrap(), package_of(b"good"));
        let home = Home::open(directory.path()).unwrap();
        let mirror = Some("no address".to_owned());
        let lock = Lock { packages: vec![package.clone()] };
        let settings = Settings { cache: directory.path().into(), mirror, lock };
        fs::write(home.archive(&package), "good").unwrap();
        assert_eq!(home.provide(&settings, &Silent).unwrap().len(), 1);
        fs::write(home.archive(&package), "evil").unwrap();
        let error = home.provide(&settings, &Silent).unwrap_err().to_string();
        assert!(error.starts_with("the mirror \"no address\" of the toolbox"), "{error}");
    }

    struct Silent;

    impl Observer for Silent {
        fn event(&self, _: Event<'_>) {}
    }

    #[test]
    fn the_next_to_lock_removes_what_the_dead_left() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let left = home.temporary().unwrap().keep();
        let _held = home.lock(&Silent).unwrap();
        assert!(!left.exists());
    }
}
