//! What packages' maintainer scripts and the system's first start would have made.

use kiln_image::entry::{Entry, Kind, Metadata};

/// Files with their text.
const FILES: [(&str, &str); 5] = [
    ("etc/group", "root:x:0:\ndisk:x:6:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
];

/// Links: the alternatives that Debian's packages would have registered, and what mount(8) once kept.
const LINKS: [(&str, &str); 3] = [
    ("etc/mtab", "../proc/self/mounts"),
    ("usr/bin/awk", "mawk"),
    // Where other distributions have it.
    ("usr/sbin/grub-bios-setup", "../lib/grub/i386-pc/grub-bios-setup"),
];

/// Mount points, and the room for what is worked on.
const DIRECTORIES: [(&str, u16); 7] = [
    ("dev", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("target", 0o755),
    ("tmp", 0o1777),
];

/// These files, each with its data.
pub(crate) fn files() -> impl Iterator<Item = (Entry, &'static [u8])> {
    let directories = DIRECTORIES.iter().map(|(path, mode)| (entry(path, *mode, Kind::Directory), &b""[..]));
    let files = FILES.iter().map(|(path, text)| {
        let kind = Kind::File { size: text.len() as u64 };
        (entry(path, 0o644, kind), text.as_bytes())
    });
    let links = LINKS.iter().map(|(path, target)| {
        let kind = Kind::Symlink { target: target.as_bytes().to_vec() };
        (entry(path, 0o777, kind), &b""[..])
    });
    directories.chain(files).chain(links)
}

fn entry(path: &str, mode: u16, kind: Kind) -> Entry {
    Entry { path: path.as_bytes().to_vec(), metadata: Metadata { mode, ..Metadata::default() }, kind }
}
