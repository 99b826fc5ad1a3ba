//! The members of an archive, as far as they are kept.

use super::LayerRef;
use crate::error::{Error, Kind};
use std::collections::BTreeMap;

/// Bytes of one document.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;
/// Bytes of all documents, names and links together.
const MEMORY_LIMIT: u64 = 64 << 20;
/// What keeping a member costs beside its bytes, roughly.
const MEMBER_OVERHEAD: u64 = 128;
/// Symbolic links followed for one member; `docker save` needs one.
const LINK_LIMIT: usize = 8;

/// What one pass over an archive leaves.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: BTreeMap<String, Member>,
    memory: u64,
}

#[derive(Debug)]
enum Member {
    Document(Vec<u8>),
    Layer(LayerRef),
    /// The member this is another name of.
    Link(String),
}

impl Members {
    pub(super) fn insert_document(&mut self, name: String, bytes: Vec<u8>) -> Result<(), Error> {
        self.insert(name, Member::Document(bytes))
    }

    pub(super) fn insert_layer(&mut self, name: String, layer: LayerRef) -> Result<(), Error> {
        self.insert(name, Member::Layer(layer))
    }

    /// A symbolic link, whose target is relative to its directory.
    pub(super) fn insert_symlink(&mut self, name: String, target: &str) -> Result<(), Error> {
        match beside(&name, target) {
            Some(target) => self.insert(name, Member::Link(target)),
            // Whoever names it finds it missing.
            None => Ok(()),
        }
    }

    /// A hard link, whose target is a member.
    pub(super) fn insert_hard_link(&mut self, name: String, target: String) -> Result<(), Error> {
        self.insert(name, Member::Link(target))
    }

    /// As for any tar, what comes later replaces what came before.
    fn insert(&mut self, name: String, member: Member) -> Result<(), Error> {
        let held = match &member {
            Member::Document(bytes) => bytes.len(),
            Member::Link(target) => target.len(),
            Member::Layer(_) => 0,
        };
        self.memory += MEMBER_OVERHEAD + (name.len() + held) as u64;
        if self.memory > MEMORY_LIMIT {
            let why = format!("its documents and names are larger than {MEMORY_LIMIT} bytes");
            return Err(Kind::corrupt("docker-archive", why).into());
        }
        self.members.insert(name, member);
        Ok(())
    }

    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        match self.resolve(name)? {
            Member::Document(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn layer(&self, name: &str) -> Option<LayerRef> {
        match self.resolve(name)? {
            Member::Layer(layer) => Some(*layer),
            _ => None,
        }
    }

    /// The names of all members, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    fn resolve(&self, name: &str) -> Option<&Member> {
        let mut member = self.members.get(&beside("", name)?)?;
        for _ in 0..LINK_LIMIT {
            match member {
                Member::Link(target) => member = self.members.get(target)?,
                found => return Some(found),
            }
        }
        None
    }
}

/// The member that `target` means in the directory of member `name`. `None` outside of the archive.
fn beside(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(name.split('/'));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_members_and_nowhere_else() {
        let mut members = Members::default();
        members.insert_document("a/json".into(), b"{}".to_vec()).unwrap();
        members.insert_symlink("b/one".into(), "../a/json").unwrap();
        members.insert_symlink("b/two".into(), "./one").unwrap();
        members.insert_symlink("root".into(), "/a/json").unwrap();
        members.insert_hard_link("hard".into(), "b/two".into()).unwrap();
        members.insert_symlink("out".into(), "../a/json").unwrap();
        members.insert_symlink("dangling".into(), "nothing").unwrap();
        members.insert_symlink("x".into(), "y").unwrap();
        members.insert_symlink("y".into(), "x").unwrap();
        for name in ["a/json", "./a/json", "a/../a//json", "b/one", "b/two", "root", "hard"] {
            assert_eq!(members.document(name), Some(&b"{}"[..]), "{name}");
        }
        for name in ["out", "dangling", "x", "y", "a", "", "../a/json"] {
            assert_eq!(members.document(name), None, "{name}");
        }
        assert_eq!(members.layer("a/json"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut members = Members::default();
        let document = vec![b' '; usize::try_from(DOCUMENT_LIMIT).unwrap()];
        for number in 0..7 {
            members.insert_document(number.to_string(), document.clone()).unwrap();
        }
        let error = members.insert_document("8".into(), document).unwrap_err();
        assert!(error.is_corrupt());
        let expected = "docker-archive is corrupt: its documents and names are larger than 67108864 bytes";
        assert_eq!(error.to_string(), expected);
    }
}
