//! The devices of a machine, each with its thread to be.

use crate::bus::Bus;
use crate::channel::{Report, Specification};
use crate::control::Control;
use crate::counters::Meter;
use crate::error::{Error, Kind};
use crate::layout::VIRTIO_DEVICES_MAX;
use crate::worker::{Disk, Worker};
use kiln_devices::{Blk, BlkOptions, Device, Listener, Rng, Storage, Vsock};
use kvm_ioctls::VmFd;
use rustix::net::sockopt;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Room of a stream between device and consumer, in bytes; the kernel may give less.
const STREAM_BYTES: usize = 4 * 1024 * 1024;

/// The socket and the random numbers.
const OTHER_DEVICES: usize = 2;

/// Attaches disks, socket and random numbers to `bus`, in this order.
///
/// # Errors
/// When the host lacks what a device needs.
pub fn attach_all(
    bus: &mut Bus,
    vm: &VmFd,
    specification: &Specification,
    disks: &[Arc<dyn Storage>],
    control: &Arc<Control>,
    meter: &Arc<Meter>,
) -> Result<Vec<Worker>, Error> {
    if specification.disks.len() + OTHER_DEVICES > VIRTIO_DEVICES_MAX {
        return Err(Kind::TooManyDisks(specification.disks.len()).into());
    }
    let memory = bus.memory().clone();
    let mut attach = |device: Box<dyn Device>| {
        let attached = bus.attach(vm, device, meter)?;
        Worker::new(attached, memory.clone(), meter.clone())
            .map_err(|error| Error::from(Kind::Setup("a device's events", error)))
    };
    let mut workers = Vec::new();
    for (index, (disk, storage)) in specification.disks.iter().zip(disks).enumerate() {
        // Flushing is for disks that outlive the machine, of which there are none yet.
        let options = BlkOptions { serial: disk.serial.clone(), read_only: disk.read_only, flush: false };
        let mut worker = attach(Box::new(Blk::new(storage.clone(), options)))?;
        worker.disk = Some(Disk { index, storage: storage.clone(), control: control.clone(), told: None });
        workers.push(worker);
    }
    let ports = Ports { open: specification.ports.clone(), control: control.clone(), meter: meter.clone() };
    workers.push(attach(Box::new(Vsock::new(Box::new(ports)).map_err(Kind::setup("vsock"))?))?);
    workers.push(attach(Box::new(Rng))?);
    Ok(workers)
}

/// Where the guest may connect to. kiln gets the other end of each stream.
struct Ports {
    open: Vec<u32>,
    control: Arc<Control>,
    meter: Arc<Meter>,
}

impl Listener for Ports {
    fn connect(&mut self, port: u32) -> Option<UnixStream> {
        self.open.contains(&port).then_some(())?;
        let (guest, host) = UnixStream::pair().ok()?;
        for end in [&guest, &host] {
            // More room only saves waiting; whatever the kernel gives is right.
            let _ = sockopt::set_socket_send_buffer_size(end, STREAM_BYTES);
        }
        let report = Report::Stream { port, counters: self.meter.read() };
        self.control.hand_over(&report, host.as_fd()).ok()?;
        Some(guest)
    }
}
