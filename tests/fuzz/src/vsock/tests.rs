use super::*;
use crate::seed;
use script::build;

const WINDOW: u32 = 1 << 20;
const LARGE: u32 = DATA_BYTES_MAX - 1;

fn packet(op: u16, flags: u32, length: u32) -> Step {
    let (op, flags) = (op as u8, flags as u8);
    Step::Packet { connection: 1, op, flags, length, pieces: 1, oddity: Oddity::None, kick: true }
}

fn write(length: u32) -> Step {
    packet(READ_WRITE, 0, length)
}

fn odd(oddity: Oddity) -> Step {
    Step::Packet { connection: 1, op: READ_WRITE as u8, flags: 0, length: 9, pieces: 3, oddity, kick: false }
}

fn buffers(length: u32) -> Step {
    Step::Buffers { count: 4, pieces: 2, length }
}

fn host_writes(length: u32) -> Step {
    Step::HostWrite { connection: 1, length }
}

fn host_reads(length: u32) -> Step {
    Step::HostRead { connection: 1, length }
}

fn guest_reads(length: u32) -> Step {
    Step::GuestRead { connection: 1, length }
}

fn host_closes(how: Close) -> Step {
    Step::HostClose { connection: 1, how }
}

/// What the device's own tests do, and what they cannot see from one side alone.
fn scripts() -> Vec<(&'static str, Vec<Step>)> {
    let connect = packet(REQUEST, 0, 0);
    let to = |connection| Step::Packet {
        connection,
        op: REQUEST as u8,
        flags: 0,
        length: 0,
        pieces: 0,
        oddity: Oddity::None,
        kick: true,
    };
    let shut = |flags| packet(SHUTDOWN, flags, 0);
    let window = |buf_alloc, ahead| Step::Window { connection: 1, buf_alloc, ahead };
    vec![
        ("nothing", vec![]),
        (
            "both ways",
            vec![
                buffers(4096),
                connect,
                write(5),
                host_writes(7),
                Step::Work,
                host_reads(5),
                guest_reads(7),
                write(1),
            ],
        ),
        (
            "large packets in pieces",
            vec![
                connect,
                buffers(BUFFER_BYTES_MAX - 1),
                host_writes(LARGE),
                write(65536),
                Step::Work,
                host_reads(LARGE),
            ],
        ),
        ("nobody listens", vec![buffers(100), to(UNHEARD), to(UNHEARD + 1)]),
        (
            "belongs nowhere",
            vec![write(3), packet(RESET, 0, 0), packet(CREDIT_REQUEST, 0, 0), connect, buffers(44)],
        ),
        (
            "past the credit",
            [vec![connect], vec![write(LARGE); 20], vec![buffers(100), host_reads(LARGE)]].concat(),
        ),
        (
            "a slow host",
            [
                vec![buffers(64), connect],
                [write(LARGE), host_reads(1000)].repeat(9),
                [host_reads(LARGE), Step::Work].repeat(9),
            ]
            .concat(),
        ),
        (
            "a slow guest",
            [
                vec![connect, window(1000, 0), packet(CREDIT_UPDATE, 0, 0), host_writes(LARGE)],
                [buffers(600), guest_reads(700), packet(CREDIT_UPDATE, 0, 0)].repeat(6),
            ]
            .concat(),
        ),
        (
            "a window that shrinks",
            vec![
                connect,
                window(WINDOW, 0),
                host_writes(LARGE),
                buffers(5000),
                window(10, 0),
                packet(CREDIT_UPDATE, 0, 0),
                Step::Work,
            ],
        ),
        (
            "passes on what never came",
            vec![
                connect,
                window(WINDOW, 5),
                packet(CREDIT_UPDATE, 0, 0),
                host_writes(50),
                buffers(500),
                Step::Work,
            ],
        ),
        ("the guest asks for credit", vec![connect, buffers(500), write(50), packet(CREDIT_REQUEST, 0, 0)]),
        (
            "the guest ends",
            vec![
                buffers(50),
                connect,
                write(LARGE),
                shut(SHUTDOWN_SEND),
                host_reads(LARGE),
                host_writes(9),
                shut(SHUTDOWN_RECEIVE),
            ],
        ),
        (
            "a host that lags behind",
            [
                vec![connect],
                vec![write(LARGE); 8],
                [host_reads(LARGE), host_reads(LARGE), buffers(50), write(LARGE), write(50_000)].repeat(16),
            ]
            .concat(),
        ),
        (
            "the guest ends with much on its way",
            [
                vec![buffers(50), connect],
                vec![write(LARGE); 5],
                vec![shut(SHUTDOWN_SEND), host_reads(LARGE), Step::Work],
            ]
            .concat(),
        ),
        (
            "the guest closes with much on its way",
            [
                vec![buffers(50), connect],
                vec![write(LARGE); 5],
                vec![shut(BOTH), host_reads(LARGE), Step::Work],
            ]
            .concat(),
        ),
        (
            "the guest receives no more",
            vec![buffers(50), connect, host_writes(10), shut(SHUTDOWN_RECEIVE), host_writes(10), write(5)],
        ),
        ("data after the end", vec![buffers(50), connect, shut(SHUTDOWN_SEND), write(1)]),
        (
            "the host ends",
            vec![connect, host_writes(10), host_closes(Close::Write), buffers(80), write(5), host_reads(5)],
        ),
        (
            "the host reads no more",
            vec![connect, buffers(80), host_closes(Close::Read), write(50_000), write(50_000)],
        ),
        (
            "the host leaves",
            vec![connect, host_writes(10), host_closes(Close::Leave), buffers(80), write(500)],
        ),
        ("opened twice", vec![buffers(80), connect, connect, write(1), Step::Work]),
        ("out of place", vec![buffers(80), connect, packet(RESPONSE, 0, 0), connect, packet(99, 0, 0)]),
        (
            "too many",
            [vec![buffers(80)], (0..66).flat_map(|number| [to(number), buffers(80)]).collect()].concat(),
        ),
        (
            "odd packets",
            vec![
                connect,
                odd(Oddity::Source),
                odd(Oddity::Destination),
                odd(Oddity::Cut),
                odd(Oddity::Longer),
                write(1),
                odd(Oddity::Type),
                odd(Oddity::Shorter),
                buffers(80),
            ],
        ),
        (
            "buffers too small",
            vec![connect, buffers(0), buffers(43), host_writes(9), buffers(44), buffers(45)],
        ),
        (
            "a restart in between",
            vec![connect, write(100), host_writes(100), Step::Restart, write(1), buffers(50), connect],
        ),
    ]
}

#[test]
fn guest_and_host_understand_each_other() {
    for (name, steps) in scripts() {
        println!("{name}");
        let input = build(steps.iter().copied());
        assert_eq!(script::parse(&input).collect::<Vec<_>>(), steps);
        seed::keep("vsock", &input);
        play(&input);
    }
}
