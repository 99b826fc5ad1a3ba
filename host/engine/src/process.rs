//! A process that runs a machine: started so that it cannot outlive us, watched until it is gone.
//!
//! What is particular to the program (QEMU, our own VMM) is its [`Keeper`]'s affair.

use crate::console::{Console, Tail};
use crate::error::Kind;
use crate::tie::{Preparation, tie_to_this_thread};
use crate::{Error, Exit, Killer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What to start.
#[derive(Default)]
pub(crate) struct Program {
    pub path: PathBuf,
    /// What it is called (`argv[0]`), if not by its path.
    pub called: Option<&'static str>,
    pub arguments: Vec<OsString>,
    /// Gets no environment variables of ours.
    pub without_environment: bool,
    /// Its standard input, in its first run; otherwise there is none.
    pub input: Option<OwnedFd>,
    /// What it inherits besides the standard descriptors, under the numbers they have here. Our
    /// copies are closed when it has ended.
    pub descriptors: Vec<Box<dyn AsRawFd + Send>>,
    /// Done in the process before it becomes the program, last of all.
    pub preparation: Option<Preparation>,
}

/// Whether a process has more to say to its [`Keeper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    GoesOn,
    /// No more is heard of it; it ends by itself within this time, or is ended.
    Over(Duration),
}

/// What is particular to a process. Everything is called on the thread that watches it.
pub(crate) trait Keeper: Send {
    /// Where else it speaks than on its pipes.
    fn control(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// [`control`](Self::control) can be read, or is at its end. Must not block.
    fn hear(&mut self) -> Hearing {
        Hearing::Over(Duration::MAX)
    }

    /// What the end of the process means. With `None`, `program` is started once more.
    fn judge(&mut self, program: &mut Program, ended: Ended) -> Option<Exit>;

    /// Everything of it is gone.
    fn over(self: Box<Self>, exit: Exit);
}

/// How a process ended.
pub(crate) struct Ended {
    pub status: io::Result<ExitStatus>,
    /// By a [`Killer`].
    pub killed: bool,
    /// What it wrote to its standard error.
    pub complaints: String,
}

impl Ended {
    /// The status in words that follow the program's name.
    pub fn how(&self) -> String {
        let status = match &self.status {
            Ok(status) => status,
            Err(error) => return format!("ended in an unknown way: {error}"),
        };
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(9)) => "was killed by signal 9, as by a host that has no memory left".into(),
            (None, Some(signal)) => format!("was killed by signal {signal}{}", signal_name(signal)),
            (None, None) => "ended".into(),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}

/// The name of a signal that ends faulty programs, in brackets (`signal(7)`).
fn signal_name(number: i32) -> String {
    let named = [
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    let found = named.iter().find(|(signal, _)| signal.as_raw() == number);
    found.map(|(_, name)| format!(" ({name})")).unwrap_or_default()
}

/// A running process; dropping it kills it and waits for its end.
pub(crate) struct Process {
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

    /// On somebody's demand.
    fn kill(&self) {
        self.lock().killed = true;
        self.stop();
    }

    /// Ends it, and what it may have started: its process group.
    fn stop(&self) {
        if let Some(pid) = self.lock().running {
            // The one failure is that it has ended.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Process {
    /// Starts `program`, in a thread named `name`.
    pub fn start(
        name: &str,
        mut program: Program,
        console: Console,
        mut keeper: Box<dyn Keeper>,
    ) -> Result<Self, Error> {
        let (path, handle) = (program.path.clone(), Arc::new(Handle::default()));
        let (started, start) = mpsc::sync_channel(1);
        let watched = handle.clone();
        // The kernel ties a child to the thread that started it, so that thread stays to watch it.
        let watch = move || match Watched::start(&mut program, &watched) {
            Ok(first) => {
                let _ = started.send(Ok(()));
                let exit = first.run_to_the_end(&mut program, &console, keeper.as_mut());
                // The other ends of the devices' connections: their threads may end.
                drop(program);
                keeper.over(exit);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(watch);
        let thread = thread.map_err(|error| Kind::Setup("a thread", error))?;
        // Dropped on error as well: the thread has things to close.
        let process = Self { handle, thread: Some(thread) };
        let started = start.recv().unwrap_or_else(|_| Err(ErrorKind::BrokenPipe.into()));
        started.map_err(|error| Kind::Spawn(path, error))?;
        Ok(process)
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

/// The process as its thread sees it.
struct Watched<'a> {
    child: Child,
    handle: &'a Handle,
    /// The guest's serial port.
    stdout: Option<ChildStdout>,
    /// Where it complains.
    stderr: Option<ChildStderr>,
    /// Set once its keeper hears no more of it: when it is ended. `None` if that is not to be.
    patience: Option<Option<Instant>>,
}

impl<'a> Watched<'a> {
    fn start(program: &mut Program, handle: &'a Handle) -> io::Result<Self> {
        let mut command = program.command();
        let mut target = handle.lock();
        let mut child = command.spawn()?;
        target.running = Pid::from_raw(child.id().cast_signed());
        let killed = target.killed;
        drop(target);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let watched = Self { child, handle, stdout, stderr, patience: None };
        let prepared = watched.pipes().try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true));
        if killed || prepared.is_err() {
            handle.stop();
        }
        prepared.map(|()| watched).map_err(io::Error::from)
    }

    /// Watches this process, and those started in its stead; says how the last one ended.
    fn run_to_the_end(self, program: &mut Program, console: &Console, keeper: &mut dyn Keeper) -> Exit {
        let handle = self.handle;
        let mut ended = self.run(console, keeper);
        loop {
            if let Some(exit) = keeper.judge(program, ended) {
                return exit;
            }
            match Self::start(program, handle) {
                Ok(next) => ended = next.run(console, keeper),
                Err(error) => return Exit::Failed(error.to_string()),
            }
        }
    }

    /// Passes on what the process says until it has ended.
    fn run(mut self, console: &Console, keeper: &mut dyn Keeper) -> Ended {
        let complaints = Tail::default();
        while self.wait_for_words(keeper) {
            self.hear(keeper);
            read_some(&mut self.stdout, |bytes| console.write(bytes));
            read_some(&mut self.stderr, |bytes| complaints.write(bytes));
        }
        // It has ended, or has nothing more to say, or its time is up.
        if self.patience.is_some() {
            self.handle.stop();
        }
        let (status, killed) = self.wait();
        Ended { status, killed, complaints: complaints.text() }
    }

    fn hear(&mut self, keeper: &mut dyn Keeper) {
        if self.patience.is_none()
            && keeper.control().is_some_and(is_readable)
            && let Hearing::Over(within) = keeper.hear()
        {
            self.patience = Some(Instant::now().checked_add(within));
        }
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

    fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let stdout = self.stdout.as_ref().map(AsFd::as_fd);
        stdout.into_iter().chain(self.stderr.as_ref().map(AsFd::as_fd))
    }

    /// False when everything is at its end, which the process keeps open until its own, or when its
    /// time is up.
    fn wait_for_words(&self, keeper: &dyn Keeper) -> bool {
        let control = keeper.control().filter(|_| self.patience.is_none());
        let mut open: Vec<_> =
            self.pipes().chain(control).map(|open| PollFd::from_borrowed_fd(open, PollFlags::IN)).collect();
        if open.is_empty() {
            return false;
        }
        let left = self.patience.flatten().map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // Interrupted or not: nothing that is read blocks.
        !matches!(poll(&mut open, timeout.as_ref()), Ok(0))
    }
}

impl Program {
    fn command(&mut self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).process_group(0);
        if let Some(name) = self.called {
            command.arg0(name);
        }
        // Its jail keeps it from what a preloaded library needs.
        command.env_remove("LD_PRELOAD");
        if self.without_environment {
            command.env_clear();
        }
        command.stdin(self.input.take().map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let descriptors = self.descriptors.iter().map(|open| open.as_raw_fd()).collect();
        tie_to_this_thread(&mut command, descriptors, self.preparation.clone());
        command
    }
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec::default())), Ok(1))
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
