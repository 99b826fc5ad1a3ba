//! What KVM makes of it, where there is one.

use super::*;
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_msr_entry, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuExit, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MODELS: [CpuModel; 3] = [CpuModel::X86_64V3, CpuModel::X86_64V2, CpuModel::Host];

/// KVM and a machine with an interrupt controller; `None`, and a line that says so, where there is no KVM.
fn machine() -> Option<(Kvm, VmFd)> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            println!("SKIPPED: /dev/kvm does not open: {error}");
            return None;
        }
    };
    let vm = kvm.create_vm().unwrap();
    vm.create_irq_chip().unwrap();
    Some((kvm, vm))
}

#[test]
fn kvm_takes_every_processor_of_every_model() {
    if machine().is_none() {
        return;
    }
    let forced = forced_leaves();
    for model in MODELS {
        let Some((kvm, vm)) = machine() else { return };
        for id in 0..3 {
            let vcpu = vm.create_vcpu(id.into()).unwrap();
            configure(&kvm, &vcpu, id, 3, model).unwrap();
            let expected = cpuid::leaves(&Supported::read(&kvm).unwrap(), Processor { id, cpus: 3 }, model);
            let taken = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).unwrap();
            assert_eq!(comparable(taken.as_slice(), forced), comparable(&expected, forced), "{model:?}");
        }
    }
}

/// Leaves that some KVM in the middle of nested ones fills from the hardware, as it cannot stop a guest from
/// seeing that: features, and extended states.
const FORCED: [u32; 3] = [0x1, 0x7, 0xd];

/// What KVM does not change by itself: it keeps the size of the enabled extended states up to date.
fn comparable(leaves: &[kvm_cpuid_entry2], forced: &[u32]) -> Vec<kvm_cpuid_entry2> {
    let leaves = leaves.iter().filter(|leaf| !forced.contains(&leaf.function));
    let without_size = |leaf: &kvm_cpuid_entry2| match (leaf.function, leaf.index) {
        (0xd, 0 | 1) => kvm_cpuid_entry2 { ebx: 0, ..*leaf },
        _ => *leaf,
    };
    leaves.map(without_size).collect()
}

/// [`FORCED`] if this KVM is such a one: asked for no features, it gives some.
fn forced_leaves() -> &'static [u32] {
    let (_, vm) = machine().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let none = kvm_cpuid_entry2 { function: 7, flags: 1, ..Default::default() };
    set_cpuid(&vcpu, &[none]).unwrap();
    if vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).unwrap().as_slice()[0].ebx == 0 {
        return &[];
    }
    println!("SKIPPED: leaves {FORCED:x?}: this host's KVM fills them from the hardware");
    &FORCED
}

#[test]
fn kvm_takes_the_other_registers() {
    let Some((kvm, vm)) = machine() else { return };
    let vcpu = vm.create_vcpu(0).unwrap();
    configure(&kvm, &vcpu, 0, 1, CpuModel::default()).unwrap();
    let mut msrs = kvm_bindings::Msrs::from_entries(&[0x2ff, 0x1a0].map(msr)).unwrap();
    assert_eq!(vcpu.get_msrs(&mut msrs).unwrap(), 2);
    let values: Vec<u64> = msrs.as_slice().iter().map(|msr| msr.data).collect();
    assert_eq!(values, [0x806, 0x1801]);
    // As `fxsave` puts them: FCW in the first bytes, MXCSR at byte 24.
    let saved = vcpu.get_xsave().unwrap().region;
    assert_eq!((saved[0] & 0xffff, saved[6]), (0x37f, 0x1f80));
    let lapic = vcpu.get_lapic().unwrap();
    assert_eq!([lapic.regs[0x351], lapic.regs[0x352]], [7, 0], "LINT0 is ExtINT");
    assert_eq!([lapic.regs[0x361], lapic.regs[0x362]], [4, 0], "LINT1 is NMI");
}

fn msr(index: u32) -> kvm_msr_entry {
    kvm_msr_entry { index, ..Default::default() }
}

#[test]
fn this_host_lacks_what_it_says() {
    let Some((kvm, _)) = machine() else { return };
    for model in MODELS {
        println!("{model:?}: lacks {:?}", missing(&kvm, model).unwrap());
    }
    assert!(missing(&kvm, CpuModel::Host).unwrap().is_empty());
}

/// Real mode: `mov ecx, MSR; mov eax, 0x3000; cdq; wrmsr; hlt`.
#[rustfmt::skip]
const ASK_FOR_THE_DATE: [u8; 17] = [
    0x66, 0xb9, 0x00, 0x4d, 0x56, 0x4b,
    0x66, 0xb8, 0x00, 0x30, 0x00, 0x00,
    0x66, 0x99,
    0x0f, 0x30,
    0xf4,
];

#[test]
#[allow(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION")]
fn a_guest_that_asks_for_the_date_is_told_the_epoch() {
    let Some((kvm, vm)) = machine() else { return };
    if !fix_wall_clock(&vm).unwrap() {
        println!("SKIPPED: this host's KVM has no MSR filter");
        return;
    }
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    memory.write_slice(&ASK_FOR_THE_DATE, GuestAddress(0x1000)).unwrap();
    memory.write_slice(&[0xaa; 12], GuestAddress(0x3000)).unwrap();
    let host_address = memory.get_host_address(GuestAddress(0)).unwrap() as u64;
    let region = kvm_userspace_memory_region {
        memory_size: 0x4000,
        userspace_addr: host_address,
        ..Default::default()
    };
    // SAFETY: the memory is mapped there and lives longer than the machine's last run.
    unsafe { vm.set_user_memory_region(region) }.unwrap();
    let mut vcpu = vm.create_vcpu(0).unwrap();
    configure(&kvm, &vcpu, 0, 1, CpuModel::default()).unwrap();
    start_at(&vcpu, 0x1000);
    match vcpu.run().unwrap() {
        VcpuExit::X86Wrmsr(exit) => {
            assert!(answer_msr_write(&memory, exit.index, exit.data));
            *exit.error = 0;
        }
        other => panic!("{other:?}"),
    }
    let mut date = [0xff; 12];
    memory.read_slice(&mut date, GuestAddress(0x3000)).unwrap();
    assert_eq!(date, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// In real mode, in the segment 0.
fn start_at(vcpu: &VcpuFd, address: u64) {
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    (regs.rip, regs.rflags) = (address, 2);
    vcpu.set_regs(&regs).unwrap();
}
