//! Running kiln with as few rights as there can be.
//!
//! Root becomes uid and gid 65534 with no supplementary groups, no capabilities, not even in the bounding set, and
//! `no_new_privs`. User namespaces must be off for that process and for nothing else on the machine. The sysctl
//! `user.max_user_namespaces` would turn them off for everybody; but the kernel also refuses a user namespace to
//! whoever is in a chroot
//! ([`create_user_ns`](https://elixir.bootlin.com/linux/v6.12/source/kernel/user_namespace.c#L98), `current_chrooted`),
//! and that can be the whole file system, bound to another place in a mount namespace of its own. A container that
//! may not mount mostly forbids user namespaces anyway. Either way it is tried out before it is believed.

use crate::tool::{is_root, succeed, tool};
use std::{ffi::OsString, path::Path};

/// The user and group that nothing belongs to.
pub const NOBODY: u32 = 65534;

/// A way to start a program without rights.
#[derive(Debug, Clone)]
pub struct Confinement(Vec<OsString>);

const DROP_RIGHTS: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--",
];

/// `$0` is the directory to be the root, the rest the program.
const CHROOT: &str = r#"directory=$PWD; mount --rbind / "$0" && exec chroot "$0" sh -c 'cd "$0" && exec "$@"' "$directory" "$@""#;

impl Confinement {
    /// Finds out how, and proves it. `mount_point` is an empty directory. `None` for an ordinary user, who cannot
    /// become another one.
    ///
    /// # Panics
    /// When the rights cannot be dropped.
    pub fn find(mount_point: &Path) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let mut chroot: Vec<OsString> =
            ["unshare", "--mount", "--propagation=private", "sh", "-c", CHROOT].map(OsString::from).into();
        chroot.push(mount_point.into());
        let candidates = [chroot, Vec::new()].map(|mut words| {
            words.extend(DROP_RIGHTS.iter().map(OsString::from));
            Self(words)
        });
        let found = candidates.into_iter().find(Self::has_no_user_namespaces);
        Some(found.expect(
            "user namespaces cannot be switched off here: neither by chroot, nor are they off already",
        ))
    }

    /// The words before the program.
    pub fn words(&self) -> &[OsString] {
        &self.0
    }

    fn has_no_user_namespaces(&self) -> bool {
        let run = |words: &[&str]| {
            let mut command = tool(self.0[0].to_str().expect("a plain name"));
            command.args(&self.0[1..]).args(words);
            command
        };
        if !run(&["true"]).output().is_ok_and(|output| output.status.success()) {
            return false;
        }
        let status = String::from_utf8(succeed(&mut run(&["cat", "/proc/self/status"]))).expect("it is text");
        for line in
            ["Uid:\t65534\t65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
        {
            assert!(status.contains(line), "{line} is missing in {status}");
        }
        run(&["unshare", "--user", "true"]).output().is_ok_and(|output| !output.status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_can_give_up_every_right() {
        let mount_point = tempfile::tempdir().expect("a directory can be made");
        let confinement = Confinement::find(mount_point.path());
        assert_eq!(confinement.is_some(), is_root());
        let Some(confinement) = confinement else { return };
        let words = confinement.words();
        let mut pwd = std::process::Command::new(&words[0]);
        pwd.args(&words[1..]).args(["sh", "-c", "pwd; id -u; id -G"]).current_dir("/usr/bin");
        let printed = succeed(&mut pwd);
        assert_eq!(String::from_utf8_lossy(&printed), format!("/usr/bin\n{NOBODY}\n{NOBODY}\n"));
    }
}
