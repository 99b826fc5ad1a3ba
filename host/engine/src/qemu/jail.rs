//! What a QEMU may open, whom it may reach: its installation and the kernel, to read; nobody.
//!
//! That is what it starts with. What it inherits it has anyway, and what it makes itself (the guest's
//! memory) has no path. QEMU's own sandbox is about system calls, and comes on top; a QEMU that has none
//! still has this. A kernel without Landlock leaves only the sandbox.

use crate::Error;
use crate::error::Kind;
use crate::tie::Preparation;
use kiln_jail::Ruleset;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems have programs, libraries and firmware, and how the loader finds them; and random
/// numbers for a C library that asks for them by path.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/qemu",
    "/dev/urandom",
    "/dev/random",
];

/// What belongs to a QEMU in a prefix of its own, beside `bin`. Not all of the prefix, which may be
/// somebody's home. (Homebrew's `lib` points into its `Cellar`.)
const OF_PREFIX: [&str; 5] = ["lib", "lib64", "libexec", "share/qemu", "Cellar"];

/// Jails the QEMU at `program`, an absolute path or one relative to the working directory, before it
/// starts.
pub(super) fn preparation(program: &Path, kernel: &Path) -> Result<Preparation, Error> {
    let ruleset = Ruleset::reading(readable(program, kernel));
    let ruleset = ruleset.map_err(|error| Kind::Setup("QEMU's jail", io::Error::other(error)))?.for_child();
    Ok(Arc::new(move || ruleset.restrict_self()))
}

fn readable(program: &Path, kernel: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    // By the name it is called, and by its own.
    for program in [Some(program.to_owned()), program.canonicalize().ok()].into_iter().flatten() {
        let prefix = program.parent().and_then(Path::parent);
        paths.extend(prefix.iter().flat_map(|prefix| OF_PREFIX.map(|part| prefix.join(part))));
        paths.push(program);
    }
    paths.push(kernel.to_owned());
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_elsewhere_keeps_what_is_its_own_and_no_more() {
        let paths = readable("/home/me/bin/qemu".as_ref(), "/srv/vmlinux".as_ref());
        let own: Vec<_> = paths[SYSTEM.len()..].iter().map(|path| path.to_str().unwrap()).collect();
        let expected = [
            "/home/me/lib",
            "/home/me/lib64",
            "/home/me/libexec",
            "/home/me/share/qemu",
            "/home/me/Cellar",
            "/home/me/bin/qemu",
            "/srv/vmlinux",
        ];
        assert_eq!(own, expected);
    }
}
