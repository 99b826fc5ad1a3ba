//! Paths inside an image: bytes, relative to the root, with one spelling each.

use std::cmp::Ordering;
use std::fmt;

/// Longest path kiln keeps, in bytes (Linux's
/// [`PATH_MAX`](https://man7.org/linux/man-pages/man0/limits.h.0p.html)). It also bounds how deep a
/// hostile archive can nest directories.
pub const MAX_PATH: usize = 4096;

/// Longest name in a directory, in bytes (Linux's `NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// What keeps bytes from being a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("has a `..` component")]
    DotDot,
    #[error("has an empty or `.` component")]
    NotNormal,
    #[error("has a NUL byte")]
    Nul,
    #[error("has a component longer than {MAX_NAME} bytes")]
    LongName,
    #[error("is longer than {MAX_PATH} bytes")]
    LongPath,
}

/// Most bytes of a path shown in a message: an archive can have it as long as an extended header.
const MAX_QUOTED: usize = 512;

/// Bytes shown in a message: quoted, with what is not printable UTF-8 escaped, and not too many.
pub(crate) struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let shown = &self.0[..self.0.len().min(MAX_QUOTED)];
        for chunk in shown.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        match self.0.len() {
            length if length > MAX_QUOTED => write!(f, "...\" ({length} bytes)"),
            _ => f.write_str("\""),
        }
    }
}

/// The names a path is made of; none for the root.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// The path of the directory a path is in, and its name there; `None` for the root.
pub fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    })
}

/// The path of `name` in the directory `parent`.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The order of a walk that visits a directory before what is in it, and names sorted bytewise.
pub fn walk_order(left: &[u8], right: &[u8]) -> Ordering {
    components(left).cmp(components(right))
}

/// True when `path` is below `directory` and not that directory itself.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Brings a foreign path to the form of [`Entry::path`](crate::entry::Entry::path).
///
/// A name may be longer than [`MAX_NAME`] by `allowance(name)` bytes.
pub(crate) fn normalize(raw: &[u8], allowance: fn(&[u8]) -> usize) -> Result<Vec<u8>, BadPath> {
    let names: Vec<&[u8]> = components(raw).filter(|name| *name != b".").collect();
    for name in &names {
        check_name(name, allowance(name))?;
    }
    let path = names.join(&b'/');
    if path.len() > MAX_PATH { Err(BadPath::LongPath) } else { Ok(path) }
}

/// Accepts what already has the form of [`Entry::path`](crate::entry::Entry::path), with the same
/// allowance.
pub(crate) fn check(path: &[u8], allowance: fn(&[u8]) -> usize) -> Result<(), BadPath> {
    if path.is_empty() {
        return Ok(());
    }
    for name in path.split(|byte| *byte == b'/') {
        if name.is_empty() || name == b"." {
            return Err(BadPath::NotNormal);
        }
        check_name(name, allowance(name))?;
    }
    if path.len() > MAX_PATH { Err(BadPath::LongPath) } else { Ok(()) }
}

/// True of what a symbolic link can point to: not empty, shorter than [`MAX_PATH`], without NUL.
pub(crate) fn is_symlink_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < MAX_PATH && !target.contains(&0)
}

fn check_name(name: &[u8], allowance: usize) -> Result<(), BadPath> {
    if name == b".." {
        Err(BadPath::DotDot)
    } else if name.contains(&0) {
        Err(BadPath::Nul)
    } else if name.len() > MAX_NAME + allowance {
        Err(BadPath::LongName)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: &str) -> Result<String, BadPath> {
        normalize(raw.as_bytes(), |_| 0).map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn foreign_spellings_come_to_one_form() {
        for (raw, path) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            (".", ""),
            ("./a", "a"),
            ("/a//b/./c/", "a/b/c"),
            (".hidden/..data", ".hidden/..data"),
        ] {
            assert_eq!(normal(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_no_file_can_be_called_is_refused() {
        let long_name = "n".repeat(MAX_NAME + 1);
        let long_path = "a/".repeat(MAX_PATH / 2) + "bc";
        for (raw, error) in [
            ("../a", BadPath::DotDot),
            ("a/../b", BadPath::DotDot),
            ("a\0b", BadPath::Nul),
            (&long_name, BadPath::LongName),
            (&long_path, BadPath::LongPath),
        ] {
            assert_eq!(normal(raw), Err(error), "{raw:?}");
            assert_eq!(check(raw.as_bytes(), |_| 0), Err(error), "{raw:?}");
        }
        for raw in ["/a", "a/", "a//b", "./a", "a/."] {
            assert_eq!(check(raw.as_bytes(), |_| 0), Err(BadPath::NotNormal), "{raw}");
        }
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it_and_that_before_its_neighbours() {
        let mut paths = ["a-b", "a/b", "b", "a", "", "a/b/c", "a.b"];
        paths.sort_by(|a, b| walk_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a-b", "a.b", "b"]);
    }

    #[test]
    fn quoting_shows_every_byte() {
        assert_eq!(Quoted(b"caf\xc3\xa9\xff\n\"").to_string(), r#""café\xff\n\"""#);
    }

    #[test]
    fn below_means_strictly_and_by_whole_names() {
        assert!(is_below(b"a/b", b"a") && is_below(b"a", b""));
        assert!(!is_below(b"ab", b"a") && !is_below(b"a", b"a") && !is_below(b"", b""));
    }
}
