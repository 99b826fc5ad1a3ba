//! Users and groups as they are declared.

use crate::Error;
use crate::error::Kind;
use crate::password::HashedPassword;

/// Longest name of a user or group in bytes, as useradd(8) of shadow-utils takes.
const MAX_NAME: usize = 32;

/// Longest other field in bytes: what sensible systems have, and no more than one line.
const MAX_FIELD: usize = 4096;

/// Longest key in bytes: `SSH_MAX_PUBKEY_BYTES` of OpenSSH.
const MAX_KEY: usize = 16384;

/// A user of the system: one that is there is changed in what is given, another is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Name to log in by.
    pub name: String,
    /// Number; the first that is free where none is given.
    pub uid: Option<u32>,
    /// First group; one of the user's own name where none is given.
    pub group: Option<PrimaryGroup>,
    /// Other groups by their names, which must be there or declared.
    pub groups: Vec<String>,
    /// Home directory; `/home/NAME` where none is given.
    pub home: Option<String>,
    /// Program that is started on login; `/bin/sh`, for users of services `/usr/sbin/nologin`.
    pub shell: Option<String>,
    /// What it is called (the field GECOS).
    pub comment: Option<String>,
    /// A new user has none that fits where none is given.
    pub password: Option<Password>,
    /// Lines of `~/.ssh/authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// For a service: with a number below 1000, and without a home of its own unless one is given.
    pub is_system: bool,
}

/// A group of the system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Number; the first that is free where none is given.
    pub gid: Option<u32>,
    /// With a number below 1000.
    pub is_system: bool,
}

/// A user's first group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrimaryGroup {
    /// One that is there or declared.
    Name(String),
    /// By its number, whether there is one or not.
    Gid(u32),
}

/// A user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// This one.
    Hashed(HashedPassword),
    /// None fits, though keys may.
    Locked,
}

impl User {
    pub(super) fn check(&self) -> Result<(), Error> {
        check_name("a user's name", &self.name)?;
        for group in &self.groups {
            check_name("a group's name", group)?;
        }
        if let Some(PrimaryGroup::Name(group)) = &self.group {
            check_name("a group's name", group)?;
        }
        if let Some(home) = &self.home {
            check_path("a home directory", home)?;
        }
        if let Some(shell) = &self.shell {
            check_path("a shell", shell)?;
        }
        if let Some(comment) = &self.comment {
            check_field("a user's comment", comment)?;
        }
        self.authorized_keys.iter().try_for_each(|key| check_key(key))
    }
}

fn wrong<T>(what: &'static str, text: &str, why: &'static str) -> Result<T, Error> {
    Err(Kind::Syntax { what, text: text.to_owned(), why }.into())
}

/// By the rule of shadow-utils
/// ([`is_valid_name`](https://github.com/shadow-maint/shadow/blob/master/lib/chkname.c)).
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME {
        return wrong(what, name, "it must have 1 to 32 letters");
    }
    let word = name.strip_suffix('$').unwrap_or(name);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if word.is_empty() || word.starts_with('-') || !word.bytes().all(is_word) {
        return wrong(what, name, "it must be of letters, digits, `_`, `.` and `-`, and not begin with `-`");
    }
    if matches!(name, "." | "..") || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(what, name, "it would be taken for a directory or a number");
    }
    Ok(())
}

/// What can be in a field of a line.
fn check_field(what: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_FIELD {
        return wrong(what, text, "it is longer than 4096 bytes");
    }
    if text.contains(|letter: char| letter == ':' || letter.is_control()) {
        return wrong(what, text, "it has a colon or a control character");
    }
    Ok(())
}

pub(super) fn check_path(what: &'static str, path: &str) -> Result<(), Error> {
    check_field(what, path)?;
    if !path.starts_with('/') {
        return wrong(what, path, "it must begin with `/`");
    }
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return wrong(what, path, "it has `.` or `..` in it");
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Error> {
    let what = "a line of authorized keys";
    if key.trim().is_empty() || key.len() > MAX_KEY {
        return wrong(what, key, "it must have 1 to 16384 bytes");
    }
    if key.contains(char::is_control) {
        return wrong(what, key, "it has a control character");
    }
    Ok(())
}
