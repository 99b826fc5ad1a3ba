//! The QEMU process: started so that it cannot outlive us, watched until it is gone.

use crate::console::{Sink, Tail};
use crate::error::Kind;
use crate::{Error, Exit, Killer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// What to start.
pub(super) struct Program {
    pub path: PathBuf,
    /// Arguments by which it gives up system calls that it does not need. Not every QEMU can, and
    /// to ask takes longer than to try: one that complains of them is started again without.
    pub sandbox: Vec<OsString>,
    /// All other arguments.
    pub arguments: Vec<OsString>,
    /// What it inherits besides the standard descriptors, under the numbers they have here.
    pub descriptors: Vec<OwnedFd>,
}

/// What happens around the process, on the thread that watches it.
pub(super) struct Surroundings {
    /// Keeps the last of the guest's console.
    pub console: Arc<Tail>,
    /// Gets all of it.
    pub sink: Option<Sink>,
    /// Whether the guest has been at work on its devices.
    pub guest_ran: Box<dyn Fn() -> bool + Send>,
    /// Gets to know how it ended.
    pub at_end: Box<dyn FnOnce(Exit) + Send>,
}

/// A running QEMU; dropping it kills it and waits for its end.
pub(super) struct Process {
    handle: Arc<Handle>,
    thread: Option<JoinHandle<()>>,
}

/// What may be signalled, even after the end. An ended process keeps its number until it is waited
/// for, which happens under the same lock as signalling: so no other process is ever meant. (A pidfd
/// would do, too, but older kernels and some seccomp filters of containers have none.)
#[derive(Default)]
struct Handle(Mutex<Target>);

#[derive(Default)]
struct Target {
    running: Option<Pid>,
    killed: bool,
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        let mut target = self.lock();
        target.killed = true;
        if let Some(pid) = target.running {
            // The one failure is that it has ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Process {
    /// Starts QEMU.
    pub fn start(program: Program, surroundings: Surroundings) -> Result<Self, Error> {
        let (path, handle) = (program.path.clone(), Arc::new(Handle::default()));
        let (started, start) = mpsc::sync_channel(1);
        let watched = handle.clone();
        // The kernel ties a child to the thread that started it, so that thread stays to watch it.
        let watch = move || match Watched::start(&program, &program.sandbox, &watched) {
            Ok(first) => {
                let _ = started.send(Ok(()));
                let exit = first.run_to_the_end(&program, &surroundings);
                // The other ends of the devices' connections: their threads may end.
                drop(program);
                (surroundings.at_end)(exit);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("qemu".into()).spawn(watch);
        let thread = thread.map_err(|error| Kind::Setup("a thread", error))?;
        let started = start.recv().unwrap_or_else(|_| Err(ErrorKind::BrokenPipe.into()));
        started.map_err(|error| Kind::Spawn(path, error))?;
        Ok(Self { handle, thread: Some(thread) })
    }

    pub fn killer(&self) -> Killer {
        let handle = self.handle.clone();
        Killer::new(move || handle.kill())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.handle.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// QEMU as its thread sees it.
struct Watched<'a> {
    child: Child,
    handle: &'a Handle,
    /// Its standard output is the guest's serial port.
    stdout: Option<ChildStdout>,
    /// Where it complains.
    stderr: Option<ChildStderr>,
}

/// How a QEMU ended.
struct Ended {
    status: io::Result<ExitStatus>,
    killed: bool,
    /// What it wrote to its standard error.
    complaints: String,
}

impl<'a> Watched<'a> {
    fn start(program: &Program, sandbox: &[OsString], handle: &'a Handle) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        command.args(sandbox).args(&program.arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let descriptors = program.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        super::tie::tie_to_this_thread(&mut command, descriptors);
        let mut target = handle.lock();
        let mut child = command.spawn()?;
        target.running = Pid::from_raw(child.id().cast_signed());
        let killed = target.killed;
        drop(target);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let watched = Self { child, handle, stdout, stderr };
        let prepared = watched.pipes().try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true));
        if killed || prepared.is_err() {
            handle.kill();
        }
        prepared.map(|()| watched).map_err(io::Error::from)
    }

    /// Watches this QEMU, and a second one if the first refused the sandbox; says how it ended.
    fn run_to_the_end(self, program: &Program, surroundings: &Surroundings) -> Exit {
        let handle = self.handle;
        let mut ended = self.run(surroundings);
        let guest_ran = || (surroundings.guest_ran)() || !surroundings.console.text().is_empty();
        // A QEMU that its guest has taken over does not get rid of the sandbox by complaining.
        if ended.refused_the_sandbox() && !guest_ran() {
            match Self::start(program, &[], handle) {
                Ok(second) => ended = second.run(surroundings),
                Err(error) => return Exit::Failed(error.to_string()),
            }
        }
        match ended.exit(surroundings.console.panic(), guest_ran()) {
            // Launched without being asked for its version: it may be too old, or no QEMU at all. What
            // looks like a console may be its own words.
            exit @ (Exit::Failed(_) | Exit::PoweredOff) if !(surroundings.guest_ran)() => {
                super::probe::probe(&program.path).map_or_else(Exit::Unusable, |_| exit)
            }
            exit => exit,
        }
    }

    /// Passes on what QEMU writes until it has ended.
    fn run(mut self, surroundings: &Surroundings) -> Ended {
        let complaints = Tail::default();
        while self.wait_for_output() {
            read_some(&mut self.stdout, |bytes| {
                surroundings.console.write(bytes);
                surroundings.sink.iter().for_each(|sink| sink.write(bytes));
            });
            read_some(&mut self.stderr, |bytes| complaints.write(bytes));
        }
        let (status, killed) = self.wait();
        Ended { status, killed, complaints: complaints.text() }
    }

    /// Waits for the end. Whether somebody had asked for it.
    fn wait(mut self) -> (io::Result<ExitStatus>, bool) {
        let pid = self.handle.lock().running;
        if let Some(pid) = pid {
            let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            // If it fails, so does what follows.
            let _ = rustix::io::retry_on_intr(ended);
        }
        let mut target = self.handle.lock();
        target.running = None;
        (self.child.wait(), target.killed)
    }

    fn pipes(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        let stdout = self.stdout.as_ref().map(AsFd::as_fd);
        stdout.into_iter().chain(self.stderr.as_ref().map(AsFd::as_fd))
    }

    /// False when both pipes are at their end, which QEMU keeps open until its own.
    fn wait_for_output(&self) -> bool {
        let mut open: Vec<_> =
            self.pipes().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)).collect();
        if open.is_empty() {
            return false;
        }
        // Interrupted or not: the pipes do not block.
        let _ = poll(&mut open, None);
        true
    }
}

/// Passes on what there is; forgets the pipe at its end.
fn read_some(pipe: &mut Option<impl Read>, mut take: impl FnMut(&[u8])) {
    let mut bytes = [0; 16 * 1024];
    let Some(open) = pipe else { return };
    match open.read(&mut bytes) {
        Ok(count) if count > 0 => take(&bytes[..count]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        _ => *pipe = None,
    }
}

impl Ended {
    fn refused_the_sandbox(&self) -> bool {
        let failed = self.status.as_ref().is_ok_and(|status| !status.success());
        failed && !self.killed && ["sandbox", "seccomp"].iter().any(|word| self.complaints.contains(word))
    }

    fn exit(self, panic: Option<String>, guest_ran: bool) -> Exit {
        match self.status {
            Ok(status) if self.killed && status.signal() == Some(Signal::KILL.as_raw()) => Exit::Killed,
            Ok(status) if status.success() && guest_ran => panic.map_or(Exit::PoweredOff, Exit::Panicked),
            Ok(status) => Exit::Failed(failure(status, &self.complaints)),
            Err(error) => Exit::Failed(error.to_string()),
        }
    }
}

fn failure(status: ExitStatus, complaints: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(0), _) => String::from("QEMU ended without running the guest"),
        (Some(code), _) => format!("QEMU ended with status {code}"),
        (None, Some(9)) => String::from("QEMU was killed by signal 9, as by a host that has no memory left"),
        (None, Some(signal)) => format!("QEMU was killed by signal {signal}"),
        (None, None) => String::from("QEMU ended"),
    };
    match complaints {
        "" => end,
        _ if complaints.contains("guest RAM") || complaints.contains("guest memory") => {
            format!("{end}, as the host does not give it the machine's memory: {complaints}")
        }
        _ => format!("{end}: {complaints}"),
    }
}
