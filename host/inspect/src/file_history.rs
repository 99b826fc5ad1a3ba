//! A tree that remembers which layer brought what.
//!
//! [`Tree::apply_layer`] gives each file of a layer a new node and keeps that of a directory that was there, so what a layer
//! did shows when the names before and after it are compared.

use kiln_image::Error;
use kiln_image::entry::Metadata;
use kiln_image::tar::ArchiveEntry;
use kiln_image::tree::{Content, NodeId, Tree};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// How many files and directories a layer touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New names.
    pub added: u64,
    /// Names that were there, with other contents or metadata.
    pub changed: u64,
    /// Names that are gone, those below deleted directories included.
    pub deleted: u64,
}

/// What one layer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub files: Counts,
    /// Bytes of its files.
    pub bytes_added: u64,
    /// Bytes of its files that layers above overwrote or deleted.
    pub bytes_wasted: u64,
}

/// A name of the tree and the layers it is from, by their numbers from 0.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub added: u32,
    /// The last to change it; at first the one that added it.
    pub changed: u32,
    id: NodeId,
    /// Of a directory, which keeps its node.
    directory: Option<Metadata>,
    size: u64,
}

/// The files of an image and which layer each is from.
#[derive(Debug, Clone, Default)]
pub struct FileHistory {
    tree: Tree,
    origins: HashMap<Vec<u8>, Origin>,
    effects: Vec<Effect>,
}

impl FileHistory {
    /// No layer yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays the next layer over those before.
    ///
    /// # Errors
    /// As [`Tree::apply_layer`]; the history is then as it was.
    pub fn push(
        &mut self,
        entries: impl IntoIterator<Item = Result<ArchiveEntry, Error>>,
    ) -> Result<(), Error> {
        let number = u32::try_from(self.effects.len()).expect("fewer than 2^32 layers");
        self.tree.apply_layer(number, entries)?;
        self.effects.push(Effect::default());
        self.note(number);
        Ok(())
    }

    /// All layers merged. Extents refer to the layers by their numbers.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What each layer did, lowest first.
    pub(crate) fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Where a name of the tree is from. Of the root nothing is known before a layer names it.
    pub(crate) fn origin(&self, path: &[u8]) -> Option<&Origin> {
        self.origins.get(path)
    }

    /// Compares the names with those before the layer `number`.
    fn note(&mut self, number: u32) {
        let mut before = std::mem::take(&mut self.origins);
        let mut after = HashMap::with_capacity(before.len());
        let mut counted = HashSet::new();
        for (path, id) in self.tree.walk() {
            let mut now = Origin { added: number, changed: number, ..self.state(id) };
            let effect = &mut self.effects[number as usize];
            match before.remove(&path) {
                None => effect.files.added += 1,
                Some(old) if old.is_same(&now) => (now.added, now.changed) = (old.added, old.changed),
                Some(old) => {
                    effect.files.changed += 1;
                    now.added = old.added;
                    waste(&mut self.effects, &old);
                }
            }
            // A second name of a file adds nothing.
            if now.changed == number && counted.insert(id) {
                let added = &mut self.effects[number as usize].bytes_added;
                *added = added.saturating_add(now.size);
            }
            after.insert(path, now);
        }
        self.effects[number as usize].files.deleted = before.len() as u64;
        before.values().for_each(|old| waste(&mut self.effects, old));
        self.origins = after;
    }

    fn state(&self, id: NodeId) -> Origin {
        let node = self.tree.node(id);
        let (size, directory) = match &node.content {
            Content::Directory(_) => (0, Some(node.metadata.clone())),
            Content::File { size, .. } => (*size, None),
            _ => (0, None),
        };
        Origin { added: 0, changed: 0, id, directory, size }
    }
}

fn waste(effects: &mut [Effect], old: &Origin) {
    let wasted = &mut effects[old.changed as usize].bytes_wasted;
    *wasted = wasted.saturating_add(old.size);
}

impl Origin {
    fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.directory == other.directory
    }
}

/// Small layers for tests.
#[cfg(test)]
pub(crate) mod sample {
    use super::*;
    use kiln_image::entry::{Entry, Kind};
    use kiln_image::tar::Location;

    /// An entry: `dir`, `-> TARGET`, `= TARGET` for a hard link, `cap` for a file that may bind ports, or the file's size.
    pub(crate) fn entry(path: &[u8], what: &str) -> ArchiveEntry {
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        let target = || rest.as_bytes().to_vec();
        let kind = match word {
            "dir" => Kind::Directory,
            "->" => Kind::Symlink { target: target() },
            "=" => Kind::HardLink { target: target() },
            "cap" => Kind::File { size: 8 },
            "null" => Kind::CharacterDevice { major: 1, minor: 3 },
            size => Kind::File { size: size.parse().expect("a size") },
        };
        let mut metadata =
            Metadata { mode: if word == "dir" { 0o755 } else { 0o644 }, ..Metadata::default() };
        if word == "cap" {
            let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            metadata.xattrs.insert(b"security.capability".to_vec(), value.to_vec());
            metadata.mode = 0o4755;
        }
        let stored_size = match kind {
            Kind::File { size } => size,
            _ => 0,
        };
        let location = Location { header_offset: 0, data_offset: 512, stored_size, sparse: None };
        ArchiveEntry { entry: Entry { path: path.to_vec(), metadata, kind }, location }
    }

    pub(crate) fn history(layers: &[&[(&str, &str)]]) -> FileHistory {
        let mut history = FileHistory::new();
        for layer in layers {
            history.push(layer.iter().map(|(path, what)| Ok(entry(path.as_bytes(), what)))).unwrap();
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(layers: &[&[(&str, &str)]]) -> Vec<[u64; 5]> {
        let row = |effect: &Effect| {
            let Counts { added, changed, deleted } = effect.files;
            [added, changed, deleted, effect.bytes_added, effect.bytes_wasted]
        };
        sample::history(layers).effects().iter().map(row).collect()
    }

    #[test]
    fn who_did_what() {
        // The root counts as added by the first layer.
        let base: &[(&str, &str)] = &[("etc", "dir"), ("etc/a", "10"), ("etc/b", "20")];
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [[u64; 5]; 2]);
        let table: [Case<'_>; 8] = [
            ("nothing", &[], [[4, 0, 0, 30, 0], [0, 0, 0, 0, 0]]),
            ("overwritten", &[("etc/a", "5")], [[4, 0, 0, 30, 10], [0, 1, 0, 5, 0]]),
            ("deleted", &[("etc/.wh.b", "0")], [[4, 0, 0, 30, 20], [0, 0, 1, 0, 0]]),
            ("added", &[("etc/c", "7")], [[4, 0, 0, 30, 0], [1, 0, 0, 7, 0]]),
            ("all deleted", &[(".wh.etc", "0")], [[4, 0, 0, 30, 30], [0, 0, 3, 0, 0]]),
            ("opaque", &[("etc/.wh..wh..opq", "0"), ("etc/a", "1")], [[4, 0, 0, 30, 30], [0, 1, 1, 1, 0]]),
            ("linked", &[("etc/c", "= etc/a")], [[4, 0, 0, 30, 0], [1, 0, 0, 10, 0]]),
            ("same directory", &[("etc", "dir")], [[4, 0, 0, 30, 0], [0, 0, 0, 0, 0]]),
        ];
        for (name, layer, expected) in table {
            assert_eq!(effects(&[base, layer]), expected, "{name}");
        }
    }

    #[test]
    fn what_is_wasted_is_the_last_writers() {
        let layers: [&[(&str, &str)]; 4] = [&[("a", "1")], &[("a", "2")], &[("a", "4")], &[(".wh.a", "0")]];
        let wasted: Vec<u64> = effects(&layers).iter().map(|row| row[4]).collect();
        assert_eq!(wasted, [1, 2, 4, 0]);
    }
}
