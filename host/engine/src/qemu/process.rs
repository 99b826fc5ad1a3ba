//! The QEMU process: started so that it cannot outlive us, watched until it is gone.

use crate::console::{Sink, Tail};
use crate::error::Kind;
use crate::{Error, Exit, Killer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

/// What to start, and the descriptors it inherits besides the standard ones.
pub(super) struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub descriptors: Vec<RawFd>,
}

/// A running QEMU; dropping it kills it and waits for its end.
pub(super) struct Process {
    handle: Arc<Handle>,
    thread: Option<JoinHandle<()>>,
}

/// What may be signalled, even after the end: unlike a process ID it never names another process.
struct Handle {
    pidfd: OwnedFd,
    killed: AtomicBool,
}

impl Handle {
    fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        // The one failure is that it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Process {
    /// Starts QEMU. Its console goes to `console` and `sink`; when it has ended, `at_end` gets to
    /// know how.
    pub fn start(
        program: Program,
        console: Arc<Tail>,
        sink: Option<Sink>,
        at_end: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<Self, Error> {
        let path = program.path.clone();
        let (started, start) = mpsc::sync_channel(1);
        // The kernel ties a child to the thread that started it, so that thread stays to watch it.
        let watch = move || match Watched::start(&program) {
            Ok(watched) => {
                let _ = started.send(Ok(watched.handle.clone()));
                drop(program);
                at_end(watched.run(&console, sink.as_ref()));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("qemu".into()).spawn(watch);
        let thread = thread.map_err(|error| Kind::Setup("a thread", error))?;
        let handle = start.recv().unwrap_or_else(|_| Err(ErrorKind::BrokenPipe.into()));
        let handle = handle.map_err(|error| Kind::Spawn(path, error))?;
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
struct Watched {
    child: Child,
    handle: Arc<Handle>,
    /// Its standard output is the guest's serial port.
    stdout: Option<ChildStdout>,
    /// Where it complains.
    stderr: Option<ChildStderr>,
}

impl Watched {
    fn start(program: &Program) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        super::tie::tie_to_this_thread(&mut command, program.descriptors.clone());
        let mut child = command.spawn()?;
        match pidfd(&child) {
            Ok(pidfd) => {
                let handle = Arc::new(Handle { pidfd, killed: AtomicBool::new(false) });
                let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
                for pipe in stdout.iter().map(AsFd::as_fd).chain(stderr.iter().map(AsFd::as_fd)) {
                    rustix::io::ioctl_fionbio(pipe, true)?;
                }
                Ok(Self { child, handle, stdout, stderr })
            }
            Err(error) => {
                child.kill().and_then(|()| child.wait())?;
                Err(error)
            }
        }
    }

    /// Passes on what QEMU writes until it has ended; says how.
    fn run(mut self, console: &Tail, sink: Option<&Sink>) -> Exit {
        let complaints = Tail::default();
        while self.wait_for_output() {
            read_some(&mut self.stdout, |bytes| {
                console.write(bytes);
                sink.iter().for_each(|sink| sink.write(bytes));
            });
            read_some(&mut self.stderr, |bytes| complaints.write(bytes));
        }
        let killed = self.handle.killed.load(Ordering::Relaxed);
        match self.child.wait() {
            Ok(status) if killed && status.signal() == Some(Signal::KILL.as_raw()) => Exit::Killed,
            Ok(status) if status.success() => console.panic().map_or(Exit::PoweredOff, Exit::Panicked),
            Ok(status) => Exit::Failed(failure(status, &complaints.text())),
            Err(error) => Exit::Failed(error.to_string()),
        }
    }

    /// False when both pipes are at their end, which QEMU keeps open until its own.
    fn wait_for_output(&self) -> bool {
        let stdout = self.stdout.as_ref().map(AsFd::as_fd);
        let open = stdout.into_iter().chain(self.stderr.as_ref().map(AsFd::as_fd));
        let mut open: Vec<_> = open.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
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

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn failure(status: ExitStatus, complaints: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("QEMU ended with status {code}"),
        (None, Some(signal)) => format!("QEMU was killed by signal {signal}"),
        (None, None) => String::from("QEMU ended"),
    };
    if complaints.is_empty() { end } else { format!("{end}: {complaints}") }
}
