//! OCI image layouts, as directories and as tars.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>

use super::select::is_image;
use super::{BlobSource, Root, open_file};
use crate::Error;
use crate::error::Context;
use kiln_image::compress::{Decompressor, Format};
use kiln_image::digest::Digest;
use kiln_image::entry;
use kiln_image::manifest::{
    Annotations, Content, DOCUMENT_LIMIT, Descriptor, Document, Index, REF_NAME, media_type,
};
use kiln_image::reference::{ImageName, TagChoice};
use kiln_image::tar;
use kiln_store::{Segment, Store};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name that containerd gives an entry of an index.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Bytes read at once where only headers are wanted.
const HEADER_BUFFER: usize = 4096;

/// A layout that is read.
pub(crate) struct LayoutSource {
    /// For messages.
    name: String,
    files: Files,
    index: Index,
    choice: TagChoice,
}

enum Files {
    Directory(PathBuf),
    /// Members of a tar by name.
    Archive {
        file: Arc<File>,
        members: HashMap<String, (u64, u64)>,
    },
}

impl LayoutSource {
    /// A layout in a directory.
    pub fn directory(path: &Path, choice: &TagChoice) -> Result<Self, Error> {
        Self::new(format!("oci:{}", path.display()), Files::Directory(path.to_owned()), choice)
    }

    /// A layout in a tar, which may be compressed or a stream; it is then unpacked into the store's temporary file.
    pub fn archive(file: File, name: String, choice: &TagChoice, store: &Store) -> Result<Self, Error> {
        let file = plain(file, &name, store)?;
        let members = members(&file).context(|| format!("cannot read {name}"))?;
        Self::new(name, Files::Archive { file: Arc::new(file), members }, choice)
    }

    fn new(name: String, files: Files, choice: &TagChoice) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let read = files.open("index.json")?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(|| format!("cannot read index.json of {name}"), e))?;
        let what = || format!("cannot use index.json of {name}");
        let document = Document::parse(bytes, None).context(what)?;
        let Content::Index(index) = document.content else {
            return Err(Error::corrupt(format!("index.json of {name}"), "it is no index"));
        };
        Ok(Self { name, files, index: *index, choice: choice.clone() })
    }

    /// What the choice leaves.
    fn chosen(&self) -> Result<Vec<&Descriptor>, Error> {
        let images: Vec<&Descriptor> = self.index.manifests.iter().filter(|entry| is_image(entry)).collect();
        let chosen = match &self.choice {
            TagChoice::Only => return Ok(images),
            TagChoice::Tag(tag) => images.iter().filter(|entry| has_tag(entry, tag)).copied().collect(),
            TagChoice::Index(number) => images.get(*number).copied().into_iter().collect::<Vec<_>>(),
        };
        if chosen.is_empty() {
            let tags: Vec<&str> = images.iter().filter_map(|entry| tag(entry)).collect();
            let which = match &self.choice {
                TagChoice::Tag(tag) => format!("tagged {tag}; its tags are {}", list(&tags)),
                _ => format!("{}; it has {}", self.choice, images.len()),
            };
            return Err(Error::usage(format!("{} has no image {which}", self.name)));
        }
        Ok(chosen)
    }
}

fn list(tags: &[&str]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(", ") }
}

fn tag(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get(REF_NAME).map(String::as_str)
}

/// A tag is compared as it is, and as the name it may be.
fn has_tag(descriptor: &Descriptor, wanted: &str) -> bool {
    tag(descriptor) == Some(wanted)
        || wanted.contains([':', '/'])
            && wanted.parse::<ImageName>().is_ok_and(|wanted| names(descriptor).contains(&wanted))
}

/// A bare tag is no name.
fn names(descriptor: &Descriptor) -> Vec<ImageName> {
    let texts = [tag(descriptor), descriptor.annotations.get(CONTAINERD_NAME).map(String::as_str)];
    let mut names: Vec<ImageName> = Vec::new();
    for text in texts.into_iter().flatten().filter(|text| text.contains([':', '/'])) {
        names.extend(text.parse().ok().filter(|name| !names.contains(name)));
    }
    names
}

impl BlobSource for LayoutSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn roots(&self) -> Result<Vec<Root>, Error> {
        let mut roots: Vec<Root> = Vec::new();
        for entry in self.chosen()? {
            let names = names(entry);
            // One image of several names is listed once for each.
            match roots.iter_mut().find(|root| root.descriptor.digest == entry.digest) {
                Some(root) => root.names.extend(names),
                None => roots.push(Root { descriptor: entry.clone(), names }),
            }
        }
        Ok(roots)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let opened = self.files.open(&format!("blobs/sha256/{}", descriptor.digest.hex()));
        opened.map_err(|error| error.at(format!("cannot read blob {} of {}", descriptor.digest, self.name)))
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let mut found = Vec::new();
        for entry in self.index.manifests.iter().filter(|entry| entry.media_type == media_type::OCI_MANIFEST)
        {
            let document = self.document(entry)?;
            if let Content::Manifest(manifest) = document.content
                && manifest.subject.is_some_and(|of| of.digest == *subject)
            {
                found.push(entry.clone());
            }
        }
        Ok(found)
    }

    fn index_annotations(&self) -> Annotations {
        self.index.annotations.clone()
    }
}

impl Files {
    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        match self {
            Self::Directory(path) => Ok(Box::new(open_file(&path.join(name))?)),
            Self::Archive { file, members } => {
                let missing = || Error::corrupt("the archive", format!("it has no {name}"));
                let (offset, length) = *members.get(name).ok_or_else(missing)?;
                Ok(Box::new(Segment { file: Arc::clone(file), offset, length }.reader()))
            }
        }
    }
}

/// A file that can be read anywhere, not compressed.
pub(crate) fn plain(mut file: File, name: &str, store: &Store) -> Result<File, Error> {
    let reading = |e| Error::io(|| format!("cannot read {name}"), e);
    let is_file = file.metadata().map_err(reading)?.is_file();
    let mut input = Decompressor::new(&file).context(|| format!("cannot read {name}"))?;
    if is_file && input.format() == Format::None {
        drop(input);
        file.rewind().map_err(reading)?;
        return Ok(file);
    }
    let mut spooled = store.temporary_file().context(|| format!("cannot unpack {name}"))?;
    let copied = io::copy(&mut input, &mut spooled);
    let doing = || format!("unpack {name}");
    copied.map_err(|e| kiln_image::Error::from_io(e, doing)).context(|| format!("cannot read {name}"))?;
    drop(input);
    spooled.rewind().map_err(reading)?;
    Ok(spooled)
}

/// Where the regular files of a tar are. As when unpacking, the last of several with one name counts.
fn members(file: &File) -> Result<HashMap<String, (u64, u64)>, kiln_image::Error> {
    let mut reader = tar::Reader::seekable(BufReader::with_capacity(HEADER_BUFFER, file))?;
    let mut members = HashMap::new();
    while let Some(found) = reader.next_entry()? {
        let (entry::Kind::File { size }, None) = (&found.entry.kind, &found.location.sparse) else {
            continue;
        };
        let Ok(name) = String::from_utf8(found.entry.path) else { continue };
        members.insert(name, (found.location.data_offset, *size));
    }
    Ok(members)
}
