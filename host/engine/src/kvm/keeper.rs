//! Follows a machine's VMM process: who connected, what the host failed in, how it ended.

use super::line::{Line, Violation, Word, clean};
use crate::Exit;
use crate::board::Board;
use crate::console::Tail;
use crate::process::{self, Ended, Hearing, Program};
use kiln_devices::Storage;
use kiln_vmm::channel::{Ending, Report};
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

/// A process that has said its last word, or hung up, is gone by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the jail's handler of `SIGSYS` ends the process with, after it wrote which system call it was:
/// as shells report that signal.
const JAIL_STATUS: i32 = 128 + Signal::SYS.as_raw();

/// See the module.
pub(super) struct Keeper {
    pub line: Line,
    /// In the order of the specification.
    pub disks: Vec<Arc<dyn Storage>>,
    pub board: Arc<Board>,
    pub console: Arc<Tail>,
    /// How it says that the machine ended, or what it said instead of a report.
    pub ending: Option<Result<Ending, Violation>>,
}

impl process::Keeper for Keeper {
    fn control(&self) -> Option<BorrowedFd<'_>> {
        Some(self.line.as_fd())
    }

    fn hear(&mut self) -> Hearing {
        match self.line.receive() {
            Ok(Word::NothingYet) => Hearing::GoesOn,
            Ok(Word::End) => Hearing::Over(PATIENCE),
            Ok(Word::Report(report, stream)) => self.take(report, stream),
            Err(violation) => self.violated(violation),
        }
    }

    fn judge(&mut self, _program: &mut Program, ended: Ended) -> Option<Exit> {
        Some(exit(self.ending.take(), &ended, self.console.panic()))
    }

    fn over(self: Box<Self>, exit: Exit) {
        self.board.end(exit);
    }
}

impl Keeper {
    fn take(&mut self, report: Report, stream: Option<UnixStream>) -> Hearing {
        match report {
            Report::Stream { port, counters } => {
                // What nobody may have is closed.
                let _taken = stream.is_some_and(|stream| self.board.hand_in(port, stream, Some(counters)));
                Hearing::GoesOn
            }
            Report::HostError { disk, errno } => {
                self.disks.get(disk).into_iter().for_each(|disk| disk.note_host_error(errno));
                Hearing::GoesOn
            }
            Report::Ended { ending, .. } => {
                self.ending = Some(Ok(ending));
                Hearing::Over(PATIENCE)
            }
            Report::Probed(_) => self.violated("answered what it was not asked"),
        }
    }

    fn violated(&mut self, violation: Violation) -> Hearing {
        self.ending = Some(Err(violation));
        Hearing::Over(Duration::ZERO)
    }
}

fn exit(ending: Option<Result<Ending, Violation>>, ended: &Ended, panic: Option<String>) -> Exit {
    match ending {
        Some(Ok(Ending::Reset)) => panic.map_or(Exit::PoweredOff, Exit::Panicked),
        Some(Ok(Ending::Failed(why))) => Exit::Failed(clean(&why)),
        Some(Err(violation)) => Exit::Failed(format!("the VMM process {violation}")),
        None if ended.killed => Exit::Killed,
        None => Exit::Failed(failure(ended)),
    }
}

/// Why a process ended that did not say that its machine did.
pub(super) fn failure(ended: &Ended) -> String {
    let how = if is_jail_violation(ended) { "was ended by its jail".into() } else { ended.how() };
    match ended.complaints.as_str() {
        "" => format!("the VMM process {how}"),
        complaints => format!("the VMM process {how}: {complaints}"),
    }
}

fn is_jail_violation(ended: &Ended) -> bool {
    ended.status.as_ref().is_ok_and(|status| {
        status.code() == Some(JAIL_STATUS) || status.signal() == Some(Signal::SYS.as_raw())
    })
}
