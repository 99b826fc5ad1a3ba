//! Disks, used as they are meant to be.

use super::{Machine, Outcome, Scenario, check};
use crate::physical::Buffer;
use crate::println;
use crate::virtio::{Descriptor, Device, INDIRECT_DESC, Location, Memory, Queue, Used, register, transport};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::transport::mmio::MmioTransport;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("block_read", read),
    ("block_read_in_pieces", read_in_pieces),
    ("block_write", write),
    ("block_write_in_pieces", write_in_pieces),
    ("block_serial", serial),
    ("block_unsupported", unsupported),
    ("block_read_only", read_only),
    ("block_out_of_range", out_of_range),
    ("block_clear", clear),
    ("block_reset_in_traffic", reset_in_traffic),
    ("block_configuration", configuration),
];

/// `VIRTIO_BLK_F_RO`
pub const READ_ONLY: u64 = 1 << 5;
/// `VIRTIO_BLK_F_FLUSH`
const FLUSHES: u64 = 1 << 9;
/// `VIRTIO_BLK_F_DISCARD`, `VIRTIO_BLK_F_WRITE_ZEROES`
const CLEARS: u64 = 1 << 13 | 1 << 14;

/// Types of requests (virtio 1.2 section 5.2.6).
pub mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// How requests end.
pub const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

pub const SECTOR_BYTES: usize = 512;
/// Of either disk, as the host makes them.
const SECTORS: u64 = 8192;

/// What the host has put into every sector of either disk.
pub fn content(sector: usize) -> [u8; SECTOR_BYTES] {
    core::array::from_fn(|index| (sector * 7 + index) as u8)
}

/// What is written, and the host looks for.
fn news(index: usize) -> u8 {
    (index % 251) as u8
}

/// A disk in the hands of our own driver.
pub struct Disk {
    pub device: Device,
    pub queue: Queue,
    header: Buffer,
    status: Buffer,
}

impl Disk {
    /// Resets the device and sets it up with a queue of `size` descriptors.
    pub fn open(location: Location, features: u64, size: u16) -> Result<Self, String> {
        let device = Device::prepare(location, features)?;
        let queue = device.queue(0, size)?;
        device.start();
        Ok(Self { device, queue, header: Buffer::new(16), status: Buffer::new(1) })
    }

    /// The header of a request as its first descriptor.
    pub fn header(&self, kind: u32, sector: u64) -> Descriptor {
        self.header.write(0, &kind.to_le_bytes());
        self.header.write(8, &sector.to_le_bytes());
        Descriptor::readable(self.header.address, 16)
    }

    /// Room for the status as the last descriptor of a request.
    pub fn status(&self) -> Descriptor {
        self.status.fill(0xff);
        Descriptor::writable(self.status.address, 1)
    }

    /// Makes a chain available and waits until it is used.
    pub fn submit(&mut self, chain: &[Descriptor]) -> Result<Used, String> {
        let head = self.queue.offer(chain);
        self.device.notify(0);
        loop {
            let used = self.queue.wait_used()?;
            if used.head == u32::from(head) {
                return Ok(used);
            }
        }
    }

    /// A whole request; gives the status.
    pub fn request(&mut self, kind: u32, sector: u64, data: &[Descriptor]) -> Result<u8, String> {
        let mut chain = Vec::from([self.header(kind, sector)]);
        chain.extend_from_slice(data);
        chain.push(self.status());
        self.submit(&chain)?;
        Ok(self.status.bytes(1)[0])
    }

    /// A request without data but such ranges of sectors.
    fn clear(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> Result<u8, String> {
        let wire = ranges.iter().flat_map(|(sector, count, flags)| {
            [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
        });
        let wire = Buffer::with(&wire.collect::<Vec<u8>>());
        self.request(kind, 0, &[Descriptor::readable(wire.address, wire.bytes)])
    }

    /// A read of 64 KiB into so many pieces.
    fn read_chain(&self, data: &Buffer, pieces: usize) -> Vec<Descriptor> {
        let mut chain = Vec::from([self.header(request::IN, 2)]);
        chain.extend(data.cut(pieces).map(|(at, length)| Descriptor::writable(at, length)));
        chain.push(self.status());
        chain
    }

    /// As [`submit`](Self::submit), in a table of its own.
    fn submit_indirect(&mut self, chain: &[Descriptor]) -> Result<Used, String> {
        let table = super::table(chain);
        self.submit(&[table])
    }

    /// A request like any other works.
    pub fn check(&mut self) -> Outcome {
        let data = Buffer::new(SECTOR_BYTES);
        let status = self.request(request::IN, 1, &[Descriptor::writable(data.address, data.bytes)])?;
        check(status == OK, || format!("a read has status {status}"))?;
        check(data.bytes(SECTOR_BYTES) == content(1), || String::from("a read gives something else"))
    }
}

fn failed(error: virtio_drivers::Error) -> String {
    format!("{error}")
}

/// A disk in the hands of a driver that knows nothing of us.
fn ordinary(location: Location) -> Result<VirtIOBlk<Memory, MmioTransport<'static>>, String> {
    VirtIOBlk::new(transport(location)).map_err(failed)
}

/// Sectors are read, several at once, of either disk.
fn read(machine: &Machine) -> Outcome {
    for location in [machine.disk()?, machine.read_only_disk()?] {
        let mut disk = ordinary(location)?;
        check(disk.capacity() == SECTORS, || format!("{} sectors", disk.capacity()))?;
        for start in [0, 3, SECTORS as usize - 16] {
            let mut bytes = [0; 16 * SECTOR_BYTES];
            disk.read_blocks(start, &mut bytes).map_err(failed)?;
            let right = bytes.as_chunks().0.iter().enumerate();
            let wrong = right.filter(|(index, sector)| **sector != content(start + index)).count();
            check(wrong == 0, || format!("{wrong} sectors from {start} on are wrong"))?;
        }
    }
    Ok(())
}

/// However a read is cut, direct or through a table, it gives the same.
fn read_in_pieces(machine: &Machine) -> Outcome {
    const BYTES: usize = 64 * 1024;
    let expected: Vec<u8> = (2..2 + BYTES / SECTOR_BYTES).flat_map(content).collect();
    let mut disk = Disk::open(machine.disk()?, INDIRECT_DESC, 256)?;
    for pieces in [1, 2, 17, 200] {
        for indirect in [false, true] {
            let data = Buffer::new(BYTES);
            let chain = disk.read_chain(&data, pieces);
            let used = if indirect { disk.submit_indirect(&chain)? } else { disk.submit(&chain)? };
            check(used.length as usize == BYTES + 1, || format!("{used:?} for {pieces} pieces"))?;
            check(data.bytes(BYTES) == expected, || format!("wrong in {pieces} pieces"))?;
        }
    }
    Ok(())
}

/// What is written is read again, and is on the host's disk.
fn write(machine: &Machine) -> Outcome {
    let mut disk = ordinary(machine.disk()?)?;
    let written: [u8; 8 * SECTOR_BYTES] = core::array::from_fn(news);
    disk.write_blocks(100, &written).map_err(failed)?;
    let mut read = [0; 8 * SECTOR_BYTES];
    disk.read_blocks(100, &mut read).map_err(failed)?;
    check(read == written, || String::from("what was written is not there"))
}

/// However a write is cut, it does the same.
fn write_in_pieces(machine: &Machine) -> Outcome {
    const BYTES: usize = 16 * 1024;
    let mut disk = Disk::open(machine.disk()?, 0, 256)?;
    for (index, pieces) in [1, 2, 17].into_iter().enumerate() {
        let data = Buffer::with(&(0..BYTES).map(news).collect::<Vec<u8>>());
        let data: Vec<_> = data.cut(pieces).map(|(at, length)| Descriptor::readable(at, length)).collect();
        let sector = 200 + (index * BYTES / SECTOR_BYTES) as u64;
        let status = disk.request(request::OUT, sector, &data)?;
        check(status == OK, || format!("status {status} in {pieces} pieces"))?;
    }
    Ok(())
}

/// The serial numbers are those the host gave.
fn serial(machine: &Machine) -> Outcome {
    for (location, expected) in [(machine.disk()?, "scratch"), (machine.read_only_disk()?, "base")] {
        let mut serial = [0; 20];
        let length = ordinary(location)?.device_id(&mut serial).map_err(failed)?;
        check(&serial[..length] == expected.as_bytes(), || format!("serial {serial:?}"))?;
    }
    Ok(())
}

/// What is not offered is refused, and so is what does not exist.
fn unsupported(machine: &Machine) -> Outcome {
    let location = machine.disk()?;
    check(location.features() & FLUSHES == 0, || String::from("flushing is offered"))?;
    let mut disk = Disk::open(location, !0, 64)?;
    for kind in [request::FLUSH, 77, u32::MAX] {
        let status = disk.request(kind, 0, &[])?;
        check(status == UNSUPPORTED, || format!("request {kind} has status {status}"))?;
    }
    disk.check()
}

/// A disk that is read-only stays as it is.
fn read_only(machine: &Machine) -> Outcome {
    let location = machine.read_only_disk()?;
    check(location.features() & CLEARS == 0, || String::from("clearing is offered"))?;
    let mut disk = Disk::open(location, !0, 64)?;
    let zeroes = Buffer::new(SECTOR_BYTES);
    let write = disk.request(request::OUT, 1, &[Descriptor::readable(zeroes.address, SECTOR_BYTES)])?;
    let discard = disk.clear(request::DISCARD, &[(0, 8, 0)])?;
    let zero = disk.clear(request::WRITE_ZEROES, &[(0, 8, 0)])?;
    check([write, discard, zero] == [IO_ERROR; 3], || format!("status {write}, {discard}, {zero}"))?;
    disk.check()
}

/// There is nothing behind the end.
fn out_of_range(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, 0, 64)?;
    let two_sectors = Buffer::new(2 * SECTOR_BYTES);
    for sector in [SECTORS - 1, SECTORS, u64::MAX / 512, u64::MAX / 512 + 1, u64::MAX] {
        let into = Descriptor::writable(two_sectors.address, two_sectors.bytes);
        let from = Descriptor::readable(two_sectors.address, two_sectors.bytes);
        let read = disk.request(request::IN, sector, &[into])?;
        let write = disk.request(request::OUT, sector, &[from])?;
        check([read, write] == [IO_ERROR; 2], || format!("status {read}, {write} at {sector}"))?;
    }
    let half = Descriptor::writable(two_sectors.address, SECTOR_BYTES / 2);
    let status = disk.request(request::IN, 0, &[half])?;
    check(status == IO_ERROR, || format!("half a sector has status {status}"))?;
    disk.check()
}

/// What is discarded or zeroed reads as zeroes, and what cannot be is refused.
fn clear(machine: &Machine) -> Outcome {
    let location = machine.disk()?;
    check(location.features() & CLEARS == CLEARS, || String::from("clearing is not offered"))?;
    let mut disk = Disk::open(location, !0, 64)?;
    let discard = disk.clear(request::DISCARD, &[(1024, 64, 0), (2048, 8, 0)])?;
    let zero = disk.clear(request::WRITE_ZEROES, &[(1088, 64, 1)])?;
    check([discard, zero] == [OK; 2], || format!("status {discard}, {zero}"))?;
    let data = Buffer::new(128 * SECTOR_BYTES);
    data.fill(1);
    disk.request(request::IN, 1024, &[Descriptor::writable(data.address, data.bytes)])?;
    let left = data.bytes(data.bytes).iter().filter(|byte| **byte != 0).count();
    check(left == 0, || format!("{left} bytes are left"))?;
    let behind = disk.clear(request::DISCARD, &[(SECTORS - 4, 8, 0)])?;
    check(behind == IO_ERROR, || format!("behind the end: status {behind}"))?;
    disk.check()
}

/// A reset while requests are under way leaves a device that works again.
fn reset_in_traffic(machine: &Machine) -> Outcome {
    for _ in 0..8 {
        let mut disk = Disk::open(machine.disk()?, 0, 256)?;
        let data = Buffer::new(64 * 1024);
        let header = disk.header(request::IN, 0);
        for _ in 0..64 {
            let chain = [header, Descriptor::writable(data.address, data.bytes), disk.status()];
            disk.queue.offer(&chain);
        }
        disk.device.notify(0);
        disk.device.location.reset()?;
        Disk::open(machine.disk()?, 0, 64)?.check()?;
    }
    Ok(())
}

/// The configuration space cannot be written to, and can be read behind its end.
fn configuration(machine: &Machine) -> Outcome {
    let location = machine.disk()?;
    let before = location.config_u64(0);
    location.write(register::CONFIG, 7);
    location.write(register::CONFIG + 0x80, 7);
    let after = location.config_u64(0);
    check(before == SECTORS && after == before, || format!("{before} sectors, then {after}"))?;
    println!("note behind the end of the configuration: {:#x}", location.config_u64(0x60));
    Ok(())
}
