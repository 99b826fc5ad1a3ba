//! How a layer says that files of the layers below are gone.
//!
//! Two dialects are in use. AUFS's is that of the
//! [OCI image format](https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts) and
//! the one kiln writes: an empty file `.wh.NAME` hides NAME, and `.wh..wh..opq` hides everything
//! below its directory. overlayfs's own is found in archives of an upper directory: a character
//! device 0:0 hides its name, or an empty file with an attribute, and another attribute makes a directory
//! opaque
//! ([kernel](https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories)).
//!
//! Both are understood in every layer, whatever made it. The image format knows AUFS's only, and to it
//! a device 0:0 is a device; but where Docker, containerd and Podman unpack such a layer for overlayfs,
//! which is what they do unless told otherwise, the kernel takes it for a whiteout and the attribute for
//! opaque, and so an image means what it shows there. No driver of any device has the number 0:0.
//!
//! overlayfs keeps more in attributes. What only helps it to be fast or consistent is dropped. Two say
//! that a file's name or contents are elsewhere in a stack of directories that no layer has: those are
//! refused, as nobody could show the file.

use crate::entry::{Entry, Kind, Xattrs};
use crate::path;

/// Before the name of a file that is hidden.
pub const PREFIX: &[u8] = b".wh.";

/// The name of the marker that hides what the layers below have in its directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Before names that AUFS keeps for itself, as `.wh..wh.plnk` and `.wh..wh.aufs`.
const METADATA_PREFIX: &[u8] = b".wh..wh.";

/// Before attributes that are overlayfs's own and never belong to a file.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What an entry of a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It is there.
    Present,
    /// The directory is there, and hides what the layers below have in it.
    PresentOpaque,
    /// The layers' below file or directory `directory`/`name` is gone.
    Whiteout {
        /// Path of its directory.
        directory: &'a [u8],
        /// Its name, which is not empty, `.` or `..`.
        name: &'a [u8],
    },
    /// What the layers below have in this directory is gone.
    Opaque {
        /// Its path.
        directory: &'a [u8],
    },
    /// Nothing: AUFS's bookkeeping.
    Ignored,
    /// A whiteout that does not say of what, or with something below it.
    Malformed,
}

/// Understands both dialects.
pub fn change(entry: &Entry) -> Change<'_> {
    let Some((directory, name)) = path::split_name(&entry.path) else {
        return present(entry);
    };
    if path::components(directory).any(is_reserved) {
        return if path::components(directory).any(is_metadata) {
            Change::Ignored
        } else {
            Change::Malformed
        };
    }
    if name == OPAQUE {
        Change::Opaque { directory }
    } else if is_metadata(name) {
        Change::Ignored
    } else if let Some(hidden) = name.strip_prefix(PREFIX) {
        match hidden {
            b"" | b"." | b".." => Change::Malformed,
            _ => Change::Whiteout { directory, name: hidden },
        }
    } else if is_overlay_whiteout(entry) {
        Change::Whiteout { directory, name }
    } else {
        present(entry)
    }
}

fn is_metadata(name: &[u8]) -> bool {
    name.starts_with(METADATA_PREFIX)
}

fn present(entry: &Entry) -> Change<'_> {
    if entry.kind == Kind::Directory && has_overlay_flag(entry, b"opaque") {
        Change::PresentOpaque
    } else {
        Change::Present
    }
}

/// A device 0:0, or what stands for one where devices cannot be made: an empty file with an attribute.
fn is_overlay_whiteout(entry: &Entry) -> bool {
    match entry.kind {
        Kind::CharacterDevice { major: 0, minor: 0 } => true,
        Kind::File { size: 0 } => has_overlay_xattr(entry, b"whiteout").is_some(),
        _ => false,
    }
}

fn has_overlay_flag(entry: &Entry, name: &[u8]) -> bool {
    has_overlay_xattr(entry, name).is_some_and(|value| value == b"y")
}

fn has_overlay_xattr<'a>(entry: &'a Entry, name: &[u8]) -> Option<&'a [u8]> {
    let values = OVERLAY_XATTRS.iter().filter_map(|prefix| {
        let full_name = [prefix, name].concat();
        entry.metadata.xattrs.get(&full_name)
    });
    values.map(Vec::as_slice).next()
}

/// overlayfs's attributes by which a file is not where, or not what, it seems to be.
const OVERLAY_REFERENCES: [&[u8]; 2] = [b"redirect", b"metacopy"];

/// The attribute, if any, that says that the file's name or contents are elsewhere.
pub fn overlay_reference(xattrs: &Xattrs) -> Option<&[u8]> {
    let is_reference = |name: &&Vec<u8>| {
        let own = OVERLAY_XATTRS.iter().find_map(|prefix| name.strip_prefix(*prefix));
        own.is_some_and(|own| OVERLAY_REFERENCES.contains(&own))
    };
    xattrs.keys().find(is_reference).map(Vec::as_slice)
}

/// True of an attribute that is overlayfs's own.
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix))
}

/// True of a name that a layer cannot give to a file.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// By how many bytes a name in an archive may be longer than a file's.
pub(crate) fn prefix_length(name: &[u8]) -> usize {
    if is_reserved(name) { PREFIX.len() } else { 0 }
}

/// The path of the entry that hides `path`; `None` for the root, which cannot be hidden.
pub fn path_hiding(path: &[u8]) -> Option<Vec<u8>> {
    let (directory, name) = path::split_name(path)?;
    Some(path::join(directory, &[PREFIX, name].concat()))
}

/// The path of the entry that hides what is below `directory`.
pub fn path_of_opaque(directory: &[u8]) -> Vec<u8> {
    path::join(directory, OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;

    fn entry(path: &str, kind: Kind, xattrs: &[(&str, &str)]) -> Entry {
        let xattrs = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let metadata = Metadata { xattrs: xattrs.collect(), ..Metadata::default() };
        Entry { path: path.as_bytes().to_vec(), metadata, kind }
    }

    const EMPTY: Kind = Kind::File { size: 0 };

    #[test]
    fn the_aufs_dialect() {
        let cases: [(&str, Change); 12] = [
            ("a/b", Change::Present),
            ("a/.wh.b", Change::Whiteout { directory: b"a", name: b"b" }),
            (".wh.b", Change::Whiteout { directory: b"", name: b"b" }),
            (".wh..b", Change::Whiteout { directory: b"", name: b".b" }),
            ("a/.wh..wh..opq", Change::Opaque { directory: b"a" }),
            (".wh..wh.plnk/12.34", Change::Ignored),
            ("a/.wh..wh.aufs", Change::Ignored),
            ("a/.wh.", Change::Malformed),
            (".wh..", Change::Malformed),
            ("a/.wh...", Change::Malformed),
            (".wh.a/b", Change::Malformed),
            ("a/.wh.b/.wh..wh..opq", Change::Malformed),
        ];
        for (path, expected) in cases {
            assert_eq!(change(&entry(path, EMPTY, &[])), expected, "{path}");
        }
    }

    #[test]
    fn the_overlay_dialect() {
        let device = |major, minor| Kind::CharacterDevice { major, minor };
        let gone = Change::Whiteout { directory: b"a", name: b"b" };
        let cases: [(Entry, Change); 8] = [
            (entry("a/b", device(0, 0), &[]), gone),
            (entry("a/b", device(1, 3), &[]), Change::Present),
            (entry("a/b", EMPTY, &[("user.overlay.whiteout", "")]), gone),
            (entry("a", Kind::Directory, &[("trusted.overlay.opaque", "y")]), Change::PresentOpaque),
            (entry("a", Kind::Directory, &[("user.overlay.opaque", "y")]), Change::PresentOpaque),
            (entry("", Kind::Directory, &[("user.overlay.opaque", "y")]), Change::PresentOpaque),
            (entry("a", Kind::Directory, &[("trusted.overlay.opaque", "x")]), Change::Present),
            (entry("a", EMPTY, &[("trusted.overlay.opaque", "y")]), Change::Present),
        ];
        for (entry, expected) in cases {
            assert_eq!(change(&entry), expected, "{entry:?}");
        }
    }

    #[test]
    fn what_is_written_is_understood() {
        assert_eq!(path_hiding(b""), None);
        for (hidden, directory, name) in [("a/b", "a", "b"), ("b", "", "b")] {
            let path = path_hiding(hidden.as_bytes()).unwrap();
            let entry = entry(std::str::from_utf8(&path).unwrap(), EMPTY, &[]);
            let expected = Change::Whiteout { directory: directory.as_bytes(), name: name.as_bytes() };
            assert_eq!(change(&entry), expected);
        }
        let entry = entry(std::str::from_utf8(&path_of_opaque(b"a")).unwrap(), EMPTY, &[]);
        assert_eq!(change(&entry), Change::Opaque { directory: b"a" });
    }
}
