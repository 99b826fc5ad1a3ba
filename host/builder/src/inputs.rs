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
    path::Path,
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

/// Inputs as they are used, if anybody wants to know.
#[derive(Debug)]
pub(crate) struct Inputs {
    list: Option<Mutex<Vec<Input>>>,
}

impl Inputs {
    pub fn new(is_wanted: bool) -> Self {
        Self { list: is_wanted.then(Mutex::default) }
    }

    pub fn is_wanted(&self) -> bool {
        self.list.is_some()
    }

    /// In the order they came, each once.
    pub fn into_list(self) -> Vec<Input> {
        let list = self.list.map(|list| list.into_inner().unwrap_or_else(PoisonError::into_inner));
        list.unwrap_or_default()
    }

    pub fn add(&self, what: &'static str, reference: &str, digest: Digest) {
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
        self.add(what, &path.display().to_string(), digest);
        Ok(())
    }

    pub fn add_build_file(&self, file: &BuildFile) -> Result<(), Error> {
        if !self.is_wanted() {
            return Ok(());
        }
        let bytes = fs::read(&file.path);
        let bytes = bytes.map_err(|source| Kind::ReadBuildFile { path: file.path.clone(), source })?;
        self.add("build-file", &file.path.display().to_string(), Digest::of(&bytes));
        Ok(())
    }

    pub fn add_image(&self, reference: &ImageReference, image: &StoredImage) {
        let digest = image.manifest.as_ref().map_or(image.image_id, |manifest| manifest.digest);
        self.add("image", &reference.location.to_string(), digest);
    }

    pub fn add_script(&self, script: &HookScript) {
        let key = || script.hook.key().to_owned();
        let reference = script.file.as_ref().map_or_else(key, |path| path.display().to_string());
        self.add("script", &reference, Digest::of(&script.text));
    }
}
