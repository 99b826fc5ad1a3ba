//! Declared users and groups in `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow`
//! ([passwd(5)](https://man7.org/linux/man-pages/man5/passwd.5.html),
//! [shadow(5)](https://man7.org/linux/man-pages/man5/shadow.5.html)).
//!
//! Numbers are the first that are free, so that the same declarations on the same image have the same. `subuid` and `subgid` stay
//! as they are.

use super::account_file::{AccountFile, ID, PASSWORD, number_in};
use super::user::{Group, Password, PrimaryGroup, User, check_name, check_path};
use super::{SystemContent, SystemFile};
use crate::Error;
use crate::error::Kind;
use std::collections::HashSet;

/// Longest file that is read, in bytes.
const MAX_TEXT: usize = 16 << 20;

/// Numbers for people and for services, from which and to which they are taken, as Debian and Fedora have them in
/// `login.defs`.
const PEOPLE: (u32, u32) = (1000, 59_999);
const SERVICES: (u32, u32) = (999, 100);

/// A number that means none (`(uid_t) -1`).
const NO_ID: u32 = u32::MAX;

// Fields of `passwd`.
const GID: usize = 3;
const COMMENT: usize = 4;
const HOME: usize = 5;
const SHELL: usize = 6;

/// In `shadow`: a password that nothing hashes to.
const NONE_FITS: &[u8] = b"*";

/// The files' texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// `/etc/passwd`; empty when there is none.
    pub passwd: Vec<u8>,
    /// `/etc/group`; empty when there is none.
    pub group: Vec<u8>,
    /// `/etc/shadow`; empty when there is none, which is then made.
    pub shadow: Vec<u8>,
    /// `/etc/gshadow`; without it no group has a password.
    pub gshadow: Option<Vec<u8>>,
}

/// A home directory that is made, with what is in `/etc/skel`, unless it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// From the root, without a slash before it; empty for `/` itself.
    pub path: String,
    /// Permission bits for a new one.
    pub mode: u16,
    /// Owner, of what comes from `/etc/skel` too.
    pub uid: u32,
    /// Group, of what comes from `/etc/skel` too.
    pub gid: u32,
    /// A service's, which gets nothing of `/etc/skel`.
    pub is_system: bool,
    /// Files in it, after the directory and the copies of `/etc/skel`: SSH's keys.
    pub files: Vec<SystemFile>,
}

impl Accounts {
    /// The files with all groups and users, and the homes that users of the declarations have.
    ///
    /// # Errors
    /// When a declaration has what cannot be in a file, two have one name or number, one asks for another number than the user or group
    /// that is there has, names a group that is not there, or no number is free.
    pub fn declare(&self, groups: &[Group], users: &[User]) -> Result<(Self, Vec<Home>), Error> {
        let uids = users.iter().filter_map(|user| user.uid);
        let declared = groups.iter().filter_map(|group| group.gid).chain(uids).collect();
        let mut editor = Editor::of(self, declared)?;
        for group in groups {
            check_name("a group's name", &group.name)?;
            editor.declare_group(group)?;
        }
        let mut names = HashSet::new();
        let mut homes = Vec::new();
        for user in users {
            user.check()?;
            if !names.insert(&user.name) {
                return Err(refused(&user.name, "is declared twice"));
            }
            homes.extend(editor.declare_user(user)?);
        }
        Ok((editor.finish(), homes))
    }
}

fn refused(name: &str, why: impl std::fmt::Display) -> Error {
    Kind::Choice(format!("{name:?} {why}")).into()
}

struct Editor {
    passwd: AccountFile,
    group: AccountFile,
    shadow: AccountFile,
    gshadow: Option<AccountFile>,
    /// Numbers that some declaration asks for.
    declared: HashSet<u32>,
}

impl Editor {
    fn of(accounts: &Accounts, declared: HashSet<u32>) -> Result<Self, Error> {
        let Accounts { passwd, group, shadow, gshadow } = accounts;
        let all = [
            ("passwd", Some(passwd)),
            ("group", Some(group)),
            ("shadow", Some(shadow)),
            ("gshadow", gshadow.as_ref()),
        ];
        let long = all.into_iter().find(|(_, text)| text.is_some_and(|text| text.len() > MAX_TEXT));
        if let Some((name, _)) = long {
            return Err(Kind::corrupt(format!("\"etc/{name}\""), "it is longer than 16 MiB").into());
        }
        Ok(Self {
            passwd: AccountFile::parse(passwd),
            group: AccountFile::parse(group),
            shadow: AccountFile::parse(shadow),
            gshadow: gshadow.as_deref().map(AccountFile::parse),
            declared,
        })
    }

    fn finish(self) -> Accounts {
        Accounts {
            passwd: self.passwd.text(),
            group: self.group.text(),
            shadow: self.shadow.text(),
            gshadow: self.gshadow.map(|gshadow| gshadow.text()),
        }
    }

    fn declare_group(&mut self, Group { name, gid, is_system }: &Group) -> Result<u32, Error> {
        if let Some(fields) = self.group.find(name) {
            return same_id(name, "gid", number_in(&fields, ID), *gid);
        }
        let gid = match gid {
            Some(gid) => unused(name, "gid", *gid, &self.group)?,
            None => self.free_id(name, *is_system, self.group.ids().collect())?,
        };
        self.add_group(name, gid);
        Ok(gid)
    }

    fn add_group(&mut self, name: &str, gid: u32) {
        self.group.add(&[name.as_bytes(), b"x", gid.to_string().as_bytes(), b""]);
        if let Some(gshadow) = self.gshadow.as_mut().filter(|gshadow| gshadow.find(name).is_none()) {
            gshadow.add(&[name.as_bytes(), b"!", b"", b""]);
        }
    }

    fn declare_user(&mut self, user: &User) -> Result<Option<Home>, Error> {
        let is_new = self.passwd.find(&user.name).is_none();
        if is_new {
            self.add_user(user)?;
        } else {
            self.change_user(user)?;
        }
        self.set_password(user, is_new);
        for group in &user.groups {
            self.gid_of(&user.name, group)?;
            self.group.add_member(group, &user.name);
            if let Some(gshadow) = &mut self.gshadow {
                gshadow.add_member(group, &user.name);
            }
        }
        self.home(user, is_new)
    }

    fn add_user(&mut self, user: &User) -> Result<(), Error> {
        let name = &user.name;
        let uid = match user.uid {
            Some(uid) => unused(name, "uid", uid, &self.passwd)?,
            None => self.free_uid(user)?,
        };
        let gid = match &user.group {
            Some(group) => self.primary_gid(name, group)?,
            None => self.own_group(user, uid)?,
        };
        let home = user.home.clone().unwrap_or_else(|| default_home(user));
        let shell = if user.is_system { "/usr/sbin/nologin" } else { "/bin/sh" };
        self.passwd.add(&[
            name.as_bytes(),
            b"x",
            uid.to_string().as_bytes(),
            gid.to_string().as_bytes(),
            user.comment.as_deref().unwrap_or_default().as_bytes(),
            home.as_bytes(),
            user.shell.as_deref().unwrap_or(shell).as_bytes(),
        ]);
        Ok(())
    }

    /// One that no user has, and no group either where the user gets one of its own.
    fn free_uid(&self, user: &User) -> Result<u32, Error> {
        let mut taken: HashSet<u32> = self.passwd.ids().collect();
        if user.group.is_none() && self.group.find(&user.name).is_none() {
            taken.extend(self.group.ids());
        }
        self.free_id(&user.name, user.is_system, taken)
    }

    /// The group of a user's own name, of the user's number where that is free.
    fn own_group(&mut self, user: &User, uid: u32) -> Result<u32, Error> {
        let is_free = !self.group.ids().any(|gid| gid == uid);
        let gid = is_free.then_some(uid);
        match self.group.find(&user.name) {
            Some(fields) => same_id(&user.name, "gid", number_in(&fields, ID), None),
            None => self.declare_group(&Group { name: user.name.clone(), gid, is_system: user.is_system }),
        }
    }

    fn change_user(&mut self, user: &User) -> Result<(), Error> {
        let name = &user.name;
        let fields = self.passwd.find(name).unwrap_or_default();
        same_id(name, "uid", number_in(&fields, ID), user.uid)?;
        if let Some(group) = &user.group {
            let gid = self.primary_gid(name, group)?;
            self.passwd.set(name, GID, gid.to_string().as_bytes());
        }
        for (field, value) in [(COMMENT, &user.comment), (HOME, &user.home), (SHELL, &user.shell)] {
            if let Some(value) = value {
                self.passwd.set(name, field, value.as_bytes());
            }
        }
        Ok(())
    }

    /// In `shadow`, whatever was in `passwd`. The day of its change stays empty: it would be the build's.
    fn set_password(&mut self, user: &User, is_new: bool) {
        let hash = match &user.password {
            Some(Password::Hashed(hash)) => hash.as_str().as_bytes(),
            Some(Password::Locked) => NONE_FITS,
            None if is_new => NONE_FITS,
            None => return,
        };
        let name = &user.name;
        self.passwd.set(name, PASSWORD, b"x");
        if self.shadow.find(name).is_some() {
            self.shadow.set(name, PASSWORD, hash);
        } else {
            self.shadow.add(&[name.as_bytes(), hash, b"", b"0", b"99999", b"7", b"", b"", b""]);
        }
    }

    fn primary_gid(&self, user: &str, group: &PrimaryGroup) -> Result<u32, Error> {
        match group {
            PrimaryGroup::Gid(NO_ID) => {
                Err(refused(user, "cannot have the gid 4294967295, which means none"))
            }
            PrimaryGroup::Gid(gid) => Ok(*gid),
            PrimaryGroup::Name(name) => self.gid_of(user, name),
        }
    }

    fn gid_of(&self, user: &str, group: &str) -> Result<u32, Error> {
        let fields = self.group.find(group);
        let gid = fields.and_then(|fields| number_in(&fields, ID));
        gid.ok_or_else(|| {
            refused(user, format_args!("is to be in group {group:?}, which is neither there nor declared"))
        })
    }

    /// The first number that is not among these, nor declared for somebody else.
    fn free_id(&self, name: &str, is_system: bool, mut taken: HashSet<u32>) -> Result<u32, Error> {
        taken.extend(&self.declared);
        let free = |id: &u32| !taken.contains(id);
        let found = if is_system {
            (SERVICES.1..=SERVICES.0).rev().find(free)
        } else {
            (PEOPLE.0..=PEOPLE.1).find(free)
        };
        found.ok_or_else(|| refused(name, "has no number left to take"))
    }

    fn home(&self, user: &User, is_new: bool) -> Result<Option<Home>, Error> {
        let is_wanted =
            user.home.is_some() || !user.authorized_keys.is_empty() || (is_new && !user.is_system);
        let Some(fields) = self.passwd.find(&user.name).filter(|_| is_wanted) else { return Ok(None) };
        let ids = (number_in(&fields, ID), number_in(&fields, GID));
        let (Some(uid), Some(gid)) = ids else {
            return Err(Kind::corrupt("\"etc/passwd\"", format!("{:?} has no numbers", user.name)).into());
        };
        let home = fields.get(HOME).map(|home| home.escape_ascii().to_string()).unwrap_or_default();
        check_path("a home directory", &home)?;
        let path = home.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let files = authorized_keys(&path, uid, gid, &user.authorized_keys);
        let mode = if user.is_system { 0o755 } else { 0o700 };
        Ok(Some(Home { path, mode, uid, gid, is_system: user.is_system, files }))
    }
}

fn default_home(user: &User) -> String {
    if user.is_system { "/nonexistent".to_owned() } else { format!("/home/{}", user.name) }
}

/// In a directory and a file that sshd accepts: nobody else's to write.
fn authorized_keys(home: &str, uid: u32, gid: u32, keys: &[String]) -> Vec<SystemFile> {
    if keys.is_empty() {
        return Vec::new();
    }
    let slash = if home.is_empty() { "" } else { "/" };
    let directory = format!("{home}{slash}.ssh");
    let file = format!("{directory}/authorized_keys");
    let text: String = keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    vec![
        SystemFile { path: directory, mode: 0o700, uid, gid, content: SystemContent::Directory },
        SystemFile { path: file, mode: 0o600, uid, gid, content: SystemContent::File(text.into_bytes()) },
    ]
}

/// The number that is there, unless another is asked for: files of the old one would be nobody's.
fn same_id(name: &str, what: &str, found: Option<u32>, asked: Option<u32>) -> Result<u32, Error> {
    let found =
        found.ok_or_else(|| refused(name, format_args!("is there, but has no {what} that is a number")))?;
    match asked.filter(|asked| *asked != found) {
        Some(asked) => Err(refused(name, format_args!("has {what} {found} already, not {asked}"))),
        None => Ok(found),
    }
}

fn unused(name: &str, what: &str, id: u32, file: &AccountFile) -> Result<u32, Error> {
    if id == NO_ID {
        return Err(refused(name, format_args!("cannot have the {what} {NO_ID}, which means none")));
    }
    match file.name_of(id) {
        Some(other) => Err(refused(
            name,
            format_args!("cannot have {what} {id}: {:?} has it", other.escape_ascii().to_string()),
        )),
        None => Ok(id),
    }
}
