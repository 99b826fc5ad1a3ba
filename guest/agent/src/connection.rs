//! The connection to the host: messages over any stream socket.

use crate::failure::{Failure, Result, Trying};
use kiln_protocol::{Decoder, FromGuest, FromHost, LayerRecord, MAX_DATA, encode, encode_start};
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, poll},
    fs::sendfile,
    io::{Errno, read, retry_on_intr, write},
    net::{Shutdown, shutdown},
};
use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Messages are collected up to this many bytes before they are written, unless flushed.
const OUT_BUFFER: usize = MAX_DATA;
/// Most bytes read from the host at once.
const IN_BUFFER: usize = 64 * 1024;
/// File data up to this size travels in the buffer with other messages; more is sent from the file
/// straight to the socket.
const SMALL_DATA: usize = 64 * 1024;
/// How long to wait for the host to close, after the last message. It then kills the VM anyway.
const CLOSE_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A connected, blocking stream socket, with buffers.
pub struct Connection {
    socket: OwnedFd,
    out: Vec<u8>,
    decoder: Decoder,
}

impl Connection {
    /// Takes over a connected stream.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, out: Vec::with_capacity(OUT_BUFFER), decoder: Decoder::new() }
    }

    /// Sends a message now.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn send(&mut self, message: &FromGuest) -> Result<()> {
        self.queue(message)?;
        self.flush()
    }

    /// Sends a message with the next ones.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn queue(&mut self, message: &FromGuest) -> Result<()> {
        encode(message, &mut self.out).trying(|| "encode a message")?;
        self.flush_when_full()
    }

    /// Sends `length` bytes of a file, from where it stands, as pieces of the layer.
    ///
    /// # Errors
    /// When the file cannot be read or is shorter, or the host is gone.
    pub fn queue_file(&mut self, file: &File, mut length: u64) -> Result<()> {
        while length > 0 {
            let piece = usize::try_from(length).map_or(MAX_DATA, |l| l.min(MAX_DATA));
            let start = FromGuest::Layer(LayerRecord::Data(Vec::new()));
            encode_start(&start, piece, &mut self.out).trying(|| "encode a message")?;
            if piece <= SMALL_DATA {
                self.copy_from(file, piece)?
            } else {
                self.splice_from(file, piece)?
            }
            length -= piece as u64;
        }
        self.flush_when_full()
    }

    fn copy_from(&mut self, file: &File, length: usize) -> Result<()> {
        self.out.reserve(length);
        let got =
            file.take(length as u64).read_to_end(&mut self.out).trying(|| "read a file of the layer")?;
        if got < length { Err(truncated()) } else { Ok(()) }
    }

    fn splice_from(&mut self, file: &File, mut length: usize) -> Result<()> {
        self.flush()?;
        while length > 0 {
            match retry_on_intr(|| sendfile(&self.socket, file, None, length))
                .trying(|| "send a file of the layer")?
            {
                0 => return Err(truncated()),
                sent => length -= sent,
            }
        }
        Ok(())
    }

    fn flush_when_full(&mut self) -> Result<()> {
        if self.out.len() < OUT_BUFFER { Ok(()) } else { self.flush() }
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn flush(&mut self) -> Result<()> {
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            let sent = retry_on_intr(|| write(&self.socket, rest)).trying(|| "send to the host")?;
            rest = &rest[sent..];
        }
        self.out.clear();
        Ok(())
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// When the host is gone, or what it sent is no message.
    pub fn receive(&mut self) -> Result<FromHost> {
        loop {
            if let Some(message) = self.received()? {
                return Ok(message);
            }
            if self.read_some()? == 0 {
                return Err(Failure::new("the host closed the connection"));
            }
        }
    }

    /// A message that has already arrived.
    ///
    /// # Errors
    /// When what the host sent is no message.
    pub fn received(&mut self) -> Result<Option<FromHost>> {
        self.decoder.next().trying(|| "understand the host")
    }

    /// Reads what has arrived, or waits for something; 0 at the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn read_some(&mut self) -> Result<usize> {
        let mut buffer = Vec::with_capacity(IN_BUFFER);
        let got = retry_on_intr(|| read(&self.socket, spare_capacity(&mut buffer)))
            .trying(|| "receive from the host")?;
        self.decoder.push(&buffer);
        Ok(got)
    }

    /// Says that nothing more comes, and waits until the host has taken everything and closed: data
    /// still in the virtqueue would be lost when the VM ends.
    pub fn close(mut self) {
        // Nobody is left to tell about a failure here.
        if self.flush().is_err() || shutdown(&self.socket, Shutdown::Write).is_err() {
            return;
        }
        loop {
            let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut sockets, Some(&CLOSE_TIMEOUT)) {
                Err(Errno::INTR) => {}
                Ok(1..) if matches!(self.read_some(), Ok(1..)) => {}
                _ => return,
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn truncated() -> Failure {
    Failure::new("a file of the layer is shorter than its size")
}
