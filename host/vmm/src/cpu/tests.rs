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

/// What KVM does not change by itself: it keeps the size of the enabled extended states up to date. One that is older
/// (such as Linux 6.1's) does not say how many leaves it has filled in; the rest stays zero.
fn comparable(leaves: &[kvm_cpuid_entry2], forced: &[u32]) -> Vec<kvm_cpuid_entry2> {
    let filled =
        leaves.iter().rposition(|leaf| *leaf != kvm_cpuid_entry2::default()).map_or(0, |last| last + 1);
    let leaves = leaves[..filled].iter().filter(|leaf| !forced.contains(&leaf.function));
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

/// Where the guest's program is, what answers its general-protection faults, what it asks to be written.
const PROGRAM: u64 = 0x1000;
const FAULT_HANDLER: u16 = 0x2000;
const ANSWER: u32 = 0x3000;
/// The entry for general-protection faults in real mode's table: offset and segment.
const FAULT_VECTOR: u64 = 13 * 4;
const MEMORY_BYTES: usize = 0x4000;

/// `mov al, VALUE; out 0x80, al`
const fn say(value: u8) -> [u8; 4] {
    [0xb0, value, 0xe6, 0x80]
}
const DONE: u8 = 1;
const FAULT: u8 = 2;

/// `mov ecx, INDEX; mov eax, VALUE; xor edx, edx; wrmsr`, and says how it went.
fn write_msr(index: u32, value: u32) -> Vec<u8> {
    let [index, value] = [index, value].map(u32::to_le_bytes);
    [&[0x66, 0xb9], &index[..], &[0x66, 0xb8], &value, &[0x66, 0x31, 0xd2, 0x0f, 0x30], &say(DONE)].concat()
}

/// A guest in real mode.
struct Guest {
    vcpu: VcpuFd,
    memory: GuestMemoryMmap,
    /// Goes last, with the memory.
    _vm: VmFd,
}

impl Guest {
    #[allow(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION")]
    fn new(kvm: &Kvm, vm: VmFd, program: &[u8]) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        memory.write_slice(program, GuestAddress(PROGRAM)).unwrap();
        memory.write_obj(FAULT_HANDLER, GuestAddress(FAULT_VECTOR)).unwrap();
        memory.write_slice(&say(FAULT), GuestAddress(FAULT_HANDLER.into())).unwrap();
        memory.write_slice(&[0xaa; 12], GuestAddress(ANSWER.into())).unwrap();
        let region = kvm_userspace_memory_region {
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
            ..Default::default()
        };
        // SAFETY: the memory is mapped there, and is kept beside the machine.
        unsafe { vm.set_user_memory_region(region) }.unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        configure(kvm, &vcpu, 0, 1, CpuModel::default()).unwrap();
        start_at(&vcpu, PROGRAM);
        Self { vcpu, memory, _vm: vm }
    }

    /// Until the program says something: what, and how many writes to MSRs came to us before.
    fn run(&mut self) -> (u8, usize) {
        let mut asked = 0;
        loop {
            match self.vcpu.run().unwrap() {
                VcpuExit::X86Wrmsr(exit) => {
                    asked += 1;
                    *exit.error = u8::from(!answer_msr_write(&self.memory, exit.index, exit.data));
                }
                VcpuExit::IoOut(0x80, &[said]) => return (said, asked),
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer(&self) -> [u8; 12] {
        let mut answer = [0; 12];
        self.memory.read_slice(&mut answer, GuestAddress(ANSWER.into())).unwrap();
        answer
    }
}

/// In real mode, in the segment 0.
fn start_at(vcpu: &VcpuFd, address: u64) {
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    // The stack grows down from the program.
    (regs.rip, regs.rsp, regs.rflags) = (address, address, 2);
    vcpu.set_regs(&regs).unwrap();
}

#[test]
fn a_guest_that_asks_for_the_date_is_told_the_epoch() {
    const UNTOUCHED: [u8; 12] = [0xaa; 12];
    const EPOCH: [u8; 12] = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Register, address, how the program fares, writes that come to us, what is at the address then.
    let cases = [
        (0x4b56_4d00, ANSWER, DONE, 1, EPOCH),
        (0x11, ANSWER, DONE, 1, EPOCH),
        (0x4b56_4d00, 0xfee0_0000, FAULT, 1, UNTOUCHED),
        // KVM's steal time, which is not in the CPUID.
        (0x4b56_4d03, ANSWER + 1, FAULT, 0, UNTOUCHED),
    ];
    for (index, address, said, asked, answer) in cases {
        let Some((kvm, vm)) = machine() else { return };
        if !fix_wall_clock(&vm).unwrap() {
            println!("SKIPPED: this host's KVM has no MSR filter");
            return;
        }
        let mut guest = Guest::new(&kvm, vm, &write_msr(index, address));
        assert_eq!(guest.run(), (said, asked), "{index:#x}");
        assert_eq!(guest.answer(), answer, "{index:#x}");
    }
}

/// `mov eax, LEAF; cpuid; mov [ANSWER], eax; mov [ANSWER + 4], ebx`, and says so.
fn ask_cpuid(leaf: u32) -> Vec<u8> {
    let [low, high, ..] = ANSWER.to_le_bytes();
    let to_memory = [0x66, 0xa3, low, high, 0x66, 0x89, 0x1e, low + 4, high];
    [&[0x66, 0xb8], &leaf.to_le_bytes()[..], &[0x0f, 0xa2], &to_memory, &say(DONE)].concat()
}

#[test]
fn a_guest_sees_the_models_name() {
    let Some((kvm, vm)) = machine() else { return };
    let mut guest = Guest::new(&kvm, vm, &ask_cpuid(0x8000_0002));
    assert_eq!(guest.run(), (DONE, 0));
    assert_eq!(&guest.answer()[..8], b"kiln x86");
}
