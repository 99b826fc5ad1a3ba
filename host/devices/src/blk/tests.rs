use super::*;
use crate::mock::{
    BUFFERS, Bus, Carrier, Descriptor, Driver, INDIRECT, MEMORY_BYTES, NEXT, WRITE, cut, memory,
};
use crate::{ComposedStorage, FileStorage, Segment, corpus};
use proptest::prelude::*;
use script::Step;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::LazyLock;

/// The requests below as inputs for fuzzing.
#[path = "../../../../tests/fuzz/src/block/script.rs"]
mod script;

const DISK_BYTES: usize = 1 << 20;
const STATUS: u64 = BUFFERS + 0x1000;
const DATA: u64 = BUFFERS + 0x10_000;
const UNTOUCHED: u8 = 0xee;

struct Bench<C = Blk> {
    driver: Driver,
    device: C,
    file: File,
}

fn content() -> Vec<u8> {
    static CONTENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..DISK_BYTES).map(|i| u8::try_from(i * 31 / 7 % 251).unwrap()).collect());
    CONTENT.clone()
}

fn bench(options: BlkOptions) -> Bench {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&content(), 0).unwrap();
    let storage = FileStorage::writable(file.try_clone().unwrap()).unwrap();
    let device = Blk::new(Arc::new(storage), options);
    Bench { driver: Driver::new(&memory(), 0), device, file }
}

fn writable() -> Bench {
    bench(BlkOptions { serial: "scratch".into(), ..BlkOptions::default() })
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

impl Bench {
    /// The same disk behind registers.
    fn over_mmio(self) -> Bench<Bus> {
        let Self { driver, device, file } = self;
        let bus = Bus::new(Box::new(device), &driver.memory);
        bus.start();
        Bench { driver, device: bus, file }
    }
}

/// A request for disks of all kinds, which are smaller and whose driver has less memory.
fn seed_request(out: &[u8], out_pieces: usize, wanted: usize, in_pieces: usize) {
    const DATA: u64 = 0x100;
    const BYTES_MAX: usize = 0x4000;
    let mut buffers = cut(DATA, out.len().min(BYTES_MAX), out_pieces, false);
    if wanted > 0 {
        buffers.extend(cut(DATA + BYTES_MAX as u64, wanted.min(0x3000), in_pieces, true));
    }
    buffers.push((0, 1, true));
    let last = buffers.len() - 1;
    let descriptors = buffers.iter().enumerate().map(|(index, (address, length, writable))| {
        let flags = if index == last { 0 } else { NEXT } | if *writable { WRITE } else { 0 };
        Step::Buffer { flags: u8::try_from(flags).unwrap(), next: 0, length: *length, address: *address }
    });
    let steps = stores(out).into_iter().chain(descriptors).chain([Step::Offer { head: 0 }, Step::Kick]);
    let steps: Vec<Step> = steps.collect();
    (0..8).for_each(|disk| corpus::seed("block", &script::build(disk, steps.iter().copied())));
}

/// Writes what a request sends: its header, and its data or ranges.
fn stores(out: &[u8]) -> Vec<Step> {
    let (words, data) = out.split_at(out.len().min(16 * 18));
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |bytes: &[u8], at| u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32;
    let at = |index: usize| u16::try_from(0x100 + index * 16).unwrap();
    let store = |(index, bytes): (usize, &[u8])| match index {
        0 => Step::Header { place: at(0), kind: word(bytes, 0), sector: long(bytes, 8) },
        _ => Step::Range {
            place: at(index),
            flags: bytes[12],
            sectors: word(bytes, 8),
            sector: long(bytes, 0),
        },
    };
    let fill = Step::Fill { place: at(18), seed: 1, length: u32::try_from(data.len()).unwrap() };
    words.chunks_exact(16).enumerate().map(store).chain((!data.is_empty()).then_some(fill)).collect()
}

/// A malformed chain likewise: descriptors as they are, of which the first has the index 40.
fn seed_malformed(descriptors: &[Descriptor]) {
    let buffer = |descriptor: &Descriptor| Step::Buffer {
        flags: u8::try_from(descriptor.flags).unwrap(),
        next: descriptor.next.checked_sub(40).map_or(0, |next| next + 1),
        length: descriptor.len,
        address: descriptor.addr.saturating_sub(DATA),
    };
    let header = Step::Header { place: 0, kind: spec::VIRTIO_BLK_T_IN, sector: 0 };
    let end = [Step::Offer { head: 0 }, Step::Kick];
    corpus::seed(
        "block",
        &script::build(0, [header].into_iter().chain(descriptors.iter().map(buffer)).chain(end)),
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_script(input in prop::collection::vec(any::<u8>(), 1..200)) {
        let (choice, steps) = script::parse(&input);
        let steps: Vec<Step> = steps.collect();
        let built = script::build(choice, steps.iter().copied());
        prop_assert!(built.len() <= input.len());
        let (again, parsed) = script::parse(&built);
        prop_assert_eq!((again, parsed.collect::<Vec<_>>()), (choice, steps));
    }
}

impl<C: Carrier> Bench<C> {
    /// Runs one request: what the driver sends, cut in so many pieces, and how many bytes it wants.
    /// Gives the status and the used length.
    fn request(&mut self, out: &[u8], out_pieces: usize, wanted: usize, in_pieces: usize) -> (u32, u32) {
        seed_request(out, out_pieces, wanted, in_pieces);
        self.driver.write(BUFFERS, &vec![0; 0x1000]);
        self.driver.write(DATA, out);
        self.driver.write(STATUS, &[UNTOUCHED]);
        let mut buffers = cut(DATA, out.len(), out_pieces, false);
        if wanted > 0 {
            buffers.extend(cut(self.input(), wanted, in_pieces, true));
        }
        buffers.push((STATUS, 1, true));
        let head = self.driver.offer(&buffers);
        self.driver.process(&mut self.device);
        let (used, length) = self.driver.used().unwrap();
        assert_eq!(used, head);
        (u32::from(self.driver.read(STATUS, 1)[0]), length)
    }

    /// Where read data goes.
    fn input(&self) -> u64 {
        DATA + 0x10_0000
    }

    fn disk(&self) -> Vec<u8> {
        let mut bytes = vec![0; DISK_BYTES];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

#[test]
fn data_is_read_however_the_buffers_are_cut() {
    for (out_pieces, in_pieces) in [(1, 1), (2, 2), (16, 17), (3, 50)] {
        read_in_pieces(writable(), out_pieces, in_pieces);
        read_in_pieces(writable().over_mmio(), out_pieces, in_pieces);
    }
}

fn read_in_pieces(mut bench: Bench<impl Carrier>, out_pieces: usize, in_pieces: usize) {
    let wanted = 64 * 1024;
    let answer = bench.request(&header(spec::VIRTIO_BLK_T_IN, 3), out_pieces, wanted, in_pieces);
    assert_eq!(answer, (spec::VIRTIO_BLK_S_OK, 64 * 1024 + 1));
    assert!(bench.driver.read(bench.input(), wanted) == content()[3 * 512..][..wanted]);
}

#[test]
fn data_is_written_however_the_buffers_are_cut() {
    for pieces in [1, 2, 17] {
        write_in_pieces(writable(), pieces);
        write_in_pieces(writable().over_mmio(), pieces);
    }
}

fn write_in_pieces(mut bench: Bench<impl Carrier>, pieces: usize) {
    let data: Vec<u8> = (0..64 * 1024_u32).map(|i| (i % 13) as u8).collect();
    let request = [header(spec::VIRTIO_BLK_T_OUT, 5), data.clone()].concat();
    assert_eq!(bench.request(&request, pieces, 0, 1), (spec::VIRTIO_BLK_S_OK, 1));
    let mut expected = content();
    expected[5 * 512..][..data.len()].copy_from_slice(&data);
    assert!(bench.disk() == expected);
}

#[test]
fn a_status_that_shares_its_buffer_with_data_is_the_last_byte() {
    let mut bench = writable();
    bench.driver.write(DATA, &header(spec::VIRTIO_BLK_T_IN, 0));
    bench.driver.offer(&[(DATA, 16, false), (bench.input(), 513, true)]);
    bench.driver.process(&mut bench.device);
    assert_eq!(bench.driver.used().unwrap().1, 513);
    assert_eq!(bench.driver.read(bench.input() + 512, 1), [0]);
}

#[test]
fn the_serial_is_told_up_to_its_length() {
    for (serial, told) in [
        ("base", b"base\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("12345678901234567890x", b"12345678901234567890"),
    ] {
        let mut bench = bench(BlkOptions { serial: serial.into(), ..BlkOptions::default() });
        let answer = bench.request(&header(spec::VIRTIO_BLK_T_GET_ID, 0), 1, 20, 1);
        assert_eq!(answer, (spec::VIRTIO_BLK_S_OK, 21));
        assert_eq!(bench.driver.read(bench.input(), 20), told);
    }
}

#[test]
fn what_is_discarded_or_zeroed_reads_as_zeroes_and_needs_no_space() {
    for kind in [spec::VIRTIO_BLK_T_DISCARD, spec::VIRTIO_BLK_T_WRITE_ZEROES] {
        let mut bench = writable();
        let before = bench.file.metadata().unwrap().blocks();
        let request = [header(kind, 0), range(8, 256, 0), range(1024, 64, 0)].concat();
        assert_eq!(bench.request(&request, 1, 0, 1).0, spec::VIRTIO_BLK_S_OK);
        let mut expected = content();
        expected[8 * 512..264 * 512].fill(0);
        expected[1024 * 512..1088 * 512].fill(0);
        assert!(bench.disk() == expected);
        assert!(bench.file.metadata().unwrap().blocks() < before);
    }
}

#[test]
fn requests_that_cannot_be_get_the_status_the_specification_wants() {
    use spec::{VIRTIO_BLK_S_IOERR as IOERR, VIRTIO_BLK_S_UNSUPP as UNSUPP};
    let last = DISK_BYTES as u64 / 512;
    let hole = |kind, ranges: &[u8]| [header(kind, 0), ranges.to_vec()].concat();
    let (discard, zeroes) = (spec::VIRTIO_BLK_T_DISCARD, spec::VIRTIO_BLK_T_WRITE_ZEROES);
    let cases = [
        ("read behind the end", header(spec::VIRTIO_BLK_T_IN, last), 512, IOERR),
        ("read over the end", header(spec::VIRTIO_BLK_T_IN, last - 1), 1024, IOERR),
        ("sector that overflows", header(spec::VIRTIO_BLK_T_IN, u64::MAX / 512 + 1), 512, IOERR),
        ("end that overflows", header(spec::VIRTIO_BLK_T_IN, u64::MAX / 512), 512, IOERR),
        ("half a sector", header(spec::VIRTIO_BLK_T_IN, 0), 256, IOERR),
        ("write half a sector", [header(spec::VIRTIO_BLK_T_OUT, 0), vec![1; 100]].concat(), 0, IOERR),
        ("no whole header", vec![0; 15], 0, IOERR),
        ("unknown", header(77, 0), 512, UNSUPP),
        ("flush, not offered", header(spec::VIRTIO_BLK_T_FLUSH, 0), 0, UNSUPP),
        ("discard without range", hole(discard, &[]), 0, IOERR),
        ("discard with half a range", hole(discard, &range(0, 8, 0)[..9]), 0, IOERR),
        ("discard behind the end", hole(discard, &range(last, 8, 0)), 0, IOERR),
        ("discard of too much", hole(discard, &range(0, u32::MAX, 0)), 0, IOERR),
        ("discard with a flag", hole(discard, &range(0, 8, 1)), 0, UNSUPP),
        ("zeroes with an unknown flag", hole(zeroes, &range(0, 8, 2)), 0, UNSUPP),
        ("too many ranges", hole(zeroes, &range(0, 8, 0).repeat(17)), 0, IOERR),
    ];
    for (name, out, wanted, expected) in cases {
        refused(name, writable(), &out, wanted, expected);
        refused(name, writable().over_mmio(), &out, wanted, expected);
    }
}

fn refused(name: &str, mut bench: Bench<impl Carrier>, out: &[u8], wanted: usize, expected: u32) {
    assert_eq!(bench.request(out, 1, wanted, 1).0, expected, "{name}");
    assert!(bench.disk() == content(), "{name} changed the disk");
}

#[test]
fn a_read_only_disk_says_so_and_refuses_changes() {
    let mut bench = bench(BlkOptions { read_only: true, ..BlkOptions::default() });
    assert_ne!(bench.device.features() & feature(spec::VIRTIO_BLK_F_RO), 0);
    assert_eq!(bench.device.features() & feature(spec::VIRTIO_BLK_F_DISCARD), 0);
    for request in [
        [header(spec::VIRTIO_BLK_T_OUT, 0), vec![1; 512]].concat(),
        [header(spec::VIRTIO_BLK_T_DISCARD, 0), range(0, 8, 0)].concat(),
        [header(spec::VIRTIO_BLK_T_WRITE_ZEROES, 0), range(0, 8, 0)].concat(),
    ] {
        assert_eq!(bench.request(&request, 1, 0, 1).0, spec::VIRTIO_BLK_S_IOERR);
    }
    assert!(bench.disk() == content());
}

#[test]
fn flushing_is_offered_only_when_asked_for() {
    let flush = feature(spec::VIRTIO_BLK_F_FLUSH);
    assert_eq!(writable().device.features() & flush, 0);
    let mut durable = bench(BlkOptions { flush: true, ..BlkOptions::default() });
    assert_ne!(durable.device.features() & flush, 0);
    assert_eq!(durable.request(&header(spec::VIRTIO_BLK_T_FLUSH, 0), 1, 0, 1).0, spec::VIRTIO_BLK_S_OK);
}

#[test]
fn the_configuration_is_laid_out_as_the_specification_wants() {
    let device = writable().device;
    let config = device.config();
    let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    assert_eq!(config.len(), 60);
    assert_eq!(u64::from_le_bytes(config[..8].try_into().unwrap()), DISK_BYTES as u64 / 512);
    assert_eq!(word(12), u32::from(QUEUE_SIZE) - 2, "seg_max");
    assert_eq!(word(20), 512, "blk_size");
    assert_eq!([word(36), word(40), word(44)], [1 << 21, 16, 8], "discard");
    assert_eq!([word(48), word(52), u32::from(config[56])], [1 << 21, 16, 1], "write zeroes");
}

#[test]
fn a_batch_gets_one_interrupt() {
    let mut bench = writable();
    bench.driver.write(DATA, &header(spec::VIRTIO_BLK_T_IN, 0));
    for _ in 0..10 {
        bench.driver.offer(&[(DATA, 16, false), (bench.input(), 512, true), (STATUS, 1, true)]);
    }
    bench.driver.process(&mut bench.device);
    assert_eq!((0..10).filter_map(|_| bench.driver.used()).count(), 10);
    assert_eq!(bench.driver.interrupts(), 1);
    bench.driver.process(&mut bench.device);
    assert_eq!(bench.driver.interrupts(), 1, "nothing done, nothing to tell");
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let mut bench = writable();
    bench.driver.write(DATA, &header(spec::VIRTIO_BLK_T_IN, 0));
    for (flags, interrupts) in [(1, 0), (0, 1), (1, 1)] {
        bench.driver.set_available_flags(flags);
        bench.driver.offer(&[(DATA, 16, false), (bench.input(), 512, true), (STATUS, 1, true)]);
        bench.driver.process(&mut bench.device);
        assert!(bench.driver.used().is_some());
        assert_eq!(bench.driver.interrupts(), interrupts, "flags {flags}");
    }
}

#[test]
fn malformed_chains_are_handed_back_and_the_next_one_is_served() {
    let out = Descriptor { addr: DATA, len: 16, flags: NEXT, next: 41 };
    let end = Descriptor { addr: STATUS, len: 1, flags: WRITE, next: 0 };
    let outside = MEMORY_BYTES as u64;
    let cases: [(&str, Vec<Descriptor>); 8] = [
        ("loop", vec![out, Descriptor { flags: NEXT, next: 40, ..end }]),
        ("no such descriptor", vec![Descriptor { next: 9999, ..out }]),
        ("outside memory", vec![out, Descriptor { addr: outside, ..end }]),
        ("over the end of memory", vec![out, Descriptor { addr: outside - 1, len: 2, ..end }]),
        ("end of the address space", vec![out, Descriptor { addr: u64::MAX, len: 9, ..end }]),
        (
            "readable behind writable",
            vec![Descriptor { flags: NEXT | WRITE, ..out }, Descriptor { flags: 0, ..end }],
        ),
        ("no room for a status", vec![Descriptor { flags: 0, ..out }]),
        (
            "indirect table outside memory",
            vec![Descriptor { addr: outside, len: 32, flags: INDIRECT, next: 0 }],
        ),
    ];
    for (name, descriptors) in cases {
        seed_malformed(&descriptors);
        malformed(name, writable(), &descriptors);
        malformed(name, writable().over_mmio(), &descriptors);
    }
}

fn malformed(name: &str, mut bench: Bench<impl Carrier>, descriptors: &[Descriptor]) {
    for (index, descriptor) in (40..).zip(descriptors) {
        bench.driver.put(index, *descriptor);
    }
    bench.driver.write(DATA, &header(spec::VIRTIO_BLK_T_IN, 0));
    bench.driver.make_available(40);
    bench.driver.process(&mut bench.device);
    assert_eq!(bench.driver.used(), Some((40, 0)), "{name}");
    let answer = bench.request(&header(spec::VIRTIO_BLK_T_IN, 0), 1, 512, 1);
    assert_eq!(answer.0, spec::VIRTIO_BLK_S_OK, "{name}");
}

#[test]
fn an_indirect_table_is_a_chain_like_others() {
    let mut bench = writable();
    let table = BUFFERS + 0x8000;
    bench.driver.write(DATA, &header(spec::VIRTIO_BLK_T_IN, 1));
    let entries = [
        Descriptor { addr: DATA, len: 16, flags: NEXT, next: 1 },
        Descriptor { addr: bench.input(), len: 512, flags: NEXT | WRITE, next: 2 },
        Descriptor { addr: STATUS, len: 1, flags: WRITE, next: 0 },
    ];
    for (index, entry) in (0..).zip(entries) {
        bench.driver.put_at(table + index * 16, entry);
    }
    bench.driver.put(7, Descriptor { addr: table, len: 48, flags: INDIRECT, next: 0 });
    bench.driver.make_available(7);
    bench.driver.process(&mut bench.device);
    assert_eq!(bench.driver.used(), Some((7, 513)));
    assert_eq!(bench.driver.read(bench.input(), 512), content()[512..1024]);
}

#[test]
fn a_ring_that_claims_what_it_has_not_keeps_nobody_busy() {
    for claim in [crate::mock::QUEUE_SIZE + 1, u16::MAX, 0x8000] {
        let mut bench = writable();
        bench.driver.claim_available(claim);
        bench.driver.process(&mut bench.device);
        assert_eq!(bench.driver.used(), None);
    }
}

#[test]
fn a_queue_that_is_not_ready_is_left_alone() {
    use virtio_queue::QueueT;
    let mut bench = writable();
    bench.driver.queue.reset();
    bench.driver.process(&mut bench.device);
    assert_eq!(bench.driver.interrupts(), 0);
}

#[test]
fn a_composed_disk_serves_requests_over_many_segments() {
    let mut bench = writable();
    let file = Arc::new(bench.file.try_clone().unwrap());
    let piece = |index: u64| Segment::File { file: file.clone(), offset: index * 1000, length: 100 };
    let disk = ComposedStorage::new((0..200).map(piece)).unwrap();
    bench.device = Blk::new(Arc::new(disk), BlkOptions { read_only: true, ..BlkOptions::default() });
    let expected: Vec<u8> = (0..200).flat_map(|i| content()[i * 1000..][..100].to_vec()).collect();
    let wanted = 20_000_usize.next_multiple_of(512);
    let answer = bench.request(&header(spec::VIRTIO_BLK_T_IN, 0), 1, wanted, 7);
    assert_eq!(answer.0, spec::VIRTIO_BLK_S_OK);
    let read = bench.driver.read(bench.input(), wanted);
    assert!(read[..20_000] == expected && read[20_000..].iter().all(|byte| *byte == 0));
}
