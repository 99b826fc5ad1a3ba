//! Our own machine on `/dev/kvm`.
//!
//! It runs in a process of its own, which is the same program started once more with a word that
//! nobody types: so that it can give up every right before its guest runs, and so that a guest that
//! breaks out of the machine finds itself in that process, not in this one. This side opens all
//! files, hands them over as open descriptors, and then only listens (`kiln_vmm::channel`): to the
//! console, to complaints, and to who connects.

mod cache;
mod device;
mod keeper;
mod line;
mod order;
mod probe;

use crate::board::Board;
use crate::console::Console;
use crate::error::Kind;
use crate::machine::ProcessMachine;
use crate::process::{Process, Program};
use crate::spec::Limits;
use crate::{Engine, Error, Machine, MachineSpec, Unusable, Usable};
use cache::Circumstances;
use keeper::Keeper;
use kiln_vmm::channel::{CpuModel, Finding, Lacking, Order, Verdict};
use line::Line;
use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(fuzzing)]
pub use line::{clean, decode};

/// The engine's.
const NAME: &str = "kvm";

/// The running program, also when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";

/// What the process is called in lists of processes.
const PROCESS_NAME: &str = "kiln-vmm";

/// First argument by which the program knows that it is to be the VMM process.
pub const VMM_ARGUMENT: &str = "vmm";

/// The I/O APIC has an interrupt line for this many virtio-mmio devices (`kiln_vmm`'s `layout.rs`), two
/// of which the socket and the random number device take.
const LIMITS: Limits = Limits { disks: 19 - 2, memory_mib: 64..=kiln_vmm::MEMORY_MIB_MAX };

/// See the module.
#[derive(Debug, Clone)]
pub struct Kvm {
    program: PathBuf,
    arguments: Vec<OsString>,
    device: PathBuf,
    cache: Option<PathBuf>,
    slow_will_do: bool,
    cpu_model: CpuModel,
}

impl Kvm {
    /// The VMM is this program, called with [`VMM_ARGUMENT`].
    pub fn from_environment() -> Self {
        Self::at(OURSELVES.into()).with_arguments([VMM_ARGUMENT])
    }

    /// The VMM is the program at the path `program`, called without arguments.
    pub fn at(program: PathBuf) -> Self {
        let device = device::DEVICE.into();
        Self {
            program,
            arguments: Vec::new(),
            device,
            cache: None,
            slow_will_do: false,
            cpu_model: CpuModel::Host,
        }
    }

    /// Calls the program with these.
    pub fn with_arguments<A: Into<OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..self }
    }

    /// Hands this to the program instead of `/dev/kvm`.
    pub fn with_device(self, device: PathBuf) -> Self {
        Self { device, ..self }
    }

    /// Keeps what a probe finds in this directory, if it is there.
    pub fn with_cache(self, directory: Option<PathBuf>) -> Self {
        Self { cache: directory, ..self }
    }

    /// Is worth launching also where its guests are slower than under emulation.
    pub fn even_if_slow(self) -> Self {
        Self { slow_will_do: true, ..self }
    }

    /// Is worth launching only where the host's processor has all of this.
    pub fn for_cpu_model(self, cpu_model: CpuModel) -> Self {
        Self { cpu_model, ..self }
    }

    fn program(&self) -> Program {
        Program {
            path: self.program.clone(),
            called: Some(PROCESS_NAME),
            arguments: self.arguments.clone(),
            without_environment: true,
            ..Program::default()
        }
    }

    fn usable(&self, finding: &Finding) -> Result<Usable, Unusable> {
        let host = rustix::system::uname();
        let mut version =
            format!("KVM API {}, Linux {}", device::API_VERSION, host.release().to_string_lossy());
        let path = self.device.clone();
        for lacking in &finding.lacking {
            version = format!("{version}; {}", lack(lacking));
        }
        match &finding.verdict {
            Verdict::Usable => Ok(Usable { path, version }),
            Verdict::Slow { factor } => {
                Ok(Usable { path, version: format!("{version}; {}", slowness(*factor)) })
            }
            Verdict::Unusable(why) => {
                let reason = format!("{} opens, but Linux cannot run on it: {why}", path.display());
                Err(Unusable { reason, remedy: None })
            }
        }
    }

    fn slow(&self, factor: u32) -> Unusable {
        Unusable {
            reason: format!("{} works, but {}", self.device.display(), slowness(factor)),
            remedy: Some("--accel kvm uses it all the same".into()),
        }
    }

    /// Less than the model that is asked for, which emulation has.
    fn lesser(&self, lacking: &Lacking) -> Unusable {
        Unusable {
            reason: format!("{} works, but {}", self.device.display(), lack(lacking)),
            remedy: Some("--cpu names another model".into()),
        }
    }

    /// What a probe finds, now or before.
    fn finding(&self) -> Result<Finding, Unusable> {
        let device = device::open(&self.device)?;
        let cache = self.cache.as_deref().filter(|directory| directory.is_dir());
        let Some((cache, circumstances)) = cache.zip(Circumstances::now(&self.program, &device)) else {
            return probe::ask(self, device);
        };
        if let Some(finding) = cache::recall(cache, &circumstances) {
            return Ok(finding);
        }
        let finding = probe::ask(self, device)?;
        cache::keep(cache, circumstances, &finding);
        Ok(finding)
    }
}

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn find(&self) -> Result<PathBuf, Unusable> {
        let finding = self.finding()?;
        let path = self.usable(&finding)?.path;
        if let (Verdict::Slow { factor }, false) = (&finding.verdict, self.slow_will_do) {
            return Err(self.slow(*factor));
        }
        match finding.lacking.iter().find(|lacking| lacking.model == self.cpu_model) {
            Some(lacking) => Err(self.lesser(lacking)),
            None => Ok(path),
        }
    }

    /// One that is slow, or of a lesser processor, works, and its version says so.
    fn probe(&self) -> Result<Usable, Unusable> {
        self.usable(&self.finding()?)
    }

    fn launch(&self, spec: MachineSpec) -> Result<Box<dyn Machine>, Error> {
        spec.check(&LIMITS)?;
        let (specification, descriptors) = order::open(&spec, &self.device)?;
        let (line, theirs) = Line::with(&Order::Run(Box::new(specification)))
            .map_err(|error| Kind::Setup("the channel to the VMM process", error))?;
        let board = Board::new(&spec.ports);
        let output = Console::new(spec.console);
        let console = output.tail.clone();
        let keeper = Keeper {
            line,
            disks: spec.disks.into_iter().map(|disk| disk.storage).collect(),
            board: board.clone(),
            console: console.clone(),
            ending: None,
        };
        let program = Program { input: Some(theirs), descriptors, ..self.program() };
        let process = Process::start(NAME, program, output, Box::new(keeper))?;
        Ok(Box::new(ProcessMachine { process, devices: (), board, console }))
    }
}

/// In words that follow "works, but".
fn lack(Lacking { model, features }: &Lacking) -> String {
    format!("this host's processor is less than {model}: it lacks {}", features.join(", "))
}

/// In words that follow "works, but".
fn slowness(factor: u32) -> String {
    format!("its guests' kernels run {factor} times slower than programs of this host")
}
