//! The tables that a processor in long mode needs: descriptors, interrupt gates, a task state segment,
//! pages. Formats: AMD64 manual, volume 2, sections 4.8, 5.3, 8.2 and 12.2.5.

use super::guest;
use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

const GDT: GuestAddress = GuestAddress(0x1000);
const IDT: GuestAddress = GuestAddress(0x2000);
const TSS: GuestAddress = GuestAddress(0x3000);
const PML4: GuestAddress = GuestAddress(0x4000);
const PDPT: GuestAddress = GuestAddress(0x5000);
const PAGE_DIRECTORY: GuestAddress = GuestAddress(0x6000);

/// Selectors. `syscall` and `sysretq` want them in this order (AMD64 manual, volume 2, section 6.1.1).
const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
pub const USER_DATA: u16 = 0x18 | RING_3;
pub const USER_CODE: u16 = 0x20 | RING_3;
const TASK: u16 = 0x28;
const RING_3: u16 = 3;

/// Descriptors: present, and code or data that was accessed; 64-bit code; for ring 3.
const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;
const FOR_RING_3: u64 = 0x0000_6000_0000_0000;
/// A busy task state segment of 64 bits, still without its base and limit.
const TASK_DESCRIPTOR: u64 = 0x0000_8b00_0000_0000;

/// A task state segment without a map of ports.
const TSS_BYTES: usize = 104;
/// Where the stack for ring 0 is in it.
const TSS_RSP0: usize = 4;
/// Where the map of ports would be: at its end, so there is none.
const TSS_PORT_MAP: usize = 102;

/// Present, to an interrupt handler of 64 bits; programs may not `int` to it.
const INTERRUPT_GATE: u64 = 0x8e00;

/// Entries of page tables: present, writable, for ring 3 too; a large page.
const PAGE: u64 = 7;
const LARGE: u64 = 0x80;

/// RFLAGS: the bit that is always set.
pub const FLAGS: u64 = 2;

/// CR0: protected, x87 as ever, errors reported, write protection, paging.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4: PAE, FXSAVE and SSE, SSE's exceptions.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// EFER: `syscall`, long mode on and active, no-execute.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

/// Model-specific registers of `syscall`, and what they are to be: the selectors; where it leads to; the
/// flags that it clears (trap, interrupt, direction).
pub fn syscall_registers() -> [(u32, u64); 3] {
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const SFMASK: u32 = 0xc000_0084;
    // `sysretq` takes the data segment 8 and the code segment 16 above this one.
    let selectors = u64::from(USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32;
    [(STAR, selectors), (LSTAR, guest::syscall_entry()), (SFMASK, 0x700)]
}

/// Writes all of them.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    write_words(memory, GDT, &descriptors())?;
    memory.write_slice(&task_state_segment(), TSS)?;
    let gates: Vec<u64> = (0..guest::EXCEPTIONS as u8).flat_map(gate).collect();
    write_words(memory, IDT, &gates)?;
    memory.write_obj(PDPT.raw_value() | PAGE, PML4)?;
    memory.write_obj(PAGE_DIRECTORY.raw_value() | PAGE, PDPT)?;
    memory.write_obj(PAGE | LARGE, PAGE_DIRECTORY)
}

/// Makes the processor use them, in ring 0 of long mode.
pub fn set_registers(sregs: &mut kvm_sregs) {
    let data = segment(KERNEL_DATA, DATA_DESCRIPTOR);
    sregs.cs = segment(KERNEL_CODE, CODE_DESCRIPTOR);
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    sregs.tr =
        kvm_segment { base: TSS.raw_value(), limit: TSS_BYTES as u32 - 1, ..segment(TASK, TASK_DESCRIPTOR) };
    sregs.gdt = table(GDT, descriptors().len() * 8);
    sregs.idt = table(IDT, guest::EXCEPTIONS * 16);
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, PML4.raw_value(), CR4, EFER);
}

fn descriptors() -> [u64; 7] {
    let base = TSS.raw_value();
    let task =
        TASK_DESCRIPTOR | (TSS_BYTES as u64 - 1) | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    let user = [DATA_DESCRIPTOR | FOR_RING_3, CODE_DESCRIPTOR | FOR_RING_3];
    [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR, user[0], user[1], task, base >> 32]
}

fn task_state_segment() -> [u8; TSS_BYTES] {
    let mut segment = [0; TSS_BYTES];
    segment[TSS_RSP0..TSS_RSP0 + 8].copy_from_slice(&guest::INTERRUPT_STACK.to_le_bytes());
    segment[TSS_PORT_MAP..].copy_from_slice(&(TSS_BYTES as u16).to_le_bytes());
    segment
}

/// An interrupt gate's two words.
fn gate(vector: u8) -> [u64; 2] {
    let entry = guest::exception_entry(vector);
    let low =
        entry & 0xffff | u64::from(KERNEL_CODE) << 16 | INTERRUPT_GATE << 32 | (entry >> 16 & 0xffff) << 48;
    [low, entry >> 32]
}

/// A segment register that has been loaded with a descriptor without base.
fn segment(selector: u16, descriptor: u64) -> kvm_segment {
    let bit = |number: u32| (descriptor >> number & 1) as u8;
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: (descriptor >> 40 & 0xf) as u8,
        s: bit(44),
        dpl: (descriptor >> 45 & 3) as u8,
        present: bit(47),
        l: bit(53),
        db: bit(54),
        g: bit(55),
        ..Default::default()
    }
}

fn table(base: GuestAddress, bytes: usize) -> kvm_dtable {
    kvm_dtable { base: base.raw_value(), limit: bytes as u16 - 1, ..Default::default() }
}

fn write_words(memory: &GuestMemoryMmap, start: GuestAddress, words: &[u64]) -> Result<(), GuestMemoryError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write_slice(&bytes, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_descriptor_holds_base_and_limit() {
        // AMD64 manual, volume 2, figure 4-22: limit 103, base 0x3000, present, busy.
        assert_eq!(descriptors()[5..], [0x0000_8b00_3000_0067, 0]);
    }

    #[test]
    fn gates_lead_to_their_entries() {
        for vector in 0..32 {
            let [low, high] = gate(vector);
            let entry = low & 0xffff | (low >> 48) << 16 | high << 32;
            assert_eq!(entry, guest::exception_entry(vector));
            assert_eq!(low >> 16 & 0xffff_ffff, 0x8e00_0008);
        }
    }

    #[test]
    fn segments_are_what_their_descriptors_say() {
        let code = segment(KERNEL_CODE, CODE_DESCRIPTOR);
        assert_eq!((code.type_, code.s, code.dpl, code.l, code.db, code.g), (0xb, 1, 0, 1, 0, 1));
        let data = segment(USER_DATA, DATA_DESCRIPTOR | FOR_RING_3);
        assert_eq!((data.type_, data.s, data.dpl, data.l, data.db, data.g), (3, 1, 3, 0, 1, 1));
    }

    #[test]
    fn sysret_finds_the_segments_of_ring_3() {
        let selectors = syscall_registers()[0].1 >> 48;
        assert_eq!((selectors + 8, selectors + 16), (USER_DATA.into(), USER_CODE.into()));
    }
}
