//! Runs one machine on KVM, whatever the probe says, for `scripts/bench-vmm`: kiln itself would refuse a KVM
//! that cannot run Linux, and takes no word about who is the VMM process, for example one under strace.
//!
//! The guest's console goes to standard output, costs and the end to standard error.

use kiln_devices::{FileStorage, Storage};
use kiln_engine::kvm::Kvm;
use kiln_engine::{CpuModel, Disk, Engine, Exit, Initramfs, Machine, MachineSpec};
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::num::NonZeroU8;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: launch [OPTION...] KERNEL [WORD...] -- VMM [ARGUMENT...]

Starts KERNEL with these words added to its command line, in a VMM process that is started by this command.

  --init FILE             the guest's first program
  --disk FILE             a disk that the guest can write to
  --read-only-disk FILE   one that it cannot
  --memory MIB            (default 256)
  --quiet                 no console
  --agent SECONDS         listen for the agent, keep it waiting for so long, then pull the plug
";

/// Where the agent connects to.
const AGENT_PORT: u32 = 1024;

/// Where KVM emulates kernels, or is emulated itself, all takes long.
const DEADLINE: Duration = Duration::from_secs(600);

struct Plan {
    spec: MachineSpec,
    vmm: Vec<String>,
    agent: Option<Duration>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let mut spec = empty();
    let mut agent = None;
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.as_str() {
            "--init" => spec.initramfs = Initramfs::with_init(&fs::read(value()?)?).finish(),
            "--disk" => spec.disks.push(disk(&value()?, false)?),
            "--read-only-disk" => spec.disks.push(disk(&value()?, true)?),
            "--memory" => spec.memory_mib = value()?.parse()?,
            "--quiet" => spec.console = None,
            "--agent" => agent = Some(Duration::from_secs(value()?.parse()?)),
            option if option.starts_with("--") => return Err(USAGE.into()),
            kernel if spec.kernel.as_os_str().is_empty() => spec.kernel = kernel.into(),
            _ => spec.extra_command_line.push(argument),
        }
    }
    spec.ports.extend(agent.map(|_| AGENT_PORT));
    let vmm: Vec<String> = arguments.collect();
    if vmm.is_empty() { Err(USAGE.into()) } else { Ok(Plan { spec, vmm, agent }) }
}

fn empty() -> MachineSpec {
    MachineSpec {
        kernel: "".into(),
        initramfs: Vec::new(),
        extra_command_line: Vec::new(),
        cpus: NonZeroU8::MIN,
        // QEMU is given the same.
        cpu_model: CpuModel::Host,
        memory_mib: 256,
        disks: Vec::new(),
        ports: Vec::new(),
        console: Some(Box::new(std::io::stdout())),
    }
}

fn disk(path: &str, read_only: bool) -> Result<Disk> {
    let (serial, storage): (_, Arc<dyn Storage>) = if read_only {
        ("base", Arc::new(FileStorage::read_only(File::open(path)?)?))
    } else {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        ("scratch", Arc::new(FileStorage::writable(file)?))
    };
    Ok(Disk { serial: serial.into(), storage, read_only })
}

fn run(plan: Plan) -> Result<()> {
    let (program, arguments) = plan.vmm.split_first().ok_or(USAGE)?;
    let engine = Kvm::at(program.into()).with_arguments(arguments);
    let deadline = Instant::now() + DEADLINE;
    let mut machine = engine.launch(plan.spec)?;
    if let Some(patience) = plan.agent {
        keep_waiting(machine.as_mut(), patience, deadline)?;
    }
    let tail = machine.console_tail();
    match machine.wait(deadline)? {
        exit @ (Exit::PoweredOff | Exit::Killed) => eprintln!("{exit}"),
        exit => return Err(format!("{exit}\n{tail}").into()),
    }
    Ok(())
}

/// The agent has nothing to do until it has heard what.
fn keep_waiting(machine: &mut dyn Machine, patience: Duration, deadline: Instant) -> Result<()> {
    let _stream = machine.accept(AGENT_PORT, deadline)?;
    eprintln!("agent ready: {:?}", machine.counters().ok_or("this engine does not count")?);
    thread::sleep(patience);
    machine.killer().kill();
    Ok(())
}
