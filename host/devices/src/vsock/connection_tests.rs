use super::*;
use std::cell::RefCell;
use std::rc::Rc;

/// A stream whose other end the test holds.
#[derive(Default)]
struct Wire {
    /// What the guest is going to hear.
    to_guest: VecDeque<u8>,
    to_guest_ended: bool,
    /// What the guest said, and how much more may be written.
    to_host: Vec<u8>,
    room: usize,
    broken: bool,
    ended_writing: bool,
    ended_reading: bool,
}

#[derive(Default, Clone)]
struct Fake(Rc<RefCell<Wire>>);

impl Stream for Fake {
    fn read(&mut self, into: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let wanted = into.iter().map(VolatileSlice::len).sum::<usize>().min(wire.to_guest.len());
        if wanted == 0 && !wire.to_guest_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = wire.to_guest.drain(..wanted).collect();
        let mut rest = &bytes[..];
        for slice in into {
            let count = slice.len().min(rest.len());
            slice.copy_from(&rest[..count]);
            rest = &rest[count..];
        }
        Ok(wanted)
    }

    fn write(&mut self, from: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut done = 0;
        for slice in from {
            let mut bytes = vec![0; slice.len().min(wire.room)];
            slice.copy_to(&mut bytes);
            wire.room -= bytes.len();
            done += bytes.len();
            wire.to_host.extend(bytes);
        }
        if done == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(done) }
    }

    fn end_writing(&mut self) {
        self.0.borrow_mut().ended_writing = true;
    }

    fn end_reading(&mut self) {
        self.0.borrow_mut().ended_reading = true;
    }
}

/// A connection and its two ends.
struct Bench {
    connection: Connection<Fake>,
    wire: Fake,
    /// What the guest would put into its packets.
    buf_alloc: u32,
    fwd_cnt: u32,
}

fn header(op: Operation, flags: u32, buf_alloc: u32, fwd_cnt: u32) -> Header {
    Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: 5000,
        dst_port: 1024,
        len: 0,
        kind: super::super::TYPE_STREAM,
        op,
        flags,
        buf_alloc,
        fwd_cnt,
    }
}

fn bytes(buffer: &mut [u8]) -> Bytes<'_> {
    let mut bytes = Bytes::default();
    bytes.push(VolatileSlice::from(buffer));
    bytes
}

impl Bench {
    /// Connected, with so much room at the host.
    fn new(room: usize) -> Self {
        let wire = Fake::default();
        wire.0.borrow_mut().room = room;
        let request = header(Operation::Request, 0, 1000, 0);
        let mut bench = Self {
            connection: Connection::accept(wire.clone(), &request),
            wire,
            buf_alloc: 1000,
            fwd_cnt: 0,
        };
        assert_eq!(bench.next(), Some(Outgoing::plain(Operation::Response)));
        bench
    }

    fn say(&mut self, op: Operation, flags: u32, data: &mut [u8]) {
        let header = header(op, flags, self.buf_alloc, self.fwd_cnt);
        self.connection.receive(&header, &bytes(data));
    }

    fn send(&mut self, length: usize) {
        let mut data: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        self.say(Operation::ReadWrite, 0, &mut data);
    }

    /// The next packet with data of at most 4 KiB.
    fn next(&mut self) -> Option<Outgoing> {
        let mut room = [0; 4096];
        self.connection.wants_to_send().then(|| self.connection.next_packet(&mut bytes(&mut room)))?
    }

    fn host_reads(&mut self, count: usize) {
        self.wire.0.borrow_mut().room += count;
        self.connection.stream_ready(false, true, false);
    }

    fn host_writes(&mut self, count: usize) {
        self.wire.0.borrow_mut().to_guest.extend(std::iter::repeat_n(9, count));
        self.connection.stream_ready(true, false, false);
    }
}

const ALL: usize = BUFFER_BYTES as usize;

fn shutdown(flags: u32) -> Outgoing {
    Outgoing { op: Operation::Shutdown, flags, len: 0 }
}

#[test]
fn data_goes_straight_through_and_credit_comes_back_in_time() {
    let mut bench = Bench::new(usize::MAX);
    bench.send(ALL / 4 - 1);
    assert_eq!(bench.next(), None, "the guest still has most of its credit");
    bench.send(1);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditUpdate)));
    assert_eq!(bench.connection.fwd_cnt(), BUFFER_BYTES / 4);
    assert_eq!(bench.next(), None, "told once");
}

#[test]
fn a_slow_reader_holds_the_guest_back_and_loses_nothing() {
    let mut bench = Bench::new(100);
    bench.send(ALL / 2);
    bench.send(ALL / 2 + 100 - 1);
    assert_eq!(bench.connection.fwd_cnt(), 100);
    assert_eq!(bench.connection.buffer.len(), ALL - 1);
    assert_eq!(bench.next(), None);
    for _ in 0..20 {
        bench.host_reads(ALL / 16);
    }
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditUpdate)));
    assert_eq!(bench.connection.fwd_cnt() as usize, ALL + 99);
    let heard = bench.wire.0.borrow().to_host.clone();
    let part = |length: usize| (0..length).map(|i| (i % 251) as u8);
    assert!(heard == part(ALL / 2).chain(part(ALL / 2 + 99)).collect::<Vec<_>>());
}

#[test]
fn data_over_the_credit_resets_the_connection() {
    let mut bench = Bench::new(0);
    bench.send(ALL);
    assert!(!bench.connection.is_over());
    bench.send(1);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::Reset)));
    assert!(bench.connection.is_over());
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let mut bench = Bench::new(0);
    bench.host_writes(2500);
    assert_eq!(bench.next(), Some(Outgoing { op: Operation::ReadWrite, flags: 0, len: 1000 }));
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditRequest)));
    assert_eq!(bench.next(), None, "asked once");
    bench.fwd_cnt = 1000;
    bench.say(Operation::CreditUpdate, 0, &mut []);
    assert_eq!(bench.next().unwrap().len, 1000);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditRequest)));
    bench.fwd_cnt = 2000;
    bench.say(Operation::CreditUpdate, 0, &mut []);
    assert_eq!(bench.next().unwrap().len, 500);
    assert_eq!(bench.next(), None);
}

#[test]
fn counts_wrap() {
    let mut bench = Bench::new(usize::MAX);
    bench.connection.sent = Wrapping(u32::MAX - 10);
    bench.fwd_cnt = u32::MAX - 10;
    bench.connection.forwarded = Wrapping(u32::MAX - 10);
    bench.connection.announced = Wrapping(u32::MAX - 10);
    bench.say(Operation::CreditUpdate, 0, &mut []);
    bench.host_writes(1500);
    assert_eq!(bench.next().unwrap().len, 1000);
    bench.fwd_cnt = 989; // all of it, after the wrap
    bench.say(Operation::CreditUpdate, 0, &mut []);
    assert_eq!(bench.next().unwrap().len, 500);
    bench.send(ALL / 4);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditUpdate)));
    assert_eq!(bench.connection.fwd_cnt(), BUFFER_BYTES / 4 - 11);
}

#[test]
fn a_guest_that_lies_about_its_credit_gets_nothing() {
    let mut bench = Bench::new(0);
    bench.fwd_cnt = 5; // of nothing
    bench.say(Operation::CreditUpdate, 0, &mut []);
    bench.host_writes(10);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditRequest)));
    assert_eq!(bench.next(), None);
}

#[test]
fn a_credit_request_is_answered() {
    let mut bench = Bench::new(usize::MAX);
    bench.say(Operation::CreditRequest, 0, &mut []);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::CreditUpdate)));
}

#[test]
fn the_guest_ends_its_half_after_its_last_byte() {
    let mut bench = Bench::new(10);
    bench.send(30);
    bench.say(Operation::Shutdown, SHUTDOWN_SEND, &mut []);
    assert!(!bench.wire.0.borrow().ended_writing, "there is data left");
    bench.host_reads(20);
    assert!(bench.wire.0.borrow().ended_writing);
    bench.host_writes(5);
    assert_eq!(bench.next().unwrap().len, 5, "the other half is open");
    bench.send(1);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::Reset)), "data after the end");
}

#[test]
fn a_guest_that_is_through_with_both_halves_gets_a_reset_when_all_is_passed_on() {
    let mut bench = Bench::new(10);
    bench.send(30);
    bench.say(Operation::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE, &mut []);
    assert!(bench.wire.0.borrow().ended_reading);
    assert_eq!(bench.next(), None);
    bench.host_reads(20);
    assert_eq!(bench.next(), Some(Outgoing::plain(Operation::Reset)));
    assert!(bench.connection.is_over());
}

#[test]
fn the_host_ends_its_half_after_its_last_byte() {
    let mut bench = Bench::new(usize::MAX);
    bench.wire.0.borrow_mut().to_guest_ended = true;
    bench.host_writes(5);
    assert_eq!(bench.next().unwrap().len, 5);
    assert_eq!(bench.next(), Some(shutdown(SHUTDOWN_SEND)));
    assert_eq!(bench.next(), None);
    bench.send(7);
    assert_eq!(bench.wire.0.borrow().to_host.len(), 7, "the other half is open");
}

#[test]
fn a_host_that_left_is_announced_and_costs_the_guest_no_credit() {
    let mut bench = Bench::new(0);
    bench.send(1000);
    bench.wire.0.borrow_mut().to_guest_ended = true;
    bench.wire.0.borrow_mut().broken = true;
    bench.connection.stream_ready(false, false, true);
    assert_eq!(bench.connection.fwd_cnt(), 1000);
    assert_eq!(bench.next(), Some(shutdown(SHUTDOWN_SEND | SHUTDOWN_RECEIVE)));
    bench.send(500);
    assert_eq!(bench.connection.fwd_cnt(), 1500);
    bench.say(Operation::Reset, 0, &mut []);
    assert!(bench.connection.is_over());
}

#[test]
fn a_stream_whose_end_is_read_before_it_hangs_up_is_closed_both_ways() {
    let mut bench = Bench::new(0);
    bench.wire.0.borrow_mut().to_guest_ended = true;
    bench.connection.stream_ready(true, false, false);
    assert_eq!(bench.next(), Some(shutdown(SHUTDOWN_SEND)));
    bench.connection.stream_ready(false, false, true);
    assert_eq!(bench.next(), Some(shutdown(SHUTDOWN_SEND | SHUTDOWN_RECEIVE)));
    assert_eq!(bench.next(), None);
}

#[test]
fn packets_out_of_place_reset_the_connection() {
    for op in [Operation::Request, Operation::Response, Operation::Unknown(99)] {
        let mut bench = Bench::new(0);
        bench.say(op, 0, &mut []);
        assert_eq!(bench.next(), Some(Outgoing::plain(Operation::Reset)), "{op:?}");
    }
}

#[test]
fn a_buffer_with_room_for_the_header_only_is_used_up() {
    let mut bench = Bench::new(0);
    bench.host_writes(5);
    let packet = bench.connection.next_packet(&mut Bytes::default());
    assert_eq!(packet, Some(Outgoing::plain(Operation::ReadWrite)));
    assert_eq!(bench.next().unwrap().len, 5);
}
