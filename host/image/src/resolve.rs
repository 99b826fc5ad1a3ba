//! Following symbolic links inside a file tree, as a process would whose root it is.

use crate::Error;
use crate::error::Kind;
use crate::path::{self, Quoted};

/// Most symbolic links followed for one path, as in Linux
/// ([path_resolution(7)](https://man7.org/linux/man-pages/man7/path_resolution.7.html)).
const MAX_LINKS: usize = 40;

/// A file tree to look into.
pub(crate) trait View {
    /// A file of it.
    type Place: Copy;

    fn root(&self) -> Self::Place;

    /// The file of a name in a directory; `None` also in what is no directory.
    fn child(&self, place: Self::Place, name: &[u8]) -> Option<Self::Place>;

    /// A symbolic link's target; `None` for any other file.
    fn symlink(&self, place: Self::Place) -> Option<&[u8]>;
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved<Place> {
    /// Without symbolic links, in the form of [`Entry::path`](crate::entry::Entry::path).
    pub path: Vec<u8>,
    /// What is there, if anything.
    pub place: Option<Place>,
}

/// Follows all symbolic links, also one at the end.
pub(crate) fn resolve<V: View>(view: &V, path: &[u8]) -> Result<Resolved<V::Place>, Error> {
    let mut pending = Pending::of(path);
    let mut reached = Reached::of(view);
    let mut links = 0;
    while let Some(name) = pending.next() {
        if name == b".." {
            reached.names.pop();
            continue;
        }
        let place = reached.last().and_then(|directory| view.child(directory, &name));
        let Some(target) = place.and_then(|place| view.symlink(place)) else {
            reached.names.push((name, place));
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(error(path, "leads through too many symbolic links"));
        }
        if target.starts_with(b"/") {
            reached.names.clear();
        }
        pending.push(target);
    }
    reached.finish().ok_or_else(|| error(path, "becomes too long when its symbolic links are followed"))
}

fn error(path: &[u8], why: &str) -> Error {
    Kind::corrupt(format!("path {}", Quoted(path)), why).into()
}

/// Names still to go, the next one last.
struct Pending(Vec<Vec<u8>>);

impl Pending {
    fn of(path: &[u8]) -> Self {
        let mut pending = Self(Vec::new());
        pending.push(path);
        pending
    }

    fn push(&mut self, path: &[u8]) {
        let names = path::components(path).filter(|name| *name != b".");
        self.0.extend(names.rev().map(<[u8]>::to_vec));
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.pop()
    }
}

/// The way gone so far, below the root.
struct Reached<Place> {
    root: Place,
    names: Vec<(Vec<u8>, Option<Place>)>,
}

impl<Place: Copy> Reached<Place> {
    fn of<V: View<Place = Place>>(view: &V) -> Self {
        Self { root: view.root(), names: Vec::new() }
    }

    fn last(&self) -> Option<Place> {
        self.names.last().map_or(Some(self.root), |(_, place)| *place)
    }

    fn finish(self) -> Option<Resolved<Place>> {
        let place = self.last();
        let names: Vec<Vec<u8>> = self.names.into_iter().map(|(name, _)| name).collect();
        let path = names.join(&b'/');
        (path.len() <= path::MAX_PATH).then_some(Resolved { path, place })
    }
}

#[cfg(test)]
mod tests {
    use crate::tree::test_tree;

    #[test]
    fn links_are_followed_inside_the_root() {
        let tree = test_tree::of(&[
            ("usr/lib/libc.so", "file"),
            ("lib", "-> usr/lib"),
            ("absolute", "-> /usr/./lib//"),
            ("escape", "-> ../../../usr"),
            ("usr/lib/up", "-> .."),
            ("a", "-> b"),
            ("b", "-> lib"),
            ("dangling", "-> nowhere/x"),
        ]);
        for (path, expected, exists) in [
            ("", "", true),
            ("/", "", true),
            ("usr/lib", "usr/lib", true),
            ("lib", "usr/lib", true),
            ("lib/libc.so", "usr/lib/libc.so", true),
            ("absolute/libc.so", "usr/lib/libc.so", true),
            ("escape/lib", "usr/lib", true),
            ("lib/up/lib", "usr/lib", true),
            ("a/libc.so", "usr/lib/libc.so", true),
            ("../../etc", "etc", false),
            ("dangling/y", "nowhere/x/y", false),
            ("lib/libc.so/x", "usr/lib/libc.so/x", false),
            ("lib/new/../x", "usr/lib/x", false),
        ] {
            let resolved = tree.resolve(path.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(resolved.path.clone()).unwrap(), expected, "{path}");
            assert_eq!(resolved.place, tree.lookup(&resolved.path), "{path}");
            assert_eq!(resolved.place.is_some(), exists, "{path}");
        }
    }

    #[test]
    fn loops_and_paths_without_end_are_errors() {
        let deep = "d/".repeat(1500);
        let tree = test_tree::of(&[
            ("loop", "-> loop"),
            ("ping", "-> pong"),
            ("pong", "-> ping"),
            ("deep", &format!("-> {deep}")),
        ]);
        let message = |path: &str| tree.resolve(path.as_bytes()).unwrap_err().to_string();
        assert_eq!(message("loop/x"), "path \"loop/x\" is corrupt: leads through too many symbolic links");
        assert_eq!(message("ping"), "path \"ping\" is corrupt: leads through too many symbolic links");
        let long = format!("deep/{deep}");
        assert!(message(&long).ends_with("becomes too long when its symbolic links are followed"));
    }

    #[test]
    fn forty_links_are_fine_and_one_more_is_not() {
        let names: Vec<String> = (0..=41).map(|i| format!("l{i}")).collect();
        let targets: Vec<String> = names.iter().skip(1).map(|name| format!("-> {name}")).collect();
        let files: Vec<_> =
            names.iter().map(String::as_str).zip(targets.iter().map(String::as_str)).collect();
        let tree = test_tree::of(&files);
        assert_eq!(tree.resolve(b"l1").unwrap().path, b"l41");
        assert!(tree.resolve(b"l0").is_err());
    }
}
