//! Landlock: which files a process may open, and whom it may reach.
//!
//! A right that the running kernel cannot take away, as it is too old, is left out; what is left
//! then grows with every version of the interface (ABI): files from the first, TCP from the fourth,
//! signals and abstract sockets from the sixth, sockets with a path from the ninth.

use crate::error::Kind;
use crate::{Error, sys};
use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::thread::set_no_new_privs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::{fmt, io};

/// The newest version that these rules are written for.
const NEWEST: ABI = ABI::V9;

/// Whether Landlock is at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landlock {
    /// It is.
    Enforced {
        /// The version of the kernel's interface.
        abi: u32,
    },
    /// It is not, and why, in lower case without a final stop.
    Unavailable(String),
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { abi } => write!(f, "ABI {abi}"),
            Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// What [`confine`](crate::confine) would answer here, without giving up anything.
pub fn landlock() -> Landlock {
    match sys::landlock_abi() {
        Ok(abi) => Landlock::Enforced { abi },
        Err(error) => Landlock::Unavailable(match error.raw_os_error() {
            Some(libc::ENOSYS) => "this kernel has none".into(),
            Some(libc::EOPNOTSUPP) => "this kernel has it switched off (boot parameter `lsm=`)".into(),
            _ => format!("it may not be used here: {error}"),
        }),
    }
}

/// What a process may still do, without other rights over files, TCP, and processes outside.
#[derive(Debug)]
pub struct Ruleset {
    created: RulesetCreated,
    landlock: Landlock,
}

impl Ruleset {
    /// Nothing.
    ///
    /// # Errors
    /// When the kernel, which has Landlock, refuses.
    pub fn nothing() -> Result<Self, Error> {
        Ok(Self { created: create().map_err(Kind::Landlock)?, landlock: landlock() })
    }

    /// Reading and executing what is under `paths`, which are files or directories. One that does
    /// not exist, or cannot be reached, is left out.
    ///
    /// # Errors
    /// When the kernel, which has Landlock, refuses.
    pub fn reading<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let Self { created, landlock } = Self::nothing()?;
        let rules = path_beneath_rules(paths, AccessFs::from_read(NEWEST));
        Ok(Self { created: created.add_rules(rules).map_err(Kind::Landlock)?, landlock })
    }

    /// Restricts the calling thread and all that it starts, with `no_new_privs`.
    ///
    /// # Errors
    /// When the kernel, which has Landlock, refuses.
    pub fn restrict_self(self) -> Result<Landlock, Error> {
        let RestrictionStatus { ruleset, .. } = self.created.restrict_self().map_err(Kind::Landlock)?;
        debug_assert_eq!(
            ruleset == RulesetStatus::NotEnforced,
            matches!(self.landlock, Landlock::Unavailable(_))
        );
        Ok(self.landlock)
    }

    /// For a child that is to become another program.
    pub fn for_child(self) -> ChildRuleset {
        ChildRuleset(self.created.into())
    }
}

/// A [`Ruleset`] that a child puts on between fork and exec.
#[derive(Debug)]
pub struct ChildRuleset(Option<OwnedFd>);

impl ChildRuleset {
    /// Restricts the calling process and what it becomes, with `no_new_privs`. Makes two system calls
    /// and nothing else, so it is async-signal-safe.
    ///
    /// # Errors
    /// When the kernel refuses. One without Landlock does not.
    pub fn restrict_self(&self) -> io::Result<()> {
        set_no_new_privs(true)?;
        self.0.as_ref().map_or(Ok(()), |ruleset| sys::restrict_self(ruleset.as_fd()))
    }
}

fn create() -> Result<RulesetCreated, RulesetError> {
    landlock::Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()
}
