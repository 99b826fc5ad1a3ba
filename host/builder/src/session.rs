//! The host's side of the talk with the agent: one job, from its hello to its last message.

use crate::{
    Error, GuestSettings,
    error::Kind,
    event::{Event, Observer},
};
use kiln_protocol::{
    Decoder, Ending, FromGuest, FromHost, Job, LayerRecord, ScratchUsage, StepReport, VERSION, encode,
};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::Instant,
};

/// Bytes read from the guest at once. Several of the largest messages, so that a busy stream is
/// not read in crumbs.
const READ_SIZE: usize = 1024 * 1024;

/// Less than this free on the scratch disk counts as full. A step that ran into the end leaves
/// less than a block group's worth of scattered blocks.
const FULL_BELOW_BYTES: u64 = 1024 * 1024;

/// Takes the new layer, piece by piece.
pub(crate) trait LayerReceiver {
    /// The next piece. An error ends the build.
    fn receive(&mut self, record: LayerRecord) -> Result<(), Error>;
}

/// Sends the job, follows it to its end. Returns how each step ended, in order; the last may have
/// failed.
///
/// # Errors
/// When the connection ends early, the guest breaks the protocol, or its machinery fails. A failing
/// step is no error here.
pub(crate) fn run_job(
    mut stream: UnixStream,
    job: &Job,
    stdin: Option<Box<dyn Read + Send>>,
    observer: &dyn Observer,
    layer: &mut dyn LayerReceiver,
) -> Result<Vec<StepReport>, Error> {
    let mut incoming = Incoming::new(stream.try_clone().map_err(Kind::GuestGone)?);
    check_hello(&incoming.next()?)?;
    send(&mut stream, &FromHost::Job(job.clone()))?;
    if let Some(stdin) = stdin {
        forward_stdin(stdin, stream);
    }
    follow(&mut incoming, job, observer, layer)
}

fn check_hello(message: &FromGuest) -> Result<(), Error> {
    match message {
        FromGuest::Hello { version: VERSION, .. } => Ok(()),
        FromGuest::Hello { version, .. } => Err(Kind::AgentVersion { agent: *version }.into()),
        other => Err(Kind::OutOfOrder(name(other)).into()),
    }
}

fn follow(
    incoming: &mut Incoming,
    job: &Job,
    observer: &dyn Observer,
    layer: &mut dyn LayerReceiver,
) -> Result<Vec<StepReport>, Error> {
    let mut reports: Vec<StepReport> = Vec::new();
    let mut running: Option<(u32, Instant)> = None;
    let mut received = 0;
    loop {
        match incoming.next()? {
            FromGuest::StepStarted { step } if running.is_none() && step as usize == reports.len() => {
                observer.event(Event::StepStarted { name: step_name(job, step)? });
                running = Some((step, Instant::now()));
            }
            FromGuest::Output { stream, bytes } if running.is_some() => {
                observer.event(Event::Output { stream, bytes: &bytes });
            }
            FromGuest::StepEnded(report) if running.is_some_and(|(step, _)| step == report.step) => {
                if let (Ending::Exited(0), Some((step, started))) = (&report.ending, running.take()) {
                    observer.event(Event::StepEnded { name: step_name(job, step)?, took: started.elapsed() });
                }
                reports.push(report);
            }
            FromGuest::Layer(record) if job.send_layer && running.is_none() => {
                if let LayerRecord::Data(bytes) = &record {
                    received += bytes.len() as u64;
                    observer.event(Event::LayerReceived { bytes: received });
                }
                layer.receive(record)?;
            }
            FromGuest::Failed(failure) => return Err(Kind::Guest(failure).into()),
            FromGuest::Done { .. } if running.is_none() && is_complete(job, &reports) => return Ok(reports),
            other => return Err(Kind::OutOfOrder(name(&other)).into()),
        }
    }
}

/// Whether all steps ran, or all up to one that failed.
fn is_complete(job: &Job, reports: &[StepReport]) -> bool {
    reports.len() == job.steps.len()
        || reports.last().is_some_and(|report| report.ending != Ending::Exited(0))
}

/// An error for the first step that did not end well.
pub(crate) fn check_reports(job: &Job, reports: &[StepReport], guest: &GuestSettings) -> Result<(), Error> {
    reports.iter().try_for_each(|report| check_report(job, report, guest))
}

fn check_report(job: &Job, report: &StepReport, guest: &GuestSettings) -> Result<(), Error> {
    let step = step_name(job, report.step)?.to_owned();
    let kind = match report.ending {
        // A script that ignored the error would otherwise leave half-written files in the layer.
        _ if is_full(&report.scratch) => Kind::ScratchFull { step, size: guest.scratch_size },
        Ending::Exited(0) => return Ok(()),
        _ if report.oom_kills > 0 => Kind::OutOfMemory { step, memory_mib: guest.memory_mib },
        Ending::Exited(code) => Kind::StepExited { step, code },
        Ending::Signaled(signal) => Kind::StepSignaled { step, signal },
        Ending::Rebooted => Kind::StepRebooted { step },
        Ending::NotStarted { ref what, errno } => {
            Kind::StepNotStarted { step, what: what.clone(), source: io::Error::from_raw_os_error(errno) }
        }
    };
    Err(kind.into())
}

/// Whether a step ran into the end of the scratch disk.
pub(crate) fn is_full(scratch: &ScratchUsage) -> bool {
    scratch.size > 0 && (scratch.available < FULL_BELOW_BYTES || scratch.available_inodes == 0)
}

fn step_name(job: &Job, step: u32) -> Result<&str, Error> {
    let step = job.steps.get(step as usize).ok_or(Kind::OutOfOrder("a step that is not in the job"))?;
    Ok(&step.name)
}

fn name(message: &FromGuest) -> &'static str {
    match message {
        FromGuest::Hello { .. } => "hello",
        FromGuest::StepStarted { .. } => "step started",
        FromGuest::Output { .. } => "output",
        FromGuest::StepEnded(_) => "step ended",
        FromGuest::Layer(_) => "layer",
        FromGuest::Failed(_) => "failed",
        FromGuest::Done { .. } => "done",
    }
}

fn send(stream: &mut UnixStream, message: &FromHost) -> Result<(), Error> {
    let mut frame = Vec::new();
    encode(message, &mut frame).map_err(Kind::Protocol)?;
    stream.write_all(&frame).map_err(Kind::GuestGone)?;
    Ok(())
}

/// Feeds the step from a thread of its own, which ends with the connection or the input.
fn forward_stdin(mut stdin: Box<dyn Read + Send>, mut stream: UnixStream) {
    thread::spawn(move || {
        let mut buffer = vec![0; kiln_protocol::MAX_DATA];
        loop {
            let message = match stdin.read(&mut buffer) {
                Ok(0) | Err(_) => FromHost::StdinEnd,
                Ok(count) => FromHost::Stdin(buffer[..count].to_vec()),
            };
            // An error here means that the guest is gone, which the other direction reports.
            if send(&mut stream, &message).is_err() || message == FromHost::StdinEnd {
                return;
            }
        }
    });
}

/// Messages from the guest's stream.
struct Incoming {
    stream: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Incoming {
    fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(), buffer: vec![0; READ_SIZE] }
    }

    fn next(&mut self) -> Result<FromGuest, Error> {
        loop {
            if let Some(message) = self.decoder.next().map_err(Kind::Protocol)? {
                return Ok(message);
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(Kind::GuestGone(io::ErrorKind::UnexpectedEof.into()).into()),
                Ok(count) => self.decoder.push(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Kind::GuestGone(error).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
