//! A machine of one processor, in ring 0 of long mode before the tiny guest's first instruction.

use super::stage::Stages;
use super::{guest, tables};
use crate::layout;
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

/// Memory in bytes: all that the guest uses is in the first 64 KiB.
const MEMORY_BYTES: usize = 0x1_0000;

/// The machine. In this order it is taken apart: first what uses memory, then the memory.
pub struct Machine {
    pub vcpu: VcpuFd,
    _vm: VmFd,
    pub memory: GuestMemoryMmap,
}

impl Machine {
    /// Makes it, so that the guest tries `stages`; otherwise says what KVM refused.
    pub fn new(kvm: &Kvm, stages: Stages) -> Result<Self, String> {
        let memory = memory()?;
        let vm = create_vm(kvm)?;
        vm.set_tss_address(layout::KVM_TSS.raw_value() as usize).map_err(refused("KVM_SET_TSS_ADDR"))?;
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP.raw_value())
            .map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        guest::attach(&vm, &memory).map_err(refused("KVM_SET_USER_MEMORY_REGION"))?;
        let vcpu = vm.create_vcpu(0).map_err(refused("KVM_CREATE_VCPU"))?;
        set_up(kvm, &vcpu, stages)?;
        Ok(Self { vcpu, _vm: vm, memory })
    }
}

/// A signal makes KVM give this up.
fn create_vm(kvm: &Kvm) -> Result<VmFd, String> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            created => return created.map_err(refused("KVM_CREATE_VM")),
        }
    }
}

fn memory() -> Result<GuestMemoryMmap, String> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
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
