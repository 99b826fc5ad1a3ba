//! What is particular to a QEMU process: its sandbox, its version, what its complaints mean.

use super::{probe, serve::Served};
use crate::board::Board;
use crate::console::Tail;
use crate::process::{self, Ended, Program};
use crate::{Exit, Unusable};
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;

/// See the module.
pub(super) struct Keeper {
    /// All arguments but those of the sandbox, by which QEMU gives up system calls that it does not
    /// need. Not every QEMU can, and to ask takes longer than to try: one that complains of them is
    /// started again without.
    bare_arguments: Option<Vec<OsString>>,
    console: Arc<Tail>,
    board: Arc<Board>,
    /// Whether the guest has been at work on a device.
    worked: Vec<Box<dyn Fn() -> bool + Send>>,
    /// Tell the devices that the guest is gone.
    farewells: Vec<Box<dyn FnOnce() + Send>>,
}

impl Keeper {
    pub fn new(
        bare_arguments: Vec<OsString>,
        served: &[Served],
        console: &Arc<Tail>,
        board: &Arc<Board>,
    ) -> Self {
        Self {
            bare_arguments: Some(bare_arguments),
            console: console.clone(),
            board: board.clone(),
            worked: served.iter().map(|served| Box::new(served.worked()) as _).collect(),
            farewells: served.iter().map(|served| Box::new(served.at_end()) as _).collect(),
        }
    }

    fn guest_worked(&self) -> bool {
        self.worked.iter().any(|worked| worked())
    }

    fn guest_ran(&self) -> bool {
        self.guest_worked() || !self.console.text().is_empty()
    }

    fn exit(&self, program: &Path, ended: &Ended) -> Exit {
        match exit(ended, self.console.panic(), self.guest_ran()) {
            // Launched without being asked for its version: it may be too old, or no QEMU at all. What
            // looks like a console may be its own words.
            exit @ (Exit::Failed(_) | Exit::PoweredOff) if !self.guest_worked() => {
                probe::probe(program).map_or_else(|why: Unusable| Exit::Unusable(why), |_| exit)
            }
            exit => exit,
        }
    }
}

impl process::Keeper for Keeper {
    fn judge(&mut self, program: &mut Program, ended: Ended) -> Option<Exit> {
        // A QEMU that its guest has taken over does not get rid of the sandbox by complaining.
        if refused_the_sandbox(&ended)
            && !self.guest_ran()
            && let Some(arguments) = self.bare_arguments.take()
        {
            program.arguments = arguments;
            return None;
        }
        Some(self.exit(&program.path, &ended))
    }

    fn over(self: Box<Self>, exit: Exit) {
        self.farewells.into_iter().for_each(|farewell| farewell());
        self.board.end(exit);
    }
}

fn refused_the_sandbox(ended: &Ended) -> bool {
    let failed = ended.status.is_ok() && !ended.succeeded();
    failed && !ended.killed && ["sandbox", "seccomp"].iter().any(|word| ended.complaints.contains(word))
}

fn exit(ended: &Ended, panic: Option<String>, guest_ran: bool) -> Exit {
    let killed = ended.status.as_ref().is_ok_and(|status| status.signal() == Some(Signal::KILL.as_raw()));
    if ended.killed && killed {
        Exit::Killed
    } else if ended.succeeded() && guest_ran {
        panic.map_or(Exit::PoweredOff, Exit::Panicked)
    } else {
        Exit::Failed(failure(ended))
    }
}

fn failure(ended: &Ended) -> String {
    let how = if ended.succeeded() { "ended without running the guest".into() } else { ended.how() };
    match ended.complaints.as_str() {
        "" => format!("QEMU {how}"),
        words if words.contains("guest RAM") || words.contains("guest memory") => {
            format!("QEMU {how}, as the host does not give it the machine's memory: {words}")
        }
        words if words.contains("Permission denied") => {
            format!("QEMU {how} (it may read its installation and the kernel only): {words}")
        }
        words => format!("QEMU {how}: {words}"),
    }
}
