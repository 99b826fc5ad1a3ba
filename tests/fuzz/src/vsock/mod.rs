//! Packets and credit: a guest, the device, and programs of the host behind its streams.
//!
//! A [`script`] says what guest and host do. After each step the guest takes what the device put into its buffers;
//! [`peer`] says what must hold. At the end both sides read all there is, and then nobody may wait for anything: no
//! byte is missing, every end is known, the device does not want to be woken. After a reset it is as new.

mod packet;
mod peer;
pub mod script;

use crate::board::{BUFFERS, Board, Descriptor, NEXT, WRITE};
use kiln_devices::{Listener, Vsock};
use packet::*;
use peer::Peer;
use rustix::event::{PollFd, PollFlags, poll};
use script::{Close, Oddity, Step, UNHEARD};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;

/// Packets under way in either direction, each with as many descriptors of its own.
const SLOTS: u16 = 4;
const PIECES_MAX: u16 = 8;
/// Most data of one packet of the guest: more than Linux sends.
const DATA_BYTES_MAX: u32 = 0x1_8000;
/// Most bytes of one buffer to receive into: a packet of Linux and its header fit.
const BUFFER_BYTES_MAX: u32 = 0x1_1000;
const SLOT_BYTES: u64 = 0x2_0000;
const MEMORY_BYTES: usize = BUFFERS as usize + 2 * SLOTS as usize * SLOT_BYTES as usize;

/// Where somebody listens.
const PORT: u32 = 1024;
/// The guest's port of connection 0.
const GUEST_PORT: u32 = 5000;
/// What a guest has room for if it does not say otherwise: as Linux.
const WINDOW_BYTES: u32 = 256 * 1024;
/// As many connections as the device takes.
const CONNECTIONS_MAX: usize = 64;
/// After this many rounds in which everybody reads, nothing can be left.
const ROUNDS_MAX: usize = 1000;

/// Plays an input.
pub fn play(input: &[u8]) {
    let mut bench = Bench::new();
    script::parse(input).for_each(|step| bench.take(step));
    bench.settle();
    bench.restart();
    bench.check_new();
}

struct OnePort(Sender<UnixStream>);

impl Listener for OnePort {
    fn connect(&mut self, port: u32) -> Option<UnixStream> {
        let (guest, host) = UnixStream::pair().ok()?;
        (port == PORT && self.0.send(host).is_ok()).then_some(guest)
    }
}

struct Bench {
    board: Board,
    arrivals: Receiver<UnixStream>,
    peers: BTreeMap<u8, Peer>,
    /// Refusals that each connection may still get.
    refusals: BTreeMap<u8, usize>,
    /// Which slots are with the device: receive, transmit.
    busy: [[bool; SLOTS as usize]; 2],
}

impl Bench {
    fn new() -> Self {
        let (arrive, arrivals) = mpsc::channel();
        let device = Vsock::new(Box::new(OnePort(arrive))).expect("an epoll instance");
        let mut board = Board::new(Box::new(device), MEMORY_BYTES);
        board.restart();
        Self { board, arrivals, peers: BTreeMap::new(), refusals: BTreeMap::new(), busy: Default::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Packet { connection, op, flags, length, pieces, oddity, kick } => {
                let header = self.header(connection, op.into(), flags.into(), length % DATA_BYTES_MAX);
                self.send(connection, header, pieces, oddity, kick);
            }
            Step::Window { connection, buf_alloc, ahead } => {
                if let Some(peer) = self.peers.get_mut(&connection) {
                    (peer.buf_alloc, peer.ahead) = (buf_alloc, ahead);
                }
            }
            Step::GuestRead { connection, length } => {
                self.with(connection, |peer| peer.guest_reads(length.into()))
            }
            Step::Buffers { count, pieces, length } => {
                (0..count.min(SLOTS as u8)).for_each(|_| self.offer(length % BUFFER_BYTES_MAX, pieces));
            }
            Step::HostWrite { connection, length } => {
                self.with(connection, |peer| peer.host_writes((length % DATA_BYTES_MAX) as usize));
            }
            Step::HostRead { connection, length } => {
                self.with(connection, |peer| _ = peer.host_reads((length % DATA_BYTES_MAX) as usize));
            }
            Step::HostClose { connection, how } => self.with(connection, |peer| close(peer, how)),
            Step::Work => self.work(),
            Step::Restart => self.restart(),
        }
    }

    fn with(&mut self, connection: u8, act: impl FnOnce(&mut Peer)) {
        self.peers.get_mut(&connection).map(act).unwrap_or_default();
    }

    /// A packet of the guest as it should be.
    fn header(&self, connection: u8, op: u16, flags: u32, len: u32) -> Header {
        let (buf_alloc, fwd_cnt) = match self.peers.get(&connection) {
            Some(peer) if peer.open => peer.next_window(),
            _ => (WINDOW_BYTES, 0),
        };
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: GUEST_PORT + u32::from(connection),
            dst_port: if connection < UNHEARD { PORT } else { PORT + 1 },
            len,
            kind: TYPE_STREAM,
            op,
            flags,
            buf_alloc,
            fwd_cnt,
        }
    }

    /// Sends a packet of the guest.
    fn send(&mut self, connection: u8, mut header: Header, pieces: u8, oddity: Oddity, kick: bool) {
        // Who connected is known by when they did.
        let kick = kick || header.op == REQUEST;
        if header.op == REQUEST || !self.busy[TRANSMIT as usize].contains(&false) {
            self.kick(TRANSMIT);
        }
        let from = self.peers.get(&connection).map_or(0, |peer| peer.sent);
        let data = peer::pattern(connection, peer::GUEST, from, header.len as usize);
        mar(&mut header, oddity);
        let mut bytes = [header.build(), data].concat();
        if oddity == Oddity::Cut {
            bytes.truncate(HEADER_BYTES - 1);
        }
        self.put(&bytes, pieces);
        let arrives = matches!(oddity, Oddity::None | Oddity::Shorter);
        let known = self.peers.get_mut(&connection).filter(|peer| peer.open);
        match known {
            Some(peer) if arrives => peer.guest_sends(&header),
            None if arrives && header.op == REQUEST => return self.connect(connection, &header),
            None if arrives && header.op != RESET => self.expect_refusal(connection),
            _ if oddity == Oddity::Type && header.op != RESET => self.expect_refusal(connection),
            _ => {}
        }
        if kick {
            self.kick(TRANSMIT);
        }
    }

    /// Gives the device a packet in a slot that is free.
    fn put(&mut self, bytes: &[u8], pieces: u8) {
        let slot = self.free_slot(TRANSMIT).expect("the device takes packets at once");
        let address = slot_address(TRANSMIT, slot);
        self.board.write(address, bytes);
        let length = u32::try_from(bytes.len()).expect("a packet is small");
        self.describe(TRANSMIT, slot, length, pieces);
    }

    fn free_slot(&self, queue: u32) -> Option<u16> {
        (0..SLOTS).find(|slot| !self.busy[queue as usize][usize::from(*slot)])
    }

    /// Makes a slot's bytes available, cut in pieces.
    fn describe(&mut self, queue: u32, slot: u16, length: u32, pieces: u8) {
        let count = 1 + u32::from(pieces) % u32::from(PIECES_MAX);
        let (mut addr, mut rest) = (slot_address(queue, slot), length);
        let write = if queue == RECEIVE { WRITE } else { 0 };
        for (index, left) in (slot * PIECES_MAX..).zip((1..=count).rev()) {
            // The first pieces are small, so that they cut the header.
            let len = if left == 1 { rest } else { (rest / left).min(13) };
            let flags = write | if left == 1 { 0 } else { NEXT };
            self.board.describe(queue, index, Descriptor { addr, len, flags, next: index + 1 });
            (addr, rest) = (addr + u64::from(len), rest - len);
        }
        self.busy[queue as usize][usize::from(slot)] = true;
        self.board.make_available(queue, slot * PIECES_MAX);
    }

    /// The guest's request, which the device sees now.
    fn connect(&mut self, connection: u8, header: &Header) {
        let full = self.connections() >= CONNECTIONS_MAX;
        // Before the device answers, so that its answer finds the connection.
        let (sender, stand_in) = UnixStream::pair().expect("sockets");
        drop(sender);
        let heard = connection < UNHEARD && !full;
        if heard {
            self.peers
                .insert(connection, Peer::new(connection, stand_in, (header.buf_alloc, header.fwd_cnt)));
        } else {
            self.expect_refusal(connection);
        }
        self.kick(TRANSMIT);
        let host = self.arrivals.try_recv().ok();
        assert_eq!(host.is_some(), heard, "who listens is asked, and nobody else");
        if let Some(peer) = self.peers.get_mut(&connection).filter(|_| heard) {
            peer.host = host;
        }
    }

    fn connections(&self) -> usize {
        self.peers.values().filter(|peer| peer.open).count()
    }

    fn expect_refusal(&mut self, connection: u8) {
        *self.refusals.entry(connection).or_default() += 1;
    }

    /// Offers a buffer to receive into, if there is one.
    fn offer(&mut self, length: u32, pieces: u8) {
        if let Some(slot) = self.free_slot(RECEIVE) {
            self.describe(RECEIVE, slot, length, pieces);
            self.kick(RECEIVE);
        }
    }

    fn kick(&mut self, queue: u32) {
        self.board.kick(queue);
        self.collect();
    }

    fn work(&mut self) {
        self.board.transport.work(&self.board.memory);
        self.collect();
    }

    /// Takes back what the device is through with.
    fn collect(&mut self) {
        assert!(!self.board.needs_reset(), "the rings are as they should be");
        while let Some((head, length)) = self.board.used(TRANSMIT) {
            assert_eq!(length, 0, "nothing can be written into a packet");
            self.free(TRANSMIT, head);
        }
        assert!(!self.busy[TRANSMIT as usize].contains(&true), "a packet left lying");
        while let Some((head, length)) = self.board.used(RECEIVE) {
            let slot = self.free(RECEIVE, head);
            let bytes = self.board.read(slot_address(RECEIVE, slot), length as usize);
            self.receive(&bytes);
        }
    }

    fn free(&mut self, queue: u32, head: u32) -> u16 {
        let slot = u16::try_from(head).expect("a descriptor's index") / PIECES_MAX;
        assert!(std::mem::take(&mut self.busy[queue as usize][usize::from(slot)]), "used twice");
        slot
    }

    /// The guest looks at what came in a buffer. Nothing, when that was too small for a header.
    fn receive(&mut self, bytes: &[u8]) {
        let Some((header, data)) = bytes.split_first_chunk() else {
            assert!(bytes.is_empty());
            return;
        };
        let header = Header::parse(header);
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, GUEST_CID));
        assert_eq!(header.len as usize, data.len());
        let connection = u8::try_from(header.dst_port - GUEST_PORT).expect("a port of the guest");
        assert_eq!(header.src_port, if connection < UNHEARD { PORT } else { PORT + 1 });
        if header.buf_alloc == 0 {
            assert_eq!((header.op, data), (RESET, &[][..]));
            let expected = self.refusals.get_mut(&connection).expect("a refusal of something");
            *expected = expected.checked_sub(1).expect("refused once");
        } else {
            assert_eq!(header.kind, TYPE_STREAM);
            self.peers.get_mut(&connection).expect("it was opened").guest_receives(&header, data);
        }
    }

    /// Both sides read until there is nothing left.
    fn settle(&mut self) {
        self.kick(TRANSMIT);
        for peer in self.peers.values_mut() {
            (peer.buf_alloc, peer.ahead) = (WINDOW_BYTES, 0);
        }
        let rounds = (0..ROUNDS_MAX).take_while(|_| self.settle_a_little()).count();
        assert!(rounds < ROUNDS_MAX, "it never ends");
        self.peers.values_mut().for_each(Peer::check_settled);
        self.check_wake();
    }

    /// Whether anything happened.
    fn settle_a_little(&mut self) -> bool {
        let mut heard = 0;
        for peer in self.peers.values_mut() {
            peer.guest_reads(u64::MAX);
            heard += peer.host_reads_all();
        }
        let owing: Vec<u8> =
            self.peers.iter().filter(|(_, peer)| peer.owes_window()).map(|(number, _)| *number).collect();
        for connection in &owing {
            let header = self.header(*connection, CREDIT_UPDATE, 0, 0);
            self.send(*connection, header, 0, Oddity::None, true);
        }
        let free = self.busy[RECEIVE as usize].iter().filter(|busy| !**busy).count();
        (0..free).for_each(|_| self.offer(BUFFER_BYTES_MAX, 0));
        self.work();
        heard > 0 || !owing.is_empty() || self.busy[RECEIVE as usize].contains(&false)
    }

    /// A device that has nothing to do lets everybody sleep.
    fn check_wake(&self) {
        let wake = self.board.transport.wake().expect("a descriptor").expect("sockets wake it");
        let mut polled = [PollFd::new(&wake, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&now)).expect("it polls"), 0, "awake for nothing");
    }

    fn restart(&mut self) {
        self.board.restart();
        self.busy = Default::default();
        self.refusals.clear();
        // The streams of the host have ended, too.
        for (_, mut peer) in std::mem::take(&mut self.peers) {
            peer.open = false;
            peer.host_reads_all();
            peer.host_writes(1);
        }
    }

    /// The device does as one that nobody has used.
    fn check_new(&mut self) {
        self.take(Step::Buffers { count: 2, pieces: 0, length: 4096 });
        let request = self.header(0, REQUEST, 0, 0);
        self.send(0, request, 0, Oddity::None, true);
        let data = self.header(0, READ_WRITE, 0, 5);
        self.send(0, data, 0, Oddity::None, true);
        self.with(0, |peer| peer.host_writes(5));
        self.work();
        self.settle();
        assert!(self.peers[&0].open);
    }
}

fn slot_address(queue: u32, slot: u16) -> u64 {
    BUFFERS + (u64::from(queue) * u64::from(SLOTS) + u64::from(slot)) * SLOT_BYTES
}

fn mar(header: &mut Header, oddity: Oddity) {
    match oddity {
        Oddity::None | Oddity::Cut => {}
        Oddity::Source => header.src_cid += 1,
        Oddity::Destination => header.dst_cid -= 1,
        Oddity::Type => header.kind += 1,
        Oddity::Longer => header.len += 1,
        Oddity::Shorter => header.len = 0,
    }
}

fn close(peer: &mut Peer, how: Close) {
    let (halves, shutdown) = match how {
        Close::Write => (SHUTDOWN_SEND, Some(Shutdown::Write)),
        Close::Read => (SHUTDOWN_RECEIVE, Some(Shutdown::Read)),
        Close::Leave => (BOTH, None),
    };
    peer.host_closes(halves);
    match shutdown {
        Some(half) => peer.host.as_ref().map_or(Ok(()), |host| host.shutdown(half)).unwrap_or_default(),
        None => peer.host = None,
    }
}

#[cfg(test)]
mod tests;
