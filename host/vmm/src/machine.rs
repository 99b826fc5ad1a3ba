//! The boot recipe, step by step.

use crate::attach::attach_all;
use crate::boot::{self, Payload};
use crate::bus::{self, Bus};
use crate::channel::{Counters, Ending, Specification};
use crate::control::Control;
use crate::counters::Meter;
use crate::error::{Error, Kind};
use crate::inherited::Inherited;
use crate::ports::Ports;
use crate::threads::{End, Gate, linger, start_processors, start_workers};
use crate::vcpu::Surroundings;
use crate::{cpu, filters, layout, memory, vm};
use kiln_jail::Limits;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Descriptors of our own beside those of the specification: events, pollers, streams.
const OWN_DESCRIPTORS_MAX: u64 = 1024;

/// How a machine ended, and what it took.
pub struct Ended {
    pub ending: Ending,
    pub counters: Counters,
}

/// Runs a machine until it ends; `None` when kiln was gone first.
///
/// # Errors
/// When it cannot be started.
pub fn run(specification: &Specification, control: &Arc<Control>) -> Result<Option<Ended>, Error> {
    let meter = Arc::new(Meter::start());
    confine(specification, control)?;
    let Inherited { kvm, mut kernel, mut initramfs, disks } =
        Inherited::take(specification).map_err(Kind::setup("what it was given"))?;
    let memory = memory::create(specification.memory_mib).map_err(Kind::memory(specification.memory_mib))?;
    let vm = vm::create(&kvm, &memory)?;
    // An older host's date shows in the guest; the agent sets the build's.
    cpu::fix_wall_clock(&vm)?;
    let mut bus = Bus::new(memory.clone());
    let workers = attach_all(&mut bus, &vm, specification, &disks, control, &meter)?;
    let console = bus::interrupt_line(&vm, layout::SERIAL_IRQ)?;
    let ports = Ports::new(console, std::io::stdout()).map_err(Kind::setup("the console"))?;
    let entry = boot::load(
        &memory,
        Payload {
            kernel: &mut kernel,
            initramfs: &mut initramfs,
            command_line: &command_line(specification, workers.len()),
            cpus: specification.cpus,
        },
    )?;
    drop((kernel, initramfs));
    let processors = processors(&kvm, &vm, specification, entry)?;
    let surroundings = Arc::new(Surroundings { memory, bus, ports, meter: meter.clone() });
    let (end, gate) = (Arc::new(End::new().map_err(Kind::setup("an event"))?), Arc::new(Gate::default()));
    start_workers(workers, &gate)?;
    start_processors(processors, &surroundings, &end, &gate)?;
    gate.wait_until_all_are_jailed()?;
    filters::main()?.install()?;
    meter.enter();
    gate.open();
    let ending = end.wait(control);
    surroundings.ports.finish();
    surroundings.bus.finish();
    linger(&surroundings.bus, control);
    Ok(ending.map(|ending| Ended { ending, counters: meter.read() }))
}

/// Before anything of what was given is looked at: from here on nothing can be opened any more.
fn confine(specification: &Specification, control: &Control) -> Result<(), Error> {
    let mut keep = specification.descriptors();
    keep.push(control.as_fd().as_raw_fd());
    let limits = Limits {
        open_files: keep.len() as u64 + OWN_DESCRIPTORS_MAX,
        file_bytes: largest_file(specification),
    };
    kiln_jail::report_violations();
    kiln_jail::confine(&limits, &keep)?;
    Ok(())
}

/// Guest memory is a file, too.
fn largest_file(specification: &Specification) -> u64 {
    let of_disk =
        |disk: &crate::channel::DiskSpecification| disk.parts.iter().map(crate::channel::Part::end).max();
    let writable = specification.disks.iter().filter(|disk| !disk.read_only);
    writable.filter_map(of_disk).chain([u64::from(specification.memory_mib) << 20]).max().unwrap_or(0)
}

fn command_line(specification: &Specification, devices: usize) -> String {
    let words = boot::device_words(devices);
    [specification.command_line.clone()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// All processors; the first starts at `entry`, the others when it tells them to.
fn processors(
    kvm: &Kvm,
    vm: &VmFd,
    specification: &Specification,
    entry: boot::Entry,
) -> Result<Vec<VcpuFd>, Error> {
    let (cpus, model) = (specification.cpus, specification.cpu_model);
    let missing = cpu::missing(kvm, model)?;
    if !missing.is_empty() {
        return Err(Kind::LesserHost { model, missing }.into());
    }
    let processor = |id: u8| {
        let vcpu = vm.create_vcpu(id.into()).map_err(vm::Failure::of("create a processor"))?;
        cpu::configure(kvm, &vcpu, id, cpus, model)?;
        if id == 0 {
            enter_at(&vcpu, entry)?;
        }
        Ok(vcpu)
    };
    (0..cpus).map(processor).collect()
}

fn enter_at(vcpu: &VcpuFd, entry: boot::Entry) -> Result<(), vm::Failure> {
    let failed = |what| vm::Failure::of(what);
    let mut special = vcpu.get_sregs().map_err(failed("read a processor's registers"))?;
    let mut general = vcpu.get_regs().map_err(failed("read a processor's registers"))?;
    boot::registers(entry, &mut special, &mut general);
    vcpu.set_sregs(&special).map_err(failed("set a processor's special registers"))?;
    vcpu.set_regs(&general).map_err(failed("set a processor's registers"))
}
