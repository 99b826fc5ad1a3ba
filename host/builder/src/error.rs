//! What can go wrong in a build, and whose fault it is.

use crate::{build_file::Located, interrupt::Reason, session};
use kiln_protocol::GuestFailure;
use std::{io, path::PathBuf, time::Duration};

/// A build that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

/// What kind of failure it was, for exit codes. "Your step failed" and "our machinery failed" are
/// different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The build file or an argument is wrong.
    Usage,
    /// A step exited with this code.
    StepExited(u8),
    /// A step was killed by this signal.
    StepSignaled(u8),
    /// A step's program could not be executed: it is not there.
    StepNotFound,
    /// A step's program could not be executed.
    StepNotExecutable,
    /// A step tried to reboot.
    StepRebooted,
    /// The scratch disk was too small.
    ScratchFull,
    /// The guest's memory was too small.
    OutOfMemory,
    /// `--timeout` passed.
    TimedOut,
    /// A signal came.
    Interrupted(i32),
    /// An input is not what it should be.
    CorruptInput,
    /// An input's digest is not the expected one.
    DigestMismatch,
    /// An input ends early.
    TruncatedInput,
    /// No engine can run here.
    NoEngine,
    /// The guest failed.
    Machine,
    /// Anything else.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("{0}")]
    BuildFile(Located),
    #[error("cannot read the build file {}", path.display())]
    ReadBuildFile { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{step} exited with code {code}")]
    StepExited { step: String, code: u8 },
    #[error("{step} was killed by signal {signal} ({})", signal_name(*signal))]
    StepSignaled { step: String, signal: u8 },
    #[error("{step} tried to reboot or power off; a step ends by exiting")]
    StepRebooted { step: String },
    #[error("{step} could not be started: {}", printable(what))]
    StepNotStarted { step: String, what: String, source: io::Error },
    #[error("the scratch disk ({} MiB) is full after {step}; raise --disk-size", size >> 20)]
    ScratchFull { step: String, size: u64 },
    #[error("the guest ran out of memory ({memory_mib} MiB) in {step}; raise --memory")]
    OutOfMemory { step: String, memory_mib: u32 },
    #[error("not finished after {} s, as --timeout demands", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("interrupted by signal {0}")]
    Signal(i32),
    #[error("cannot write the command's output")]
    Output(#[source] io::Error),
    #[error("the guest failed: {}{}", .0.what, errno_text(.0.errno))]
    Guest(GuestFailure),
    #[error("{error}{}", console(console_tail))]
    Console { error: Error, console_tail: String },
    #[error("the connection to the guest broke")]
    GuestGone(#[source] io::Error),
    #[error("the guest sent `{0}` where it must not")]
    OutOfOrder(&'static str),
    #[error("cannot understand the guest")]
    Protocol(#[source] kiln_protocol::Error),
    #[error(
        "the agent speaks protocol version {agent}, kiln {}: they are of different builds; rebuild or reinstall kiln",
        kiln_protocol::VERSION
    )]
    AgentVersion { agent: u32 },
    #[error("the new layer cannot be packed in {}", directory.display())]
    Layer { directory: PathBuf, source: kiln_image::Error },
    #[error(transparent)]
    Engine(kiln_engine::Error),
    #[error(
        "{} is missing; run `scripts/build`, or set KILN_LIB to the directory with `agent` and `vmlinux`",
        path.display()
    )]
    GuestFile { path: PathBuf, source: io::Error },
    #[error("a scratch disk of {size} bytes cannot be made; see --disk-size")]
    Scratch { size: u64, source: kiln_disk::Error },
    #[error("a scratch disk of {size} bytes cannot be made in {}; see --disk-size", directory.display())]
    ScratchFile { size: u64, directory: PathBuf, source: io::Error },
    #[error("cannot write the scratch disk in {}", directory.display())]
    ScratchWrite { directory: PathBuf, source: io::Error },
    #[error("cannot write a temporary file in {}", directory.display())]
    Temporary { directory: PathBuf, source: io::Error },
    #[error("{what}")]
    Image { what: String, source: kiln_image::Error },
    #[error("{what}")]
    Store { what: String, source: kiln_store::Error },
    #[error("{what}")]
    Compare { what: String, source: io::Error },
    #[error("{what}: {error}")]
    Within { what: String, error: Error },
    #[error("{0}")]
    Request(String),
    #[error("the disk cannot be made: {0}")]
    Plan(String),
    #[error("{what}")]
    Disk { what: String, source: kiln_disk::Error },
    #[error("cannot work on the disk's file")]
    DiskFile { source: io::Error },
    #[error("there is no toolbox to make disks with")]
    Toolbox { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot write {}", dest.display())]
    Destination { dest: PathBuf, source: io::Error },
    #[error("cannot tell which packages are installed")]
    Attestation { source: kiln_attest::Error },
    #[error("{path:?} is not in the image")]
    NotInImage { path: String },
    #[error("{what}")]
    Import { what: String, source: kiln_transport::Error },
    #[error("cannot write {dest}")]
    Written { dest: String, source: kiln_transport::Error },
}

impl Error {
    /// Whose fault it was.
    pub fn class(&self) -> Class {
        match &*self.0 {
            Kind::Within { error, .. } => error.class(),
            Kind::Import { source, .. } | Kind::Written { source, .. } => class_of_transport(source),
            Kind::BuildFile(_)
            | Kind::ReadBuildFile { .. }
            | Kind::Request(_)
            | Kind::Plan(_)
            | Kind::NotInImage { .. }
            | Kind::Scratch { .. }
            | Kind::ScratchFile { .. } => Class::Usage,
            Kind::StepExited { code, .. } => Class::StepExited(*code),
            Kind::StepSignaled { signal, .. } => Class::StepSignaled(*signal),
            Kind::StepRebooted { .. } => Class::StepRebooted,
            Kind::StepNotStarted { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Class::StepNotFound
            }
            Kind::StepNotStarted { .. } => Class::StepNotExecutable,
            Kind::ScratchFull { .. } => Class::ScratchFull,
            Kind::OutOfMemory { .. } => Class::OutOfMemory,
            Kind::TimedOut(_) => Class::TimedOut,
            Kind::Signal(signal) => Class::Interrupted(*signal),
            Kind::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => {
                Class::Interrupted(BROKEN_PIPE_SIGNAL)
            }
            Kind::Image { source, .. } => class_of_input(source),
            Kind::Store { source, .. } => source.image_error().map_or(Class::Other, class_of_input),
            Kind::Engine(error) if error.is_no_engine() => Class::NoEngine,
            Kind::Guest(_)
            | Kind::Console { .. }
            | Kind::GuestGone(_)
            | Kind::OutOfOrder(_)
            | Kind::Protocol(_)
            | Kind::AgentVersion { .. }
            | Kind::Engine(_) => Class::Machine,
            Kind::Layer { .. }
            | Kind::Disk { .. }
            | Kind::Destination { .. }
            | Kind::DiskFile { .. }
            | Kind::Toolbox { .. }
            | Kind::Attestation { .. }
            | Kind::Output(_)
            | Kind::Read { .. }
            | Kind::Compare { .. }
            | Kind::GuestFile { .. }
            | Kind::ScratchWrite { .. }
            | Kind::Temporary { .. } => Class::Other,
        }
    }

    /// The same error, said to be in this part of the build; none if empty.
    pub(crate) fn within(self, what: &str) -> Self {
        if what.is_empty() {
            return self;
        }
        Kind::Within { what: what.to_owned(), error: self }.into()
    }

    /// Whether the guest's machinery ran into the end of the scratch disk.
    pub(crate) fn is_want_of_space(&self) -> bool {
        let Kind::Guest(failure) = &*self.0 else { return false };
        failure.errno == NO_SPACE || failure.scratch.as_ref().is_some_and(session::is_full)
    }

    /// Whether the guest's console may explain it.
    pub(crate) fn is_broken_connection(&self) -> bool {
        matches!(*self.0, Kind::GuestGone(_) | Kind::Protocol(_) | Kind::OutOfOrder(_) | Kind::Guest(_))
    }
}

fn class_of_transport(error: &kiln_transport::Error) -> Class {
    if error.is_truncated() {
        Class::TruncatedInput
    } else if error.is_digest_mismatch() {
        Class::DigestMismatch
    } else if error.is_corrupt() || error.is_unsupported() {
        Class::CorruptInput
    } else if error.is_usage() {
        Class::Usage
    } else {
        Class::Other
    }
}

fn class_of_input(error: &kiln_image::Error) -> Class {
    if error.is_truncated() {
        Class::TruncatedInput
    } else if error.is_digest_mismatch() {
        Class::DigestMismatch
    } else if error.is_corrupt() || error.is_unsupported() {
        Class::CorruptInput
    } else if error.is_choice() {
        Class::Usage
    } else {
        Class::Other
    }
}

/// `ENOSPC` of [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
const NO_SPACE: i32 = 28;

/// What ends a program whose reader is gone: `SIGPIPE`.
const BROKEN_PIPE_SIGNAL: i32 = 13;

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Signal(signal) => Kind::Signal(signal).into(),
            Reason::Timeout(after) => Kind::TimedOut(after).into(),
            Reason::Output(kind) => Kind::Output(kind.into()).into(),
        }
    }
}

/// A carriage return at the end of a `#!` line would not be seen.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

fn errno_text(errno: i32) -> String {
    if errno == 0 { String::new() } else { format!(": {}", io::Error::from_raw_os_error(errno)) }
}

fn console(tail: &str) -> String {
    if tail.is_empty() {
        "; its console stayed silent".to_owned()
    } else {
        format!("; the last lines of its console:\n{tail}")
    }
}

/// Names as in [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html).
fn signal_name(signal: u8) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "see signal(7)",
    }
}
