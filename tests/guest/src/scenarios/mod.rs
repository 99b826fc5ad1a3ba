//! What can be asked of this guest, by name.

mod block;
mod entropy;
mod hostile;
mod interrupts;
mod malformed;
mod processors;
mod registers;
mod vsock;

use crate::physical::Buffer;
use crate::start_info::StartInfo;
use crate::virtio::{self, Descriptor, INDIRECT, Location};
use crate::{heap, power, println};
use alloc::string::String;
use alloc::vec::Vec;

/// Whether a scenario passed, and else why not.
pub type Outcome = Result<(), String>;

type Scenario = fn(&Machine) -> Outcome;

const SCENARIOS: &[&[(&str, Scenario)]] = &[
    &[("hello", |_| Ok(())), ("triple_fault", |_| power::triple_fault())],
    block::SCENARIOS,
    entropy::SCENARIOS,
    interrupts::SCENARIOS,
    malformed::SCENARIOS,
    registers::SCENARIOS,
    hostile::SCENARIOS,
    processors::SCENARIOS,
    vsock::SCENARIOS,
];

/// The devices.
pub struct Machine {
    devices: Vec<Location>,
    /// Where memory below 4 GiB ends.
    pub memory_end: u64,
}

impl Machine {
    /// All of them.
    pub fn all(&self) -> &[Location] {
        &self.devices
    }

    /// All devices of a kind, by their device ID.
    pub fn devices(&self, id: u32) -> impl Iterator<Item = Location> {
        self.devices.iter().copied().filter(move |location| location.device_id() == id)
    }

    /// The only device of a kind.
    pub fn device(&self, id: u32) -> Result<Location, String> {
        self.devices(id).next().ok_or_else(|| alloc::format!("no device with ID {id}"))
    }

    /// The disk that can be written to.
    pub fn disk(&self) -> Result<Location, String> {
        self.disk_that(|location| location.features() & block::READ_ONLY == 0)
    }

    /// The disk that cannot.
    pub fn read_only_disk(&self) -> Result<Location, String> {
        self.disk_that(|location| location.features() & block::READ_ONLY != 0)
    }

    fn disk_that(&self, fits: impl Fn(&Location) -> bool) -> Result<Location, String> {
        self.devices(virtio::BLOCK).find(fits).ok_or_else(|| String::from("no such disk"))
    }
}

/// Runs what the command line asks for.
pub fn run(start_info: &StartInfo) {
    let machine = Machine { devices: start_info.devices(), memory_end: start_info.memory_end };
    for name in start_info.values("scenario") {
        let mark = heap::mark();
        match run_one(name, &machine) {
            Ok(()) => println!("pass {name}"),
            Err(why) => println!("fail {name}: {why}"),
        }
        // SAFETY: a scenario resets the devices it used; nothing of it is left but the reason just printed.
        unsafe { heap::release(mark) };
    }
}

fn run_one(name: &str, machine: &Machine) -> Outcome {
    let found = SCENARIOS.iter().copied().flatten().find(|(other, _)| *other == name);
    found.map_or_else(|| Err(String::from("no such scenario")), |(_, scenario)| scenario(machine))
}

/// Fails unless `right`, and says why.
pub fn check(right: bool, why: impl FnOnce() -> String) -> Outcome {
    if right { Ok(()) } else { Err(why()) }
}

/// A descriptor for a table of these, which form a chain.
pub fn table(chain: &[Descriptor]) -> Descriptor {
    let table = Buffer::new(chain.len() * 16);
    for (index, descriptor) in (0..).zip(chain) {
        let has_next = usize::from(index) + 1 < chain.len();
        let flags = descriptor.flags | if has_next { virtio::NEXT } else { 0 };
        Descriptor { flags, next: index + 1, ..*descriptor }.store(table.address, index);
    }
    Descriptor { flags: INDIRECT, ..Descriptor::readable(table.address, table.bytes) }
}
