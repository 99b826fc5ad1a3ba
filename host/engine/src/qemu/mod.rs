//! QEMU's `microvm` machine under software emulation.
//!
//! Works for any user, without any device file, name space or capability. QEMU is given nothing
//! but the kernel's path and descriptors: guest memory it makes itself as a shared memfd, the
//! initial RAM file system is a memfd of ours, and every disk, the socket and the random number
//! device is a vhost-user connection over a socket that has no name by the time QEMU runs. So our
//! own devices serve the guest, from threads of this process, and no file is ever made.

mod command;
mod jail;
mod keeper;
mod link;
mod probe;
mod processor;
mod serve;
mod tsc;

use crate::board::{Board, Ports};
use crate::console::Console;
use crate::error::Kind;
use crate::machine::ProcessMachine;
use crate::memory_file;
use crate::process::{Process, Program};
use crate::spec::Limits;
use crate::{Disk, Engine, Error, Machine, MachineSpec, Unusable, Usable};
use command::{DeviceKind, Inherited};
use keeper::Keeper;
use kiln_devices::{Blk, BlkOptions, Device, Rng, Vsock};
use serve::Served;
use std::num::NonZeroU8;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The machine has eight virtio-mmio slots (`VIRTIO_NUM_TRANSPORTS` in QEMU's `microvm.h`), two of
/// which the socket and the random number device take.
const DISKS_MAX: usize = 8 - 2;

/// By which names QEMU opens what it inherits.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Linux alone needs most of this.
const MEMORY_MIB_MIN: u32 = 64;

/// Linux takes 18 seconds and 8 GiB of the host to start with as much.
const MEMORY_MIB_MAX: u32 = kiln_vmm::MEMORY_MIB_MAX;

const LIMITS: Limits = Limits { disks: DISKS_MAX, memory_mib: MEMORY_MIB_MIN..=MEMORY_MIB_MAX };

/// See the module.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
    tsc: tsc::Measurement,
}

impl Qemu {
    /// The program `$KILN_QEMU` names, else `qemu-system-x86_64` on the path.
    pub fn from_environment() -> Self {
        Self::at(std::env::var_os("KILN_QEMU").map_or_else(|| probe::PROGRAM.into(), PathBuf::from))
    }

    /// A given program, a path or a name on the path.
    pub fn at(program: PathBuf) -> Self {
        Self { program, tsc: tsc::Measurement::start() }
    }
}

impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    /// A second one costs more than half a second of boot, and emulated programs hardly gain from it.
    fn default_cpus(&self) -> NonZeroU8 {
        NonZeroU8::MIN
    }

    fn find(&self) -> Result<PathBuf, Unusable> {
        probe::find(&self.program)
    }

    fn probe(&self) -> Result<Usable, Unusable> {
        probe::probe(&self.program)
    }

    fn launch(&self, spec: MachineSpec) -> Result<Box<dyn Machine>, Error> {
        check(&spec)?;
        let path = self.find().map_err(|why| Kind::NoEngine(vec![(self.name(), why)]))?;
        let board = Board::new(&spec.ports);
        let (served, links) = serve_all(&spec.disks, &board)?;
        let initramfs = memory_file::sealed("initramfs", &spec.initramfs)
            .map_err(|error| Kind::Setup("the initramfs", error))?;
        let inherited = Inherited {
            tsc_khz: self.tsc.finish_khz(),
            initramfs: initramfs.as_raw_fd(),
            devices: links.iter().map(|(kind, link)| (*kind, link.as_raw_fd())).collect(),
        };
        let bare_arguments = command::arguments(&spec, &inherited);
        let arguments = command::SANDBOX.map(Into::into).into_iter().chain(bare_arguments.iter().cloned());
        let links = links.into_iter().map(|(_, link)| link);
        let program = Program {
            // However often it is started.
            preparation: Some(jail::preparation(&path, &spec.kernel)?),
            path,
            arguments: arguments.collect(),
            descriptors: links.chain([initramfs.into()]).map(|open| Box::new(open) as _).collect(),
            ..Program::default()
        };
        let output = Console::new(spec.console);
        let console = output.tail.clone();
        let keeper = Box::new(Keeper::new(bare_arguments, &served, &console, &board));
        let process = Process::start("qemu", program, output, keeper)?;
        Ok(Box::new(ProcessMachine { process, devices: served, board, console }))
    }
}

fn check(spec: &MachineSpec) -> Result<(), Error> {
    if !Path::new(DESCRIPTORS).exists() {
        return Err(Kind::NoProc.into());
    }
    spec.check(&LIMITS)
}

type Links = Vec<(DeviceKind, OwnedFd)>;

/// Starts every device; gives what serves them and QEMU's ends of their connections.
fn serve_all(disks: &[Disk], board: &Arc<Board>) -> Result<(Vec<Served>, Links), Error> {
    let mut devices: Vec<(DeviceKind, Box<dyn Device>)> = Vec::new();
    for disk in disks {
        // Flushing is for disks that outlive the machine, of which there are none yet.
        let options = BlkOptions { serial: disk.serial.clone(), read_only: disk.read_only, flush: false };
        devices.push((DeviceKind::Blk, Box::new(Blk::new(disk.storage.clone(), options))));
    }
    let vsock = Vsock::new(Box::new(Ports(board.clone()))).map_err(|e| Kind::Setup("vsock", e))?;
    devices.push((DeviceKind::Vsock, Box::new(vsock)));
    devices.push((DeviceKind::Rng, Box::new(Rng)));

    let (mut served, mut links) = (Vec::new(), Vec::new());
    for (kind, device) in devices {
        let link = link::Link::new().map_err(|e| Kind::Setup("a device's connection", e))?;
        served.push(Served::start(device, link.listener)?);
        links.push((kind, link.client));
    }
    Ok((served, links))
}
