//! Chains and rings that no driver should make. The device answers with the chain or wants to be reset, and in
//! either case works afterwards.

use super::block::{Disk, SECTOR_BYTES, request};
use super::{Machine, Outcome, Scenario, check, table};
use crate::clock;
use crate::physical::Buffer;
use crate::println;
use crate::virtio::{Descriptor, INDIRECT, INDIRECT_DESC, NEXT, Used, WRITE};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("malformed_loops", loops),
    ("malformed_lengths", lengths),
    ("malformed_addresses", addresses),
    ("malformed_overlaps", overlaps),
    ("malformed_directions", directions),
    ("malformed_indices", indices),
    ("malformed_tables", tables),
    ("malformed_table_not_negotiated", table_not_negotiated),
    ("malformed_chain_too_long", chain_too_long),
    ("malformed_available_index", available_index),
    ("malformed_available_entries", available_entries),
];

const QUEUE_SIZE: u16 = 64;
/// Where bad chains start, out of the way of good ones.
const HEAD: u16 = 40;

/// Above all memory, below the end of the address space.
const NOWHERE: u64 = 1 << 45;

/// What a device did about it.
enum Reaction {
    /// It gave the chain back.
    Answered(Used),
    /// It has set `DEVICE_NEEDS_RESET`.
    NeedsReset,
    Nothing,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(used) => write!(f, "answered, {} bytes", used.length),
            Self::NeedsReset => write!(f, "needs reset"),
            Self::Nothing => write!(f, "nothing"),
        }
    }
}

/// Whether the device owes an answer: it does for every chain that it could find.
#[derive(PartialEq, Eq)]
enum Answer {
    Due,
    Optional,
}

/// Lets the device see something bad, and then something good.
fn survives(machine: &Machine, name: &str, answer: Answer, spoil: impl FnOnce(&mut Disk)) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, INDIRECT_DESC, QUEUE_SIZE)?;
    disk.check()?;
    spoil(&mut disk);
    disk.device.notify(0);
    let reaction = disk.reaction(&answer);
    println!("note {name}: {reaction}");
    match reaction {
        Reaction::Answered(_) if answer == Answer::Due => disk.check(),
        Reaction::Nothing if answer == Answer::Due => Err(alloc::format!("{name}: no answer")),
        _ => Disk::open(machine.disk()?, INDIRECT_DESC, QUEUE_SIZE)?.check(),
    }
    .map_err(|why| alloc::format!("after {name}: {why}"))
}

impl Disk {
    fn reaction(&mut self, answer: &Answer) -> Reaction {
        let mut look = || match self.queue.take_used() {
            Some(used) => Some(Reaction::Answered(used)),
            None => self.device.needs_reset().then_some(Reaction::NeedsReset),
        };
        let seen = match answer {
            Answer::Due => clock::wait_for("an answer", &mut look).ok(),
            Answer::Optional => clock::soon(&mut look),
        };
        seen.unwrap_or(Reaction::Nothing)
    }

    /// Sets descriptors from [`HEAD`] on, as they are, and makes the first available.
    fn expose(&mut self, descriptors: &[Descriptor]) {
        for (index, descriptor) in (HEAD..).zip(descriptors) {
            self.queue.put(index, *descriptor);
        }
        self.queue.make_available(HEAD);
    }

    /// The three parts of a good read, each to be made bad; `next` as they are exposed.
    fn parts(&self) -> [Descriptor; 3] {
        let data = Buffer::new(SECTOR_BYTES);
        let header = Descriptor { flags: NEXT, next: HEAD + 1, ..self.header(request::IN, 0) };
        let data = Descriptor {
            flags: NEXT | WRITE,
            next: HEAD + 2,
            ..Descriptor::readable(data.address, data.bytes)
        };
        [header, data, self.status()]
    }

    /// A table whose chain is as given, no flag set that is not there.
    fn expose_table(&mut self, entries: &[Descriptor], more: u32) {
        let memory = Buffer::new(entries.len() * 16);
        for (index, entry) in (0..).zip(entries) {
            entry.store(memory.address, index);
        }
        let length = memory.bytes + more as usize;
        self.expose(&[Descriptor { flags: INDIRECT, ..Descriptor::readable(memory.address, length) }]);
    }
}

/// A bad version of a good read is answered.
fn spoiled(machine: &Machine, name: &str, spoil: impl FnOnce(&mut [Descriptor; 3])) -> Outcome {
    survives(machine, name, Answer::Due, |disk| {
        let mut parts = disk.parts();
        spoil(&mut parts);
        disk.expose(&parts);
    })
}

fn loops(machine: &Machine) -> Outcome {
    spoiled(machine, "one that follows itself", |[header, ..]| header.next = HEAD)?;
    spoiled(machine, "the second back to the first", |[_, data, _]| data.next = HEAD)?;
    spoiled(machine, "the last back to the second", |[_, _, status]| {
        status.flags |= NEXT;
        status.next = HEAD + 1;
    })
}

fn lengths(machine: &Machine) -> Outcome {
    spoiled(machine, "a header of no bytes", |[header, ..]| header.length = 0)?;
    spoiled(machine, "a header of too few bytes", |[header, ..]| header.length = 15)?;
    spoiled(machine, "data of no bytes", |[_, data, _]| data.length = 0)?;
    spoiled(machine, "a status of no bytes", |[_, _, status]| status.length = 0)?;
    spoiled(machine, "nothing but no bytes", |parts| parts.iter_mut().for_each(|part| part.length = 0))?;
    spoiled(machine, "data of 4 GiB", |[_, data, _]| data.length = u32::MAX)?;
    spoiled(machine, "a status of 4 GiB", |[_, _, status]| status.length = u32::MAX)
}

fn addresses(machine: &Machine) -> Outcome {
    let end = machine.memory_end;
    for address in [NOWHERE, u64::MAX - 15, u64::MAX, end, end - 1, machine.disk()?.address] {
        let name = alloc::format!("a header at {address:#x}");
        spoiled(machine, &name, |[header, ..]| header.address = address)?;
        let name = alloc::format!("data at {address:#x}");
        spoiled(machine, &name, |[_, data, _]| data.address = address)?;
    }
    spoiled(machine, "a status behind the end", |[_, _, status]| status.address = end)
}

/// Buffers over each other, and over the queue itself.
fn overlaps(machine: &Machine) -> Outcome {
    spoiled(machine, "a status in the data", |[_, data, status]| status.address = data.address + 100)?;
    spoiled(machine, "data over the header", |[header, data, _]| data.address = header.address)?;
    for (name, part) in [("descriptors", 0), ("the driver's part", 1), ("the device's part", 2)] {
        let name = alloc::format!("data over {name}");
        survives(machine, &name, Answer::Optional, |disk| {
            let mut parts = disk.parts();
            parts[1].address = disk.queue.addresses()[part];
            disk.expose(&parts);
        })?;
    }
    Ok(())
}

fn directions(machine: &Machine) -> Outcome {
    spoiled(machine, "a header to be written", |[header, ..]| header.flags |= WRITE)?;
    spoiled(machine, "data to be read into", |[_, data, _]| data.flags &= !WRITE)?;
    spoiled(machine, "a status to be read", |[_, _, status]| status.flags &= !WRITE)?;
    spoiled(machine, "nothing to be written", |parts| {
        parts.iter_mut().for_each(|part| part.flags &= !WRITE)
    })?;
    spoiled(machine, "nothing to be read", |parts| parts.iter_mut().for_each(|part| part.flags |= WRITE))
}

fn indices(machine: &Machine) -> Outcome {
    for next in [QUEUE_SIZE, QUEUE_SIZE + 1, 0x7fff, u16::MAX] {
        let name = alloc::format!("descriptor {next} of {QUEUE_SIZE}");
        spoiled(machine, &name, |[_, data, _]| data.next = next)?;
    }
    spoiled(machine, "flags that do not exist", |[header, ..]| header.flags |= 0xfff8)
}

fn tables(machine: &Machine) -> Outcome {
    let exposed = |name, spoil: fn(&mut Disk)| survives(machine, name, Answer::Due, spoil);
    exposed("a table in a table", |disk| {
        let inner = table(&disk.parts());
        disk.expose_table(&[inner], 0);
    })?;
    exposed("a table that goes on", |disk| {
        let inner = table(&disk.parts());
        let [_, _, status] = disk.parts();
        disk.expose(&[Descriptor { flags: INDIRECT | NEXT, next: HEAD + 1, ..inner }, status]);
    })?;
    exposed("a table of half an entry more", |disk| {
        let [mut header, mut data, status] = disk.parts();
        (header.next, data.next) = (1, 2);
        disk.expose_table(&[header, data, status], 8);
    })?;
    exposed("an empty table", |disk| {
        disk.expose(&[Descriptor { flags: INDIRECT, ..Descriptor::readable(0x10_0000, 0) }]);
    })?;
    exposed("a table outside memory", |disk| {
        disk.expose(&[Descriptor { flags: INDIRECT, ..Descriptor::readable(NOWHERE, 48) }]);
    })?;
    exposed("a table that is left", |disk| {
        let [mut header, ..] = disk.parts();
        header.next = 7;
        disk.expose_table(&[header], 0);
    })?;
    exposed("a table that loops", |disk| {
        let [mut header, mut data, _] = disk.parts();
        (header.next, data.next) = (1, 0);
        disk.expose_table(&[header, data], 0);
    })?;
    exposed("a table to be written", |disk| {
        let good = table(&disk.parts());
        disk.expose(&[Descriptor { flags: INDIRECT | WRITE, ..good }]);
    })?;
    exposed("a table of 4 GiB", |disk| {
        disk.expose(&[Descriptor { flags: INDIRECT, ..Descriptor::readable(0x10_0000, u32::MAX as usize) }]);
    })
}

fn table_not_negotiated(machine: &Machine) -> Outcome {
    let mut disk = Disk::open(machine.disk()?, 0, QUEUE_SIZE)?;
    let good = table(&disk.parts());
    disk.expose(&[good]);
    disk.device.notify(0);
    let reaction = disk.reaction(&Answer::Due);
    check(!matches!(reaction, Reaction::Nothing), || String::from("no answer"))?;
    Disk::open(machine.disk()?, 0, QUEUE_SIZE)?.check()
}

/// Longer than the queue, which a chain in a table could be.
fn chain_too_long(machine: &Machine) -> Outcome {
    for length in [65, 1000, 30_000] {
        let name = alloc::format!("a table of {length} entries");
        survives(machine, &name, Answer::Due, |disk| {
            let [header, data, status] = disk.parts();
            let mut chain = Vec::from([header]);
            chain.resize(length - 1, Descriptor { length: 1, flags: WRITE, ..data });
            chain.push(status);
            let table = table(&chain);
            disk.expose(&[table]);
        })?;
    }
    Ok(())
}

/// More is said to be available than there is room for, or less than before.
fn available_index(machine: &Machine) -> Outcome {
    for ahead in [QUEUE_SIZE + 1, 1000, 0x8000, u16::MAX] {
        let name = alloc::format!("{ahead} more available");
        survives(machine, &name, Answer::Optional, |disk| {
            disk.queue.claim_available(disk.queue.available_index().wrapping_add(ahead));
        })?;
    }
    Ok(())
}

/// What is available does not exist.
fn available_entries(machine: &Machine) -> Outcome {
    for head in [QUEUE_SIZE, 0x7fff, u16::MAX] {
        let name = alloc::format!("head {head} of {QUEUE_SIZE}");
        survives(machine, &name, Answer::Optional, |disk| disk.queue.make_available(head))?;
    }
    survives(machine, "the same head all over", Answer::Due, |disk| {
        let parts = disk.parts();
        (0..16).for_each(|_| disk.expose(&parts));
    })
}
