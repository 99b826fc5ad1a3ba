//! One run of a VM: boot it, give it a job, follow the job to its end.

use crate::{
    Error, Places,
    error::Kind,
    event::{Event, Observer},
    interrupt::Interrupt,
    scratch,
    session::{self, LayerReceiver},
};
use kiln_devices::Storage;
use kiln_engine::{Accel, Counters, CpuModel, Disk, Initramfs, Machine, MachineSpec, Settings};
use kiln_protocol::{AGENT_PORT, Job, StepReport};
use kiln_store::Store;
use std::{
    fs,
    io::{Read, Write},
    num::{NonZeroU8, NonZeroUsize},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// A guest that has not called home by then never will: a second or two is usual, and a busy host
/// may take ten times as long.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);

/// Names of the guest files in [`GuestSettings::lib_dir`].
const KERNEL: &str = "vmlinux";
const AGENT: &str = "agent";

/// extlinux writes the boot sector of a file system that is mounted, which Linux since 6.8 may refuse
/// ([parameters](https://docs.kernel.org/admin-guide/kernel-parameters.html)).
const WRITE_MOUNTED: &str = "bdev_allow_write_mounted=1";

/// How a VM is run.
#[derive(Debug, Clone)]
pub struct GuestSettings {
    /// Which engine.
    pub accel: Accel,
    /// Guest kernel, instead of kiln's own.
    pub kernel: Option<PathBuf>,
    /// Where kiln's own guest files are: `vmlinux` and `agent`.
    pub lib_dir: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors; as many as pay off if not given.
    pub cpus: Option<NonZeroU8>,
    /// What they look like.
    pub cpu_model: CpuModel,
    /// Size of the scratch disk in bytes.
    pub scratch_size: u64,
    /// Whether the guest's console goes to standard error.
    pub show_console: bool,
}

/// What a build works with: where it keeps things, who may end it, whom it tells.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub store: &'a Store,
    pub places: &'a dyn Places,
    pub interrupt: &'a Interrupt,
    pub observer: &'a dyn Observer,
}

impl Surroundings<'_> {
    /// Something begins that may take a while.
    pub fn phase(&self, text: &str) {
        self.observer.event(Event::Phase(text));
    }

    /// Processors that have to wait for each other slow the guest down, and too many keep it from booting.
    fn warn_of_many(&self, cpus: NonZeroU8) {
        let of_host = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        if usize::from(cpus.get()) > of_host {
            let notice = format!("{cpus} processors are slower than the {of_host} this host has; see --cpus");
            self.observer.event(Event::Notice(&notice));
        }
    }

    /// The error of a build that was told to end, once it was.
    pub fn check(&self) -> Result<(), Error> {
        self.interrupt.reason().map_or(Ok(()), |reason| Err(reason.into()))
    }
}

impl GuestSettings {
    /// Runs `job` in a new VM with these disks and a scratch disk. An error when a step does not
    /// end well.
    pub(crate) fn run(
        &self,
        job: &Job,
        mut disks: Vec<Disk>,
        stdin: Option<Box<dyn Read + Send>>,
        layer: &mut dyn LayerReceiver,
        surroundings: Surroundings,
    ) -> Result<(), Error> {
        let scratch = scratch::make(surroundings.store, self.scratch_size)?;
        disks.push(Disk { serial: scratch::SERIAL.to_owned(), storage: scratch.clone(), read_only: false });
        let mut machine = self.launch(job, disks, surroundings)?;
        let result = follow(machine.as_mut(), job, stdin, layer, surroundings.observer);
        // Whatever else went wrong followed from these.
        surroundings.check()?;
        if let Some(source) = scratch.host_error() {
            return Err(scratch::write_failed(surroundings.store, source));
        }
        let reports = result.map_err(|error| self.explain(error, job, machine.as_ref()))?;
        session::check_reports(job, &reports, self)?;
        power_off(machine);
        Ok(())
    }

    fn launch(
        &self,
        job: &Job,
        disks: Vec<Disk>,
        surroundings: Surroundings,
    ) -> Result<Box<dyn Machine>, Error> {
        let settings =
            Settings { cache: Some(surroundings.store.path().to_owned()), cpu_model: self.cpu_model };
        let choice = kiln_engine::choose(self.accel, &settings).map_err(Kind::Engine)?;
        if let Some(notice) = &choice.notice {
            surroundings.observer.event(Event::Notice(notice));
        }
        let (kernel, agent) = (self.kernel()?, self.agent()?);
        let cpus = self.cpus.unwrap_or_else(|| choice.engine.default_cpus());
        surroundings.warn_of_many(cpus);
        let spec = MachineSpec {
            kernel,
            initramfs: Initramfs::with_init(&agent).finish(),
            extra_command_line: job.target.iter().map(|_| WRITE_MOUNTED.to_owned()).collect(),
            cpus,
            cpu_model: self.cpu_model,
            memory_mib: self.memory_mib,
            disks,
            ports: vec![AGENT_PORT],
            console: self.show_console.then(|| Box::new(std::io::stderr()) as Box<dyn Write + Send>),
        };
        let detail = format!(
            "booting {} in {} ({}), {} MiB, {} processors",
            spec.kernel.display(),
            choice.engine.name(),
            choice.path.display(),
            self.memory_mib,
            cpus
        );
        surroundings.observer.event(Event::Detail(&detail));
        let machine = choice.engine.launch(spec).map_err(Kind::Engine)?;
        surroundings.interrupt.guard(machine.killer());
        Ok(machine)
    }

    fn kernel(&self) -> Result<PathBuf, Error> {
        match &self.kernel {
            Some(path) => {
                fs::metadata(path).map_err(|source| Kind::Read { path: path.clone(), source })?;
                Ok(path.clone())
            }
            None => {
                let path = self.lib_dir.join(KERNEL);
                fs::metadata(&path).map_err(|source| Kind::GuestFile { path: path.clone(), source })?;
                Ok(path)
            }
        }
    }

    fn agent(&self) -> Result<Vec<u8>, Error> {
        let path = self.lib_dir.join(AGENT);
        Ok(fs::read(&path).map_err(|source| Kind::GuestFile { path, source })?)
    }

    /// An error in the guest may only be want of space; if not, its console may explain it.
    fn explain(&self, error: Error, job: &Job, machine: &dyn Machine) -> Error {
        if error.is_want_of_space() {
            let first = job.steps.first().map_or("start", |step| step.name.as_str());
            let step = format!("what comes before or after {first}");
            return Kind::ScratchFull { step, size: self.scratch_size }.into();
        }
        if error.is_broken_connection() {
            return Kind::Console { error, console_tail: machine.console_tail() }.into();
        }
        error
    }
}

/// The guest powers off by itself now that the connection is closed, but everything it had to give has
/// arrived: pulling the plug is quicker, and it may be a guest that never would.
fn power_off(machine: Box<dyn Machine>) {
    machine.killer().kill();
    // Dropping it waits as well; how it ended no longer matters.
    drop(machine);
}

/// What the boot has cost, in counts that hardly change from host to host, and in times.
fn boot_cost(counters: &Counters) -> String {
    let Counters { start_us, run_us, exits, port_exits, mmio_exits, kicks, interrupts } = counters;
    format!(
        "agent ready after {exits} exits ({port_exits} for ports, {mmio_exits} for device registers), {kicks} \
         kicks and {interrupts} interrupts; first instruction after {start_us} µs, agent {run_us} µs later"
    )
}

fn follow(
    machine: &mut dyn Machine,
    job: &Job,
    stdin: Option<Box<dyn Read + Send>>,
    layer: &mut dyn LayerReceiver,
    observer: &dyn Observer,
) -> Result<Vec<StepReport>, Error> {
    let stream = machine.accept(AGENT_PORT, Instant::now() + BOOT_DEADLINE).map_err(Kind::Engine)?;
    if let Some(counters) = machine.counters() {
        observer.event(Event::Detail(&boot_cost(&counters)));
    }
    session::run_job(stream, job, stdin, observer, layer)
}
