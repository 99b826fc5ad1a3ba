//! What a whole process gives up.

use crate::error::Kind;
use crate::{Error, Landlock, Ruleset, sys};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use std::os::fd::RawFd;

/// How much a confined process may have of what can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors, the standard ones included (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Length in bytes to which it can write a file, in memory or not (`RLIMIT_FSIZE`). Beyond it,
    /// writing fails with `EFBIG`.
    pub file_bytes: u64,
}

/// Confines this process, for good. Call it before there are threads: most of it holds for the
/// calling thread and those that it will start.
///
/// Closes every descriptor but the standard ones and those in `keep`. So nothing else in the process
/// may still own one, and what the process needs is opened before and named here.
///
/// The number of processes (`RLIMIT_NPROC`) stays: KVM starts a worker in the process when the first
/// processor runs, and if it may not, every run fails with `EAGAIN` (seen with Linux 6.18). That no
/// process is started is for the [`Filter`](crate::Filter) to see to.
///
/// # Errors
/// When any step fails. A kernel without Landlock is no failure, but an answer.
pub fn confine(limits: &Limits, keep: &[RawFd]) -> Result<Landlock, Error> {
    sys::allocate_from_one_arena();
    sys::close_all_but(keep).map_err(Kind::step("close inherited descriptors"))?;
    sys::ignore_the_signal_of_large_files().map_err(Kind::step("ignore SIGXFSZ"))?;
    lower(Resource::Nofile, limits.open_files)?;
    lower(Resource::Fsize, limits.file_bytes)?;
    lower(Resource::Core, 0)?;
    umask(Mode::RWXG | Mode::RWXO);
    // Nobody with the same user traces it or reads its memory and its open files.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Kind::step("become undumpable"))?;
    drop_capabilities()?;
    set_no_new_privs(true).map_err(Kind::step("set no_new_privs"))?;
    Ruleset::nothing()?.restrict_self()
}

/// Whoever has less already keeps it.
fn lower(resource: Resource, most: u64) -> Result<(), Error> {
    let most = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(Kind::step("lower a resource limit"))?;
    Ok(())
}

/// For those who run it as root.
fn drop_capabilities() -> Result<(), Error> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(Kind::step("drop capabilities"))?;
    Ok(())
}
