//! Changing an ext file system without mounting it: what [debugfs(8)](https://man7.org/linux/man-pages/man8/debugfs.8.html)
//! does to one that holds a tree, so that it holds the next.
//!
//! What both have in common stays where it is, down to its blocks. A file system made anew would have it all elsewhere.

use super::shell::line;
use kiln_image::{
    entry::{Metadata, Xattrs},
    tree::{Content, NodeId, Tree},
};
use rustix::fs::FileType;
use std::collections::BTreeMap;

/// Length of a command, in bytes: debugfs reads lines into `BUFSIZ`.
const COMMAND_MAX: usize = 8000;
/// Length of all commands, in bytes: the script goes to the guest in one frame of 16 MiB.
const COMMANDS_MAX: usize = 12 << 20;
/// Length of an extended attribute's value, in bytes: debugfs reads no more of its file than a block.
const VALUE_MAX: usize = 1024;
/// Ends the commands in the script; none begins with it.
const END: &str = "KILN";

/// A script that makes the file system on a device, which holds `below`, hold `tree`, whose files are at `place`.
///
/// It exits with 1 where debugfs or e2fsck complain; the file system is of no use then. `None` where there is something
/// that debugfs cannot be told.
pub(crate) fn script(below: &Tree, tree: &Tree, place: &str, device: &str, epoch: u64) -> Option<String> {
    let mut commands = Commands { place, lines: Vec::new(), values: Vec::new(), directory: None, time: None };
    commands.change(below, tree, i64::try_from(epoch).ok()?)?;
    let mut lines = vec!["cd \"$(mktemp -d)\" || exit 1".to_owned()];
    let values = commands.values.iter().enumerate();
    lines
        .extend(values.map(|(number, value)| format!("printf {} >{number}", line([escape(value).as_str()]))));
    lines.push(format!("cat >commands <<'{END}'"));
    lines.append(&mut commands.lines);
    lines.push(END.to_owned());
    // The first line of its complaints is its version. It goes on after an error, and ends as if there had been none.
    lines.push(format!("debugfs -w -f commands {device} >said 2>complaints || cat complaints"));
    lines.push("[ \"$(wc -l <complaints)\" -eq 1 ] || { cat complaints; exit 1; }".to_owned());
    lines.push(format!("e2fsck -fn {device} >said 2>&1 || {{ cat said; exit 1; }}"));
    let script = lines.join("\n") + "\n";
    (script.len() <= COMMANDS_MAX).then_some(script)
}

/// For printf(1).
fn escape(value: &[u8]) -> String {
    value.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

struct Commands<'p> {
    place: &'p str,
    lines: Vec<String>,
    /// Of extended attributes, each for a file with its number as its name.
    values: Vec<Vec<u8>>,
    /// Where debugfs is.
    directory: Option<Vec<u8>>,
    /// What debugfs takes for the present.
    time: Option<i64>,
}

/// All names of a tree, a directory before what is in it.
type Names = BTreeMap<Vec<u8>, NodeId>;

/// The names of each file that has more than one.
fn linked(tree: &Tree, names: &Names) -> BTreeMap<NodeId, Vec<Vec<u8>>> {
    let counts = tree.link_counts();
    let mut linked: BTreeMap<NodeId, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, id) in names {
        if counts[id.index()] > 1 && !tree.is_directory(*id) {
            linked.entry(*id).or_default().push(path.clone());
        }
    }
    linked
}

impl Commands<'_> {
    fn change(&mut self, below: &Tree, tree: &Tree, epoch: i64) -> Option<()> {
        let (old, new): (Names, Names) = (below.walk().collect(), tree.walk().collect());
        let (old_links, new_links) = (linked(below, &old), linked(tree, &new));
        // Directories stay what they are whatever is in them.
        let kept = |path: &[u8]| {
            let (was, is) = (*old.get(path)?, *new.get(path)?);
            let stays = match (below.is_directory(was), tree.is_directory(is)) {
                (true, true) => true,
                (false, false) => {
                    below.node(was) == tree.node(is) && old_links.get(&was) == new_links.get(&is)
                }
                _ => false,
            };
            stays.then_some((was, is))
        };
        self.set_time(epoch)?;
        for (path, id) in old.iter().rev().filter(|(path, _)| kept(path).is_none()) {
            let command = if below.is_directory(*id) { "rmdir" } else { "rm" };
            self.say(&[command, &absolute(path)?])?;
        }
        for (path, id) in &new {
            match kept(path) {
                None => self.add(path, tree, *id, new_links.get(id))?,
                Some((was, is)) if tree.is_directory(is) => {
                    let (was, is) = (&below.node(was).metadata, &tree.node(is).metadata);
                    if was != is {
                        self.describe(path, FileType::Directory, is)?;
                        self.set_times(path, is.mtime)?;
                        self.attributes(path, &was.xattrs, &is.xattrs)?;
                    }
                }
                Some(_) => {}
            }
        }
        // When the file system was last written.
        self.set_time(epoch)
    }

    fn add(&mut self, path: &[u8], tree: &Tree, id: NodeId, names: Option<&Vec<Vec<u8>>>) -> Option<()> {
        let node = tree.node(id);
        let (directory, name) = split(path);
        let name = std::str::from_utf8(name).ok()?;
        if self.directory.as_deref() != Some(directory) {
            self.say(&["cd", &absolute(directory)?])?;
            self.directory = Some(directory.to_vec());
        }
        if let Some(first) = names.map(|names| &names[0]).filter(|first| *first != path) {
            return self.say(&["ln", &absolute(first)?, name]);
        }
        self.set_time(node.metadata.mtime)?;
        let kind = match &node.content {
            Content::Directory(_) => {
                self.say(&["mkdir", name])?;
                FileType::Directory
            }
            Content::File { .. } => {
                self.say(&["write", &format!("{}{}", self.place, absolute(path)?), name])?;
                FileType::RegularFile
            }
            Content::Symlink(target) => {
                self.say(&["symlink", name, std::str::from_utf8(target).ok()?])?;
                FileType::Symlink
            }
            Content::CharacterDevice { major, minor } => {
                self.say(&["mknod", name, "c", &major.to_string(), &minor.to_string()])?;
                FileType::CharacterDevice
            }
            Content::BlockDevice { major, minor } => {
                self.say(&["mknod", name, "b", &major.to_string(), &minor.to_string()])?;
                FileType::BlockDevice
            }
            Content::Fifo => {
                self.say(&["mknod", name, "p"])?;
                FileType::Fifo
            }
        };
        self.describe(path, kind, &node.metadata)?;
        if node.metadata.mtime == 0 {
            self.set_times(path, 0)?;
        }
        if let Some(names) = names {
            self.set(path, "links_count", &names.len().to_string())?;
        }
        self.attributes(path, &Xattrs::new(), &node.metadata.xattrs)
    }

    /// Times of what is made from now on.
    fn set_time(&mut self, time: i64) -> Option<()> {
        // To debugfs, 0 is as good as none. Times before that it has not.
        let time = if time == 0 { 1 } else { time };
        if time < 0 {
            return None;
        }
        if self.time.replace(time) != Some(time) {
            self.say(&["set_current_time", &format!("@{time}")])?;
        }
        Some(())
    }

    fn set_times(&mut self, path: &[u8], time: i64) -> Option<()> {
        let time = format!("@{}", u64::try_from(time).ok()?);
        ["atime", "ctime", "mtime"].iter().try_for_each(|field| self.set(path, field, &time))
    }

    fn describe(&mut self, path: &[u8], kind: FileType, metadata: &Metadata) -> Option<()> {
        if kind != FileType::Symlink {
            self.set(path, "mode", &format!("0{:o}", kind.as_raw_mode() | u32::from(metadata.mode)))?;
        }
        self.set(path, "uid", &metadata.uid.to_string())?;
        self.set(path, "gid", &metadata.gid.to_string())
    }

    fn set(&mut self, path: &[u8], field: &str, value: &str) -> Option<()> {
        self.say(&["set_inode_field", &absolute(path)?, field, value])
    }

    fn attributes(&mut self, path: &[u8], old: &Xattrs, new: &Xattrs) -> Option<()> {
        let name = |name: &'_ [u8]| std::str::from_utf8(name).map(str::to_owned).ok();
        for gone in old.keys().filter(|key| !new.contains_key(*key)) {
            self.say(&["ea_rm", &absolute(path)?, &name(gone)?])?;
        }
        for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
            if value.len() > VALUE_MAX {
                return None;
            }
            let number = self.values.iter().position(|known| known == value).unwrap_or_else(|| {
                self.values.push(value.clone());
                self.values.len() - 1
            });
            self.say(&["ea_set", "-f", &number.to_string(), &absolute(path)?, &name(key)?])?;
        }
        Some(())
    }

    /// A command of these words; `None` where a word cannot be written.
    fn say(&mut self, words: &[&str]) -> Option<()> {
        let mut command = words[0].to_owned();
        for word in &words[1..] {
            if word.contains(['\n', '\r', '\0']) {
                return None;
            }
            // As libss, which reads them, has it: a quotation mark within quotation marks is two.
            command += &format!(" \"{}\"", word.replace('"', "\"\""));
        }
        self.lines.push(command);
        self.lines.last().filter(|line| line.len() <= COMMAND_MAX).map(|_| ())
    }
}

fn absolute(path: &[u8]) -> Option<String> {
    Some(format!("/{}", std::str::from_utf8(path).ok()?))
}

/// A path's directory and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::tree::{Extent, Node};

    fn file(source: u32) -> Content {
        let extent = Extent { file_offset: 0, length: 5, source, source_offset: 0 };
        Content::File { size: 5, extents: vec![extent] }
    }

    fn directory() -> Content {
        Content::Directory(BTreeMap::new())
    }

    fn put(tree: &mut Tree, path: &str, content: Content) -> NodeId {
        let metadata = Metadata { mode: 0o644, mtime: 7, ..Metadata::default() };
        let id = tree.insert(Node { metadata, content });
        name(tree, path, id);
        id
    }

    fn name(tree: &mut Tree, path: &str, id: NodeId) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (parent, name) = (parent.as_bytes(), name.as_bytes());
        let parent = tree.lookup(parent).expect("a directory");
        tree.children_mut(parent).expect("a directory").insert(name.to_vec(), id);
    }

    fn commands(below: &Tree, tree: &Tree) -> Option<Vec<String>> {
        let script = script(below, tree, "/tree", "/dev/x", 9)?;
        let lines = script.lines().skip_while(|line| !line.starts_with("cat >commands")).skip(1);
        Some(lines.take_while(|line| *line != END).map(str::to_owned).collect())
    }

    fn base() -> Tree {
        let mut tree = Tree::new();
        put(&mut tree, "etc", directory());
        put(&mut tree, "etc/kept", file(0));
        put(&mut tree, "etc/gone", file(0));
        let linked = put(&mut tree, "etc/one", file(0));
        name(&mut tree, "etc/two", linked);
        tree
    }

    #[test]
    fn what_is_the_same_is_not_touched() {
        assert_eq!(commands(&base(), &base()).unwrap(), ["set_current_time \"@9\""]);
    }

    #[test]
    fn the_rest_is_taken_away_before_anything_is_made() {
        let mut tree = base();
        tree.children_mut(tree.lookup(b"etc").unwrap()).unwrap().remove(b"gone".as_slice());
        let etc = tree.lookup(b"etc").unwrap();
        tree.node_mut(etc).metadata.uid = 5;
        put(&mut tree, "etc/a \"b\"", Content::Symlink(b"../x y".to_vec()));
        // Another name of a file makes another file of it.
        let linked = tree.lookup(b"etc/one").unwrap();
        name(&mut tree, "three", linked);
        let found = commands(&base(), &tree).unwrap();
        let wanted = [
            "set_current_time \"@9\"",
            "rm \"/etc/two\"",
            "rm \"/etc/one\"",
            "rm \"/etc/gone\"",
            "set_inode_field \"/etc\" \"mode\" \"040644\"",
            "set_inode_field \"/etc\" \"uid\" \"5\"",
            "set_inode_field \"/etc\" \"gid\" \"0\"",
            "set_inode_field \"/etc\" \"atime\" \"@7\"",
            "set_inode_field \"/etc\" \"ctime\" \"@7\"",
            "set_inode_field \"/etc\" \"mtime\" \"@7\"",
            "cd \"/etc\"",
            "set_current_time \"@7\"",
            "symlink \"a \"\"b\"\"\" \"../x y\"",
            "set_inode_field \"/etc/a \"\"b\"\"\" \"uid\" \"0\"",
            "set_inode_field \"/etc/a \"\"b\"\"\" \"gid\" \"0\"",
            "write \"/tree/etc/one\" \"one\"",
            "set_inode_field \"/etc/one\" \"mode\" \"0100644\"",
            "set_inode_field \"/etc/one\" \"uid\" \"0\"",
            "set_inode_field \"/etc/one\" \"gid\" \"0\"",
            "set_inode_field \"/etc/one\" \"links_count\" \"3\"",
            "ln \"/etc/one\" \"two\"",
            "cd \"/\"",
            "ln \"/etc/one\" \"three\"",
            "set_current_time \"@9\"",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_directory_becomes_a_file_and_back() {
        let mut tree = Tree::new();
        put(&mut tree, "etc", file(1));
        let there = commands(&base(), &tree).unwrap();
        assert_eq!(there[5], "rmdir \"/etc\"");
        assert!(there[6..].contains(&"write \"/tree/etc\" \"etc\"".to_owned()), "{there:?}");
        let back = commands(&tree, &base()).unwrap();
        assert_eq!(back[1], "rm \"/etc\"");
        assert!(back.contains(&"mkdir \"etc\"".to_owned()), "{back:?}");
    }

    #[test]
    fn attributes_are_set_and_taken_away() {
        let (mut one, mut other) = (base(), base());
        let etc = one.lookup(b"etc").unwrap();
        one.node_mut(etc).metadata.xattrs = [(b"user.old".to_vec(), b"x".to_vec())].into();
        other.node_mut(etc).metadata.xattrs = [(b"user.new".to_vec(), vec![0, 255])].into();
        let script = script(&one, &other, "/tree", "/dev/x", 9).unwrap();
        assert!(script.contains("printf '\\000\\377' >0\n"), "{script}");
        assert!(script.contains("ea_rm \"/etc\" \"user.old\"\nea_set \"-f\" \"0\" \"/etc\" \"user.new\"\n"));
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        let odd: [&dyn Fn(&mut Tree); 4] = [
            &|tree| {
                put(tree, "a\nrm etc", file(1));
            },
            &|tree| {
                let id = put(tree, "early", file(1));
                tree.node_mut(id).metadata.mtime = -1;
            },
            &|tree| {
                let id = put(tree, "large", file(1));
                tree.node_mut(id).metadata.xattrs = [(b"user.a".to_vec(), vec![0; 2000])].into();
            },
            &|tree| {
                let id = tree.insert(Node { metadata: Metadata::default(), content: file(1) });
                tree.children_mut(Tree::ROOT).unwrap().insert(vec![0xff], id);
            },
        ];
        for change in odd {
            let mut tree = base();
            change(&mut tree);
            assert_eq!(script(&base(), &tree, "/tree", "/dev/x", 9), None);
        }
    }
}
