//! What is in a tree that is to boot: kernels, initial RAM disks, tools.

use kiln_image::tree::{Content, NodeId, Tree};

/// Symbolic links followed before a path is given up
/// ([path_resolution(7)](https://man7.org/linux/man-pages/man7/path_resolution.7.html)).
const LINKS_MAX: u32 = 40;

/// A kernel of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel {
    /// As `uname -r` has it.
    pub version: String,
    /// Its file, relative to the root.
    pub path: String,
    /// Its initial RAM disk, relative to the root, if it has one.
    pub initrd: Option<String>,
}

/// The file at a path, links followed as the tree's own system would; its real path and node.
pub(crate) fn find(tree: &Tree, path: &str) -> Option<(String, NodeId)> {
    let mut pending: Vec<String> = segments(path);
    let mut place: Vec<(String, NodeId)> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                place.pop();
                continue;
            }
            _ => {}
        }
        let here = place.last().map_or(Tree::ROOT, |(_, id)| *id);
        let id = tree.child(here, name.as_bytes())?;
        if let Content::Symlink(target) = &tree.node(id).content {
            links += 1;
            let target = std::str::from_utf8(target).ok().filter(|_| links <= LINKS_MAX)?;
            if target.starts_with('/') {
                place.clear();
            }
            pending.extend(segments(target));
        } else {
            place.push((name, id));
        }
    }
    let path: Vec<&str> = place.iter().map(|(name, _)| name.as_str()).collect();
    Some((path.join("/"), place.last().map_or(Tree::ROOT, |(_, id)| *id)))
}

/// Last one first.
fn segments(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

/// Whether there is anything at a path.
pub(crate) fn has(tree: &Tree, path: &str) -> bool {
    find(tree, path).is_some()
}

/// The names in a directory, in order; none where there is no directory.
pub(crate) fn names<'t>(tree: &'t Tree, path: &str) -> Vec<&'t str> {
    let children = find(tree, path).and_then(|(_, id)| tree.children(id));
    children.into_iter().flatten().filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect()
}

fn is_file(tree: &Tree, path: &str) -> bool {
    find(tree, path).is_some_and(|(_, id)| matches!(tree.node(id).content, Content::File { .. }))
}

/// The kernels, the newest first: in `/boot`, or beside their modules as Fedora and Arch have them.
pub(crate) fn kernels(tree: &Tree) -> Vec<Kernel> {
    let mut found: Vec<Kernel> = Vec::new();
    for prefix in ["vmlinuz-", "vmlinux-"] {
        for version in names(tree, "boot").into_iter().filter_map(|name| name.strip_prefix(prefix)) {
            if is_version(version) && !found.iter().any(|kernel| kernel.version == version) {
                found.push(kernel(tree, version, format!("boot/{prefix}{version}")));
            }
        }
    }
    for version in names(tree, "lib/modules") {
        let path = format!("lib/modules/{version}/vmlinuz");
        if is_file(tree, &path) && !found.iter().any(|kernel| kernel.version == version) {
            found.push(kernel(tree, version, path));
        }
    }
    found.retain(|kernel| is_file(tree, &kernel.path));
    found.sort_by(|one, other| compare_versions(&other.version, &one.version));
    found
}

/// Whether a kernel is called so that is to be booted: no spare one, nor what is for debuggers (`vmlinux-VERSION.gz` of
/// openSUSE), and in one word, as loaders' files need it.
fn is_version(version: &str) -> bool {
    const OTHERS: [&str; 5] = [".old", ".gz", ".xz", ".zst", ".debug"];
    !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_graphic())
        && !version.contains("rescue")
        && !OTHERS.iter().any(|ending| version.ends_with(ending))
}

fn kernel(tree: &Tree, version: &str, path: String) -> Kernel {
    let names = [
        format!("boot/initrd.img-{version}"),
        format!("boot/initramfs-{version}.img"),
        format!("boot/initramfs-{version}"),
        format!("boot/initrd-{version}"),
        format!("boot/initrd-{version}.img"),
        format!("lib/modules/{version}/initrd"),
        format!("lib/modules/{version}/initramfs.img"),
    ];
    let initrd = names.into_iter().find(|name| is_file(tree, name));
    Kernel { version: version.to_owned(), path, initrd }
}

/// By runs of digits as numbers and of anything else as text.
fn compare_versions(one: &str, other: &str) -> std::cmp::Ordering {
    let key = |version: &str| -> Vec<(u64, String)> {
        let mut runs: Vec<(u64, String)> = Vec::new();
        for part in version.split(['.', '-', '_', '+', '~']) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            runs.push((digits.parse().unwrap_or(0), part[digits.len()..].to_owned()));
        }
        runs
    };
    key(one).cmp(&key(other))
}

/// The first of these programs that the tree has, by its path from the root.
pub(crate) fn program(tree: &Tree, names: &[&str]) -> Option<String> {
    let directories = ["usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin"];
    names
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| format!("{directory}/{name}")))
        .find(|path| is_file(tree, path))
        .map(|path| format!("/{path}"))
}

/// What the system calls itself ([os-release(5)](https://man7.org/linux/man-pages/man5/os-release.5.html)), as menus can show it.
pub(crate) fn title(release: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(release);
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let is_shown = |c: &char| c.is_ascii_graphic() && !"\"'\\$`{}".contains(*c) || *c == ' ';
    let title: String = name.chars().filter(is_shown).take(TITLE_MAX).collect();
    Some(title).filter(|title| !title.is_empty())
}

/// Characters of a title, at most.
const TITLE_MAX: usize = 64;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kiln_image::{entry::Metadata, tree::Node};

    fn put(tree: &mut Tree, path: &str, content: Content) {
        let mut here = Tree::ROOT;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            here = match tree.child(here, parent.as_bytes()) {
                Some(id) => id,
                None => {
                    let content = Content::Directory(Default::default());
                    let id = tree.insert(Node { metadata: Metadata::default(), content });
                    tree.children_mut(here).unwrap().insert(parent.into(), id);
                    id
                }
            };
        }
        let id = tree.insert(Node { metadata: Metadata::default(), content });
        tree.children_mut(here).unwrap().insert(name.into(), id);
    }

    fn file() -> Content {
        Content::File { size: 0, extents: Vec::new() }
    }

    /// Of files, and of links with their targets.
    pub(crate) fn tree(paths: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, target) in paths {
            let content = if target.is_empty() { file() } else { Content::Symlink((*target).into()) };
            put(&mut tree, path, content);
        }
        tree
    }

    #[test]
    fn links_lead_where_they_lead_in_the_tree() {
        let tree = tree(&[("usr/lib/x", ""), ("lib", "usr/lib"), ("a/b", "/lib/../lib/x"), ("loop", "loop")]);
        let place = |path| find(&tree, path).map(|(path, _)| path);
        assert_eq!(place("lib/x").as_deref(), Some("usr/lib/x"));
        assert_eq!(place("/a/b").as_deref(), Some("usr/lib/x"));
        assert_eq!(place("../../lib/x").as_deref(), Some("usr/lib/x"));
        assert_eq!(place("loop"), None);
        assert_eq!(place("lib/y"), None);
    }

    #[test]
    fn kernels_are_found_where_distributions_put_them() {
        let tree = tree(&[
            ("boot/vmlinuz-6.1.0-9-amd64", ""),
            ("boot/vmlinuz-6.1.0-10-amd64", ""),
            ("boot/initrd.img-6.1.0-10-amd64", ""),
            ("boot/vmlinuz-0-rescue-abc", ""),
            ("usr/lib/modules/7.0.1-fc44/vmlinuz", ""),
            ("lib", "usr/lib"),
        ]);
        let found = kernels(&tree);
        let versions: Vec<_> = found.iter().map(|kernel| kernel.version.as_str()).collect();
        assert_eq!(versions, ["7.0.1-fc44", "6.1.0-10-amd64", "6.1.0-9-amd64"]);
        assert_eq!(found[1].initrd.as_deref(), Some("boot/initrd.img-6.1.0-10-amd64"));
        assert_eq!(found[2].initrd, None);
    }

    #[test]
    fn each_kernel_is_found_once_and_what_is_none_never() {
        let tree = tree(&[
            ("boot/vmlinuz-lts", ""),
            ("boot/initramfs-lts", ""),
            ("boot/vmlinuz-6.4.0-1-default", ""),
            ("boot/vmlinux-6.4.0-1-default", ""),
            ("boot/vmlinux-6.4.0-1-default.gz", ""),
            ("boot/vmlinuz-6.1.0.old", ""),
            ("boot/vmlinuz-", ""),
            ("boot/vmlinuz-6.1\nquiet", ""),
        ]);
        let found = kernels(&tree);
        let paths: Vec<_> = found.iter().map(|kernel| kernel.path.as_str()).collect();
        assert_eq!(paths, ["boot/vmlinuz-6.4.0-1-default", "boot/vmlinuz-lts"]);
        assert_eq!(found[1].initrd.as_deref(), Some("boot/initramfs-lts"));
    }

    #[test]
    fn programs_are_looked_for_in_order() {
        let tree = tree(&[("usr/sbin/grub2-install", ""), ("sbin/grub-install", "")]);
        assert_eq!(program(&tree, &["grub-install", "grub2-install"]).as_deref(), Some("/sbin/grub-install"));
        assert_eq!(program(&tree, &["extlinux"]), None);
    }

    #[test]
    fn titles_are_harmless() {
        let table = [
            (
                "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
                Some("Debian GNU/Linux 12 (bookworm)"),
            ),
            ("PRETTY_NAME='$(reboot) `x`'\n", Some("(reboot) x")),
            ("PRETTY_NAME=\"\"\n", None),
            ("", None),
        ];
        for (release, wanted) in table {
            assert_eq!(title(release.as_bytes()).as_deref(), wanted);
        }
    }
}
