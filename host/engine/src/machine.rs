//! A machine that is a process of its own.

use crate::board::Board;
use crate::console::Tail;
use crate::error::Kind;
use crate::process::Process;
use crate::{Counters, Error, Exit, Killer, Machine};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

/// See the module.
pub(crate) struct ProcessMachine<Devices> {
    // Dropped in this order: when the process has ended, its devices have nobody to serve.
    pub process: Process,
    /// What serves its devices, if it does not do so itself.
    pub devices: Devices,
    pub board: Arc<Board>,
    pub console: Arc<Tail>,
}

impl<Devices: Send> Machine for ProcessMachine<Devices> {
    fn accept(&mut self, port: u32, deadline: Instant) -> Result<UnixStream, Error> {
        self.board.accept(port, deadline, || self.console.text())
    }

    fn killer(&self) -> Killer {
        self.process.killer()
    }

    fn wait(self: Box<Self>, deadline: Instant) -> Result<Exit, Error> {
        let ended = self.board.wait(deadline);
        let Self { process, devices, console, .. } = *self;
        drop(process);
        drop(devices);
        Ok(ended.ok_or_else(|| Kind::StillRunning { console: console.text() })?)
    }

    fn console_tail(&self) -> String {
        self.console.text()
    }

    fn counters(&self) -> Option<Counters> {
        self.board.counters()
    }
}
