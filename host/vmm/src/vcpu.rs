//! A virtual processor: enters the guest, and does what it comes back for.

use crate::bus::Bus;
use crate::channel::Ending;
use crate::counters::Meter;
use crate::cpu;
use crate::failure::{self, Fatal};
use crate::ports::{Effect, Ports};
use kiln_devices::GuestMemoryMmap;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::io::Stdout;
use std::sync::Arc;

/// What the processors of a machine share.
pub struct Surroundings {
    pub memory: GuestMemoryMmap,
    pub bus: Bus,
    pub ports: Ports<Stdout>,
    pub meter: Arc<Meter>,
}

/// What one return from the guest leads to.
enum Next {
    GoOn,
    Reset,
    Fatal(Fatal),
    Refused(kvm_ioctls::Error),
}

/// Runs the guest on one processor until the machine ends by its doing.
pub fn run(vcpu: &mut VcpuFd, surroundings: &Surroundings) -> Ending {
    loop {
        surroundings.meter.exits.add();
        match surroundings.step(vcpu) {
            Next::GoOn => {}
            Next::Reset => return Ending::Reset,
            Next::Refused(error) => {
                return Ending::Failed(format!("KVM refuses to run the guest: {error}"));
            }
            Next::Fatal(fatal) => {
                return Ending::Failed(failure::describe(vcpu, &surroundings.memory, fatal));
            }
        }
    }
}

impl Surroundings {
    fn step(&self, vcpu: &mut VcpuFd) -> Next {
        match vcpu.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                self.meter.port_exits.add();
                self.ports.read(port, data);
                Next::GoOn
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                self.meter.port_exits.add();
                match self.ports.write(port, data) {
                    Effect::None => Next::GoOn,
                    Effect::Reset => Next::Reset,
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.meter.mmio_exits.add();
                self.bus.read(address, data);
                Next::GoOn
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.meter.mmio_exits.add();
                self.bus.write(address, data);
                Next::GoOn
            }
            Ok(VcpuExit::X86Wrmsr(exit)) => {
                *exit.error = u8::from(!cpu::answer_msr_write(&self.memory, exit.index, exit.data));
                Next::GoOn
            }
            Ok(VcpuExit::Intr) => Next::GoOn,
            Ok(exit) => Next::Fatal(Fatal::from(&exit)),
            // A signal; or a processor that waits to be started was looked at for nothing.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Next::GoOn,
            Err(error) => Next::Refused(error),
        }
    }
}
