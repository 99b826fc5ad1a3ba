//! Plain lines, for logs.

use super::lines::{Lines, Part};
use kiln_builder::{Event, Interrupt, Observer, Reason, Stream};
use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// Every event as a line; output as it comes.
pub struct Plain {
    verbose: u8,
    stdout: Mutex<Lines>,
    stderr: Mutex<Lines>,
}

impl Plain {
    /// Says more when `verbose` is above 0.
    pub fn new(verbose: u8) -> Self {
        Self { verbose, stdout: Mutex::default(), stderr: Mutex::default() }
    }

    fn end_lines(&self) {
        for lines in [&self.stdout, &self.stderr] {
            lines.lock().unwrap_or_else(PoisonError::into_inner).end(show);
        }
    }
}

impl Observer for Plain {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(text) => say(&format!("kiln: {text}")),
            Event::Notice(text) => say(&format!("kiln: note: {text}")),
            Event::Detail(text) if self.verbose > 0 => say(&format!("kiln: {text}")),
            Event::Detail(_) | Event::LayerReceived { .. } => {}
            Event::StepStarted { name } => say(&format!("kiln: {name}")),
            Event::Output { stream, bytes } => {
                let lines = match stream {
                    Stream::Stdout => &self.stdout,
                    Stream::Stderr => &self.stderr,
                };
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(bytes, show);
            }
            Event::StepEnded { name, took } => {
                self.end_lines();
                say(&format!("kiln: {name} done in {:.2} s", took.as_secs_f64()));
            }
            Event::Written { dest, image_id, size } => {
                say(&format!("kiln: wrote {dest}: {size} bytes, image {image_id}"));
            }
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.end_lines();
    }
}

/// The command's output untouched; kiln's own words only on request.
pub struct PassThrough {
    verbose: u8,
    /// Thrown when nobody takes the output any more.
    interrupt: Interrupt,
}

impl PassThrough {
    /// Says more when `verbose` is above 0.
    pub fn new(verbose: u8, interrupt: Interrupt) -> Self {
        Self { verbose, interrupt }
    }
}

impl Observer for PassThrough {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Output { stream, bytes } => {
                if let Err(error) = copy_through(stream, bytes) {
                    self.interrupt.trigger(Reason::Output(error.kind()));
                }
            }
            Event::Notice(text) => say(&format!("kiln: note: {text}")),
            Event::Phase(text) | Event::Detail(text) if self.verbose > 0 => say(&format!("kiln: {text}")),
            _ => {}
        }
    }
}

fn copy_through(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// The very bytes: a log is not for kiln to mend.
fn show(part: Part<'_>) {
    let end: &[u8] = if part.ends_line { b"\n" } else { b"" };
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(part.bytes).and_then(|()| stderr.write_all(end));
}

/// A closed standard error must not end a build.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
