//! One connection as both of its ends see it, and what the device between them owes to each.

use super::packet::*;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

/// What the device says that it can hold of a connection.
const DEVICE_BUF_ALLOC: u32 = 1 << 20;
/// It tells how far it is when that is this much more than the guest knows.
const UPDATE_BYTES: u64 = DEVICE_BUF_ALLOC as u64 / 4;

/// See the module.
#[derive(Debug)]
pub struct Peer {
    number: u8,
    /// The host's end, until the host leaves.
    pub host: Option<UnixStream>,
    /// Neither side has reset the connection.
    pub open: bool,
    responded: bool,
    /// The guest broke a rule, so the connection may be reset at any time, and what the host hears does not matter.
    guilty: bool,

    /// Bytes that the guest sent, and the host read.
    pub sent: u64,
    heard: u64,
    /// The device's `fwd_cnt` as last told.
    forwarded: u64,
    guest_shutdown: u32,

    /// Bytes that the host wrote, the guest received, and passed on.
    written: u64,
    received: u64,
    passed_on: u64,
    host_shutdown: u32,
    host_closed: u32,

    /// What the guest says next of its window, and what it said last.
    pub buf_alloc: u32,
    pub ahead: u32,
    window: (u32, u32),
}

impl Peer {
    /// A connection that the host has accepted.
    pub fn new(number: u8, host: UnixStream, (buf_alloc, ahead): (u32, u32)) -> Self {
        Self {
            number,
            host: Some(host),
            open: true,
            responded: false,
            guilty: false,
            sent: 0,
            heard: 0,
            forwarded: 0,
            guest_shutdown: 0,
            written: 0,
            received: 0,
            passed_on: 0,
            host_shutdown: 0,
            host_closed: 0,
            buf_alloc,
            ahead,
            window: (buf_alloc, ahead),
        }
    }

    /// What the guest's next packet says of its window: `buf_alloc`, `fwd_cnt`.
    pub fn next_window(&self) -> (u32, u32) {
        (self.buf_alloc, (self.passed_on as u32).wrapping_add(self.ahead))
    }

    /// The guest sends a packet that reaches the connection.
    pub fn guest_sends(&mut self, header: &Header) {
        self.window = (header.buf_alloc, header.fwd_cnt);
        match header.op {
            READ_WRITE => self.guest_sends_data(header.len.into()),
            SHUTDOWN => self.guest_shutdown |= header.flags & BOTH,
            RESET => self.open = false,
            CREDIT_UPDATE | CREDIT_REQUEST => {}
            _ => self.guilty = true,
        }
    }

    fn guest_sends_data(&mut self, length: u64) {
        let within = self.sent - self.forwarded + length <= DEVICE_BUF_ALLOC.into();
        self.guilty |= !within || self.guest_shutdown & SHUTDOWN_SEND != 0;
        // The host may not get what a guilty guest sent; then the rest is not looked at.
        self.sent += length;
    }

    /// The guest receives a packet of the connection.
    pub fn guest_receives(&mut self, header: &Header, data: &[u8]) {
        assert!(self.open, "a packet of a connection that is no more: {header:?}");
        assert_eq!(header.buf_alloc, DEVICE_BUF_ALLOC);
        assert!(header.op == READ_WRITE || data.is_empty(), "data in {header:?}");
        assert_eq!(self.responded, header.op != RESPONSE, "one response, and first: {header:?}");
        self.check_forwarded(header.fwd_cnt.into());
        match header.op {
            RESPONSE => self.responded = true,
            READ_WRITE => self.receive_data(data),
            SHUTDOWN => {
                assert!(header.flags & !BOTH == 0 && header.flags & !self.host_shutdown != 0, "{header:?}");
                self.host_shutdown |= header.flags;
            }
            RESET => {
                let done = self.guest_shutdown == BOTH && self.forwarded == self.sent;
                assert!(self.guilty || done, "reset without a reason: {self:?}");
                self.open = false;
            }
            CREDIT_REQUEST => assert_eq!(self.credit(), 0, "asks for what it has"),
            CREDIT_UPDATE => {}
            _ => panic!("no packet of a connection: {header:?}"),
        }
    }

    fn check_forwarded(&mut self, fwd_cnt: u64) {
        assert!(fwd_cnt >= self.forwarded, "{fwd_cnt} forwarded, after {}", self.forwarded);
        assert!(fwd_cnt <= self.sent, "{fwd_cnt} forwarded of {}", self.sent);
        self.forwarded = fwd_cnt;
    }

    fn receive_data(&mut self, data: &[u8]) {
        assert!(data.len() <= self.credit() as usize, "{} bytes, {} of credit", data.len(), self.credit());
        assert_eq!(self.guest_shutdown & SHUTDOWN_RECEIVE, 0, "data for a guest that receives no more");
        assert_eq!(self.host_shutdown & SHUTDOWN_SEND, 0, "data after the last");
        assert!(is_pattern(data, self.number, HOST, self.received), "not what the host wrote");
        self.received += data.len() as u64;
        assert!(self.received <= self.written);
    }

    /// What the device may send, by what the guest said last.
    fn credit(&self) -> u32 {
        let (buf_alloc, fwd_cnt) = self.window;
        buf_alloc.saturating_sub((self.received as u32).wrapping_sub(fwd_cnt))
    }

    pub fn guest_reads(&mut self, length: u64) {
        self.passed_on = self.received.min(self.passed_on.saturating_add(length));
    }

    /// The host writes as much as the stream takes.
    pub fn host_writes(&mut self, length: usize) {
        let Some(host) = &self.host else { return };
        let bytes = pattern(self.number, HOST, self.written, length);
        match send(host, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => self.written += count as u64,
            Err(Errno::AGAIN) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => {
                let deaf = !self.open || self.guest_shutdown & SHUTDOWN_RECEIVE != 0;
                assert!(
                    self.guilty || deaf || self.host_closed & SHUTDOWN_SEND != 0,
                    "nobody reads: {self:?}"
                );
            }
            Err(error) => panic!("a socket fails: {error}"),
        }
    }

    /// The host reads; gives the number of bytes.
    pub fn host_reads(&mut self, length: usize) -> usize {
        let Some(host) = self.host.as_ref().filter(|_| length > 0) else { return 0 };
        let mut bytes = vec![0; length];
        match recv(host, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                self.check_end();
                0
            }
            Ok((_, count)) => {
                self.host_heard(&bytes[..count]);
                count
            }
            Err(Errno::AGAIN | Errno::CONNRESET) => 0,
            Err(error) => panic!("a socket fails: {error}"),
        }
    }

    /// The host reads all there is; gives the number of bytes.
    pub fn host_reads_all(&mut self) -> usize {
        const AT_ONCE: usize = 16 * 1024;
        std::iter::repeat_with(|| self.host_reads(AT_ONCE)).take_while(|count| *count > 0).sum()
    }

    fn host_heard(&mut self, bytes: &[u8]) {
        if !self.guilty {
            assert!(is_pattern(bytes, self.number, GUEST, self.heard), "not what the guest sent");
            assert!(self.heard + bytes.len() as u64 <= self.sent);
        }
        self.heard += bytes.len() as u64;
    }

    fn check_end(&self) {
        if self.guilty || !self.open || self.host_closed & SHUTDOWN_RECEIVE != 0 {
            return;
        }
        assert!(self.guest_shutdown & SHUTDOWN_SEND != 0, "an end that nobody made: {self:?}");
        assert_eq!(self.heard, self.sent, "an end before the last byte");
    }

    pub fn host_closes(&mut self, halves: u32) {
        self.host_closed |= halves;
    }

    /// Whether the guest should say how its window is now.
    pub fn owes_window(&self) -> bool {
        self.open && self.window != self.next_window()
    }

    /// When everybody did all they could: nothing is left over and nobody waits for ever.
    pub fn check_settled(&mut self) {
        if !self.open || self.guilty {
            return;
        }
        assert!(self.responded, "no answer: {self:?}");
        assert_ne!(self.guest_shutdown, BOTH, "not closed: {self:?}");
        if self.host_closed & SHUTDOWN_RECEIVE == 0 {
            assert_eq!(self.heard, self.sent, "the host lacks bytes: {self:?}");
        }
        assert!(self.sent - self.forwarded < UPDATE_BYTES, "the guest is not told of its credit: {self:?}");
        if self.host.is_some() && self.guest_shutdown & SHUTDOWN_RECEIVE == 0 {
            assert_eq!(self.received, self.written, "the guest lacks bytes: {self:?}");
            let ended = self.host_closed & SHUTDOWN_SEND != 0;
            assert_eq!(self.host_shutdown & SHUTDOWN_SEND != 0, ended, "the host's end: {self:?}");
        }
        if self.host.is_none() && self.guest_shutdown == 0 {
            assert_eq!(self.host_shutdown, BOTH, "the guest does not know that the host left: {self:?}");
        }
    }
}

/// Whose stream.
pub const GUEST: u8 = 0;
pub const HOST: u8 = 0x55;

/// What streams repeat: a prime, so that no packet size hides a shift.
const PERIOD: usize = 65_521;

/// The `length` bytes of a connection's stream from `from` on.
pub fn pattern(number: u8, side: u8, from: u64, length: usize) -> Vec<u8> {
    pieces(number, side, from, length).collect::<Vec<_>>().concat()
}

fn is_pattern(bytes: &[u8], number: u8, side: u8, from: u64) -> bool {
    let mut rest = bytes;
    pieces(number, side, from, bytes.len()).all(|piece| {
        let (front, behind) = rest.split_at(piece.len());
        rest = behind;
        front == piece
    })
}

/// Slices of one table, as comparing byte by byte would take most of the time.
fn pieces(number: u8, side: u8, from: u64, length: usize) -> impl Iterator<Item = &'static [u8]> {
    static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..PERIOD as u32).map(noise).collect());
    let start = (from as usize + usize::from(number) * 251 + usize::from(side) * 7) % PERIOD;
    let (mut at, mut left) = (start, length);
    std::iter::from_fn(move || {
        let piece = &TABLE[at..PERIOD.min(at + left)];
        (at, left) = (0, left - piece.len());
        (!piece.is_empty()).then_some(piece)
    })
}

fn noise(at: u32) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 24) as u8
}
