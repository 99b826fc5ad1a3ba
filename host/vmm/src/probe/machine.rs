//! A machine of one processor, in ring 0 of long mode before the tiny guest's first instruction.

use super::stage::Stages;
use super::{guest, tables};
use crate::{memory, vm};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Address, Bytes, GuestMemoryMmap};

/// The machine. In this order it is taken apart: first what uses memory, then the memory.
pub struct Machine {
    pub vcpu: VcpuFd,
    _vm: VmFd,
    pub memory: GuestMemoryMmap,
}

impl Machine {
    /// Makes it, so that the guest tries `stages`; otherwise says what KVM refused.
    pub fn new(kvm: &Kvm, stages: Stages) -> Result<Self, String> {
        let memory = filled_memory()?;
        // The same as for Linux, so that what this takes is tried, too.
        let vm = vm::create(kvm, &memory).map_err(|failure| crate::chain(&failure))?;
        let vcpu = vm.create_vcpu(0).map_err(refused("KVM_CREATE_VCPU"))?;
        set_up(kvm, &vcpu, stages)?;
        Ok(Self { vcpu, _vm: vm, memory })
    }
}

fn filled_memory() -> Result<GuestMemoryMmap, String> {
    let memory = memory::create(guest::MEMORY_MIB)
        .map_err(|error| format!("the host has no memory for a guest: {error}"))?;
    tables::write(&memory)
        .and_then(|()| memory.write_slice(guest::code(), guest::CODE))
        .map_err(|error| format!("the guest does not fit into its memory: {error}"))?;
    Ok(memory)
}

fn set_up(kvm: &Kvm, vcpu: &VcpuFd, stages: Stages) -> Result<(), String> {
    // Without it, KVM refuses instructions that the processor has.
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("KVM_GET_SUPPORTED_CPUID"))?;
    vcpu.set_cpuid2(&cpuid).map_err(refused("KVM_SET_CPUID2"))?;
    let mut sregs = vcpu.get_sregs().map_err(refused("KVM_GET_SREGS"))?;
    tables::set_registers(&mut sregs);
    vcpu.set_sregs(&sregs).map_err(refused("KVM_SET_SREGS"))?;
    set_syscall_registers(vcpu)?;
    let regs = kvm_regs {
        rip: guest::CODE.raw_value(),
        rsp: guest::STACK,
        rflags: tables::FLAGS,
        r15: stages.bits(),
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(refused("KVM_SET_REGS"))
}

fn set_syscall_registers(vcpu: &VcpuFd) -> Result<(), String> {
    let entries = tables::syscall_registers().map(|(index, data)| kvm_msr_entry { index, data, reserved: 0 });
    let registers = Msrs::from_entries(&entries).expect("three are not too many");
    let count = vcpu.set_msrs(&registers).map_err(refused("KVM_SET_MSRS"))?;
    match entries.get(count) {
        None => Ok(()),
        Some(refused) => Err(format!("KVM refuses the model-specific register {:#x}", refused.index)),
    }
}

/// For `map_err`.
fn refused(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> String {
    move |error| format!("KVM refuses {call}: {error}")
}
