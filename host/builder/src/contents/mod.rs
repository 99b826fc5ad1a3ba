//! What goes into the image from the host and from other images: packed once into one tar.
//!
//! That tar is a snapshot: nothing that happens to the files later changes the build. It is the new
//! layer itself when nothing is run, and what the guest mounts otherwise.

mod accounts;
mod difference;
mod directory;
mod files;
mod overlay;
mod source;
mod split;
mod unchanged;

pub(crate) use accounts::set_password;
pub(crate) use difference::{Change, Difference, joined, read_file};
pub(crate) use files::Files;
pub(crate) use overlay::of_overlay;
pub(crate) use source::Sources;
pub(crate) use split::Split;

use crate::{Error, error::Kind, inputs::Inputs};
use kiln_image::{
    contents::{Contents, Owner, Placement},
    digest::HashingWriter,
    layer::LayerWriter,
    tree::Tree,
};
use kiln_store::{Layer, Store};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Parses `"UID:GID"` or `"keep"`.
pub(crate) fn parse_owner(text: &str) -> Result<Owner, String> {
    let ids = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match (text, ids) {
        ("keep", _) => Ok(Owner::Keep),
        (_, Some((uid, gid))) => Ok(Owner::Set { uid, gid }),
        _ => Err(format!("`{text}` is no owner; write it like 0:0 or keep")),
    }
}

/// One item of contents, its image found.
pub(crate) struct Content {
    pub whence: Whence,
    pub dest: Vec<u8>,
    pub owner: Owner,
}

/// Where contents are from.
pub(crate) enum Whence {
    /// A directory or a tar.
    Path(PathBuf),
    /// A file or directory of an image.
    Image { layers: Vec<Layer>, path: Vec<u8> },
}

/// What contents are packed with.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub store: &'a Store,
    pub inputs: &'a Inputs,
}

/// Contents collected into one tree.
pub(crate) struct Packing<'a> {
    tree: Tree,
    sources: Sources<'a>,
    epoch: i64,
}

impl Content {
    /// A whole root file system.
    pub fn whole(path: &Path) -> Self {
        Self { whence: Whence::Path(path.to_owned()), dest: Vec::new(), owner: Owner::Keep }
    }

    fn name(&self) -> String {
        match &self.whence {
            Whence::Path(path) => path.display().to_string(),
            Whence::Image { path, .. } => format!("/{} of an image", String::from_utf8_lossy(path)),
        }
    }

    /// Whether the files' times say nothing but when they were checked out.
    fn has_no_times(&self) -> bool {
        matches!(&self.whence, Whence::Path(path) if path.is_dir())
    }
}

impl<'a> Packing<'a> {
    /// Collects all `contents` over the files below, if there are any. No time is later than `epoch`.
    pub fn collect(
        contents: &[Content],
        below: Option<&Files>,
        epoch: i64,
        surroundings: Surroundings<'a>,
    ) -> Result<Self, Error> {
        let mut sources = Sources::new(surroundings.store, below.map_or(&[], |below| &below.layers));
        let nothing = Tree::new();
        let mut collected = Contents::new(below.map_or(&nothing, |below| &below.tree));
        for content in contents {
            let tree = read(content, &mut sources, surroundings)?;
            record(content, &tree, &sources, epoch, surroundings.inputs)?;
            let placement = Placement {
                destination: content.dest.clone(),
                owner: content.owner,
                mtime: content.has_no_times().then_some(epoch),
                // A tar whose owners are kept says how its directories are to be.
                replaces_directories: content.owner == Owner::Keep,
            };
            let failed = |source| Kind::Image { what: format!("cannot place {}", content.name()), source };
            collected.place(&tree, &placement).map_err(failed)?;
        }
        Ok(Self { tree: collected.into_tree(), sources, epoch })
    }

    /// Takes out what is below already.
    pub fn leave_out_unchanged(&mut self, below: &Files) -> Result<(), Error> {
        unchanged::leave_out(&mut self.tree, &self.sources, below, self.epoch)
    }

    /// The layer's tar.
    pub fn write<W: Write>(&self, out: W) -> Result<W, Error> {
        let mut writer = LayerWriter::new(out, self.epoch);
        let packed = self.sources.with_reader(|read| writer.write_tree(&self.tree, read));
        let packed = packed.and_then(|()| writer.finish());
        packed.map_err(|source| cannot_pack(self.sources.store(), source))
    }
}

fn cannot_pack(store: &Store, source: kiln_image::Error) -> Error {
    Kind::Layer { directory: store.path().to_owned(), source }.into()
}

fn read(content: &Content, sources: &mut Sources, surroundings: Surroundings) -> Result<Tree, Error> {
    match &content.whence {
        Whence::Path(path) if path.is_dir() => directory::read(path, sources),
        Whence::Path(path) => {
            surroundings.inputs.add_file("contents", path)?;
            sources.add_archive(path)
        }
        Whence::Image { layers, path } => files::part(sources.add_layers(layers)?, path),
    }
}

/// A directory has no bytes of its own; its digest is that of the tar it makes.
fn record(
    content: &Content,
    tree: &Tree,
    sources: &Sources,
    epoch: i64,
    inputs: &Inputs,
) -> Result<(), Error> {
    let Whence::Path(path) = &content.whence else { return Ok(()) };
    if !inputs.is_wanted() || !path.is_dir() {
        return Ok(());
    }
    let mut writer = LayerWriter::new(HashingWriter::new(io::sink()), epoch);
    let written = sources.with_reader(|read| writer.write_tree(tree, read)).and_then(|()| writer.finish());
    let (_, hashed) = written.map_err(|source| cannot_pack(sources.store(), source))?.finish();
    inputs.add_path("contents", path, hashed.digest);
    Ok(())
}
