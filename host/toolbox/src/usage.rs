//! How much of the cache the toolbox takes, and giving it back.

use crate::Error;
use crate::archives::Home;
use kiln_store::{Prune, Removed, Usage};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much there is in a cache: the packages' archive files, from which the toolbox is assembled anew without a network.
///
/// # Errors
/// When a directory cannot be read.
pub fn usage(cache: &Path) -> Result<Usage, Error> {
    let mut usage = Usage { kind: "toolbox", bytes: 0, count: 0, last_used: None };
    let Some(home) = Home::existing(cache)? else { return Ok(usage) };
    for (_, metadata) in files(&home.archives())? {
        usage.bytes += metadata.len();
        usage.count += 1;
    }
    usage.last_used = last_used(&home)?;
    Ok(usage)
}

/// Removes the archive files, when no toolbox was used for so long. Nothing while another process assembles one.
///
/// # Errors
/// When a file cannot be removed.
pub fn prune(cache: &Path, what: Prune) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    let Some(home) = Home::existing(cache)? else { return Ok(removed) };
    let is_meant = match what {
        Prune::All => true,
        Prune::UnusedFor(least) => {
            let unused = last_used(&home)?.and_then(|used| SystemTime::now().duration_since(used).ok());
            unused.is_some_and(|unused| unused >= least)
        }
    };
    let Some(_held) = home.try_lock()?.filter(|_| is_meant) else { return Ok(removed) };
    for (path, metadata) in files(&home.archives())? {
        fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        removed.count += 1;
        removed.bytes += metadata.len();
    }
    Ok(removed)
}

/// When a toolbox was last asked for.
fn last_used(home: &Home) -> Result<Option<SystemTime>, Error> {
    let notes = files(&home.notes())?;
    Ok(notes.iter().filter_map(|(_, metadata)| metadata.modified().ok()).max())
}

fn files(directory: &Path) -> Result<Vec<(PathBuf, Metadata)>, Error> {
    let failed = |e| Error::io("list", directory, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => files.push((entry.path(), metadata)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// With an archive of three bytes, used this long ago.
    fn cache(unused: Duration) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let home = Home::open(cache.path()).unwrap();
        fs::write(home.archives().join("a.deb"), "abc").unwrap();
        let note = fs::File::create(home.notes().join("key")).unwrap();
        note.set_modified(SystemTime::now() - unused).unwrap();
        cache
    }

    #[test]
    fn a_cache_without_a_toolbox_stays_without() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(usage(cache.path()).unwrap().count, 0);
        assert_eq!(prune(cache.path(), Prune::All).unwrap(), Removed::default());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn archives_go_when_the_toolbox_was_not_used() {
        let (gone, kept) = (Removed { count: 1, bytes: 3 }, Removed::default());
        for (unused, what, wanted) in [
            (2 * WEEK, Prune::UnusedFor(WEEK), gone),
            (WEEK / 2, Prune::UnusedFor(WEEK), kept),
            (WEEK / 2, Prune::All, gone),
        ] {
            let cache = cache(unused);
            assert_eq!(usage(cache.path()).unwrap().bytes, 3);
            assert_eq!(prune(cache.path(), what).unwrap(), wanted, "{unused:?} {what:?}");
            assert_eq!(usage(cache.path()).unwrap().count, 1 - wanted.count);
        }
    }

    #[test]
    fn nothing_is_taken_from_whoever_assembles() {
        let cache = cache(2 * WEEK);
        let home = Home::open(cache.path()).unwrap();
        let _held = home.try_lock().unwrap().unwrap();
        assert_eq!(prune(cache.path(), Prune::All).unwrap(), Removed::default());
    }
}
