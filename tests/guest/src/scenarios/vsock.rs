//! Streams to the host, which plays its part on the other side: the host's tests say how.

use super::{Machine, Outcome, Scenario, check};
use crate::physical::Buffer;
use crate::virtio::socket::{
    GUEST_CID, HEADER_BYTES, HOST_CID, Header, PACKET_BYTES_MAX, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, STREAM,
    Socket, Stream, operation,
};
use crate::virtio::{self, Descriptor, Memory, transport};
use crate::{clock, println};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use virtio_drivers::device::socket::{VirtIOSocket, VsockAddr, VsockConnectionManager, VsockEventType};

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("vsock_ordinary", ordinary),
    ("vsock_refused", refused),
    ("vsock_send_past_credit", send_past_credit),
    ("vsock_receive_past_credit", receive_past_credit),
    ("vsock_packets_in_pieces", packets_in_pieces),
    ("vsock_guest_half_closes", guest_half_closes),
    ("vsock_host_half_closes", host_half_closes),
    ("vsock_guest_resets", guest_resets),
    ("vsock_host_resets", host_resets),
    ("vsock_reset_in_traffic", reset_in_traffic),
    ("vsock_more_than_credit", more_than_credit),
    ("vsock_malformed", malformed),
    ("vsock_lies", lies),
    ("vsock_bad_buffers", bad_buffers),
    ("vsock_interrupts", interrupts),
    ("vsock_many", many),
];

/// Where the host listens, and where it does not.
const PORT: u32 = 1024;
const CLOSED_PORT: u32 = 999;

/// Our buffer where its size does not matter.
const BUFFER_BYTES: u32 = 256 * 1024;

/// What is sent in bulk, both ways: the byte at a place in the stream.
fn pattern(place: usize) -> u8 {
    (place % 251) as u8
}

fn patterns(start: usize, length: usize) -> Vec<u8> {
    (start..start + length).map(pattern).collect()
}

fn connect(machine: &Machine) -> Result<Stream, String> {
    Stream::connect(machine.device(virtio::SOCKET)?, PORT, BUFFER_BYTES)
}

/// A driver that knows nothing of us says a word, hears one, and is through.
fn ordinary(machine: &Machine) -> Outcome {
    let failed = |error: virtio_drivers::Error| format!("{error}");
    let driver = VirtIOSocket::<Memory, _>::new(transport(machine.device(virtio::SOCKET)?));
    let mut sockets = VsockConnectionManager::new(driver.map_err(failed)?);
    check(sockets.guest_cid() == GUEST_CID, || format!("CID {}", sockets.guest_cid()))?;
    let host = VsockAddr { cid: HOST_CID, port: PORT };
    sockets.connect(host, 4000).map_err(failed)?;
    let (mut connected, mut heard) = (false, [0; 19]);
    let mut length = 0;
    while length < heard.len() {
        let event = clock::wait_for("the host", || sockets.poll().transpose())?.map_err(failed)?;
        match event.event_type {
            VsockEventType::Connected => {
                connected = true;
                sockets.send(host, 4000, b"hello from the guest").map_err(failed)?;
            }
            VsockEventType::Received { .. } => {
                length += sockets.recv(host, 4000, &mut heard[length..]).map_err(failed)?;
            }
            VsockEventType::CreditUpdate => {}
            other => return Err(format!("{other:?}")),
        }
    }
    check(connected && &heard == b"hello from the host", || format!("heard {heard:?}"))?;
    sockets.shutdown(host, 4000).map_err(failed)?;
    loop {
        let event = clock::wait_for("the end", || sockets.poll().transpose())?.map_err(failed)?;
        if matches!(event.event_type, VsockEventType::Disconnected { .. }) {
            return Ok(());
        }
    }
}

/// Where nobody listens, a reset comes back, and nothing else.
fn refused(machine: &Machine) -> Outcome {
    let refused = Stream::connect(machine.device(virtio::SOCKET)?, CLOSED_PORT, BUFFER_BYTES).err();
    let why = refused.ok_or_else(|| String::from("it was accepted"))?;
    check(why.contains("op: 3"), || why)
}

/// The host does not read until we have no credit left; then it reads all.
fn send_past_credit(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    let data = patterns(0, PACKET_BYTES_MAX + 251);
    let mut sent = 0;
    while let Some(count) = stream.wait_for_credit()? {
        let count = count.min(PACKET_BYTES_MAX);
        stream.send_packet(&data[sent % 251..][..count], 2)?;
        sent += count;
    }
    println!("note stalled at {sent}");
    let end = sent + 3 * 1024 * 1024 + 17;
    while sent < end {
        let count = clock::wait_for("credit", || stream.credit_now().transpose())??;
        let count = count.min(PACKET_BYTES_MAX).min(end - sent);
        stream.send_packet(&data[sent % 251..][..count], 2)?;
        sent += count;
    }
    stream.say(operation::SHUTDOWN, SHUTDOWN_SEND)?;
    stream.expect_data(&(sent as u64).to_le_bytes())?;
    stream.close()
}

impl Stream {
    /// Takes in what the host says of credit; how much there is, if any.
    fn credit_now(&mut self) -> Result<Option<usize>, String> {
        while let Some(header) = self.poll()? {
            check(header.op == operation::CREDIT_UPDATE, || format!("{header:?}"))?;
        }
        Ok(Some(self.credit()).filter(|credit| *credit > 0))
    }

    /// Waits a moment for credit.
    fn wait_for_credit(&mut self) -> Result<Option<usize>, String> {
        clock::soon(|| self.credit_now().transpose()).transpose()
    }
}

/// The host has more for us than we have room for, and keeps to that.
fn receive_past_credit(machine: &Machine) -> Outcome {
    const ROOM: u32 = 64 * 1024;
    const TOTAL: usize = 1024 * 1024;
    let mut stream = Stream::connect(machine.device(virtio::SOCKET)?, PORT, ROOM)?;
    let mut received = 0;
    while received < TOTAL {
        let window = received;
        // As much as it may send it does send; the rest only when we have said so.
        let expected = (received + ROOM as usize).min(TOTAL);
        while received < expected {
            stream.expect_without_credit()?;
            let right = stream.socket.data == patterns(received, stream.socket.data.len());
            received += stream.socket.data.len();
            check(right, || format!("wrong before {received}"))?;
            check(received <= expected, || format!("{} bytes over a window", received - window))?;
        }
        if window % (4 * ROOM as usize) == 0 && received < TOTAL {
            stream.only_asks_for_credit()?;
        }
        stream.fwd_cnt = received as u32;
        stream.say(operation::CREDIT_UPDATE, 0)?;
    }
    stream.close()
}

impl Stream {
    /// Waits for data; a question for credit is not answered.
    fn expect_without_credit(&mut self) -> Outcome {
        loop {
            let header = clock::wait_for("data", || self.poll().transpose())??;
            match header.op {
                operation::READ_WRITE => return Ok(()),
                operation::CREDIT_REQUEST => {}
                _ => return Err(format!("{header:?}")),
            }
        }
    }

    /// No data comes for a moment.
    fn only_asks_for_credit(&mut self) -> Outcome {
        while let Some(header) = clock::soon(|| self.poll().transpose()).transpose()? {
            check(header.op == operation::CREDIT_REQUEST, || format!("without credit: {header:?}"))?;
        }
        Ok(())
    }
}

/// Packets of 64 KiB, header and all, in one descriptor, in two, in seventeen, and one where the header is cut.
fn packets_in_pieces(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    let mut sent = 0;
    for pieces in [1, 2, 17, 60] {
        stream.send_packet(&patterns(sent, PACKET_BYTES_MAX), pieces)?;
        sent += PACKET_BYTES_MAX;
    }
    // Pieces of 4 bytes: the header takes eleven.
    stream.send_packet(&patterns(sent, 16), 15)?;
    sent += 16;
    stream.expect_data(&(sent as u64).to_le_bytes())?;
    stream.close()
}

/// We are through with sending, and still hear.
fn guest_half_closes(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    stream.send_packet(b"all said", 1)?;
    stream.say(operation::SHUTDOWN, SHUTDOWN_SEND)?;
    stream.expect_data(b"then listen")?;
    stream.close()
}

/// The host is through with sending, and still hears.
fn host_half_closes(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    stream.expect_data(b"all said")?;
    let header = stream.expect(operation::SHUTDOWN)?;
    check(header.flags == SHUTDOWN_SEND, || format!("{header:?}"))?;
    stream.send_packet(b"then listen", 1)?;
    stream.close()
}

/// After our reset the host's end is at its end, and the device knows nothing of the stream.
fn guest_resets(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    stream.send_packet(b"last words", 1)?;
    stream.say(operation::RESET, 0)?;
    stream.socket.is_silent()?;
    stream.send_packet(b"to nobody", 1)?;
    stream.expect(operation::RESET)?;
    Ok(())
}

/// The host goes away; both halves are closed, and what we say then is of no interest.
fn host_resets(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    stream.expect_data(b"bye")?;
    let mut flags = 0;
    while flags != SHUTDOWN_RECEIVE | SHUTDOWN_SEND {
        flags |= stream.expect(operation::SHUTDOWN)?.flags;
    }
    stream.send_packet(&patterns(0, 1000), 1)?;
    stream.close()
}

/// A reset of the device ends all streams, and then it works again.
fn reset_in_traffic(machine: &Machine) -> Outcome {
    for _ in 0..3 {
        let mut stream = connect(machine)?;
        for _ in 0..8 {
            stream.send_packet(&patterns(0, PACKET_BYTES_MAX), 1)?;
        }
        // Not even waited for.
        let header = stream.header(operation::CREDIT_REQUEST, 0);
        let header = Buffer::with(&header.build());
        stream.socket.transmit.offer(&[Descriptor::readable(header.address, header.bytes)]);
        stream.socket.device.notify(1);
        stream.socket.device.location.reset()?;
    }
    let mut stream = connect(machine)?;
    stream.send_packet(b"still there", 1)?;
    stream.expect_data(b"of course")?;
    stream.close()
}

/// Who sends more than there is room for is cut off.
fn more_than_credit(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    let data = patterns(0, PACKET_BYTES_MAX);
    for _ in 0..1024 {
        stream.send_packet(&data, 1)?;
        while let Some(header) = stream.poll()? {
            match header.op {
                operation::RESET => return Ok(()),
                operation::CREDIT_UPDATE => {}
                _ => return Err(format!("{header:?}")),
            }
        }
    }
    Err(String::from("the device takes everything"))
}

/// What is no packet is dropped, or refused; a stream does not suffer.
fn malformed(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    let good = Header { len: 4, ..stream.header(operation::READ_WRITE, 0) };
    let dropped = [
        ("from somebody else", Header { src_cid: 77, ..good }),
        ("from the host", Header { src_cid: HOST_CID, ..good }),
        ("to somebody else", Header { dst_cid: 77, ..good }),
        ("to us", Header { dst_cid: GUEST_CID, ..good }),
        ("longer than it is", Header { len: 5, ..good }),
        ("of 4 GiB", Header { len: u32::MAX, ..good }),
    ];
    for (name, header) in dropped {
        stream.socket.send(&header, b"oops", 1)?;
        stream.socket.is_silent().map_err(|why| format!("{name}: {why}"))?;
    }
    let wire = Buffer::with(&good.build());
    for length in [0, 1, HEADER_BYTES - 1] {
        stream.socket.send_chain(&[Descriptor::readable(wire.address, length)])?;
    }
    stream.socket.send_chain(&[Descriptor::writable(wire.address, HEADER_BYTES)])?;
    stream.socket.is_silent()?;
    for (name, header) in [
        ("data without a stream", Header { src_port: 1, ..good }),
        ("another type", Header { kind: 2, src_port: 1, ..good }),
        ("an operation that does not exist", Header { op: 99, src_port: 1, ..good }),
    ] {
        stream.socket.send(&header, b"oops", 1)?;
        let answer = stream.socket.next(name)?;
        check(answer.op == operation::RESET && answer.dst_port == 1, || format!("{name}: {answer:?}"))?;
    }
    stream.send_packet(b"fine", 1)?;
    stream.expect_data(b"fine")?;
    stream.close()
}

/// What the host has for us comes only if there is room for it, whatever we say of that.
fn lies(machine: &Machine) -> Outcome {
    let room = BUFFER_BYTES;
    for (buf_alloc, fwd_cnt, comes) in
        [(0, 0, false), (room, 1, false), (room, 1 << 31, false), (room, u32::MAX, true), (u32::MAX, 0, true)]
    {
        let mut stream = connect(machine)?;
        (stream.buf_alloc, stream.fwd_cnt) = (buf_alloc, fwd_cnt);
        stream.say(operation::CREDIT_UPDATE, 0)?;
        stream.send_packet(b"lied", 1)?;
        if comes {
            stream.expect_data(b"data")?;
        } else {
            stream.only_asks_for_credit()?;
        }
        stream.say(operation::RESET, 0)?;
    }
    Ok(())
}

/// Buffers that cannot hold a packet, or not even be written to, are given back.
fn bad_buffers(machine: &Machine) -> Outcome {
    let start = Buffer::new(8192).address;
    let bad: [&[Descriptor]; 6] = [
        &[Descriptor::readable(start, 8192)],
        &[Descriptor::writable(start, 0)],
        &[Descriptor::writable(start, HEADER_BYTES - 1)],
        &[Descriptor::writable(1 << 45, 8192)],
        &[Descriptor::writable(start, 1), Descriptor::writable(start + 1, HEADER_BYTES - 2)],
        &[Descriptor::writable(start, 8192), Descriptor::readable(start, 8192)],
    ];
    let socket = Socket::open_with(machine.device(virtio::SOCKET)?, &bad)?;
    let mut stream = Stream::over(socket, 5001, PORT, BUFFER_BYTES)?;
    stream.send_packet(b"fine", 1)?;
    stream.expect_data(b"fine")?;
    stream.close()
}

/// Whatever the host says, an interrupt tells of it.
fn interrupts(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    for word in ["one", "two", "three"] {
        let before = stream.socket.device.interrupts();
        println!("note waiting for {word}");
        clock::wait_for("an interrupt", || (stream.socket.device.interrupts() > before).then_some(()))?;
        stream.expect_data(word.as_bytes())?;
    }
    stream.close()
}

/// Asks for far more connections than there can be, all at once. Each is accepted or refused.
fn many(machine: &Machine) -> Outcome {
    const WANTED: u32 = 500;
    let mut socket = Socket::open(machine.device(virtio::SOCKET)?)?;
    let (mut accepted, mut refused) = (0, 0);
    for port in 0..WANTED {
        socket.send(&Header { src_port: 10_000 + port, ..REQUEST }, &[], 1)?;
        // kiln hangs up on those that nobody accepts for long: no answer to this.
        let answer = loop {
            let packet = socket.next("an answer")?;
            if packet.op != operation::SHUTDOWN {
                break packet;
            }
        };
        match answer.op {
            operation::RESPONSE => accepted += 1,
            operation::RESET => refused += 1,
            _ => return Err(format!("{answer:?}")),
        }
    }
    socket.device.location.reset()?;
    println!("note accepted {accepted}");
    check(refused + accepted == WANTED, || format!("{accepted} accepted, {refused} refused"))?;
    // While the host is not through with those, it has no place for another.
    clock::wait_for("a stream that stays", || talk(machine).ok())
}

/// Says a word and hears it.
fn talk(machine: &Machine) -> Outcome {
    let mut stream = connect(machine)?;
    stream.send_packet(b"fine", 1)?;
    stream.expect_data(b"fine")?;
    stream.close()
}

const REQUEST: Header = Header {
    src_cid: GUEST_CID,
    dst_cid: HOST_CID,
    src_port: 0,
    dst_port: PORT,
    len: 0,
    kind: STREAM,
    op: operation::REQUEST,
    flags: 0,
    buf_alloc: BUFFER_BYTES,
    fwd_cnt: 0,
};
