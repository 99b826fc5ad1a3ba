//! Taking images in from `docker-archive` files, and knowing them again.

mod identity;
mod read_ahead;

use crate::error::Kind;
use crate::held::Layer;
use crate::pending::{self, Pending};
use crate::{Error, Store, StoredImage, held};
use identity::Identity;
use kiln_image::digest::Digest;
use kiln_image::docker_archive::{self, Archive, LayerRef, LayerSink};
use kiln_image::reference::{Choice, ImageName};
use read_ahead::ReadAhead;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// What is noted of an archive that was read.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    image_id: Digest,
    /// Bytes of its layers, lowest first: a layer of another length was damaged since.
    layer_lengths: Vec<u64>,
    names: Vec<String>,
}

impl Store {
    /// The image that `choice` means in the archive at `path`, its ID compared with `expected` when
    /// one is given. An archive that was read before and is unchanged is not read again.
    ///
    /// # Errors
    /// When it cannot be read, is not what [`docker_archive::read`] takes, or the store cannot be
    /// written. The store is then as it was: what was not verified is never in it.
    pub fn import_docker_archive(
        &self,
        path: &Path,
        choice: &Choice,
        expected: Option<&Digest>,
    ) -> Result<StoredImage, Error> {
        self.import_named_archive(path, choice, expected).map(|(image, _)| image)
    }

    /// As [`import_docker_archive`](Self::import_docker_archive), with the image's names in the archive.
    ///
    /// # Errors
    /// The same.
    pub fn import_named_archive(
        &self,
        path: &Path,
        choice: &Choice,
        expected: Option<&Digest>,
    ) -> Result<(StoredImage, Vec<ImageName>), Error> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let identity = Identity::of(&file, path)?;
        if let Some(known) = self.known_image(identity.as_ref(), choice)?
            && expected.is_none_or(|expected| *expected == known.0.image_id)
        {
            return Ok(known);
        }
        let Some(identity) = identity else {
            return self.import_named_stream(file, choice, expected);
        };
        let image = std::thread::scope(|scope| {
            self.import_named_stream(ReadAhead::new(scope, &file), choice, expected)
        })?;
        if identity.is_settled() && Identity::of(&file, path)?.as_ref() == Some(&identity) {
            self.note(&identity, choice, &image)?;
        }
        Ok(image)
    }

    /// The same of a stream, which is read wholly.
    ///
    /// # Errors
    /// As [`import_docker_archive`](Self::import_docker_archive).
    pub fn import_stream(
        &self,
        stream: impl Read,
        choice: &Choice,
        expected: Option<&Digest>,
    ) -> Result<StoredImage, Error> {
        self.import_named_stream(stream, choice, expected).map(|(image, _)| image)
    }

    /// As [`import_stream`](Self::import_stream), with the image's names in the archive.
    ///
    /// # Errors
    /// The same.
    pub fn import_named_stream(
        &self,
        stream: impl Read,
        choice: &Choice,
        expected: Option<&Digest>,
    ) -> Result<(StoredImage, Vec<ImageName>), Error> {
        let mut incoming = Incoming { store: self, layers: HashMap::new() };
        let read = docker_archive::read(stream, choice, expected, &mut incoming);
        let mut archive = read.map_err(|error| Error::writing(&self.tmp(), error, Kind::Archive))?;
        let names = std::mem::take(&mut archive.names);
        incoming.check(&archive)?;
        Ok((incoming.keep(archive)?, names))
    }

    /// All images of an archive, which is read wholly and once, with their names in it.
    ///
    /// # Errors
    /// As [`import_stream`](Self::import_stream); then none of them is kept.
    pub fn import_all_of_stream(
        &self,
        stream: impl Read,
    ) -> Result<Vec<(StoredImage, Vec<ImageName>)>, Error> {
        let mut incoming = Incoming { store: self, layers: HashMap::new() };
        let read = docker_archive::read_all(stream, &mut incoming);
        let archives = read.map_err(|error| Error::writing(&self.tmp(), error, Kind::Archive))?;
        archives.iter().try_for_each(|archive| incoming.check(archive))?;
        let mut kept = Vec::new();
        for mut archive in archives {
            let names = std::mem::take(&mut archive.names);
            kept.push((incoming.keep(archive)?, names));
        }
        Ok(kept)
    }

    /// Whether the file is a docker-archive of one image that was read before and is unchanged.
    ///
    /// # Errors
    /// When the store or the file cannot be read.
    pub fn knows_archive(&self, path: &Path) -> Result<bool, Error> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let identity = Identity::of(&file, path)?;
        Ok(self.known_image(identity.as_ref(), &Choice::Only)?.is_some())
    }

    fn known_image(
        &self,
        identity: Option<&Identity>,
        choice: &Choice,
    ) -> Result<Option<(StoredImage, Vec<ImageName>)>, Error> {
        let Some(identity) = identity else { return Ok(None) };
        let path = self.archive_path(&identity.key(choice));
        let Some(mut file) = held::hold(&path)? else { return Ok(None) };
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(|e| Error::io("read", &path, e))?;
        // Of another version of kiln.
        let Ok(note) = serde_json::from_slice::<Note>(&json) else { return Ok(None) };
        let Ok(names) = note.names.iter().map(|name| name.parse()).collect() else { return Ok(None) };
        let image = self.image(&note.image_id)?.filter(|image| lengths(image) == note.layer_lengths);
        Ok(image.map(|image| (image, names)))
    }

    fn note(
        &self,
        identity: &Identity,
        choice: &Choice,
        (image, names): &(StoredImage, Vec<ImageName>),
    ) -> Result<(), Error> {
        let names = names.iter().map(ImageName::to_string).collect();
        let note = Note { image_id: image.image_id, layer_lengths: lengths(image), names };
        let json = serde_json::to_vec(&note).expect("text and numbers only");
        pending::write_file(&self.tmp(), &self.archive_path(&identity.key(choice)), &json)?;
        Ok(())
    }
}

fn lengths(image: &StoredImage) -> Vec<u64> {
    image.layers.iter().map(|layer| layer.length).collect()
}

/// The layers of an archive, until it is known which are the image's and that they are right.
struct Incoming<'s> {
    store: &'s Store,
    layers: HashMap<Digest, Arrived>,
}

enum Arrived {
    /// Hashed, not yet under its name.
    New(Pending),
    /// The store had it.
    Known(Layer),
}

impl LayerSink for Incoming<'_> {
    type Writer = LayerWriter;

    fn begin(&mut self, _member: &str) -> io::Result<LayerWriter> {
        Ok(LayerWriter(Pending::create(&self.store.tmp()).map_err(io::Error::other)?))
    }

    fn end(&mut self, writer: LayerWriter, layer: LayerRef) -> io::Result<()> {
        let known = self.store.layer(&layer.diff_id).map_err(io::Error::other)?;
        let whole = known.filter(|known| known.length == layer.size);
        let arrived = whole.map_or(Arrived::New(writer.0), Arrived::Known);
        self.layers.entry(layer.diff_id).or_insert(arrived);
        Ok(())
    }
}

struct LayerWriter(Pending);

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Incoming<'_> {
    /// That an image's layers are tars.
    fn check(&self, archive: &Archive) -> Result<(), Error> {
        archive.layers.iter().try_for_each(|layer| self.arrived(layer)?.check_tar())
    }

    /// Gives the layers of a verified image their names. What is never kept is dropped.
    fn keep(&mut self, archive: Archive) -> Result<StoredImage, Error> {
        let layers: Vec<Layer> =
            archive.layers.iter().map(|layer| self.keep_layer(layer)).collect::<Result<_, _>>()?;
        self.store.keep_image(archive.config, archive.config_json, layers)
    }

    /// A layer as it is now, under its name or not.
    fn arrived(&self, layer: &LayerRef) -> Result<Layer, Error> {
        match self.layers.get(&layer.diff_id).expect("the archive's layers all came") {
            Arrived::Known(known) => Ok(known.clone()),
            Arrived::New(pending) => {
                let file = Arc::new(pending.file(&self.store.tmp())?);
                Ok(Layer { diff_id: layer.diff_id, file, length: layer.size, blob: None })
            }
        }
    }

    fn keep_layer(&mut self, layer: &LayerRef) -> Result<Layer, Error> {
        let arrived = self.layers.remove(&layer.diff_id).expect("the archive's layers all came");
        let kept = match arrived {
            Arrived::Known(kept) => kept,
            Arrived::New(pending) => {
                let file = pending.publish(&self.store.layer_path(&layer.diff_id))?;
                Layer { diff_id: layer.diff_id, file: Arc::new(file), length: layer.size, blob: None }
            }
        };
        self.layers.insert(layer.diff_id, Arrived::Known(kept.clone()));
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
