//! One stream connection between guest and host, over any nonblocking stream.
//!
//! Primer (virtio 1.2 section 5.10.6). The guest asks with REQUEST, we answer RESPONSE (or RST),
//! then both send RW packets. Nobody may send more than the other has room for: every packet
//! carries `buf_alloc`, the size of its sender's buffer, and `fwd_cnt`, a wrapping count of bytes
//! its sender has passed on. So a peer's free room is `buf_alloc - (sent - fwd_cnt)`: its *credit*.
//! Linux waits when it has none and does not ask, so we tell (CREDIT_UPDATE) before it runs out; to
//! its CREDIT_REQUEST we answer at once, and we ask when we have data and no credit.
//!
//! Each side closes in two halves. SHUTDOWN says which half its sender is through with; both halves
//! closed by the guest, and its data passed on, we answer RST and forget the connection. RST at any
//! other time means failure.
//!
//! Here data of the guest goes straight into the stream. What the stream does not take waits in a
//! buffer of [`BUFFER_BYTES`], and as credit is given only for what the stream took, a slow reader
//! slows the guest down, and no more memory is ever needed.

use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::chain::Bytes;
use crate::iovec;
use std::collections::VecDeque;
use std::io;
use std::num::Wrapping;
use vm_memory::VolatileSlice;

/// The most data of the guest that we hold: our `buf_alloc`.
pub(crate) const BUFFER_BYTES: u32 = 1024 * 1024;

/// Tell the guest its new credit when it is this much more than it knows.
const UPDATE_BYTES: u32 = BUFFER_BYTES / 4;

/// Most data of one packet to the guest (Linux: `VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
const PACKET_BYTES_MAX: usize = 64 * 1024;

const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// The host's end of a connection. No call blocks.
pub(crate) trait Stream {
    /// Reads once; no bytes at the end.
    fn read(&mut self, into: &[VolatileSlice<'_>]) -> io::Result<usize>;
    /// Writes once.
    fn write(&mut self, from: &[VolatileSlice<'_>]) -> io::Result<usize>;
    /// The reader gets an end of file after what was written.
    fn end_writing(&mut self);
    /// The writer gets an error from now on.
    fn end_reading(&mut self);
}

/// What a packet to the guest says, apart from addresses and credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub op: Operation,
    pub flags: u32,
    /// Bytes of data already in place behind the header.
    pub len: u32,
}

impl Outgoing {
    /// A packet without flags and data.
    pub fn plain(op: Operation) -> Self {
        Self { op, flags: 0, len: 0 }
    }
}

/// See the module.
pub(crate) struct Connection<S> {
    stream: S,
    /// The stream may have bytes for the guest: true until it says otherwise.
    readable: bool,
    /// The stream may take bytes: likewise.
    writable: bool,
    /// Both directions of the stream are closed from the other side.
    hung_up: bool,
    /// Data of the guest the stream did not take yet.
    buffer: VecDeque<u8>,

    /// Our `fwd_cnt`, and the value the guest knows.
    forwarded: Wrapping<u32>,
    announced: Wrapping<u32>,
    /// Bytes of data sent to the guest.
    sent: Wrapping<u32>,
    peer_buf_alloc: u32,
    peer_fwd_cnt: Wrapping<u32>,

    owes_response: bool,
    owes_reset: bool,
    owes_credit_update: bool,
    /// CREDIT_REQUEST was sent and nothing came since.
    asked_for_credit: bool,

    /// Halves that are through, as SHUTDOWN flags: the guest's, ours, and ours as the guest knows.
    guest_shutdown: u32,
    host_shutdown: u32,
    announced_shutdown: u32,
    /// Nothing more will be sent or received.
    over: bool,
}

impl<S: Stream> Connection<S> {
    /// Accepts a REQUEST of the guest.
    pub fn accept(stream: S, request: &Header) -> Self {
        Self {
            stream,
            readable: true,
            writable: true,
            hung_up: false,
            buffer: VecDeque::new(),
            forwarded: Wrapping(0),
            announced: Wrapping(0),
            sent: Wrapping(0),
            peer_buf_alloc: request.buf_alloc,
            peer_fwd_cnt: Wrapping(request.fwd_cnt),
            owes_response: true,
            owes_reset: false,
            owes_credit_update: false,
            asked_for_credit: false,
            guest_shutdown: 0,
            host_shutdown: 0,
            announced_shutdown: 0,
            over: false,
        }
    }

    /// True when the connection can be forgotten.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Our `fwd_cnt`, as every packet has to carry it.
    pub fn fwd_cnt(&self) -> u32 {
        self.forwarded.0
    }

    /// Takes in a packet of the guest with its data.
    pub fn receive(&mut self, header: &Header, data: &Bytes<'_>) {
        self.peer_buf_alloc = header.buf_alloc;
        self.peer_fwd_cnt = Wrapping(header.fwd_cnt);
        self.asked_for_credit = false;
        match header.op {
            Operation::ReadWrite => self.receive_data(data),
            Operation::Shutdown => self.receive_shutdown(header.flags),
            Operation::CreditRequest => self.owes_credit_update = true,
            Operation::CreditUpdate => {}
            Operation::Reset => self.over = true,
            Operation::Request | Operation::Response | Operation::Unknown(_) => self.owes_reset = true,
        }
    }

    fn receive_data(&mut self, data: &Bytes<'_>) {
        let room = (BUFFER_BYTES as usize).saturating_sub(self.buffer.len());
        if data.len() > room || self.guest_shutdown & SHUTDOWN_SEND != 0 {
            self.owes_reset = true; // More than its credit, or after its last.
            return;
        }
        let mut rest = data.slices().to_vec();
        if self.buffer.is_empty() {
            self.write_out(&mut rest);
        }
        for slice in rest {
            self.keep(slice);
        }
    }

    /// Writes until the stream takes no more; leaves the rest.
    fn write_out(&mut self, rest: &mut Vec<VolatileSlice<'_>>) {
        while self.writable && !rest.is_empty() && self.host_shutdown & SHUTDOWN_RECEIVE == 0 {
            match self.stream.write(rest) {
                Ok(count) => {
                    iovec::advance(rest, count);
                    self.forward(count);
                }
                Err(error) => self.write_failed(&error),
            }
        }
        if self.host_shutdown & SHUTDOWN_RECEIVE != 0 {
            // Nobody will read it. The guest is told, and loses no credit over it.
            self.forward(rest.iter().map(VolatileSlice::len).sum());
            rest.clear();
        }
    }

    fn write_failed(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => self.writable = false,
            _ => self.host_shutdown |= SHUTDOWN_RECEIVE,
        }
    }

    fn forward(&mut self, count: usize) {
        self.forwarded += u32::try_from(count).expect("at most BUFFER_BYTES at once");
        if (self.forwarded - self.announced).0 >= UPDATE_BYTES {
            self.owes_credit_update = true;
        }
    }

    fn keep(&mut self, slice: VolatileSlice<'_>) {
        let start = self.buffer.len();
        self.buffer.resize(start + slice.len(), 0);
        let (first, second) = self.buffer.as_mut_slices();
        let in_second = start.saturating_sub(first.len());
        let in_first = start.min(first.len());
        let copied = slice.copy_to(&mut first[in_first..]);
        if let Ok(rest) = slice.offset(copied) {
            rest.copy_to(&mut second[in_second..]);
        }
    }

    fn receive_shutdown(&mut self, flags: u32) {
        self.guest_shutdown |= flags & BOTH;
        if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
            self.stream.end_reading();
        }
        self.close_when_flushed();
    }

    /// The guest has ended without a word: as if it had closed both halves.
    pub fn guest_gone(&mut self) {
        self.receive_shutdown(BOTH);
    }

    /// Whether the stream has yet to take data of the guest.
    pub fn has_unsent(&self) -> bool {
        !self.buffer.is_empty() && self.host_shutdown & SHUTDOWN_RECEIVE == 0
    }

    fn close_when_flushed(&mut self) {
        if self.buffer.is_empty() && self.guest_shutdown & SHUTDOWN_SEND != 0 {
            self.stream.end_writing();
            self.owes_reset |= self.guest_shutdown == BOTH;
        }
    }

    /// The stream may have become readable or writable, or was closed from the other side.
    pub fn stream_ready(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.writable |= writable || hung_up;
        self.hung_up |= hung_up;
        if self.hung_up && self.host_shutdown & SHUTDOWN_SEND != 0 {
            // Its end was read just before it turned out that nobody listens either.
            self.host_shutdown = BOTH;
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() || !self.writable {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let (first, second) = buffer.as_mut_slices();
        let mut rest = vec![VolatileSlice::from(first), VolatileSlice::from(second)];
        self.write_out(&mut rest);
        let left: usize = rest.iter().map(VolatileSlice::len).sum();
        buffer.drain(..buffer.len() - left);
        self.buffer = buffer;
        self.close_when_flushed();
    }

    /// True when [`next_packet`](Self::next_packet) may have one.
    pub fn wants_to_send(&self) -> bool {
        self.owes_response
            || self.owes_reset
            || self.owes_credit_update
            || self.host_shutdown != self.announced_shutdown
            || (self.readable && self.may_send() && (self.credit() > 0 || !self.asked_for_credit))
    }

    /// The next packet for the guest; its data, if any, was put into `room`.
    pub fn next_packet(&mut self, room: &mut Bytes<'_>) -> Option<Outgoing> {
        let packet = self.choose_packet(room)?;
        self.announced = self.forwarded;
        self.owes_credit_update = false;
        Some(packet)
    }

    fn choose_packet(&mut self, room: &mut Bytes<'_>) -> Option<Outgoing> {
        if std::mem::take(&mut self.owes_response) {
            return Some(Outgoing::plain(Operation::Response));
        }
        if self.owes_reset {
            self.over = true;
            return Some(Outgoing::plain(Operation::Reset));
        }
        if let Some(packet) = self.send_data(room) {
            return Some(packet);
        }
        if self.host_shutdown != self.announced_shutdown {
            self.announced_shutdown = self.host_shutdown;
            return Some(Outgoing { op: Operation::Shutdown, flags: self.host_shutdown, len: 0 });
        }
        self.owes_credit_update.then(|| Outgoing::plain(Operation::CreditUpdate))
    }

    fn may_send(&self) -> bool {
        self.guest_shutdown & SHUTDOWN_RECEIVE == 0 && self.host_shutdown & SHUTDOWN_SEND == 0
    }

    fn send_data(&mut self, room: &mut Bytes<'_>) -> Option<Outgoing> {
        if !self.readable || !self.may_send() {
            return None;
        }
        let credit = self.credit() as usize;
        if credit == 0 {
            let ask = !std::mem::replace(&mut self.asked_for_credit, true);
            return ask.then(|| Outgoing::plain(Operation::CreditRequest));
        }
        let count = room.len().min(credit).min(PACKET_BYTES_MAX);
        if count == 0 {
            // A buffer without room behind the header: use it up, the next may have some.
            return Some(Outgoing::plain(Operation::ReadWrite));
        }
        let read = self.read_stream(&room.split_to(count)?)?;
        self.sent += read;
        Some(Outgoing { op: Operation::ReadWrite, flags: 0, len: read })
    }

    /// Reads what there is into `target`; `None` when there is nothing (yet, or any more).
    fn read_stream(&mut self, target: &Bytes<'_>) -> Option<u32> {
        match self.stream.read(target.slices()) {
            Ok(0) => {
                self.host_shutdown |= if self.hung_up { BOTH } else { SHUTDOWN_SEND };
                None
            }
            Ok(count) => u32::try_from(count).ok(),
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => self.readable = false,
                    _ => self.host_shutdown |= BOTH,
                }
                None
            }
        }
    }

    /// Bytes the guest has room for. One that claims to have passed on what was never sent has none.
    fn credit(&self) -> u32 {
        let in_flight = (self.sent - self.peer_fwd_cnt).0;
        self.peer_buf_alloc.saturating_sub(in_flight)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
