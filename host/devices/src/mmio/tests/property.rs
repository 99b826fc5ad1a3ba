//! Whatever a driver does to a device, in whatever order: it goes on, and a reset makes it as new.

use super::*;
use crate::corpus;
use crate::mmio::script::{self, Step};
use crate::{Blk, BlkOptions, FileStorage, Listener, Rng, Vsock};
use proptest::prelude::*;
use std::os::unix::net::UnixStream;

/// Longest that a script may take; most take no time at all.
const PATIENCE: Duration = Duration::from_secs(60);

const STATUS: u16 = spec::VIRTIO_MMIO_STATUS as u16;

/// Accepts everybody and keeps the other end open.
struct Everybody(Vec<UnixStream>);

impl Listener for Everybody {
    fn connect(&mut self, _port: u32) -> Option<UnixStream> {
        let (guest, host) = UnixStream::pair().ok()?;
        self.0.push(host);
        Some(guest)
    }
}

fn device(number: usize) -> Box<dyn Device> {
    match number {
        0 => Box::new(Rng),
        1 => Box::new(Vsock::new(Box::new(Everybody(Vec::new()))).unwrap()),
        _ => {
            let file = tempfile::tempfile().unwrap();
            file.set_len(64 * 1024).unwrap();
            let storage = FileStorage::writable(file).unwrap();
            Box::new(Blk::new(Arc::new(storage), BlkOptions::default()))
        }
    }
}

/// The same for fuzzing (`tests/fuzz/src/mmio.rs`): the device, and a bit when no driver has started it.
fn choice(number: usize, started: bool) -> u8 {
    u8::try_from(number).unwrap() | u8::from(!started) << 2
}

/// Registers, the status field less often than others as writing it soon ends everything.
fn offset() -> impl Strategy<Value = u16> {
    let register = (0_u16..0x48).prop_map(|register| register * 4);
    let other = register.prop_filter("the status", |offset| *offset != STATUS);
    prop_oneof![50 => other, 1 => Just(STATUS), 5 => any::<u16>()]
}

fn value() -> impl Strategy<Value = u64> {
    let [desc, available, used] = addresses(0);
    prop_oneof![
        4 => 0_u64..17,
        2 => prop::sample::select(vec![desc, available, used, BUFFERS, MEMORY_BYTES as u64, 64, 0x8000_0000]),
        1 => any::<u64>(),
    ]
}

/// A descriptor's or ring's words, some of them sensible.
fn word() -> impl Strategy<Value = u64> {
    let descriptor_end = (0_u64..8, 0_u64..8, prop::sample::select(vec![0_u64, 1, 16, 44, 48, 513, 4096]))
        .prop_map(|(flags, next, length)| length | flags << 32 | next << 48);
    prop_oneof![descriptor_end, value(), any::<u64>()]
}

/// Places in the rings of the first queues, or anywhere.
fn place() -> impl Strategy<Value = u16> {
    let queue = (0_u16..3, prop::sample::select(vec![0_u16, 0x1000, 0x2000]), 0_u16..16);
    prop_oneof![6 => queue.prop_map(|(queue, part, word)| (0x1000 + queue * 0x4000 + part) / 8 + word), 1 => any::<u16>()]
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![9 => Just(4_u8), 1 => 0_u8..9];
    prop_oneof![
        2 => (offset(), size.clone()).prop_map(|(offset, size)| Step::Read { offset, size }),
        6 => (offset(), value(), size).prop_map(|(offset, value, size)| Step::Write { offset, value, size }),
        6 => (place(), word()).prop_map(|(place, value)| Step::Store { place, value }),
        2 => Just(Step::Work),
    ]
}

/// A request as a driver makes it, more or less: two descriptors, both rings' words, a kick.
fn request() -> impl Strategy<Value = Vec<Step>> {
    let length = prop::sample::select(vec![1_u64, 16, 44, 48, 513]);
    (0_u64..3, length.clone(), length, 1_u64..4, 0_u64..3).prop_map(|(queue, sent, room, index, head)| {
        let [desc, available, _] = addresses(queue);
        let (next, write) = (1 << 32, 2 << 32);
        let words = [
            (desc, BUFFERS),
            (desc + 8, sent | next | 1 << 48),
            (desc + 16, BUFFERS + 0x1000),
            (desc + 24, room | write),
            (available, index << 16 | head << 32),
        ];
        let store = |(address, value)| Step::Store { place: u16::try_from(address / 8).unwrap(), value };
        words.into_iter().map(store).chain([Step::Work]).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = prop_oneof![9 => step().prop_map(|step| vec![step]), 1 => request()];
    prop::collection::vec(some, 0..100).prop_map(|steps| steps.concat())
}

/// Takes all steps; gives the machine back, unless it got lost.
fn play(bus: Bus, steps: Vec<Step>) -> Option<Bus> {
    soon(PATIENCE, move || {
        steps.into_iter().for_each(|step| step.take(&bus.transport, &bus.memory));
        bus
    })
}

/// A chain that each of the devices can answer, in its `index`th queue.
fn answers(bus: &mut Bus, index: u64) -> bool {
    bus.memory.write_slice(&[0; 0x10000], GuestAddress(0)).unwrap();
    bus.memory.write_slice(&[0; 64], GuestAddress(BUFFERS)).unwrap();
    bus.reset();
    bus.start();
    let mut drivers: Vec<_> = (0..3).map(|index| Driver::new(&bus.memory, index)).collect();
    let head =
        drivers[usize::try_from(index).unwrap()].offer(&[(BUFFERS, 16, false), (BUFFERS + 64, 513, true)]);
    bus.kick(&mut drivers.iter_mut().collect::<Vec<_>>());
    drivers[usize::try_from(index).unwrap()].used().is_some_and(|(used, _)| used == head)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_step_is_its_bytes(step in step()) {
        prop_assert_eq!(script::parse(&step.to_bytes()).collect::<Vec<_>>(), [step]);
    }

    #[test]
    fn any_registers_in_any_order_and_a_reset_makes_it_as_new(
        number in 0_usize..3,
        started in prop::bool::weighted(0.9),
        steps in steps(),
    ) {
        let script: Vec<u8> = steps.iter().flat_map(|step| step.to_bytes()).collect();
        corpus::seed("mmio", &[&[choice(number, started)][..], &script].concat());
        let bus = Bus::new(device(number), &memory());
        if started {
            bus.start();
        }
        let mut bus = play(bus, steps).expect("no script takes that long");
        // Sockets answer in the queue that the guest sends in.
        prop_assert!(answers(&mut bus, u64::from(number == 1)));
    }

    #[test]
    fn any_bytes_are_a_script(number in 0_usize..3, bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        let bus = Bus::new(device(number), &memory());
        bus.start();
        let mut bus = play(bus, script::parse(&bytes).collect()).expect("no script takes that long");
        prop_assert!(answers(&mut bus, u64::from(number == 1)));
    }
}
