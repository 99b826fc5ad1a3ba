//! An engine for tests: a closure plays the guest.

use crate::board::Board;
use crate::{Engine, Error, Exit, Killer, Machine, MachineSpec, Unusable, Usable};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

type Role = dyn Fn(Guest) + Send + Sync;

/// See the module. The machine ends when the closure returns.
pub struct Fake {
    role: Arc<Role>,
    unusable: Option<Unusable>,
}

impl Fake {
    /// `role` is called for every machine, in a thread of its own.
    pub fn new(role: impl Fn(Guest) + Send + Sync + 'static) -> Self {
        Self { role: Arc::new(role), unusable: None }
    }

    /// An engine whose probe answers with `why`.
    pub fn unusable(why: Unusable) -> Self {
        Self { role: Arc::new(|_| {}), unusable: Some(why) }
    }
}

/// What the closure has of the machine it plays.
pub struct Guest {
    /// What was asked for.
    pub spec: MachineSpec,
    board: Arc<Board>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl Guest {
    /// Connects to a port of the host; `None` when it is refused.
    pub fn connect(&self, port: u32) -> Option<UnixStream> {
        // So that a killed guest loses its connections, also one just being made.
        let mut streams = self.streams.lock().ok()?;
        let stream = self.board.arrive(port)?;
        streams.push(stream.try_clone().ok()?);
        Some(stream)
    }

    /// Ends the machine otherwise than by switching off.
    pub fn end(&self, exit: Exit) {
        self.board.end(exit);
    }
}

impl Engine for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn probe(&self) -> Result<Usable, Unusable> {
        let usable = Usable { path: "fake".into(), version: "0".into() };
        self.unusable.clone().map_or(Ok(usable), Err)
    }

    fn launch(&self, spec: MachineSpec) -> Result<Box<dyn Machine>, Error> {
        let board = Board::new(&spec.ports);
        let streams = Arc::new(Mutex::new(Vec::new()));
        let guest = Guest { spec, board: board.clone(), streams: streams.clone() };
        let (role, ending, forgotten) = (self.role.clone(), board.clone(), streams.clone());
        let thread = thread::spawn(move || {
            role(guest);
            forgotten.lock().iter_mut().for_each(|streams| streams.clear());
            ending.end(Exit::PoweredOff);
        });
        Ok(Box::new(FakeMachine { board, streams, thread: Some(thread) }))
    }
}

struct FakeMachine {
    board: Arc<Board>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Machine for FakeMachine {
    fn accept(&mut self, port: u32, deadline: Instant) -> Result<UnixStream, Error> {
        self.board.accept(port, deadline, String::new)
    }

    fn killer(&self) -> Killer {
        let (board, streams) = (self.board.clone(), self.streams.clone());
        Killer::new(move || {
            board.end(Exit::Killed);
            for stream in streams.lock().iter_mut().flat_map(|streams| streams.drain(..)) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        })
    }

    fn wait(mut self: Box<Self>, deadline: Instant) -> Result<Exit, Error> {
        let Some(exit) = self.board.wait(deadline) else {
            self.killer().kill();
            return Err(crate::error::Kind::StillRunning { console: String::new() }.into());
        };
        if let Some(thread) = self.thread.take().filter(|_| exit == Exit::PoweredOff) {
            let _ = thread.join();
        }
        Ok(exit)
    }

    fn console_tail(&self) -> String {
        String::new()
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.killer().kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuModel;
    use std::io::{Read, Write};
    use std::num::NonZeroU8;
    use std::time::Duration;

    const PORT: u32 = 1024;

    fn spec() -> MachineSpec {
        MachineSpec {
            kernel: "kernel".into(),
            initramfs: Vec::new(),
            extra_command_line: Vec::new(),
            cpus: NonZeroU8::MIN,
            cpu_model: CpuModel::default(),
            memory_mib: 64,
            disks: Vec::new(),
            ports: vec![PORT],
            console: None,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn the_guest_is_heard_and_its_end_is_seen() {
        let engine = Fake::new(|guest| {
            let mut stream = guest.connect(PORT).unwrap();
            stream.write_all(b"hello").unwrap();
        });
        let mut machine = engine.launch(spec()).unwrap();
        let mut said = String::new();
        machine.accept(PORT, soon()).unwrap().read_to_string(&mut said).unwrap_or_default();
        assert_eq!(said, "hello");
        assert_eq!(machine.wait(soon()).unwrap(), Exit::PoweredOff);
    }

    #[test]
    fn a_guest_that_ends_early_is_not_waited_for() {
        let engine = Fake::new(|guest| guest.end(Exit::Panicked("no init".into())));
        let error = engine.launch(spec()).unwrap().accept(PORT, soon()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the guest's kernel gave up: no init before it connected to port 1024; nothing on its console"
        );
    }

    #[test]
    fn a_guest_that_never_connects_runs_into_the_deadline() {
        let engine = Fake::new(|_| thread::sleep(Duration::from_millis(200)));
        let mut machine = engine.launch(spec()).unwrap();
        let error = machine.accept(PORT, Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }

    #[test]
    fn a_port_that_was_not_opened_is_refused_on_both_sides() {
        let engine = Fake::new(|guest| assert!(guest.connect(PORT + 1).is_none()));
        let mut machine = engine.launch(spec()).unwrap();
        let error = machine.accept(PORT + 1, soon()).unwrap_err();
        assert_eq!(error.to_string(), "nobody may connect to port 1025");
        assert_eq!(machine.wait(soon()).unwrap(), Exit::PoweredOff);
    }

    #[test]
    fn killing_twice_is_killing_once_and_closes_the_streams() {
        let engine = Fake::new(|guest| {
            let mut stream = guest.connect(PORT).unwrap();
            let _ = stream.read(&mut [0]);
        });
        let mut machine = engine.launch(spec()).unwrap();
        let mut stream = machine.accept(PORT, soon()).unwrap();
        let killer = machine.killer();
        killer.kill();
        killer.kill();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(machine.wait(soon()).unwrap(), Exit::Killed);
    }
}
