//! How much there is, and removing what is not needed.

use crate::directory::Place;
use crate::{Error, Store, pending};
use std::fs::{self, Metadata};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How much there is of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// What: `layers`, `bases` ...
    pub kind: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub count: u64,
    /// When one of them was last used; `None` when there are none.
    pub last_used: Option<SystemTime>,
}

/// What to remove. Nothing that is in use is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// All of it.
    All,
    /// What was not used for so long.
    UnusedFor(Duration),
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Store {
    /// How much there is of each kind, largest things first.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn du(&self) -> Result<Vec<Usage>, Error> {
        Place::ALL.into_iter().map(|place| self.usage(place)).collect()
    }

    fn usage(&self, place: Place) -> Result<Usage, Error> {
        let mut usage = Usage { kind: place.name(), bytes: 0, count: 0, last_used: None };
        for (_, metadata) in self.files(place)? {
            usage.bytes += metadata.len();
            usage.count += 1;
            usage.last_used = usage.last_used.max(metadata.modified().ok());
        }
        Ok(usage)
    }

    /// Removes files that nobody uses. What is removed is made again when it is needed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn prune(&self, what: Prune) -> Result<Removed, Error> {
        let now = SystemTime::now();
        let mut removed = Removed::default();
        for place in Place::ALL {
            for (path, metadata) in self.files(place)? {
                if is_meant(what, &metadata, now) && pending::remove_unused(&path)? {
                    removed.count += 1;
                    removed.bytes += metadata.len();
                }
            }
        }
        Ok(removed)
    }

    fn files(&self, place: Place) -> Result<Vec<(PathBuf, Metadata)>, Error> {
        let directory = self.place(place);
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))? {
            let entry = entry.map_err(|e| Error::io("list", &directory, e))?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((entry.path(), metadata)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("examine", &entry.path(), e)),
            }
        }
        Ok(files)
    }
}

fn is_meant(what: Prune, metadata: &Metadata, now: SystemTime) -> bool {
    match what {
        Prune::All => true,
        Prune::UnusedFor(least) => {
            let unused = metadata.modified().ok().and_then(|used| now.duration_since(used).ok());
            unused.is_some_and(|unused| unused >= least)
        }
    }
}
