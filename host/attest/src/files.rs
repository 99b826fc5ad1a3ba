//! The files of a root file system, as this crate sees them.

use kiln_image::layer::ReadAt;
use kiln_image::path;
use kiln_image::tree::{Content, Extent, NodeId, Tree};
use std::cell::RefCell;
use std::io;

/// Most symbolic links followed for one path, as in Linux
/// ([path_resolution(7)](https://man7.org/linux/man-pages/man7/path_resolution.7.html)).
const MAX_LINKS: usize = 40;

/// A root file system to look into. Paths are relative to its root, without leading `/`; symbolic links
/// are followed as by a process whose root it is.
pub trait Files {
    /// The first `limit` bytes of a regular file, all of it when it has fewer; `None` when the path
    /// leads to none.
    ///
    /// # Errors
    /// When the file's bytes cannot be had.
    fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// The names in a directory, sorted bytewise; none when there is no such directory.
    fn list(&self, directory: &[u8]) -> Vec<Vec<u8>>;

    /// The path under which there is a file, not a directory: symbolic links on the way are followed,
    /// one at the end is not. `None` when there is no such file.
    fn locate(&self, path: &[u8]) -> Option<Vec<u8>>;
}

/// The merged tree of an image, its contents read from its layers.
pub struct TreeFiles<'a, 'r> {
    tree: &'a Tree,
    read: RefCell<&'a mut ReadAt<'r>>,
}

impl<'a, 'r> TreeFiles<'a, 'r> {
    /// A tree, and what reads the sources of its extents.
    pub fn new(tree: &'a Tree, read: &'a mut ReadAt<'r>) -> Self {
        Self { tree, read: RefCell::new(read) }
    }

    /// Where a path leads: without symbolic links, and what is there. `None` when nothing is, or when
    /// there are more than [`MAX_LINKS`] links on the way.
    fn resolve(&self, path: &[u8], last: LastLink) -> Option<(Vec<u8>, NodeId)> {
        let mut pending = Vec::new();
        push(&mut pending, path);
        let mut reached: Vec<(Vec<u8>, NodeId)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                reached.pop();
                continue;
            }
            let directory = reached.last().map_or(Tree::ROOT, |(_, id)| *id);
            let id = self.tree.child(directory, &name)?;
            match &self.tree.node(id).content {
                Content::Symlink(target) if last == LastLink::Follow || !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        reached.clear();
                    }
                    push(&mut pending, target);
                }
                _ => reached.push((name, id)),
            }
        }
        let id = reached.last().map_or(Tree::ROOT, |(_, id)| *id);
        let names: Vec<Vec<u8>> = reached.into_iter().map(|(name, _)| name).collect();
        Some((names.join(&b'/'), id))
    }

    /// The first bytes of a file, as many as the buffer has.
    fn fill(&self, extents: &[Extent], buffer: &mut [u8]) -> io::Result<()> {
        let mut read = self.read.borrow_mut();
        for extent in extents {
            let Some(rest) = index(extent.file_offset).and_then(|start| buffer.get_mut(start..)) else {
                break;
            };
            let length = index(extent.length).unwrap_or(usize::MAX).min(rest.len());
            if length > 0 {
                read(extent.source, extent.source_offset, &mut rest[..length])?;
            }
        }
        Ok(())
    }
}

/// What to do with a symbolic link at a path's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastLink {
    Follow,
    Keep,
}

/// The names of a path, the first one last.
fn push(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    pending.extend(path::components(path).rev().filter(|name| *name != b".").map(<[u8]>::to_vec));
}

fn index(offset: u64) -> Option<usize> {
    usize::try_from(offset).ok()
}

impl Files for TreeFiles<'_, '_> {
    fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((_, id)) = self.resolve(path, LastLink::Follow) else {
            return Ok(None);
        };
        let Content::File { size, extents } = &self.tree.node(id).content else {
            return Ok(None);
        };
        let length = index((*size).min(limit)).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut buffer = vec![0; length];
        self.fill(extents, &mut buffer)?;
        Ok(Some(buffer))
    }

    fn list(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let children = self.resolve(directory, LastLink::Follow).and_then(|(_, id)| self.tree.children(id));
        children.into_iter().flat_map(|children| children.keys().cloned()).collect()
    }

    fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        let (path, id) = self.resolve(path, LastLink::Keep)?;
        (!self.tree.is_directory(id)).then_some(path)
    }
}

/// Files in memory, for tests.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Default)]
    pub(crate) struct FakeFiles(pub BTreeMap<Vec<u8>, Vec<u8>>);

    impl FakeFiles {
        pub(crate) fn of<C: AsRef<[u8]>>(files: &[(&str, C)]) -> Self {
            let file = |(path, contents): &(&str, C)| (path.as_bytes().to_vec(), contents.as_ref().to_vec());
            Self(files.iter().map(file).collect())
        }
    }

    impl Files for FakeFiles {
        fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
            let cut = |contents: &Vec<u8>| contents.iter().copied().take(index(limit).unwrap()).collect();
            match self.0.get(path) {
                Some(contents) if contents == b"broken disk" => Err(io::ErrorKind::BrokenPipe.into()),
                contents => Ok(contents.map(cut)),
            }
        }

        fn list(&self, directory: &[u8]) -> Vec<Vec<u8>> {
            let prefix = [directory, b"/"].concat();
            let names = self.0.keys().filter_map(|path| path.strip_prefix(prefix.as_slice()));
            let names: BTreeSet<_> = names.filter_map(|rest| path::components(rest).next()).collect();
            names.into_iter().map(<[u8]>::to_vec).collect()
        }

        fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
            self.0.contains_key(path).then(|| path.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::entry::Metadata;
    use kiln_image::tree::Node;

    fn place(tree: &mut Tree, directory: NodeId, name: &str, content: Content) -> NodeId {
        let id = tree.insert(Node { metadata: Metadata::default(), content });
        tree.children_mut(directory).unwrap().insert(name.into(), id);
        id
    }

    fn directory() -> Content {
        Content::Directory(Default::default())
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let usr = place(&mut tree, Tree::ROOT, "usr", directory());
        let lib = place(&mut tree, usr, "lib", directory());
        let extents = vec![
            Extent { file_offset: 2, length: 3, source: 1, source_offset: 10 },
            Extent { file_offset: 6, length: 4, source: 0, source_offset: 20 },
        ];
        place(&mut tree, lib, "os-release", Content::File { size: 12, extents });
        place(&mut tree, Tree::ROOT, "lib", Content::Symlink(b"/usr/./lib".to_vec()));
        let etc = place(&mut tree, Tree::ROOT, "etc", directory());
        place(&mut tree, etc, "os-release", Content::Symlink(b"../../usr/lib/os-release".to_vec()));
        place(&mut tree, etc, "loop", Content::Symlink(b"loop".to_vec()));
        place(&mut tree, etc, "pipe", Content::Fifo);
        tree
    }

    #[test]
    fn links_are_followed_and_holes_are_zero() {
        let tree = tree();
        let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
            buffer.fill(b'a' + u8::try_from(offset).unwrap() / 10 + u8::try_from(source).unwrap() * 10);
            Ok(())
        };
        let files = TreeFiles::new(&tree, &mut read);
        let whole = b"\0\0lll\0cccc\0\0".to_vec();
        assert_eq!(files.read(b"etc/os-release", 100).unwrap(), Some(whole.clone()));
        assert_eq!(files.read(b"lib/os-release", 7).unwrap(), Some(whole[..7].to_vec()));
        assert_eq!(files.read(b"usr/lib/os-release", 1).unwrap(), Some(vec![0]));
        for path in ["etc", "etc/loop", "etc/pipe", "etc/none", "etc/pipe/x", ""] {
            assert_eq!(files.read(path.as_bytes(), 9).unwrap(), None, "{path}");
        }
        assert_eq!(files.list(b"lib"), [b"os-release"]);
        assert_eq!(files.list(b""), [&b"etc"[..], b"lib", b"usr"]);
        assert!(files.list(b"etc/pipe").is_empty() && files.list(b"nothing").is_empty());
        assert_eq!(files.locate(b"lib/os-release"), Some(b"usr/lib/os-release".to_vec()));
        assert_eq!(files.locate(b"lib"), Some(b"lib".to_vec()));
        assert_eq!(files.locate(b"usr/lib"), None);
    }

    #[test]
    fn a_layer_that_cannot_be_read_is_an_error() {
        let tree = tree();
        let mut read = |_: u32, _: u64, _: &mut [u8]| Err(io::ErrorKind::UnexpectedEof.into());
        let files = TreeFiles::new(&tree, &mut read);
        assert_eq!(files.read(b"etc/os-release", 9).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
