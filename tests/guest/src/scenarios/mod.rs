//! What can be asked of this guest, by name.

mod block;

use crate::command_line::CommandLine;
use crate::virtio::{self, Location};
use crate::{heap, println};
use alloc::string::String;
use alloc::vec::Vec;

/// Whether a scenario passed, and else why not.
pub type Outcome = Result<(), String>;

type Scenario = fn(&Machine) -> Outcome;

const SCENARIOS: &[(&str, Scenario)] = &[("hello", |_| Ok(())), ("block_read", block::read)];

/// The devices.
pub struct Machine(Vec<Location>);

impl Machine {
    /// All devices of a kind, by their device ID.
    pub fn devices(&self, id: u32) -> impl Iterator<Item = Location> {
        self.0.iter().copied().filter(move |location| location.device_id() == id)
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
pub fn run(command_line: &CommandLine) {
    let machine = Machine(command_line.devices());
    for name in command_line.values("scenario") {
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
    let found = SCENARIOS.iter().find(|(other, _)| *other == name);
    found.map_or_else(|| Err(String::from("no such scenario")), |(_, scenario)| scenario(machine))
}
