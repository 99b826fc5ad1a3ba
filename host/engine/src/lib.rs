//! Boots a throw-away micro-VM and gives streams to the agent in it.
//!
//! The seam is *launch, stream, wait, kill*: an [`Engine`] says whether it can work here
//! ([`Engine::probe`]) and launches a [`MachineSpec`]; the [`Machine`] hands out what the guest
//! connects to, and ends. Nothing is left behind however it ends: dropping a machine kills it.
//!
//! [`kvm`] runs our own VMM in a process of its own; [`qemu`] emulates, needs no privilege at all and
//! drives the same devices of `kiln-devices` through vhost-user; [`fake`] plays the guest in tests.

mod board;
mod choose;
mod console;
mod error;
pub mod fake;
mod initramfs;
mod kernel;
pub mod kvm;
mod machine;
mod memory_file;
mod process;
pub mod qemu;
mod spec;
mod tie;

pub use board::Killer;
pub use choose::{Accel, Choice, Settings, choose, engines};
pub use error::Error;
pub use initramfs::Initramfs;
pub use kiln_jail::{Landlock, landlock};
pub use kiln_vmm::channel::Counters;
pub use kiln_vmm::main as vmm_main;
pub use kvm::VMM_ARGUMENT;
pub use spec::{CpuModel, Disk, MachineSpec};

use std::num::NonZeroU8;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

/// Most processors a machine gets unless asked for more.
const MAX_DEFAULT_CPUS: usize = 8;

/// One way to run a machine.
pub trait Engine: Send + Sync {
    /// As people know it: `qemu`, `kvm`.
    fn name(&self) -> &'static str;

    /// How many processors to give a machine unless asked for: as many as pay off.
    fn default_cpus(&self) -> NonZeroU8 {
        let of_host =
            std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_DEFAULT_CPUS));
        NonZeroU8::new(of_host as u8).unwrap_or(NonZeroU8::MIN)
    }

    /// The program or device it uses, if it is worth launching: as much of
    /// [`probe`](Self::probe) as costs no time. What is left out, a failed launch makes up for.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    fn find(&self) -> Result<PathBuf, Unusable> {
        self.probe().map(|usable| usable.path)
    }

    /// Whether it can work on this host, found out without leaving a trace.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    fn probe(&self) -> Result<Usable, Unusable>;

    /// Starts a machine. It runs at once; wait for its agent with [`Machine::accept`].
    ///
    /// # Errors
    /// When the machine cannot be started. Nothing is left of it then.
    fn launch(&self, spec: MachineSpec) -> Result<Box<dyn Machine>, Error>;
}

/// A running machine; dropping it kills it.
pub trait Machine: Send {
    /// Waits for the guest to connect to `port`, one of [`MachineSpec::ports`].
    ///
    /// # Errors
    /// At the deadline, and as soon as the machine has ended; both with the last of the console.
    fn accept(&mut self, port: u32, deadline: Instant) -> Result<UnixStream, Error>;

    /// For threads that watch signals and clocks.
    fn killer(&self) -> Killer;

    /// Waits until the machine has ended and everything of it is gone; kills it at the deadline.
    ///
    /// # Errors
    /// When it had to be killed at the deadline.
    fn wait(self: Box<Self>, deadline: Instant) -> Result<Exit, Error>;

    /// The last lines of the console, without control characters.
    fn console_tail(&self) -> String;

    /// What it took until the guest first connected, if the engine counts and it has.
    fn counters(&self) -> Option<Counters> {
        None
    }
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched itself off or restarted, which is the same here.
    PoweredOff,
    /// The guest's kernel gave up; the line it said so in.
    Panicked(String),
    /// By a [`Killer`].
    Killed,
    /// The machine itself failed, and what it said.
    Failed(String),
    /// The engine turned out not to be one that can work, before the guest ran.
    Unusable(Unusable),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => write!(f, "the machine switched itself off"),
            Self::Panicked(line) => write!(f, "the guest's kernel gave up: {line}"),
            Self::Killed => write!(f, "the machine was killed"),
            Self::Failed(why) => write!(f, "the machine failed: {why}"),
            Self::Unusable(why) => write!(f, "the machine could not be started: {why}"),
        }
    }
}

/// An engine that can work, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    /// The program or device it uses.
    pub path: PathBuf,
    /// Its version, as it says.
    pub version: String,
}

impl std::fmt::Display for Usable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, version {}", self.path.display(), self.version)
    }
}

/// An engine that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Why, in lower case, without a final stop.
    pub reason: String,
    /// What to do about it, if anything can be done.
    pub remedy: Option<String>,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.reason)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}
