use super::*;
use crate::mock::bus::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
use crate::mock::{BUFFERS, Bus, Carrier, Driver, MEMORY_BYTES, QUEUE_SIZE, addresses, memory};
use crate::{RING_FEATURES, Rng, feature};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use virtio_bindings::virtio_config::{VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress};

mod property;

const VERSION_1: u64 = feature(VIRTIO_F_VERSION_1);
const EVENT_IDX: u64 = feature(VIRTIO_RING_F_EVENT_IDX);
/// A feature of its own.
const OWN: u64 = 1 << 5;
const CONFIG_SPACE: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
const DEVICE_TYPE: u32 = 77;

/// What a [`Fake`] says happened to it.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Accepted(u64),
    Processed(Vec<(u16, u32)>),
    Reset,
    Gone,
}

/// A device with two queues that hands every chain back and says what happens to it.
struct Fake(Sender<Event>);

impl Device for Fake {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        RING_FEATURES | OWN
    }

    fn accept_features(&mut self, features: u64) {
        self.0.send(Event::Accepted(features)).unwrap();
    }

    fn config(&self) -> &[u8] {
        &CONFIG_SPACE
    }

    fn process(&mut self, memory: &GuestMemoryMmap, rings: &mut [Ring<'_>]) {
        let mut seen = Vec::new();
        for (ring, number) in rings.iter_mut().zip(0..) {
            ring.work(memory, |chain| {
                seen.push((number, u32::try_from(chain.readable.len()).unwrap()));
                Some(0)
            });
        }
        self.0.send(Event::Processed(seen)).unwrap();
    }

    fn reset(&mut self) {
        self.0.send(Event::Reset).unwrap();
    }

    fn driver_gone(&mut self) {
        self.0.send(Event::Gone).unwrap();
    }
}

fn fake() -> (Bus, Receiver<Event>) {
    let (tell, events) = mpsc::channel();
    (Bus::new(Box::new(Fake(tell)), &memory()), events)
}

fn read(bus: &Bus, offset: u64, size: usize) -> Vec<u8> {
    let mut data = vec![0xee; size];
    bus.transport.read(offset, &mut data);
    data
}

#[test]
fn constant_registers_are_those_of_the_specification() {
    let (bus, _events) = fake();
    let cases = [
        ("MagicValue", 0x000, 0x7472_6976),
        ("Version", 0x004, 2),
        ("DeviceID", 0x008, DEVICE_TYPE),
        ("VendorID", 0x00c, u32::from_le_bytes(*b"KILN")),
        ("InterruptStatus", 0x060, 0),
        ("Status", 0x070, 0),
        ("SHMLenLow", 0x0b0, u32::MAX),
        ("SHMLenHigh", 0x0b4, u32::MAX),
        ("SHMBaseLow", 0x0b8, u32::MAX),
        ("SHMBaseHigh", 0x0bc, u32::MAX),
        ("QueueReset, not offered", 0x0c0, 0),
        ("ConfigGeneration", 0x0fc, 0),
        ("GuestPageSize of the legacy interface", 0x028, 0),
        ("QueueAlign of the legacy interface", 0x03c, 0),
        ("QueuePFN of the legacy interface", 0x040, 0),
        ("QueueNotify, write-only", 0x050, 0),
        ("InterruptACK, write-only", 0x064, 0),
        ("QueueDescLow, write-only", 0x080, 0),
        ("nothing", 0x0f8, 0),
    ];
    for (name, register, expected) in cases {
        assert_eq!(bus.read(register), expected, "{name}");
    }
    assert_eq!(bus.transport.device_type(), DEVICE_TYPE);
    assert_eq!(bus.transport.queue_count(), 2);
    assert_eq!(QUEUE_NOTIFY, 0x50);
}

#[test]
fn a_read_only_register_is_not_written() {
    let (bus, _events) = fake();
    bus.start();
    for register in [0x000, 0x004, 0x008, 0x00c, 0x010, 0x034, 0x060, 0x0b0, 0x0fc] {
        let before = bus.read(register);
        bus.write(register, !before);
        assert_eq!(bus.read(register), before, "register {register:#x}");
    }
}

#[test]
fn only_four_aligned_bytes_are_a_register_access() {
    let (bus, _events) = fake();
    for (offset, size) in
        [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (6, 4), (0xfe, 4), (0xb1, 4), (0, 0), (0, 3)]
    {
        assert_eq!(read(&bus, offset, size), vec![0; size], "{size} bytes at {offset:#x}");
    }
    let status = u64::from(spec::VIRTIO_MMIO_STATUS);
    for (offset, data) in [
        (status, &[1][..]),
        (status, &[1, 0]),
        (status, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (status - 4, &[0, 0, 0, 0, 1, 0, 0, 0]),
        (status + 1, &[1, 0, 0, 0]),
        (status, &[]),
    ] {
        bus.transport.write(&bus.memory, offset, data);
        assert_eq!(bus.status(), 0, "{data:?} at {offset:#x}");
    }
}

#[test]
fn configuration_space_is_read_in_its_sizes_and_never_written() {
    let (bus, _events) = fake();
    let cases: [(u64, &[u8]); 11] = [
        (0x100, &[1]),
        (0x101, &[2]),
        (0x102, &[3, 4]),
        (0x104, &[5, 6, 7, 8]),
        (0x100, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (0x108, &[9, 10, 0, 0, 0, 0, 0, 0]),
        (0x109, &[10, 0]),
        (0x10a, &[0, 0, 0, 0]),
        (0xffc, &[0, 0, 0, 0]),
        (u64::MAX, &[0]),
        (0x100, &[0, 0, 0]),
    ];
    for (offset, expected) in cases {
        bus.transport.write(&bus.memory, offset, &vec![0xff; expected.len()]);
        assert_eq!(read(&bus, offset, expected.len()), expected, "at {offset:#x}");
    }
}

#[test]
fn features_are_offered_in_halves() {
    let (bus, _events) = fake();
    for (sel, expected) in
        [(0, ((RING_FEATURES | OWN) & u64::from(u32::MAX)) as u32), (1, 1), (2, 0), (u32::MAX, 0)]
    {
        bus.write(spec::VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_DEVICE_FEATURES), expected, "half {sel}");
    }
    assert_eq!(bus.features() & feature(VIRTIO_F_RING_RESET), 0);
}

#[test]
fn features_we_can_work_with_are_accepted_and_the_device_learns_them_once() {
    for features in [VERSION_1, VERSION_1 | OWN, VERSION_1 | EVENT_IDX, RING_FEATURES | OWN] {
        let (bus, events) = fake();
        assert!(bus.negotiate(features), "{features:#x}");
        bus.set_status(FEATURES_OK);
        bus.set_status(DRIVER_OK);
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [Event::Accepted(features)]);
    }
}

#[test]
fn features_we_cannot_work_with_do_not_stick_but_others_may_be_tried() {
    for features in [0, OWN, VERSION_1 | 1 << 6, VERSION_1 | feature(VIRTIO_F_RING_RESET), u64::MAX] {
        let (bus, events) = fake();
        assert!(!bus.negotiate(features), "{features:#x}");
        bus.set_status(DRIVER_OK);
        assert_eq!(bus.status(), DRIVER, "{features:#x}");
        assert!(events.try_recv().is_err());
        assert!(bus.negotiate(VERSION_1));
    }
}

#[test]
fn a_feature_beyond_the_two_halves_is_none_we_offered() {
    let (bus, _events) = fake();
    bus.set_status(DRIVER);
    bus.write(spec::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    bus.write(spec::VIRTIO_MMIO_DRIVER_FEATURES, 0);
    assert!(bus.negotiate(VERSION_1), "no bit was set there");
    bus.reset();
    bus.set_status(DRIVER);
    bus.write(spec::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    bus.write(spec::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    assert!(!bus.negotiate(VERSION_1));
}

#[test]
fn features_are_chosen_at_their_time_only() {
    let (bus, _events) = fake();
    bus.choose(VERSION_1);
    bus.set_status(ACKNOWLEDGE);
    bus.choose(VERSION_1);
    bus.set_status(DRIVER);
    bus.set_status(FEATURES_OK);
    assert_eq!(bus.status(), DRIVER, "chosen too early");
    assert!(bus.negotiate(VERSION_1));
    bus.choose(VERSION_1 | EVENT_IDX);
    assert!(bus.ready_queue(0));
    assert!(!bus.transport.working().queues[0].event_idx_enabled(), "chosen too late");
}

#[test]
fn queues_learn_of_event_indices() {
    for (features, expected) in [(VERSION_1, false), (VERSION_1 | EVENT_IDX, true)] {
        let (bus, _events) = fake();
        bus.start_with(features);
        let working = bus.transport.working();
        assert!(working.queues.iter().all(|queue| queue.event_idx_enabled() == expected));
    }
}

#[test]
fn each_queue_has_its_own_greatest_size() {
    let (bus, _events) = fake();
    for (queue, expected) in [(0, 256), (1, u32::from(QUEUE_SIZE)), (2, 0), (u32::MAX, 0)] {
        bus.write(spec::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_NUM_MAX), expected, "queue {queue}");
    }
}

#[test]
fn a_queue_that_cannot_be_never_becomes_ready() {
    const END: u32 = MEMORY_BYTES as u32;
    let cases = [
        ("no size", spec::VIRTIO_MMIO_QUEUE_NUM, 0),
        ("no power of two", spec::VIRTIO_MMIO_QUEUE_NUM, 24),
        ("too large", spec::VIRTIO_MMIO_QUEUE_NUM, 128),
        ("as large in sixteen bits", spec::VIRTIO_MMIO_QUEUE_NUM, 0x1_0040),
        ("descriptors misaligned", spec::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1008),
        ("descriptors outside", spec::VIRTIO_MMIO_QUEUE_DESC_LOW, END),
        ("descriptors over the end", spec::VIRTIO_MMIO_QUEUE_DESC_LOW, END - 16),
        ("descriptors far outside", spec::VIRTIO_MMIO_QUEUE_DESC_HIGH, u32::MAX),
        ("available ring misaligned", spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2001),
        ("available ring outside", spec::VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 1),
        ("available ring over the end", spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW, END - 132),
        ("available ring nowhere", spec::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0),
        ("used ring misaligned", spec::VIRTIO_MMIO_QUEUE_USED_LOW, 0x3002),
        ("used ring over the end", spec::VIRTIO_MMIO_QUEUE_USED_LOW, END - 516),
        ("used ring at the end of addresses", spec::VIRTIO_MMIO_QUEUE_USED_HIGH, u32::MAX),
    ];
    for (name, register, value) in cases {
        let (bus, _events) = fake();
        assert!(bus.negotiate(VERSION_1));
        bus.describe_queue(1);
        bus.write(register, value);
        if value == u32::MAX {
            bus.write(register - 4, u32::MAX - 15);
        }
        bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 0, "{name}");
        assert!(bus.ready_queue(1), "{name}: and then put right");
    }
}

#[test]
fn a_queue_at_the_very_end_of_memory_is_one() {
    let (bus, _events) = fake();
    assert!(bus.negotiate(VERSION_1));
    bus.describe_queue(1);
    let used_bytes = 6 + 8 * u32::from(QUEUE_SIZE);
    let end = u32::try_from(MEMORY_BYTES).unwrap();
    bus.write(spec::VIRTIO_MMIO_QUEUE_USED_LOW, (end - used_bytes) / 4 * 4);
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 1);
}

#[test]
fn queues_are_configured_at_their_time_only() {
    let (bus, _events) = fake();
    assert!(!bus.ready_queue(0), "before features");
    assert!(bus.negotiate(VERSION_1));
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 0, "what was written before is forgotten");
    assert!(bus.ready_queue(0));
    bus.write(spec::VIRTIO_MMIO_QUEUE_NUM, 8);
    bus.write(spec::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x8000);
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
    let queue = |bus: &Bus| {
        let queue = &bus.transport.working().queues[0];
        (queue.size(), queue.desc_table(), queue.ready())
    };
    assert_eq!(queue(&bus), (QUEUE_SIZE, addresses(0)[0], true), "a ready queue stays as it is");
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 0);
    bus.write(spec::VIRTIO_MMIO_QUEUE_NUM, 8);
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 2);
    assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 0, "neither zero nor one");
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(queue(&bus), (8, addresses(0)[0], true), "one that was stopped can be changed");
}

#[test]
fn a_queue_that_was_stopped_is_left_alone() {
    let (mut bus, _events) = fake();
    bus.start_with(VERSION_1);
    let mut driver = Driver::new(&bus.memory, 0);
    let head = driver.offer(&[(BUFFERS, 16, false)]);
    driver.process(&mut bus);
    assert_eq!(driver.used(), Some((head, 0)));
    bus.write(spec::VIRTIO_MMIO_QUEUE_SEL, 0);
    bus.write(spec::VIRTIO_MMIO_QUEUE_READY, 0);
    driver.offer(&[(BUFFERS, 16, false)]);
    driver.process(&mut bus);
    assert_eq!((driver.used(), bus.needs_reset()), (None, false));
}

#[test]
fn a_queue_that_is_not_there_is_not_configured() {
    let (bus, _events) = fake();
    assert!(bus.negotiate(VERSION_1));
    for queue in [2, 3, 1000] {
        assert!(!bus.ready_queue(queue), "queue {queue}");
    }
}

#[test]
fn nothing_is_done_to_queues_before_the_driver_is_ready_or_after_it_gave_up() {
    for (given_up, status) in [(false, FEATURES_OK), (true, DRIVER_OK)] {
        let (mut bus, events) = fake();
        let mut driver = Driver::new(&bus.memory, 0);
        assert!(bus.negotiate(VERSION_1));
        assert!(bus.ready_queue(0));
        bus.set_status(status);
        if given_up {
            bus.set_status(status::FAILED);
        }
        driver.offer(&[(BUFFERS, 16, false)]);
        driver.process(&mut bus);
        assert_eq!((driver.used(), bus.interrupts()), (None, 0));
        assert_eq!(events.try_iter().last(), Some(Event::Processed(vec![])));
    }
}

#[test]
fn a_chain_made_available_early_is_served_when_the_driver_is_ready() {
    let (mut bus, _events) = fake();
    let mut driver = Driver::new(&bus.memory, 0);
    assert!(bus.negotiate(VERSION_1));
    assert!(bus.ready_queue(0));
    let head = driver.offer(&[(BUFFERS, 16, false)]);
    driver.process(&mut bus);
    bus.set_status(DRIVER_OK);
    driver.process(&mut bus);
    assert_eq!(driver.used(), Some((head, 0)));
}

#[test]
fn used_buffers_interrupt_and_are_acknowledged() {
    let (mut bus, events) = fake();
    bus.start_with(VERSION_1);
    let (mut first, mut second) = (Driver::new(&bus.memory, 0), Driver::new(&bus.memory, 1));
    for driver in [&mut first, &mut second] {
        driver.offer(&[(BUFFERS, 16, false)]);
        driver.offer(&[(BUFFERS, 17, false)]);
    }
    bus.kick(&mut [&mut first, &mut second]);
    assert_eq!(bus.interrupts(), 1, "for both queues");
    let seen = vec![(0, 16), (0, 17), (1, 16), (1, 17)];
    assert!(events.try_iter().any(|event| event == Event::Processed(seen.clone())));
    assert_eq!(bus.acknowledge(), spec::VIRTIO_MMIO_INT_VRING);
    assert_eq!(bus.read(spec::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    bus.kick(&mut [&mut first, &mut second]);
    assert_eq!((bus.interrupts(), bus.acknowledge()), (1, 0), "nothing done, nothing to tell");
}

#[test]
fn a_notification_that_comes_as_a_write_must_name_a_queue() {
    let (bus, events) = fake();
    bus.start();
    while events.try_recv().is_ok() {}
    for queue in [2, 0x1_0000, u32::MAX] {
        bus.write(spec::VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        assert!(events.try_recv().is_err(), "queue {queue}");
    }
    bus.write(spec::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    assert_eq!(events.try_recv(), Ok(Event::Processed(vec![])));
}

#[test]
fn only_the_bits_written_are_acknowledged() {
    let (bus, _events) = fake();
    bus.transport.raise(3);
    for (written, left) in [(0, 3), (0xfffc, 3), (2, 1), (2, 1), (1, 0), (3, 0)] {
        bus.write(spec::VIRTIO_MMIO_INTERRUPT_ACK, written);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_INTERRUPT_STATUS), left);
    }
}

#[test]
fn a_reset_takes_everything_back() {
    let (mut bus, events) = fake();
    bus.start();
    let mut driver = Driver::new(&bus.memory, 0);
    driver.offer(&[(BUFFERS, 16, false)]);
    driver.process(&mut bus);
    assert!(driver.used().is_some());
    bus.write(spec::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    bus.reset();
    assert_eq!(events.try_iter().last(), Some(Event::Reset));
    assert_eq!(bus.read(spec::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_ne!(bus.read(spec::VIRTIO_MMIO_DEVICE_FEATURES), 1, "the selection");
    for queue in 0..2 {
        bus.write(spec::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_QUEUE_READY), 0);
    }
    bus.set_status(DRIVER);
    bus.set_status(FEATURES_OK);
    assert_eq!(bus.status(), DRIVER, "the features");
    assert!(bus.negotiate(VERSION_1));
    bus.set_status(DRIVER_OK);
    driver.offer(&[(BUFFERS, 16, false)]);
    driver.process(&mut bus);
    assert_eq!((driver.used(), bus.interrupts()), (None, 1), "the queues");
}

#[test]
fn a_device_learns_that_its_driver_is_gone() {
    let (bus, events) = fake();
    bus.transport.driver_gone();
    assert_eq!(events.try_recv(), Ok(Event::Gone));
}

#[test]
fn only_a_device_that_can_be_woken_has_a_wake() {
    let (bus, _events) = fake();
    assert!(bus.transport.wake().unwrap().is_none());
}

/// A started entropy device, that breaks by what is done to it, and its driver.
fn broken(mut breaking: impl FnMut(&mut Bus, &mut Driver)) -> (Bus, Driver) {
    let mut bus = Bus::new(Box::new(Rng), &memory());
    bus.start_with(VERSION_1);
    let mut driver = Driver::new(&bus.memory, 0);
    breaking(&mut bus, &mut driver);
    driver.process(&mut bus);
    (bus, driver)
}

#[test]
fn a_ring_that_cannot_be_worked_with_needs_a_reset_and_gets_one() {
    let smaller = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
    type Breaking<'a> = Box<dyn FnMut(&mut Bus, &mut Driver) + 'a>;
    let cases: [(&str, Breaking<'_>); 4] = [
        ("one more than fit", Box::new(|_, driver| driver.claim_available(QUEUE_SIZE + 1))),
        ("far more than fit", Box::new(|_, driver| driver.claim_available(u16::MAX))),
        ("no such descriptor", Box::new(|_, driver| driver.make_available(QUEUE_SIZE))),
        ("memory that went away", Box::new(|bus, _| bus.transport.work(&smaller))),
    ];
    for (name, breaking) in cases {
        let (mut bus, mut driver) = broken(breaking);
        assert!(bus.needs_reset(), "{name}");
        assert_eq!(bus.interrupts(), 1, "{name}: told once");
        assert_eq!(bus.acknowledge(), spec::VIRTIO_MMIO_INT_CONFIG, "{name}");
        driver.claim_available(0);
        driver.offer(&[(BUFFERS, 16, true)]);
        driver.process(&mut bus);
        assert_eq!((driver.used(), bus.interrupts()), (None, 1), "{name}: idle");
        bus.set_status(DRIVER_OK);
        assert!(bus.needs_reset(), "{name}: not by writing the status");
        assert!(works_again(&mut bus), "{name}");
    }
}

#[test]
fn what_was_done_before_a_ring_broke_is_told_with_it() {
    let (bus, mut driver) = broken(|_, driver| {
        driver.offer(&[(BUFFERS, 16, true)]);
        driver.make_available(QUEUE_SIZE + 5);
    });
    assert_eq!(driver.used(), Some((0, 16)));
    assert_eq!((bus.interrupts(), bus.transport.interrupt_status.load(Ordering::Relaxed)), (1, 3));
}

/// Resets an entropy device and asks it for bytes.
fn works_again(bus: &mut Bus) -> bool {
    bus.memory.write_slice(&[0; 0x10000], GuestAddress(0)).unwrap();
    bus.reset();
    bus.start();
    let mut driver = Driver::new(&bus.memory, 0);
    let head = driver.offer(&[(BUFFERS, 16, true)]);
    driver.process(bus);
    driver.used() == Some((head, 16)) && !bus.needs_reset()
}

/// A device that takes its time.
struct Slow {
    started: Sender<()>,
    go_on: Receiver<()>,
}

impl Device for Slow {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn accept_features(&mut self, _features: u64) {}

    fn config(&self) -> &[u8] {
        &CONFIG_SPACE
    }

    fn process(&mut self, _memory: &GuestMemoryMmap, _rings: &mut [Ring<'_>]) {
        self.started.send(()).unwrap();
        self.go_on.recv().unwrap();
    }

    fn reset(&mut self) {}
}

/// A device in the middle of its work, what ends it, and who does it.
fn at_work() -> (Arc<Bus>, Sender<()>, std::thread::JoinHandle<()>) {
    let (started, is_started) = mpsc::channel();
    let (end, go_on) = mpsc::channel();
    let bus = Arc::new(Bus::new(Box::new(Slow { started, go_on }), &memory()));
    bus.start();
    let worker = std::thread::spawn({
        let bus = bus.clone();
        move || bus.transport.work(&bus.memory)
    });
    is_started.recv().unwrap();
    (bus, end, worker)
}

/// Does `action` elsewhere; the answer, unless it takes too long.
fn soon<T: Send + 'static>(patience: Duration, action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, answer) = mpsc::channel();
    std::thread::spawn(move || tell.send(action()));
    answer.recv_timeout(patience).ok()
}

#[test]
fn no_vcpu_waits_for_a_device_at_work_to_acknowledge_or_read() {
    let (bus, end, worker) = at_work();
    bus.transport.raise(spec::VIRTIO_MMIO_INT_VRING);
    let done = soon(Duration::from_secs(10), {
        let bus = bus.clone();
        move || {
            let reasons = bus.acknowledge();
            let registers =
                [0x000, 0x004, 0x008, 0x00c, 0x010, 0x034, 0x044, 0x060, 0x070, 0x0b0, 0x0fc, 0x100];
            (reasons, registers.map(|register| bus.read(register)))
        }
    });
    let (reasons, registers) = done.expect("registers do not wait for the device");
    assert_eq!(reasons, spec::VIRTIO_MMIO_INT_VRING);
    assert_eq!((registers[8], registers[11]), (DRIVER_OK, 0x0403_0201));
    end.send(()).unwrap();
    worker.join().unwrap();
}

#[test]
fn a_reset_waits_for_what_is_under_way_while_others_go_on() {
    let (bus, end, worker) = at_work();
    let resetting = std::thread::spawn({
        let bus = bus.clone();
        move || bus.reset()
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!resetting.is_finished());
    let status = soon(Duration::from_secs(10), {
        let bus = bus.clone();
        move || (bus.acknowledge(), bus.status(), bus.read(0x100))
    });
    assert_eq!(status, Some((0, DRIVER_OK, 0x0403_0201)));
    end.send(()).unwrap();
    worker.join().unwrap();
    resetting.join().unwrap();
    assert_eq!(bus.status(), 0);
}

#[test]
fn a_reset_in_the_middle_of_traffic_ends_it_and_the_next_driver_is_served() {
    let (bus, events) = fake();
    let bus = Arc::new(bus);
    let worker = std::thread::spawn({
        let bus = bus.clone();
        // The fake says each time that it was called, until nobody listens any more.
        move || {
            while Arc::strong_count(&bus) > 1 {
                bus.transport.work(&bus.memory);
            }
        }
    });
    for _ in 0..200 {
        bus.memory.write_slice(&[0; 0x10000], GuestAddress(0)).unwrap();
        bus.start_with(VERSION_1);
        let mut driver = Driver::new(&bus.memory, 0);
        let head = driver.offer(&[(BUFFERS, 16, false)]);
        bus.write(spec::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(driver.used(), Some((head, 0)));
        driver.offer(&[(BUFFERS, 16, false)]);
        bus.reset();
        let interrupts = bus.interrupts();
        driver.offer(&[(BUFFERS, 16, false)]);
        assert_eq!(bus.read(spec::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        assert_eq!(bus.interrupts(), interrupts);
        while events.try_recv().is_ok() {}
    }
    drop(bus);
    worker.join().unwrap();
}
