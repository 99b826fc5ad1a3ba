//! What went into a build, each by its digest.

use crate::{BuildFile, Error, HookScript, error::Kind};
use kiln_image::{
    digest::{Digest, HashingWriter},
    reference::ImageReference,
};
use kiln_store::StoredImage;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// One thing that went in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Of what kind: `build-file`, `image`, `contents`, `layer` or `script`.
    pub what: &'static str,
    /// Which: a path or an image's place. Of a script in the build file, its key.
    pub reference: String,
    /// SHA-256 of a file's bytes, of the tar that a directory makes, or of an image's manifest, else of its configuration.
    pub digest: Digest,
}

/// [`Input::what`] of the build file.
const BUILD_FILE: &str = "build-file";

impl Input {
    /// Whether it is the build file itself.
    pub(crate) fn is_build_file(&self) -> bool {
        self.what == BUILD_FILE
    }
}

/// Inputs as they are used, if anybody wants to know.
#[derive(Debug)]
pub(crate) struct Inputs {
    list: Option<Mutex<Vec<Input>>>,
    /// The build file's: what lies in it is named from there, wherever it is itself.
    directory: PathBuf,
}

impl Inputs {
    pub fn new(is_wanted: bool, build_file: &Path) -> Self {
        let directory = build_file.parent().map(Path::to_owned).unwrap_or_default();
        Self { list: is_wanted.then(Mutex::default), directory }
    }

    /// As the build file would name it.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.directory).unwrap_or(path).display().to_string()
    }

    pub fn is_wanted(&self) -> bool {
        self.list.is_some()
    }

    /// In the order they came, each once.
    pub fn into_list(self) -> Vec<Input> {
        let list = self.list.map(|list| list.into_inner().unwrap_or_else(PoisonError::into_inner));
        list.unwrap_or_default()
    }

    fn add(&self, what: &'static str, reference: &str, digest: Digest) {
        let Some(list) = &self.list else { return };
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        let input = Input { what, reference: reference.to_owned(), digest };
        if !list.contains(&input) {
            list.push(input);
        }
    }

    pub fn add_file(&self, what: &'static str, path: &Path) -> Result<(), Error> {
        if !self.is_wanted() {
            return Ok(());
        }
        let digest = || {
            let mut hasher = HashingWriter::new(io::sink());
            io::copy(&mut File::open(path)?, &mut hasher)?;
            Ok(hasher.finish().1.digest)
        };
        let digest = digest().map_err(|source| Kind::Read { path: path.to_owned(), source })?;
        self.add_path(what, path, digest);
        Ok(())
    }

    pub fn add_path(&self, what: &'static str, path: &Path, digest: Digest) {
        self.add(what, &self.shown(path), digest);
    }

    pub fn add_build_file(&self, file: &BuildFile) -> Result<(), Error> {
        if !self.is_wanted() {
            return Ok(());
        }
        let bytes = fs::read(&file.path);
        let bytes = bytes.map_err(|source| Kind::ReadBuildFile { path: file.path.clone(), source })?;
        self.add_path(BUILD_FILE, &file.path, Digest::of(&bytes));
        Ok(())
    }

    pub fn add_image(&self, reference: &ImageReference, image: &StoredImage) {
        let digest = image.manifest.as_ref().map_or(image.image_id, |manifest| manifest.digest);
        let path = reference.location.path().map(|path| self.shown(Path::new(path)));
        let location = match path {
            Some(path) => reference.location.clone().with_path(path),
            None => reference.location.clone(),
        };
        self.add("image", &location.to_string(), digest);
    }

    pub fn add_script(&self, script: &HookScript) {
        let key = || script.hook.key().to_owned();
        let reference = script.file.as_ref().map_or_else(key, |path| self.shown(path));
        self.add("script", &reference, Digest::of(&script.text));
    }
}
