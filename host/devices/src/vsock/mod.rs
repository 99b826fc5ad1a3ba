//! virtio-vsock: streams between guest and host (virtio 1.2 section 5.10).
//!
//! In layers: [`packet`] reads and writes headers, [`connection`] is the state of one stream over
//! anything that can be read and written, and this module finds the connection for a packet.

mod connection;
mod packet;

use crate::chain::{Bytes, Chain};
use crate::{Device, GuestMemoryMmap, RING_FEATURES, Ring, iovec};
use connection::{BUFFER_BYTES, Connection, Outgoing, Stream};
use packet::{HEADER_BYTES, Header, Operation, TYPE_STREAM};
use rustix::event::epoll;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vm_memory::VolatileSlice;

/// Our address, `VMADDR_CID_HOST`.
const HOST_CID: u64 = 2;
/// The guest's address, the first one that is not reserved.
const GUEST_CID: u64 = 3;

/// Most connections at a time; more are refused. Each has a file descriptor and a buffer.
const CONNECTIONS_MAX: usize = 64;
/// Most refusals waiting to be sent; more are dropped.
const REFUSALS_MAX: usize = 256;
/// Packets of the guest taken in before it gets answers.
const BATCH_PACKETS: usize = 16;

/// Who waits for the guest to connect.
pub trait Listener: Send {
    /// The guest connects to `port`: gives our end of a stream to whoever listens there, which
    /// must not block; `None` refuses.
    fn connect(&mut self, port: u32) -> Option<UnixStream>;
}

/// The ports of a connection: the guest's, the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    guest_port: u32,
    host_port: u32,
}

/// The socket device.
pub struct Vsock {
    config: [u8; size_of::<u64>()],
    listener: Box<dyn Listener>,
    poller: OwnedFd,
    connections: HashMap<Key, Connection<HostEnd>>,
    /// Connections that may have a packet for the guest, each once.
    ready: VecDeque<Key>,
    /// Packets that belong to no connection.
    refusals: VecDeque<Header>,
}

impl Vsock {
    /// A device for the guest, whose address (CID) is 3.
    ///
    /// # Errors
    /// When the kernel has no epoll instance for us.
    pub fn new(listener: Box<dyn Listener>) -> io::Result<Self> {
        Ok(Self {
            config: GUEST_CID.to_le_bytes(),
            listener,
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: HashMap::new(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
        })
    }

    /// Learns which streams became ready. They are watched edge by edge, so nothing is asked twice.
    fn poll_streams(&mut self) {
        use epoll::EventFlags;
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.poller, &mut events, Some(&now)).unwrap_or(0);
        for event in &events[..count] {
            let (key, flags) = (Key::from_u64(event.data.u64()), event.flags);
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.stream_ready(
                    flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                    flags.contains(EventFlags::OUT),
                    flags.intersects(EventFlags::HUP | EventFlags::ERR),
                );
                self.mark_ready(key);
            }
        }
    }

    /// Takes in packets of the guest, at most a batch; gives their number.
    fn transmit(&mut self, memory: &GuestMemoryMmap, ring: &mut Ring<'_>) -> usize {
        for count in 0..BATCH_PACKETS {
            let Some(mut chain) = ring.pop(memory) else { return count };
            self.receive(&mut chain.readable);
            ring.complete(memory, chain.head, 0);
        }
        BATCH_PACKETS
    }

    /// Takes in one packet. What is no packet for us is dropped.
    fn receive(&mut self, packet: &mut Bytes<'_>) {
        let Some(header) = Header::take(packet) else { return };
        if header.src_cid != GUEST_CID || header.dst_cid != HOST_CID {
            return;
        }
        let Some(data) = packet.split_to(header.len as usize) else { return };
        if header.kind != TYPE_STREAM {
            self.refuse(&header);
            return;
        }
        let key = Key { guest_port: header.src_port, host_port: header.dst_port };
        match self.connections.get_mut(&key) {
            Some(connection) => {
                connection.receive(&header, &data);
                self.mark_ready(key);
            }
            None if header.op == Operation::Request => self.connect(key, &header),
            None => self.refuse(&header),
        }
    }

    fn connect(&mut self, key: Key, request: &Header) {
        let accepted = self.connections.len() < CONNECTIONS_MAX;
        let stream = accepted.then(|| self.listener.connect(key.host_port)).flatten();
        match stream.and_then(|stream| self.watch(key, stream).ok()) {
            Some(stream) => {
                self.connections.insert(key, Connection::accept(stream, request));
                self.mark_ready(key);
            }
            None => self.refuse(request),
        }
    }

    fn watch(&self, key: Key, stream: UnixStream) -> io::Result<HostEnd> {
        use epoll::EventFlags;
        stream.set_nonblocking(true)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poller, &stream, epoll::EventData::new_u64(key.to_u64()), flags)?;
        Ok(HostEnd(stream))
    }

    /// Answers with RST, unless that is what was said.
    fn refuse(&mut self, header: &Header) {
        if header.op != Operation::Reset && self.refusals.len() < REFUSALS_MAX {
            self.refusals.push_back(Header {
                src_cid: header.dst_cid,
                dst_cid: header.src_cid,
                src_port: header.dst_port,
                dst_port: header.src_port,
                len: 0,
                op: Operation::Reset,
                flags: 0,
                buf_alloc: 0,
                fwd_cnt: 0,
                kind: header.kind,
            });
        }
    }

    fn mark_ready(&mut self, key: Key) {
        let Some(connection) = self.connections.get(&key) else { return };
        if connection.is_over() {
            self.connections.remove(&key);
        } else if connection.wants_to_send() && !self.ready.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Sends what there is to be sent into the guest's buffers. True when it ran out of them.
    fn deliver(&mut self, memory: &GuestMemoryMmap, ring: &mut Ring<'_>) -> bool {
        while !self.refusals.is_empty() || !self.ready.is_empty() {
            let Some(mut chain) = ring.pop(memory) else { return true };
            match self.fill(&mut chain) {
                Some(written) => ring.complete(memory, chain.head, written),
                None => ring.unpop(),
            }
        }
        false
    }

    /// Puts the next packet into the guest's buffer, if there is one after all.
    fn fill(&mut self, chain: &mut Chain<'_>) -> Option<u32> {
        let Some(front) = chain.writable.split_to(HEADER_BYTES) else { return Some(0) };
        let header = match self.refusals.pop_front() {
            Some(refusal) => refusal,
            None => self.next_packet(&mut chain.writable)?,
        };
        front.copy_from(&header.build());
        u32::try_from(HEADER_BYTES).ok()?.checked_add(header.len)
    }

    /// The next packet of the next connection, which then waits for its next turn.
    fn next_packet(&mut self, room: &mut Bytes<'_>) -> Option<Header> {
        let key = self.ready.pop_front()?;
        let connection = self.connections.get_mut(&key)?;
        let packet = connection.next_packet(room);
        let header = packet.map(|packet| key.header(packet, connection.fwd_cnt()));
        self.mark_ready(key);
        header
    }
}

impl Device for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256, 64]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn accept_features(&mut self, _features: u64) {}

    fn config(&self) -> &[u8] {
        &self.config
    }

    /// Rings: receive (the guest receives), transmit, and events, of which we have none.
    fn process(&mut self, memory: &GuestMemoryMmap, rings: &mut [Ring<'_>]) {
        let [receive, transmit, ..] = rings else { return };
        loop {
            transmit.disable_kicks(memory);
            receive.disable_kicks(memory);
            self.poll_streams();
            let taken = self.transmit(memory, transmit);
            let starved = self.deliver(memory, receive);
            transmit.notify(memory);
            receive.notify(memory);
            let more_packets = taken == BATCH_PACKETS || transmit.enable_kicks(memory);
            let more_buffers = starved && receive.enable_kicks(memory);
            if !more_packets && !more_buffers {
                break;
            }
        }
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.as_fd())
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.ready.clear();
        self.refusals.clear();
    }

    fn driver_gone(&mut self) {
        self.connections.values_mut().for_each(Connection::guest_gone);
    }

    fn has_unsent(&self) -> bool {
        self.connections.values().any(Connection::has_unsent)
    }
}

impl Key {
    fn to_u64(self) -> u64 {
        u64::from(self.guest_port) << 32 | u64::from(self.host_port)
    }

    fn from_u64(value: u64) -> Self {
        let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).expect("masked");
        Self { guest_port: half(value >> 32), host_port: half(value) }
    }

    fn header(self, packet: Outgoing, fwd_cnt: u32) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: GUEST_CID,
            src_port: self.host_port,
            dst_port: self.guest_port,
            len: packet.len,
            kind: TYPE_STREAM,
            op: packet.op,
            flags: packet.flags,
            buf_alloc: BUFFER_BYTES,
            fwd_cnt,
        }
    }
}

/// Our end of a stream to the consumer.
struct HostEnd(UnixStream);

impl Stream for HostEnd {
    fn read(&mut self, into: &[VolatileSlice<'_>]) -> io::Result<usize> {
        iovec::readv(self.0.as_fd(), into)
    }

    fn write(&mut self, from: &[VolatileSlice<'_>]) -> io::Result<usize> {
        iovec::send(self.0.as_fd(), from)
    }

    fn end_writing(&mut self) {
        // It fails only when the other side is gone, which is as well.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    fn end_reading(&mut self) {
        let _ = self.0.shutdown(Shutdown::Read);
    }
}

#[cfg(test)]
mod tests;
