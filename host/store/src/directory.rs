//! The store's directory and the names in it.

use crate::Error;
use crate::error::Kind;
use crate::pending;
use kiln_image::compress::Compression;
use kiln_image::digest::Digest;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of the compressed forms changed: the number goes up, and the old ones are never used again.
const COMPRESSED_FORMAT: &str = "2";

/// Tells backup programs to leave the directory out. <https://bford.info/cachedir/>
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This is kiln's cache.\n";

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One of the store's directories, each with one kind of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Layers,
    Blobs,
    Compressed,
    Images,
    Manifests,
    Bases,
    Archives,
}

impl Place {
    pub(crate) const ALL: [Self; 7] = [
        Self::Layers,
        Self::Blobs,
        Self::Compressed,
        Self::Images,
        Self::Manifests,
        Self::Bases,
        Self::Archives,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Blobs => "compressed layers",
            Self::Compressed => "known compressed layers",
            Self::Images => "images",
            Self::Manifests => "manifests",
            Self::Bases => "bases",
            Self::Archives => "known archives",
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Self::Layers => "layers".into(),
            Self::Blobs => "blobs".into(),
            Self::Compressed => Path::new("compressed").join(COMPRESSED_FORMAT),
            Self::Images => "images".into(),
            Self::Manifests => "manifests".into(),
            Self::Bases => "bases".into(),
            Self::Archives => "archives".into(),
        }
    }
}

impl Store {
    /// Opens the store in `directory`, made with mode 0700 if it is not there, and removes what killed
    /// processes left in it.
    ///
    /// # Errors
    /// When it cannot be made, belongs to another user, or others may write to it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        create(directory)?;
        let root = fs::canonicalize(directory).map_err(|e| Error::io("open", directory, e))?;
        let metadata = fs::metadata(&root).map_err(|e| Error::io("open", &root, e))?;
        check_ours(&root, &metadata)?;
        let store = Self { root };
        for path in Place::ALL.map(|place| store.place(place)).into_iter().chain([store.tmp()]) {
            create(&path)?;
        }
        let tag = store.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            fs::write(&tag, CACHEDIR_TAG).map_err(|e| Error::io("write", &tag, e))?;
        }
        pending::remove_abandoned(&store.tmp())?;
        Ok(store)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn place(&self, place: Place) -> PathBuf {
        self.root.join(place.path())
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.place(Place::Layers).join(format!("{}.tar", diff_id.hex()))
    }

    pub(crate) fn compressed_path(&self, diff_id: &Digest, compression: Compression) -> PathBuf {
        let how = compression.to_string().replace(':', "-");
        self.place(Place::Compressed).join(format!("{}.{how}", diff_id.hex()))
    }

    pub(crate) fn blob_path(&self, diff_id: &Digest, blob: &Digest) -> PathBuf {
        self.place(Place::Blobs).join(format!("{}.{}", diff_id.hex(), blob.hex()))
    }

    /// Where it is noted which repository a blob came from.
    pub(crate) fn origin_path(&self, blob: &Digest) -> PathBuf {
        self.place(Place::Blobs).join(format!("{}.origin", blob.hex()))
    }

    pub(crate) fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.place(Place::Manifests).join(format!("{}.json", digest.hex()))
    }

    /// Where it is noted which manifest an image came with.
    pub(crate) fn manifest_note_path(&self, image_id: &Digest) -> PathBuf {
        self.place(Place::Images).join(format!("{}.manifest", image_id.hex()))
    }

    pub(crate) fn image_path(&self, image_id: &Digest) -> PathBuf {
        self.place(Place::Images).join(format!("{}.json", image_id.hex()))
    }

    pub(crate) fn base_path(&self, key: &Digest) -> PathBuf {
        self.place(Place::Bases).join(format!("{}.erofs", key.hex()))
    }

    pub(crate) fn archive_path(&self, key: &Digest) -> PathBuf {
        self.place(Place::Archives).join(format!("{}.json", key.hex()))
    }
}

fn create(path: &Path) -> Result<(), Error> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|e| Error::io("create", path, e))
}

/// Who can write here can put anything under any digest.
fn check_ours(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let why = if !metadata.is_dir() {
        return Err(Error::io("open", path, io::ErrorKind::NotADirectory.into()));
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if metadata.mode() & 0o022 != 0 {
        "can be written by other users"
    } else {
        return Ok(());
    };
    Err(Kind::NotOurs { path: path.to_path_buf(), why }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_store_is_for_its_user_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a/b")).unwrap();
        for path in [store.path().to_path_buf(), store.tmp(), store.place(Place::Layers)] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700, "{path:?}");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("can be written by other users: remove it, or set KILN_CACHE"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
