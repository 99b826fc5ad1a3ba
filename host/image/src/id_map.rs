//! Owners under other numbers, as a user namespace or a shared file system needs them.
//!
//! The form is virt-bootstrap's (and libvirt's `idmap`): `<start>:<target>:<count>`, several separated
//! by commas, each saying that the `count` numbers from `start` become those from `target`. A number
//! that no range has stays what it is; the first range that has it decides.

use crate::Error;
use crate::error::Kind;
use crate::tree::Tree;

/// Most ranges of a map: what the kernel takes for a
/// [user namespace](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
pub const MAX_RANGES: usize = 340;

/// The number that means "no user" to system calls, and is none.
const NO_ID: u32 = u32::MAX;

/// Numbers of users or groups to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    target: u32,
    count: u32,
}

impl IdMap {
    /// The map that a text says; none for the empty text.
    ///
    /// # Errors
    /// When the text is not of the form, or a range is empty or goes beyond the largest number.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let ranges: Vec<_> =
            text.split(',').take(MAX_RANGES + 1).map(Range::parse).collect::<Result<_, _>>()?;
        if ranges.len() > MAX_RANGES {
            return Err(syntax(text, "it has too many ranges"));
        }
        Ok(Self(ranges))
    }

    /// What a number becomes.
    pub fn map(&self, id: u32) -> u32 {
        self.0.iter().find_map(|range| range.map(id)).unwrap_or(id)
    }
}

impl Range {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut numbers = text.split(':').map(|number| decimal(number).ok_or(text));
        let mut next = || numbers.next().ok_or(text).flatten().map_err(|text| syntax(text, FORM));
        let range = Self { start: next()?, target: next()?, count: next()? };
        if numbers.next().is_some() {
            return Err(syntax(text, FORM));
        }
        if range.count == 0 {
            return Err(syntax(text, "it has no numbers"));
        }
        let fits = |first: u32| first.checked_add(range.count - 1).is_some_and(|last| last != NO_ID);
        if fits(range.start) && fits(range.target) {
            Ok(range)
        } else {
            Err(syntax(text, "it goes beyond the largest number, 4294967294"))
        }
    }

    fn map(self, id: u32) -> Option<u32> {
        id.checked_sub(self.start).filter(|offset| *offset < self.count).map(|offset| self.target + offset)
    }
}

const FORM: &str = "the form is <start>:<target>:<count>[,...], as 0:1000:10";

/// Digits only: no sign.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn syntax(text: &str, why: &'static str) -> Error {
    Kind::Syntax { what: "a map of user or group numbers", text: text.to_owned(), why }.into()
}

impl Tree {
    /// Gives every file the owner and group that the maps say, the root directory as well.
    pub fn map_ids(&mut self, users: &IdMap, groups: &IdMap) {
        for node in &mut self.nodes {
            node.metadata.uid = users.map(node.metadata.uid);
            node.metadata.gid = groups.map(node.metadata.gid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::test_tree::{self, listing};

    #[test]
    fn the_first_range_with_a_number_decides_and_others_stay() {
        let map = IdMap::parse("0:1000:10,500:0:1,5:7:1").unwrap();
        for (id, expected) in [(0, 1000), (5, 1005), (9, 1009), (10, 10), (500, 0), (501, 501)] {
            assert_eq!(map.map(id), expected, "{id}");
        }
        assert_eq!(IdMap::parse("").unwrap().map(7), 7);
        assert_eq!(IdMap::parse("4294967294:0:1").unwrap().map(u32::MAX - 1), 0);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        const BEYOND: &str = "it goes beyond the largest number, 4294967294";
        let many = ["0:0:1"; MAX_RANGES + 1].join(",");
        for (text, part, why) in [
            ("0", "0", FORM),
            ("0:1", "0:1", FORM),
            ("0:1:2:3", "0:1:2:3", FORM),
            ("0:1:2,", "", FORM),
            ("a:1:2", "a:1:2", FORM),
            ("-1:1:2", "-1:1:2", FORM),
            ("+1:1:2", "+1:1:2", FORM),
            ("0::2", "0::2", FORM),
            ("0:4294967296:1", "0:4294967296:1", FORM),
            ("0:0:0", "0:0:0", "it has no numbers"),
            ("0:4294967295:1", "0:4294967295:1", BEYOND),
            ("4294967290:0:6", "4294967290:0:6", BEYOND),
            (&many, &many, "it has too many ranges"),
        ] {
            let error = IdMap::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("{part:?} is not a map of user or group numbers: {why}"), "{text}");
        }
    }

    #[test]
    fn a_tree_is_mapped_whole_and_each_file_once() {
        let mut tree = test_tree::of(&[("a", "0"), ("b", "= a"), ("c", "1000"), ("d", "dir")]);
        tree.map_ids(&IdMap::parse("0:1000:1,1000:2000:1").unwrap(), &IdMap::parse("0:7:1").unwrap());
        assert_eq!(listing(&tree), ["a 1000", "b 1000", "c 2000", "d/ 1000"]);
        let root = &tree.node(Tree::ROOT).metadata;
        assert_eq!((root.uid, root.gid), (1000, 7));
    }
}
