//! Requests to a disk, by descriptors that make sense and others.
//!
//! A script's chains are served by the device and by an [`oracle`]; both must come to the same: used elements, status
//! bytes, all of the driver's buffers, all of the disk. So nothing is written but what was asked for, and a disk that
//! is read-only never changes. A driver that had buffers used gets exactly one interrupt.

mod oracle;
pub mod script;

use crate::board::{BUFFERS, Board, Descriptor, QUEUE_SIZE};
use kiln_devices::{Blk, BlkOptions, ComposedStorage, FileStorage, Segment, Storage};
use oracle::Oracle;
use rustix::fs::{MemfdFlags, memfd_create};
use script::Step;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes of the driver's buffers; memory ends behind them.
const AREA_BYTES: usize = 0x8000;
/// No whole number of sectors.
const DISK_BYTES: usize = 0x8000 + 100;
const SERIAL: &str = "scratch";

/// Bits of the choice of a disk.
pub const READ_ONLY: u8 = 1;
pub const FLUSH: u8 = 2;
/// It is composed of many pieces of the file, and read-only.
pub const COMPOSED: u8 = 4;

/// Plays an input.
pub fn play(input: &[u8]) {
    let (choice, steps) = script::parse(input);
    let mut bench = Bench::new(choice);
    steps.for_each(|step| bench.take(step));
    bench.kick();
    bench.check_disk();
}

struct Bench {
    board: Board,
    oracle: Oracle,
    storage: Arc<dyn Storage>,
    file: File,
    /// The next descriptor to be written, and the first since the last chain.
    next: u16,
    first: u16,
    /// Heads that were made available since the last kick.
    pending: Vec<u16>,
}

impl Bench {
    fn new(choice: u8) -> Self {
        let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).expect("a file"));
        file.write_all_at(&content(), 0).expect("it is in memory");
        let composed = choice & COMPOSED != 0;
        let options = BlkOptions {
            serial: SERIAL.to_owned(),
            read_only: composed || choice & READ_ONLY != 0,
            flush: choice & FLUSH != 0,
        };
        let storage = if composed { pieces(&file) } else { whole(&file) };
        let mut disk = vec![0; storage.len() as usize];
        read(&*storage, &mut disk);
        let oracle = Oracle { disk, memory: Vec::new(), read_only: options.read_only, flush: options.flush };
        let mut board =
            Board::new(Box::new(Blk::new(storage.clone(), options)), BUFFERS as usize + AREA_BYTES);
        board.restart();
        Self { board, oracle, storage, file, next: 0, first: 0, pending: Vec::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Header { place, kind, sector } => {
                self.put(place, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
            }
            Step::Range { place, flags, sectors, sector } => {
                let flags = u32::from(flags).to_le_bytes();
                self.put(place, &[&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags].concat());
            }
            Step::Fill { place, seed, length } => {
                let length = AREA_BYTES.min(length as usize);
                self.put(
                    place,
                    &(0..length).map(|at| seed.wrapping_add((at % 251) as u8)).collect::<Vec<_>>(),
                );
            }
            Step::Entry { place, flags, next, length, address } => {
                let descriptor = descriptor(address.into(), length, flags, next);
                self.put(place, &descriptor.to_bytes());
            }
            Step::Buffer { flags, next, length, address } => self.describe(flags, next, length, address),
            Step::Offer { head } => self.offer(head),
            Step::Kick => self.kick(),
            Step::Restart => self.restart(),
        }
    }

    /// Writes as much as there is room for.
    fn put(&self, place: u16, bytes: &[u8]) {
        let place = usize::from(place) % AREA_BYTES;
        let count = bytes.len().min(AREA_BYTES - place);
        self.board.write(BUFFERS + place as u64, &bytes[..count]);
    }

    fn describe(&mut self, flags: u8, next: u16, length: u32, address: u64) {
        let index = self.next;
        self.next = (index + 1) % QUEUE_SIZE;
        let next = next.checked_sub(1).unwrap_or(self.next);
        self.board.describe(0, index, descriptor(address, length, flags, next));
    }

    fn offer(&mut self, head: u16) {
        let head = head.checked_sub(1).unwrap_or(self.first);
        self.first = self.next;
        self.pending.push(head);
        self.board.make_available(0, head);
        if self.pending.len() == usize::from(QUEUE_SIZE) {
            self.kick();
        }
    }

    /// Has device and oracle do the same.
    fn kick(&mut self) {
        self.oracle.memory = self.board.read(0, BUFFERS as usize + AREA_BYTES);
        let interrupts = self.board.interrupts();
        self.board.kick(0);
        let served = self.check_used();
        let told = self.board.interrupts() - interrupts;
        assert_eq!(told, usize::from(served), "interrupts");
        let buffers = self.board.read(BUFFERS, AREA_BYTES);
        assert!(buffers == self.oracle.buffers(), "the driver's buffers");
        if self.board.needs_reset() {
            self.restart();
        }
    }

    /// Whether there is anything to tell the driver.
    fn check_used(&mut self) -> bool {
        let pending = std::mem::take(&mut self.pending);
        for head in &pending {
            // A head that is no descriptor cannot be handed back; the ring is then broken.
            assert_eq!(self.board.needs_reset() && *head >= QUEUE_SIZE, *head >= QUEUE_SIZE, "head {head}");
            if *head >= QUEUE_SIZE {
                break;
            }
            let expected = (u32::from(*head), self.oracle.serve(*head));
            assert_eq!(self.board.used(0), Some(expected));
        }
        assert_eq!(self.board.used(0), None);
        !pending.is_empty()
    }

    fn restart(&mut self) {
        self.kick_before_restart();
        self.board.restart();
        (self.next, self.first) = (0, 0);
    }

    /// What was made available and not kicked may or may not be served, so it is not left there.
    fn kick_before_restart(&mut self) {
        if !self.pending.is_empty() {
            self.kick();
        }
    }

    fn check_disk(&self) {
        let mut disk = vec![0; self.oracle.disk.len()];
        read(&*self.storage, &mut disk);
        assert!(disk == self.oracle.disk, "the disk");
        if self.oracle.read_only {
            let mut file = vec![0; DISK_BYTES];
            self.file.read_exact_at(&mut file, 0).expect("it is in memory");
            assert!(file == content(), "a read-only disk's file");
        }
    }
}

fn descriptor(address: u64, len: u32, flags: u8, next: u16) -> Descriptor {
    Descriptor { addr: address.saturating_add(BUFFERS), len, flags: flags.into(), next }
}

/// No byte is zero, and sectors differ.
fn content() -> Vec<u8> {
    (0..DISK_BYTES).map(|at| (1 + (at + at / 512 * 3) % 255) as u8).collect()
}

fn whole(file: &File) -> Arc<dyn Storage> {
    Arc::new(FileStorage::writable(file.try_clone().expect("a descriptor")).expect("a file has a size"))
}

/// Pieces of odd lengths with zeroes between them.
fn pieces(file: &File) -> Arc<dyn Storage> {
    let file = Arc::new(file.try_clone().expect("a descriptor"));
    let segments = (0..40).map(|number: u64| match number % 3 {
        2 => Segment::Zeroes(number * 13),
        _ => Segment::File { file: file.clone(), offset: number * 701, length: number * 29 },
    });
    Arc::new(ComposedStorage::new(segments).expect("they are within the file"))
}

/// As the device reads it, which the tests of `kiln-devices` compare with the file.
fn read(storage: &dyn Storage, into: &mut [u8]) {
    storage.read_at(&[vm_memory::VolatileSlice::from(into)], 0).expect("it is in memory");
}

#[cfg(test)]
mod tests;
