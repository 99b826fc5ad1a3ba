//! Our own driver of the socket device (virtio 1.2 section 5.10), packet by packet.

use super::{Descriptor, Device, Location, Queue};
use crate::clock;
use crate::physical::Buffer;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a header, `struct virtio_vsock_hdr`.
pub const HEADER_BYTES: usize = 44;
/// Most data of one packet.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;

/// Addresses.
pub const HOST_CID: u64 = 2;
pub const GUEST_CID: u64 = 3;

/// `VIRTIO_VSOCK_TYPE_STREAM`
pub const STREAM: u16 = 1;

/// `enum virtio_vsock_op`
pub mod operation {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RESET: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const READ_WRITE: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of a shutdown: what its sender is through with.
pub const SHUTDOWN_RECEIVE: u32 = 1;
pub const SHUTDOWN_SEND: u32 = 2;

/// Queues by their index.
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const EVENT: u32 = 2;

const QUEUE_SIZE: u16 = 64;
const RECEIVE_BUFFERS: usize = 16;
const RECEIVE_BUFFER_BYTES: usize = 8192;

/// A packet's header. Field names are those of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Header {
    /// As it goes over the wire.
    pub fn build(&self) -> Vec<u8> {
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        fields.concat()
    }

    fn parse(wire: &[u8; HEADER_BYTES]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([wire[at], wire[at + 1]]);
        let u32_at = |at| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Self {
            src_cid: u64_at(0),
            dst_cid: u64_at(8),
            src_port: u32_at(16),
            dst_port: u32_at(20),
            len: u32_at(24),
            kind: u16_at(28),
            op: u16_at(30),
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
        }
    }
}

/// The device, with buffers waiting to be filled.
pub struct Socket {
    pub device: Device,
    receive: Queue,
    pub transmit: Queue,
    /// By the number of their first descriptor; only what can hold a packet.
    buffers: [Option<Buffer>; QUEUE_SIZE as usize],
    /// Where a packet is put together.
    outgoing: Buffer,
    /// The data of the packet received last.
    pub data: Vec<u8>,
}

impl Socket {
    /// Resets the device and sets it up.
    pub fn open(location: Location) -> Result<Self, String> {
        Self::open_with(location, &[])
    }

    /// As [`open`](Self::open), with chains to receive into that come before the good ones, and hold nothing.
    pub fn open_with(location: Location, bad: &[&[Descriptor]]) -> Result<Self, String> {
        let device = Device::prepare(location, 0)?;
        let mut receive = device.queue(RECEIVE, QUEUE_SIZE)?;
        let transmit = device.queue(TRANSMIT, QUEUE_SIZE)?;
        device.queue(EVENT, 8)?;
        let mut buffers = [None; QUEUE_SIZE as usize];
        bad.iter().for_each(|chain| _ = receive.offer(chain));
        for pieces in (1..=RECEIVE_BUFFERS).map(|number| if number == 1 { 3 } else { 1 }) {
            let buffer = Buffer::new(RECEIVE_BUFFER_BYTES);
            let chain: Vec<_> = cut_header(&buffer, pieces).collect();
            buffers[usize::from(receive.offer(&chain))] = Some(buffer);
        }
        device.start();
        device.notify(RECEIVE);
        let outgoing = Buffer::new(HEADER_BYTES + PACKET_BYTES_MAX);
        let data = Vec::with_capacity(RECEIVE_BUFFER_BYTES);
        Ok(Self { device, receive, transmit, buffers, outgoing, data })
    }

    /// Sends a packet cut into so many descriptors, and waits until the device has taken it.
    pub fn send(&mut self, header: &Header, data: &[u8], pieces: usize) -> Result<(), String> {
        self.outgoing.write(0, &header.build());
        self.outgoing.write(HEADER_BYTES, data);
        let packet = Buffer { bytes: HEADER_BYTES + data.len(), ..self.outgoing };
        let chain: Vec<_> = packet.cut(pieces).map(|(at, length)| Descriptor::readable(at, length)).collect();
        self.send_chain(&chain)
    }

    /// Sends what is no packet, perhaps.
    pub fn send_chain(&mut self, chain: &[Descriptor]) -> Result<(), String> {
        self.transmit.offer(chain);
        self.device.notify(TRANSMIT);
        self.transmit.wait_used().map(|_| ())
    }

    /// The next packet, if there is one; its data is in [`data`](Self::data).
    pub fn poll(&mut self) -> Option<Header> {
        let used = self.receive.take_used()?;
        let Some(buffer) = self.buffers[used.head as usize] else { return self.poll() };
        let mut wire = [0; HEADER_BYTES];
        buffer.read(0, &mut wire);
        let header = Header::parse(&wire);
        let length = (used.length as usize).saturating_sub(HEADER_BYTES).min(header.len as usize);
        self.data.resize(length, 0);
        buffer.read(HEADER_BYTES, &mut self.data);
        self.receive.put(used.head as u16, Descriptor::writable(buffer.address, buffer.bytes));
        self.receive.make_available(used.head as u16);
        self.device.notify(RECEIVE);
        Some(header)
    }

    /// Waits for the next packet.
    pub fn next(&mut self, what: &str) -> Result<Header, String> {
        clock::wait_for(what, || self.poll())
    }

    /// Nothing comes for a moment.
    pub fn is_silent(&mut self) -> Result<(), String> {
        clock::soon(|| self.poll()).map_or(Ok(()), |header| Err(format!("unasked: {header:?}")))
    }
}

/// A buffer in so many descriptors: all but the last are shorter than a header.
fn cut_header(buffer: &Buffer, pieces: usize) -> impl Iterator<Item = Descriptor> {
    let (start, bytes) = (buffer.address, buffer.bytes);
    (0..pieces).map(move |piece| {
        let from = 20 * piece;
        let to = if piece + 1 == pieces { bytes } else { from + 20 };
        Descriptor::writable(start + from as u64, to - from)
    })
}

/// One stream to the host.
pub struct Stream {
    pub socket: Socket,
    pub guest_port: u32,
    pub host_port: u32,
    /// Our buffer's size, and what of what came we have passed on.
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
    /// What we sent, and what the host has said of it.
    sent: u32,
    peer_buf_alloc: u32,
    peer_fwd_cnt: u32,
}

impl Stream {
    /// Connects to a port of the host, with a buffer of this size.
    pub fn connect(location: Location, host_port: u32, buf_alloc: u32) -> Result<Self, String> {
        Self::over(Socket::open(location)?, 5000, host_port, buf_alloc)
    }

    /// Connects over an open device.
    pub fn over(socket: Socket, guest_port: u32, host_port: u32, buf_alloc: u32) -> Result<Self, String> {
        let mut stream = Self {
            socket,
            guest_port,
            host_port,
            buf_alloc,
            fwd_cnt: 0,
            sent: 0,
            peer_buf_alloc: 0,
            peer_fwd_cnt: 0,
        };
        stream.say(operation::REQUEST, 0)?;
        stream.expect(operation::RESPONSE)?;
        Ok(stream)
    }

    /// A header for the host, without data.
    pub fn header(&self, op: u16, flags: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: self.guest_port,
            dst_port: self.host_port,
            len: 0,
            kind: STREAM,
            op,
            flags,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        }
    }

    /// Sends a packet without data.
    pub fn say(&mut self, op: u16, flags: u32) -> Result<(), String> {
        let header = self.header(op, flags);
        self.socket.send(&header, &[], 1)
    }

    /// Sends one packet of data, whether there is credit for it or not.
    pub fn send_packet(&mut self, data: &[u8], pieces: usize) -> Result<(), String> {
        let header = Header { len: data.len() as u32, ..self.header(operation::READ_WRITE, 0) };
        self.sent = self.sent.wrapping_add(header.len);
        self.socket.send(&header, data, pieces)
    }

    /// Bytes that the host has room for, as far as it has said.
    pub fn credit(&self) -> usize {
        let in_flight = self.sent.wrapping_sub(self.peer_fwd_cnt);
        self.peer_buf_alloc.saturating_sub(in_flight) as usize
    }

    /// The next packet, if there is one; it must belong to this stream.
    pub fn poll(&mut self) -> Result<Option<Header>, String> {
        let Some(header) = self.socket.poll() else { return Ok(None) };
        let ends = (header.src_cid, header.src_port, header.dst_cid, header.dst_port, header.kind);
        if ends != (HOST_CID, self.host_port, GUEST_CID, self.guest_port, STREAM) {
            return Err(format!("not ours: {header:?}"));
        }
        (self.peer_buf_alloc, self.peer_fwd_cnt) = (header.buf_alloc, header.fwd_cnt);
        Ok(Some(header))
    }

    /// Waits for a packet of this operation; credit may be spoken of before.
    pub fn expect(&mut self, op: u16) -> Result<Header, String> {
        self.expect_after(op, &[])
    }

    /// As [`expect`](Self::expect); packets of the operations in `before` may come before.
    fn expect_after(&mut self, op: u16, before: &[u16]) -> Result<Header, String> {
        let awaited = format!("operation {op}");
        loop {
            let header = clock::wait_for(&awaited, || self.poll().transpose())??;
            match header.op {
                found if found == op => return Ok(header),
                operation::CREDIT_UPDATE => {}
                found if before.contains(&found) => {}
                operation::CREDIT_REQUEST => self.say(operation::CREDIT_UPDATE, 0)?,
                _ => return Err(format!("instead of operation {op}: {header:?}")),
            }
        }
    }

    /// Waits for this data, in as many packets as it comes, and passes it on.
    pub fn expect_data(&mut self, expected: &[u8]) -> Result<(), String> {
        let mut rest = expected;
        while !rest.is_empty() {
            self.expect(operation::READ_WRITE)?;
            let came = &self.socket.data;
            rest = rest.strip_prefix(&came[..]).ok_or_else(|| format!("{came:?} instead of {rest:?}"))?;
            self.fwd_cnt = self.fwd_cnt.wrapping_add(came.len() as u32);
        }
        Ok(())
    }

    /// Both halves closed by us; the host agrees, which may be about to do the same.
    pub fn close(&mut self) -> Result<(), String> {
        self.say(operation::SHUTDOWN, SHUTDOWN_RECEIVE | SHUTDOWN_SEND)?;
        self.expect_after(operation::RESET, &[operation::SHUTDOWN]).map(|_| ())
    }
}
