//! What people do to systems, as changes to files.

use super::{
    edit::{Edit, Editor},
    plan::{DiskPlan, DiskUser, MachineId, SystemPlan, Table},
    survey,
};
use crate::{
    Error,
    error::Kind,
    password::{self, Salt},
};
use kiln_image::{
    system::{
        Accounts, FirstBootScript, Home, Hostname, Init, MachineId as MachineIdChange, Password, Removal,
        SystemContent, SystemFile, User, first_boot, grow_root, host_keys, host_keys_at_first_boot,
    },
    tree::{Content, Tree},
};

/// Checks what can be checked before anything is done.
pub(crate) fn check(plan: &SystemPlan, tree: &Tree) -> Result<(), Error> {
    if let Some(name) = &plan.hostname {
        Hostname::parse(name).map_err(|error| Kind::Plan(error.to_string()))?;
    }
    let needs_init = plan.grow || !plan.first_boot.is_empty();
    if needs_init && init(tree).is_none() {
        let message = "something is to happen at the first boot, and the image has neither systemd nor OpenRC nor System V init";
        return Err(Kind::Plan(message.to_owned()).into());
    }
    files_at_first_boot(plan, tree).map(|_| ())
}

/// What will not be as somebody might expect.
pub(crate) fn notices(plan: &DiskPlan, tree: &Tree) -> Vec<&'static str> {
    let mut notices = Vec::new();
    let has = |program: &str| survey::program(tree, &[program]).is_some();
    if plan.system.grow && plan.table != Table::None && !has("sfdisk") && !has("growpart") {
        notices.push(
            "`grow` finds neither sfdisk (Debian's package is fdisk) nor growpart in the image, and will do nothing without",
        );
    }
    if plan.system.has_fresh_ssh_keys() && has("sshd") && init(tree).is_none() && !plan.is_plain {
        notices.push(
            "the image's SSH host keys are left out, and its init is not known, so nothing makes new ones; ssh-host-keys = \
             \"keep\" keeps them",
        );
    }
    notices
}

fn init(tree: &Tree) -> Option<Init> {
    let program = survey::find(tree, "sbin/init").map(|(path, _)| path);
    Init::of(program.as_deref(), |path| survey::has(tree, path))
}

fn refused(source: kiln_image::Error) -> Error {
    Kind::Plan(source.to_string()).into()
}

/// What runs at the first boot.
fn files_at_first_boot(plan: &SystemPlan, tree: &Tree) -> Result<Vec<SystemFile>, Error> {
    let Some(init) = init(tree) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    if plan.grow {
        files.extend(grow_root(init));
    }
    let has_sshd = survey::program(tree, &["sshd"]).is_some();
    if plan.has_fresh_ssh_keys() && has_sshd {
        files.extend(host_keys_at_first_boot(init));
    }
    if !plan.first_boot.is_empty() {
        let numbered = |(index, script): (usize, &super::plan::DiskScript)| {
            let mut text = script.text.clone();
            if !text.starts_with(b"#!") {
                text.splice(0..0, b"#!/bin/sh -e\n".iter().copied());
            }
            FirstBootScript { name: format!("script-{}", index + 1), text }
        };
        let scripts: Vec<FirstBootScript> = plan.first_boot.iter().enumerate().map(numbered).collect();
        files.extend(first_boot(&scripts, init).map_err(refused)?);
    }
    Ok(files)
}

/// Makes the changes. `salt` is hashed with plain passwords.
pub(crate) fn apply(plan: &SystemPlan, editor: &mut Editor, salt: &Salt) -> Result<(), Error> {
    let files = files_at_first_boot(plan, editor.tree)?;
    if plan.has_fresh_ssh_keys() {
        remove(editor, &host_keys())?;
    }
    let change = match plan.machine_id.as_ref().unwrap_or(&MachineId::Remove) {
        MachineId::Keep => None,
        MachineId::Remove => Some(MachineIdChange::Removed),
        MachineId::Fixed(id) => Some(MachineIdChange::parse(id).map_err(refused)?),
    };
    if let Some(change) = change {
        // An init that is not known has no use of an empty file either.
        let init = init(editor.tree).unwrap_or(Init::Sysvinit);
        let (files, removals) = change.changes(init, survey::has(editor.tree, "var/lib/dbus"));
        remove(editor, &removals)?;
        for file in &files {
            unlink(editor, &file.path)?;
        }
        put(editor, files)?;
    }
    if let Some(name) = &plan.hostname {
        let hostname = Hostname::parse(name).map_err(refused)?;
        let hosts = editor.read("etc/hosts")?.unwrap_or_default();
        let file = |path: &str, bytes| Edit::File { path: path.to_owned(), mode: 0o644, bytes };
        let edits =
            [file("etc/hostname", hostname.hostname_file()), file("etc/hosts", hostname.hosts(&hosts))];
        editor.apply(&edits)?;
    }
    if let (Some(init), false) = (init(editor.tree), files.is_empty()) {
        remove(editor, &init.removals())?;
    }
    put(editor, files)?;
    declare_users(plan, editor, salt)
}

fn remove(editor: &mut Editor, removals: &[Removal]) -> Result<(), Error> {
    for removal in removals {
        let names: Vec<String> = survey::names(editor.tree, removal.directory)
            .into_iter()
            .filter(|name| removal.matches(name.as_bytes()))
            .map(str::to_owned)
            .collect();
        for name in names {
            editor.apply(&[Edit::Remove { path: format!("{}/{name}", removal.directory) }])?;
        }
    }
    Ok(())
}

/// Takes a symbolic link away, so that what is put in its place is not put where it leads: `/etc/machine-id` and that of D-Bus
/// may each lead to the other.
fn unlink(editor: &mut Editor, path: &str) -> Result<(), Error> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let node =
        survey::find(editor.tree, directory).and_then(|(_, id)| editor.tree.child(id, name.as_bytes()));
    match node.map(|id| &editor.tree.node(id).content) {
        Some(Content::Symlink(_)) => editor.apply(&[Edit::Remove { path: path.to_owned() }]),
        _ => Ok(()),
    }
}

fn put(editor: &mut Editor, files: Vec<SystemFile>) -> Result<(), Error> {
    for SystemFile { path, mode, uid, gid, content } in files {
        let edit = match content {
            SystemContent::File(bytes) => Edit::File { path: path.clone(), mode, bytes },
            SystemContent::Symlink(target) => Edit::Symlink { path: path.clone(), target },
            SystemContent::Directory => Edit::Directory { path: path.clone(), mode, uid, gid },
        };
        editor.apply(&[edit])?;
        if (uid, gid) != (0, 0) {
            editor.apply(&[Edit::Owner { path, uid, gid }])?;
        }
    }
    Ok(())
}

const ACCOUNTS: [(&str, u16); 4] =
    [("etc/passwd", 0o644), ("etc/group", 0o644), ("etc/shadow", 0o640), ("etc/gshadow", 0o640)];

fn declare_users(plan: &SystemPlan, editor: &mut Editor, salt: &Salt) -> Result<(), Error> {
    if plan.users.is_empty() && plan.groups.is_empty() {
        return Ok(());
    }
    let [passwd, group, shadow, gshadow] = ACCOUNTS.map(|(path, _)| editor.read(path));
    let before = Accounts {
        passwd: passwd?.unwrap_or_default(),
        group: group?.unwrap_or_default(),
        shadow: shadow?.unwrap_or_default(),
        gshadow: gshadow?,
    };
    let users: Vec<User> =
        plan.users.iter().map(|user| with_password(user, salt)).collect::<Result<_, _>>()?;
    let (after, homes) = before.declare(&plan.groups, &users).map_err(refused)?;
    let texts = [Some(after.passwd), Some(after.group), Some(after.shadow), after.gshadow];
    for ((path, mode), text) in ACCOUNTS.into_iter().zip(texts) {
        if let Some(bytes) = text {
            editor.apply(&[Edit::File { path: path.to_owned(), mode, bytes }])?;
        }
    }
    homes.into_iter().try_for_each(|home| make_home(editor, home))
}

fn with_password(user: &DiskUser, salt: &Salt) -> Result<User, Error> {
    let mut declared = user.user.clone();
    if let Some(given) = &user.password {
        declared.password =
            Some(Password::Hashed(password::hashed(given, &salt.of_user(&user.user.name), &user.user.name)?));
    }
    Ok(declared)
}

fn make_home(editor: &mut Editor, home: Home) -> Result<(), Error> {
    let is_new = !home.path.is_empty() && !survey::has(editor.tree, &home.path);
    if is_new {
        let Home { path, mode, uid, gid, .. } = &home;
        let directory = Edit::Directory { path: path.clone(), mode: *mode, uid: *uid, gid: *gid };
        editor.apply(&[directory])?;
        if !home.is_system {
            editor.copy_tree("etc/skel", &home.path, home.uid, home.gid)?;
        }
    }
    put(editor, home.files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Sources;
    use kiln_store::Store;

    /// Makes these changes to a tree and then those of the plan, and reads a file.
    fn applied(plan: &SystemPlan, before: &[Edit], path: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let (mut tree, mut sources) = (Tree::new(), Sources::new(&store, &[]));
        let mut editor = Editor { tree: &mut tree, sources: &mut sources };
        editor.apply(before).unwrap();
        apply(plan, &mut editor, &Salt::of(std::iter::empty())).unwrap();
        editor.read(path).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn file(path: &str, text: &str) -> Edit {
        Edit::File { path: path.to_owned(), mode: 0o755, bytes: text.into() }
    }

    fn link(path: &str, target: &str) -> Edit {
        Edit::Symlink { path: path.to_owned(), target: target.to_owned() }
    }

    #[test]
    fn links_of_machine_ids_do_not_lead_in_a_circle() {
        let id = "1".repeat(32);
        let plan = SystemPlan { machine_id: Some(MachineId::Fixed(id.clone())), ..SystemPlan::default() };
        let before = [
            file("usr/lib/systemd/systemd", ""),
            file("var/lib/dbus/machine-id", "old\n"),
            link("etc/machine-id", "/var/lib/dbus/machine-id"),
        ];
        for path in ["etc/machine-id", "var/lib/dbus/machine-id"] {
            assert_eq!(applied(&plan, &before, path), Some(format!("{id}\n")), "{path}");
        }
    }

    #[test]
    fn machine_ids_do_not_need_an_init_that_is_known() {
        let id = "1".repeat(32);
        let fixed = SystemPlan { machine_id: Some(MachineId::Fixed(id.clone())), ..SystemPlan::default() };
        let before = [file("etc/machine-id", "old\n")];
        assert_eq!(applied(&fixed, &before, "etc/machine-id"), Some(format!("{id}\n")));
        assert_eq!(applied(&SystemPlan::default(), &before, "etc/machine-id"), None);
    }
}
