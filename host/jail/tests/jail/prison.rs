//! Starts prisoners and learns what becomes of them.

use crate::attempt::{Attempt, Outside};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::FdFlags;
use std::fs::Permissions;
use std::io::{PipeReader, Read};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Neither root nor anybody that is.
const NOBODY: u32 = 65534;

/// Says to this program that it is a prisoner, and all about it.
pub const SENTENCE: &str = "KILN_JAIL_TEST";

/// How much is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    None,
    /// By `confine`.
    Confined,
    /// By a filter without rules of its own.
    Filtered,
    /// By both.
    Both,
    /// By `confine` on a kernel where Landlock gives this error.
    OldKernel(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Current,
    Nobody,
}

impl User {
    /// Everyone that the current user can be.
    pub fn all() -> impl Iterator<Item = Self> {
        let nobody = Self::Current.is_root().then_some(Self::Nobody);
        [Self::Current].into_iter().chain(nobody)
    }

    fn is_root(self) -> bool {
        self == Self::Current && rustix::process::getuid().is_root()
    }

    fn becomes(self, command: &mut Command) -> &mut Command {
        match self {
            Self::Current => command,
            // From root, this drops all groups and capabilities, too.
            Self::Nobody => command.uid(NOBODY).gid(NOBODY),
        }
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Errno(i32),
    Signal(i32),
    /// A filter's victim, in the words of the report.
    Violation {
        thread: String,
        call: String,
    },
    /// Words on its standard output.
    Said(String),
    /// Words on its standard error.
    Other(String),
}

impl Outcome {
    fn of(output: &Output) -> Self {
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let complained = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        let last = complained.lines().last().unwrap_or_default();
        let violation = last.strip_prefix("the ").and_then(|rest| {
            let (thread, call) = rest.split_once(" thread made a system call that it may not: ")?;
            Some(Self::Violation { thread: thread.into(), call: call.into() })
        });
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) if said.is_empty() => Self::Success,
            (Some(0), _) => Self::Said(said),
            (Some(159), _) => violation.unwrap_or(Self::Other(complained)),
            (Some(101), _) => Self::Other(complained),
            (Some(errno), _) => Self::Errno(errno),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

/// Who is to be jailed, and how.
pub struct Prisoner {
    cell: Cell,
    user: User,
}

impl Prisoner {
    pub fn new(cell: Cell, user: User) -> Self {
        Self { cell, user }
    }

    pub fn tries(&self, attempt: Attempt) -> Outcome {
        let neighbours = Neighbours::of(self.user);
        self.run(&[&format!("{attempt:?}"), &neighbours.sentence()])
    }

    pub fn does(&self, what: &str) -> Outcome {
        self.run(&[what])
    }

    fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(&self.command(words).stdin(Stdio::null()).output().unwrap())
    }

    fn command(&self, words: &[&str]) -> Command {
        let cell = match self.cell {
            Cell::OldKernel(errno) => errno.to_string(),
            cell => format!("{cell:?}"),
        };
        let mut command = Command::new(program());
        command.env_clear().env(SENTENCE, [&[cell.as_str()], words].concat().join("\n"));
        self.user.becomes(&mut command);
        command
    }

    /// Which of two pipes are still open in there: one that is not kept, one that is.
    pub fn inherits(&self) -> [bool; 2] {
        let (pipes, ends): (Vec<_>, Vec<_>) = (0..2).map(|_| std::io::pipe().unwrap()).unzip();
        for end in &ends {
            rustix::io::fcntl_setfd(end, FdFlags::empty()).unwrap();
        }
        let mut command = self.command(&["wait", &ends[1].as_raw_fd().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        drop(ends);
        // It says so when it is jailed, and ends with its input.
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let open = [is_open(&pipes[0]), is_open(&pipes[1])];
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        open
    }
}

/// Whether somebody could write to the other end.
fn is_open(pipe: &PipeReader) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    !polled[0].revents().contains(PollFlags::HUP)
}

static COPY: OnceLock<TempDir> = OnceLock::new();

/// This program, where everyone can execute it.
fn program() -> PathBuf {
    let directory = COPY.get_or_init(|| {
        let directory = open_directory(0o755);
        std::fs::copy(std::env::current_exe().unwrap(), directory.path().join("prisoner")).unwrap();
        directory
    });
    directory.path().join("prisoner")
}

/// A static is never dropped.
pub fn clean_up() {
    COPY.get().into_iter().for_each(|directory| std::fs::remove_dir_all(directory).unwrap());
}

fn open_directory(mode: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
    directory
}

/// What is there to be reached.
struct Neighbours {
    directory: TempDir,
    tcp: TcpListener,
    _unix: UnixListener,
    _abstract: UnixListener,
    victim: Child,
}

impl Neighbours {
    fn of(user: User) -> Self {
        let directory = open_directory(0o777);
        let victim = user.becomes(Command::new("sleep").arg("600").stdin(Stdio::null())).spawn().unwrap();
        let socket = Outside::socket(directory.path());
        let unix = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(socket, Permissions::from_mode(0o777)).unwrap();
        let address = Outside::abstract_socket(victim.id().cast_signed());
        let (tcp, abstract_) = (TcpListener::bind("127.0.0.1:0"), UnixListener::bind_addr(&address));
        Self { directory, tcp: tcp.unwrap(), _unix: unix, _abstract: abstract_.unwrap(), victim }
    }

    fn sentence(&self) -> String {
        let (path, port) = (self.directory.path().display(), self.tcp.local_addr().unwrap().port());
        format!("{path}\n{port}\n{}", self.victim.id())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.victim.kill().unwrap();
        self.victim.wait().unwrap();
    }
}
