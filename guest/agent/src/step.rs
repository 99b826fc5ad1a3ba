//! Running one step: its pipes, its process, its output on the way to the host.

use crate::{
    connection::Connection,
    failure::{Failure, Result, Trying},
    namespace::{self, Launch, Streams, Verdict},
    sys::{self, Fork, Namespaces},
};
use kiln_protocol::{Decoder, Ending, FromGuest, FromHost, MAX_DATA, Stream};
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, poll},
    io::{Errno, ioctl_fionbio, read, retry_on_intr, write},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};
use std::os::fd::OwnedFd;

/// Bytes read from a pipe at once: what a pipe holds
/// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
const PIPE_CAPACITY: usize = 64 * 1024;
const _: () = assert!(PIPE_CAPACITY <= MAX_DATA);

/// Runs the step until it and everything it started is gone.
///
/// # Errors
/// When our own machinery fails, or the host is gone. A step that cannot start is an [`Ending`].
pub fn run(launch: &Launch<'_>, connection: &mut Connection) -> Result<Ending> {
    let (stdin, theirs_in) = if launch.step.stdin {
        pipe().map(|(theirs, ours)| (Some(ours), Some(theirs)))?
    } else {
        (None, None)
    };
    let (stdout, theirs_out) = pipe()?;
    let (stderr, theirs_err) = pipe()?;
    let (report, theirs_report) = pipe()?;
    let streams = Streams { stdin: theirs_in, stdout: theirs_out, stderr: theirs_err, report: theirs_report };
    let (child, pidfd) = match sys::fork(Namespaces::Own).trying(|| "make namespaces")? {
        Fork::Child => {
            // An end held here would keep the step from ever reading the end of its input.
            drop((stdin, stdout, stderr, report));
            namespace::run(launch, streams)
        }
        Fork::Parent { child, pidfd } => (child, pidfd),
    };
    drop(streams);
    Pump::new(pidfd, stdin, stdout, stderr)?.run(connection)?;
    ending(child, &report)
}

/// The reading end, which does not block, and the writing end.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).trying(|| "make a pipe")
}

fn ending(child: Pid, report: &OwnedFd) -> Result<Ending> {
    let status =
        retry_on_intr(|| waitpid(Some(child), WaitOptions::empty())).trying(|| "wait for the step")?;
    match status.and_then(|(_, status)| status.terminating_signal()) {
        None => namespace::judge(read_verdict(report)?),
        // What reboot(2) ends a PID namespace with (reboot_pid_ns in kernel/pid_namespace.c).
        Some(libc::SIGHUP | libc::SIGINT) => Ok(Ending::Rebooted),
        Some(signal) => Err(Failure::new(format!("the step's first process was killed by signal {signal}"))),
    }
}

fn read_verdict(report: &OwnedFd) -> Result<Verdict> {
    let mut bytes = Vec::with_capacity(PIPE_CAPACITY);
    retry_on_intr(|| read(report, spare_capacity(&mut bytes))).trying(|| "read how the step ended")?;
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let verdict = decoder.next().trying(|| "understand how the step ended")?;
    verdict.ok_or_else(|| Failure::new("the step's first process did not say how it ended"))
}

/// Moves bytes between the step and the host while it runs.
struct Pump {
    /// Readable when all of the step is gone.
    pidfd: OwnedFd,
    outputs: [Output; 2],
    input: Input,
}

impl Pump {
    fn new(pidfd: OwnedFd, stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd) -> Result<Self> {
        for ours in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
            ioctl_fionbio(ours, true).trying(|| "prepare a pipe")?;
        }
        let outputs = [Output::new(Stream::Stdout, stdout), Output::new(Stream::Stderr, stderr)];
        Ok(Self {
            pidfd,
            outputs,
            input: Input { pipe: stdin, pending: Vec::new(), written: 0, ended: false },
        })
    }

    fn run(mut self, connection: &mut Connection) -> Result<()> {
        loop {
            // Before poll(2), which does not know what has arrived with an earlier message.
            self.input.forward(connection)?;
            let ready = self.wait(connection)?;
            // Asked before the pipes are read: what a step wrote, it wrote before it was gone.
            let gone = ready.gone;
            for output in &mut self.outputs {
                output.forward(connection)?;
            }
            connection.flush()?;
            if gone {
                return self.drain(connection);
            }
            if ready.unread {
                self.input.pipe = None;
            }
            if ready.host {
                self.input.receive(connection)?;
            }
        }
    }

    /// Every writer is gone, so the pipes end, or hold no more than what they can.
    fn drain(&mut self, connection: &mut Connection) -> Result<()> {
        for output in &mut self.outputs {
            while output.forward(connection)? {}
        }
        connection.flush()
    }

    fn wait(&self, connection: &Connection) -> Result<Ready> {
        let wanted = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let host = wanted(self.input.wants_more(), PollFlags::IN);
        let mut sources = vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(connection, host)];
        sources.extend(
            self.outputs.iter().filter_map(|o| o.pipe.as_ref()).map(|p| PollFd::new(p, PollFlags::IN)),
        );
        if let Some(pipe) = &self.input.pipe {
            sources.push(PollFd::new(pipe, wanted(self.input.has_pending(), PollFlags::OUT)));
        }
        retry_on_intr(|| poll(&mut sources, None)).trying(|| "wait for the step")?;
        if sources[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Failure::new("the host closed the connection"));
        }
        let is_ready = |at: usize| !sources[at].revents().is_empty();
        let last = sources.len() - 1;
        let unread = self.input.pipe.is_some() && sources[last].revents().contains(PollFlags::ERR);
        Ok(Ready { gone: is_ready(0), host: is_ready(1), unread })
    }
}

/// What [`Pump::wait`] saw; pipes are simply tried.
struct Ready {
    gone: bool,
    host: bool,
    /// Nobody has the step's input open any more.
    unread: bool,
}

/// One of the step's output streams.
struct Output {
    stream: Stream,
    /// `None` once it ended.
    pipe: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl Output {
    fn new(stream: Stream, pipe: OwnedFd) -> Self {
        Self { stream, pipe: Some(pipe), buffer: Vec::with_capacity(PIPE_CAPACITY) }
    }

    /// Queues what the pipe holds; true if it held something.
    fn forward(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        self.buffer.clear();
        match retry_on_intr(|| read(pipe, spare_capacity(&mut self.buffer))) {
            Err(Errno::AGAIN) => return Ok(false),
            Ok(0) => {
                self.pipe = None;
                return Ok(false);
            }
            other => other.trying(|| "read the step's output")?,
        };
        let message = FromGuest::Output { stream: self.stream, bytes: std::mem::take(&mut self.buffer) };
        connection.queue(&message)?;
        if let FromGuest::Output { bytes, .. } = message {
            self.buffer = bytes;
        }
        Ok(true)
    }
}

/// The step's input. At most one message of it is here at a time; the host's own buffers hold it back.
struct Input {
    /// `None` without input, or once it ended or nobody reads it any more.
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    written: usize,
    ended: bool,
}

impl Input {
    fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    fn wants_more(&self) -> bool {
        self.pipe.is_some() && !self.ended && !self.has_pending()
    }

    /// Reads what the host sent, for [`forward`](Self::forward) to find.
    fn receive(&mut self, connection: &mut Connection) -> Result<()> {
        if self.wants_more() && connection.read_some()? == 0 {
            self.ended = true;
        }
        Ok(())
    }

    /// Writes all that has arrived, or as much as the pipe takes.
    fn forward(&mut self, connection: &mut Connection) -> Result<()> {
        while self.pipe.is_some() {
            if self.has_pending() {
                if !self.write()? {
                    return Ok(());
                }
            } else if self.ended {
                self.pipe = None;
            } else if !self.take(connection.received()?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes in a message; false without one.
    fn take(&mut self, message: Option<FromHost>) -> Result<bool> {
        match message {
            None => return Ok(false),
            Some(FromHost::Stdin(bytes)) => (self.pending, self.written) = (bytes, 0),
            Some(FromHost::StdinEnd) => self.ended = true,
            Some(FromHost::Job(_)) => return Err(Failure::new("the host sent a second job")),
        }
        Ok(true)
    }

    /// Writes what the pipe takes; false when it is full.
    fn write(&mut self) -> Result<bool> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        match retry_on_intr(|| write(pipe, &self.pending[self.written..])) {
            Err(Errno::AGAIN) => return Ok(false),
            // The step closed its input: what comes is of no use to anybody.
            Err(Errno::PIPE) => self.pipe = None,
            other => self.written += other.trying(|| "write the step's input")?,
        }
        Ok(true)
    }
}
