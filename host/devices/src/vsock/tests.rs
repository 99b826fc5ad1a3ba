use super::*;
use crate::mock::{BUFFERS, Bus, Carrier, Driver, cut, memory};
use packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};

const PORT: u32 = 1024;
const SENT: u64 = BUFFERS;
const ROOM: u64 = BUFFERS + 0x10_0000;
const ROOM_BYTES: u32 = 4096;

/// Listens on [`PORT`] and passes the other ends on.
struct OnePort(Sender<UnixStream>);

impl Listener for OnePort {
    fn connect(&mut self, port: u32) -> Option<UnixStream> {
        let (guest, host) = UnixStream::pair().ok()?;
        (port == PORT && self.0.send(host).is_ok()).then_some(guest)
    }
}

/// A guest and its device.
struct Bench<C = Vsock> {
    receive: Driver,
    transmit: Driver,
    events: Driver,
    device: C,
    arrivals: Receiver<UnixStream>,
}

fn packet(op: Operation, port: u32, data: &[u8]) -> Vec<u8> {
    let header = Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: 5000,
        dst_port: port,
        len: u32::try_from(data.len()).unwrap(),
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 256 * 1024,
        fwd_cnt: 0,
    };
    [&header.build()[..], data].concat()
}

impl Bench {
    fn new() -> Self {
        let memory = memory();
        let (arrive, arrivals) = mpsc::channel();
        let driver = |index| Driver::new(&memory, index);
        Self {
            receive: driver(0),
            transmit: driver(1),
            events: driver(2),
            device: Vsock::new(Box::new(OnePort(arrive))).unwrap(),
            arrivals,
        }
    }

    /// The same device behind registers.
    fn over_mmio() -> Bench<Bus> {
        let Self { receive, transmit, events, device, arrivals } = Self::new();
        let bus = Bus::new(Box::new(device), &receive.memory);
        bus.start();
        Bench { receive, transmit, events, device: bus, arrivals }
    }

    /// With a connection that the host accepted.
    fn connected() -> (Self, UnixStream) {
        Self::new().connect()
    }
}

impl<C: Carrier> Bench<C> {
    /// Connects to the host.
    fn connect(mut self) -> (Self, UnixStream) {
        self.send(&packet(Operation::Request, PORT, &[]), 1);
        assert_eq!(self.hear().unwrap().0.op, Operation::Response);
        let stream = self.arrivals.recv().unwrap();
        (self, stream)
    }

    fn process(&mut self) {
        self.device.kick(&mut [&mut self.receive, &mut self.transmit, &mut self.events]);
    }

    /// Sends bytes that may be a packet, in so many descriptors.
    fn send(&mut self, bytes: &[u8], pieces: usize) {
        self.transmit.write(SENT, bytes);
        let head = self.transmit.offer(&cut(SENT, bytes.len(), pieces, false));
        self.process();
        assert_eq!(self.transmit.used(), Some((head, 0)));
    }

    /// Offers one buffer; the packet that comes, if one does.
    fn hear(&mut self) -> Option<(Header, Vec<u8>)> {
        self.receive.offer(&[(ROOM, 10, true), (ROOM + 10, ROOM_BYTES - 10, true)]);
        self.process();
        let (_, length) = self.receive.used()?;
        let bytes = self.receive.read(ROOM, length as usize);
        let (header, data) = bytes.split_first_chunk().unwrap();
        Some((Header::parse(header), data.to_vec()))
    }

    fn alter(&self, mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    }
}

#[test]
fn a_packet_is_read_however_its_buffers_are_cut() {
    for pieces in [1, 2, 17, 50] {
        send_in_pieces(Bench::new(), pieces);
        send_in_pieces(Bench::over_mmio(), pieces);
    }
}

fn send_in_pieces(bench: Bench<impl Carrier>, pieces: usize) {
    let (mut bench, mut host) = bench.connect();
    let data: Vec<u8> = (0..64 * 1024_u32).map(|i| (i * 7 % 253) as u8).collect();
    bench.send(&packet(Operation::ReadWrite, PORT, &data), pieces);
    let mut heard = vec![0; data.len()];
    host.read_exact(&mut heard).unwrap();
    assert!(heard == data, "in {pieces} pieces");
}

#[test]
fn what_the_host_writes_is_heard_with_the_right_addresses() {
    hear_the_host(Bench::new());
    hear_the_host(Bench::over_mmio());
}

fn hear_the_host(bench: Bench<impl Carrier>) {
    let (mut bench, mut host) = bench.connect();
    host.write_all(b"hello").unwrap();
    let (header, data) = bench.hear().unwrap();
    assert_eq!(data, b"hello");
    assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, GUEST_CID));
    assert_eq!((header.src_port, header.dst_port), (PORT, 5000));
    assert_eq!((header.op, header.len, header.buf_alloc), (Operation::ReadWrite, 5, BUFFER_BYTES));
}

#[test]
fn a_reset_through_registers_ends_connections() {
    let (mut bench, mut host) = Bench::over_mmio().connect();
    bench.send(&packet(Operation::ReadWrite, PORT, b"last"), 1);
    bench.device.reset();
    host.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut heard = String::new();
    host.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "last");
}

#[test]
fn after_a_broken_ring_the_host_hears_what_was_sent_and_nobody_is_kept_busy() {
    let (mut bench, mut host) = Bench::over_mmio().connect();
    bench.send(&packet(Operation::ReadWrite, PORT, b"before"), 1);
    bench.receive.claim_available(u16::MAX);
    host.write_all(b"hello").unwrap();
    bench.process();
    assert!(bench.device.needs_reset());
    host.write_all(b"anybody?").unwrap();
    bench.process();
    let wake = bench.device.transport.wake().unwrap().unwrap();
    let mut polled = [rustix::event::PollFd::new(&wake, rustix::event::PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&now)).unwrap(), 0);
    let mut heard = [0; 6];
    host.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"before");
}

#[test]
fn work_on_two_queues_gets_one_interrupt() {
    let mut bench = Bench::over_mmio();
    bench.receive.offer(&[(ROOM, ROOM_BYTES, true)]);
    bench.transmit.write(SENT, &packet(Operation::Request, PORT, &[]));
    bench.transmit.offer(&cut(SENT, HEADER_BYTES, 1, false));
    bench.process();
    assert!(bench.receive.used().is_some() && bench.transmit.used().is_some());
    assert_eq!(bench.device.interrupts(), 1);
}

#[test]
fn a_port_nobody_listens_on_is_refused() {
    let mut bench = Bench::new();
    bench.send(&packet(Operation::Request, PORT + 1, &[]), 1);
    let (header, _) = bench.hear().unwrap();
    assert_eq!((header.op, header.src_port, header.dst_port), (Operation::Reset, PORT + 1, 5000));
}

#[test]
fn packets_that_belong_nowhere_are_refused_but_resets_are_not_answered() {
    let mut bench = Bench::new();
    bench.send(&packet(Operation::ReadWrite, PORT, b"lost"), 1);
    assert_eq!(bench.hear().unwrap().0.op, Operation::Reset);
    bench.send(&packet(Operation::Reset, PORT, &[]), 1);
    assert!(bench.hear().is_none());
}

#[test]
fn what_is_no_packet_for_us_is_dropped() {
    let (mut bench, _host) = Bench::connected();
    let good = packet(Operation::ReadWrite, PORT, b"data");
    let cases = [
        ("another guest's address", bench.alter(good.clone(), 0, &4_u64.to_le_bytes())),
        ("to somebody else", bench.alter(good.clone(), 8, &1_u64.to_le_bytes())),
        ("more data than there is", bench.alter(good.clone(), 24, &u32::MAX.to_le_bytes())),
        ("no whole header", good[..HEADER_BYTES - 1].to_vec()),
    ];
    for (name, bytes) in cases {
        bench.send(&bytes, 1);
        assert!(bench.hear().is_none(), "{name}");
    }
    let datagram = bench.alter(good, 28, &3_u16.to_le_bytes());
    bench.send(&datagram, 1);
    assert_eq!(bench.hear().unwrap().0.op, Operation::Reset, "another socket type");
}

#[test]
fn a_slow_host_stops_the_guest_by_credit_and_memory_stays_bounded() {
    let (mut bench, mut host) = Bench::connected();
    let data = vec![5; 64 * 1024];
    let (mut sent, mut credit) = (0_u32, BUFFER_BYTES);
    // The guest sends while it has credit; what the host never reads runs it dry.
    while credit >= 64 * 1024 {
        bench.send(&packet(Operation::ReadWrite, PORT, &data), 2);
        sent += 64 * 1024;
        while let Some((header, _)) = bench.hear() {
            assert_eq!(header.op, Operation::CreditUpdate);
            credit = header.buf_alloc - (sent - header.fwd_cnt);
        }
        credit = credit.min(BUFFER_BYTES - (sent - bench_forwarded(&bench)));
    }
    assert!(sent >= BUFFER_BYTES);
    // The host reads at last: all of it is there, and credit comes back.
    host.set_nonblocking(true).unwrap();
    let mut heard = 0;
    let mut buffer = vec![0; 256 * 1024];
    while heard < sent {
        match host.read(&mut buffer) {
            Ok(count) => heard += u32::try_from(count).unwrap(),
            Err(_) => bench.process(),
        }
    }
    let updates: Vec<_> = std::iter::from_fn(|| bench.hear()).map(|(header, _)| header.fwd_cnt).collect();
    assert_eq!(updates.last(), Some(&sent));
}

fn bench_forwarded(bench: &Bench) -> u32 {
    bench.device.connections.values().next().unwrap().fwd_cnt()
}

#[test]
fn both_sides_close_in_halves() {
    let (mut bench, mut host) = Bench::connected();
    host.write_all(b"last").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bench.hear().unwrap().1, b"last");
    let (header, _) = bench.hear().unwrap();
    assert_eq!((header.op, header.flags), (Operation::Shutdown, SHUTDOWN_SEND));
    bench.send(&packet(Operation::ReadWrite, PORT, b"answer"), 1);
    let both = packet(Operation::Shutdown, PORT, &[]);
    let both = bench.alter(both, 32, &(SHUTDOWN_SEND | SHUTDOWN_RECEIVE).to_le_bytes());
    bench.send(&both, 1);
    assert_eq!(bench.hear().unwrap().0.op, Operation::Reset);
    let mut heard = String::new();
    host.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "answer");
    assert!(bench.device.connections.is_empty());
}

#[test]
fn a_host_that_hangs_up_is_announced() {
    let (mut bench, host) = Bench::connected();
    drop(host);
    let (header, _) = bench.hear().unwrap();
    assert_eq!((header.op, header.flags), (Operation::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE));
}

#[test]
fn a_guest_that_opens_too_many_connections_is_refused() {
    let mut bench = Bench::new();
    for port in 0..=u32::try_from(CONNECTIONS_MAX).unwrap() {
        let request = packet(Operation::Request, PORT, &[]);
        let request = bench.alter(request, 16, &port.to_le_bytes());
        bench.send(&request, 1);
        let expected = if (port as usize) < CONNECTIONS_MAX { Operation::Response } else { Operation::Reset };
        assert_eq!(bench.hear().unwrap().0.op, expected, "connection {port}");
    }
}

#[test]
fn answers_to_a_guest_that_never_listens_are_bounded() {
    let mut bench = Bench::new();
    for _ in 0..REFUSALS_MAX + 50 {
        bench.send(&packet(Operation::ReadWrite, PORT, b"?"), 1);
    }
    assert_eq!(bench.device.refusals.len(), REFUSALS_MAX);
}

#[test]
fn a_buffer_too_small_for_a_header_is_handed_back() {
    let (mut bench, mut host) = Bench::connected();
    host.write_all(b"x").unwrap();
    let head = bench.receive.offer(&[(ROOM, 43, true)]);
    bench.process();
    assert_eq!(bench.receive.used(), Some((head, 0)));
    assert_eq!(bench.hear().unwrap().1, b"x");
}

#[test]
fn a_reset_device_knows_no_connection() {
    let (mut bench, mut host) = Bench::connected();
    bench.device.reset();
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    bench.send(&packet(Operation::ReadWrite, PORT, b"who?"), 1);
    assert_eq!(bench.hear().unwrap().0.op, Operation::Reset);
}

#[test]
fn a_host_hears_the_last_words_of_a_guest_that_ended() {
    let (mut bench, mut host) = Bench::connected();
    for _ in 0..16 {
        bench.send(&packet(Operation::ReadWrite, PORT, &vec![5; 60_000]), 1);
    }
    bench.device.driver_gone();
    let reader = std::thread::spawn(move || {
        let mut heard = Vec::new();
        host.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    while !reader.is_finished() {
        bench.process();
    }
    assert_eq!(reader.join().unwrap(), 16 * 60_000);
}

#[test]
fn any_bytes_sent_do_no_harm() {
    let (mut bench, _host) = Bench::connected();
    let mut state = 1_u64;
    for length in 1..200_usize {
        let mut bytes = packet(Operation::ReadWrite, PORT, &vec![0; length.saturating_sub(HEADER_BYTES)]);
        bytes.truncate(length);
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % length;
            bytes[at] = (state >> 17) as u8;
        }
        bench.send(&bytes, 1 + length % 5);
        let _ = bench.hear();
    }
}
