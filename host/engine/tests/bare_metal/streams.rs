//! The host's part of streams, scenario by scenario.

use crate::machine::Run;
use kiln_engine::Engine;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Four times 64 KiB, and the packet with the header cut.
const PIECES_BYTES: usize = 4 * 64 * 1024 + 16;
/// What the guest wants of us in bulk.
const BULK_BYTES: usize = 1024 * 1024;

pub fn streams_close_in_every_way(engine: &dyn Engine) {
    let scenarios = [
        "vsock_ordinary",
        "vsock_refused",
        "vsock_guest_half_closes",
        "vsock_host_half_closes",
        "vsock_guest_resets",
        "vsock_host_resets",
    ];
    let mut run = Run::of(engine, &scenarios);
    ordinary(run.accept());
    guest_half_closes(run.accept());
    host_half_closes(run.accept());
    assert_eq!(rest_of(run.accept()), b"last words");
    run.accept().write_all(b"bye").unwrap();
    run.passes();
}

/// On QEMU, streams live on when their driver is gone (see below), so that the next scenario would find them.
pub fn connections_have_a_limit(engine: &dyn Engine) {
    let mut run = Run::of(engine, &["vsock_many", "vsock_refused"]);
    assert_eq!(run.wait_for_line("note accepted "), "64");
    loop {
        let (mut stream, mut heard) = (run.accept(), [0; 4]);
        if stream.read_exact(&mut heard).is_ok() {
            assert_eq!(&heard, b"fine");
            stream.write_all(&heard).unwrap();
            assert_eq!(rest_of(stream), b"");
            break;
        }
    }
    run.passes();
}

pub fn streams_end_when_the_device_is_reset(engine: &dyn Engine) {
    let mut run = Run::of(engine, &["vsock_reset_in_traffic"]);
    for _ in 0..3 {
        let begun = rest_of(run.accept());
        assert!(begun == pattern(begun.len(), 64 * 1024), "{} bytes", begun.len());
    }
    still_there(run.accept());
    run.passes();
}

pub fn streams_keep_to_credit(engine: &dyn Engine) {
    let scenarios = ["vsock_send_past_credit", "vsock_receive_past_credit", "vsock_packets_in_pieces"];
    let mut run = Run::of(engine, &scenarios);
    let stream = run.accept();
    let stalled: usize = run.wait_for_line("note stalled at ").parse().unwrap();
    println!("the guest had no credit left after {stalled} bytes");
    count_until_the_end(stream);
    run.accept().write_all(&pattern(BULK_BYTES, BULK_BYTES)).unwrap();
    packets_in_pieces(run.accept());
    run.passes();
}

pub fn streams_bear_misuse(engine: &dyn Engine) {
    let scenarios =
        ["vsock_more_than_credit", "vsock_lies", "vsock_malformed", "vsock_bad_buffers", "vsock_interrupts"];
    let mut run = Run::of(engine, &scenarios);
    let unread = run.accept();
    run.wait_for_line("pass vsock_more_than_credit");
    drop(unread);
    for _ in 0..5 {
        let mut stream = run.accept();
        expect(&mut stream, b"lied");
        // The guest has reset the stream, or will, and hears this or does not.
        let _ = stream.write_all(b"data");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }
    for _ in 0..2 {
        let mut stream = run.accept();
        expect(&mut stream, b"fine");
        stream.write_all(b"fine").unwrap();
        assert_eq!(rest_of(stream), b"");
    }
    let stream = run.accept();
    interrupted(&run, stream);
    run.passes();
}

pub fn ordinary(mut stream: UnixStream) {
    expect(&mut stream, b"hello from the guest");
    stream.write_all(b"hello from the host").unwrap();
    assert_eq!(rest_of(stream), b"");
}

/// Speaks only when the guest listens to nothing but interrupts.
fn interrupted(run: &Run, mut stream: UnixStream) {
    for word in ["one", "two", "three"] {
        run.wait_for_line(&format!("note waiting for {word}"));
        stream.write_all(word.as_bytes()).unwrap();
    }
    assert_eq!(rest_of(stream), b"");
}

fn guest_half_closes(mut stream: UnixStream) {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"all said");
    stream.write_all(b"then listen").unwrap();
}

fn host_half_closes(mut stream: UnixStream) {
    stream.write_all(b"all said").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest_of(stream), b"then listen");
}

fn still_there(mut stream: UnixStream) {
    expect(&mut stream, b"still there");
    stream.write_all(b"of course").unwrap();
    assert_eq!(rest_of(stream), b"");
}

/// Reads all, and says how much it was.
fn count_until_the_end(mut stream: UnixStream) {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == pattern(heard.len(), usize::MAX), "{} bytes came, not all right", heard.len());
    stream.write_all(&(heard.len() as u64).to_le_bytes()).unwrap();
    assert_eq!(rest_of(stream), b"");
}

fn packets_in_pieces(mut stream: UnixStream) {
    let mut heard = vec![0; PIECES_BYTES];
    stream.read_exact(&mut heard).unwrap();
    assert!(heard == pattern(PIECES_BYTES, usize::MAX), "not all that came is right");
    stream.write_all(&(heard.len() as u64).to_le_bytes()).unwrap();
    assert_eq!(rest_of(stream), b"");
}

fn expect(stream: &mut UnixStream, words: &[u8]) {
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
}

fn rest_of(mut stream: UnixStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

/// What is sent in bulk: each byte by its place, counted anew after every `period`.
fn pattern(length: usize, period: usize) -> Vec<u8> {
    (0..length).map(|place| (place % period % 251) as u8).collect()
}
