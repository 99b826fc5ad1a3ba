//! [PVH](https://xenbits.xen.org/docs/unstable/misc/pvh.html): what `ebx` points to, and the processor's state.

use super::kernels::*;
use super::*;
use crate::boot::registers;
use kvm_bindings::{kvm_regs, kvm_sregs};

const START_INFO: u64 = 0x6000;
const INITRAMFS: &[u8] = b"an initramfs";

/// The comment on top of
/// [`start_info.h`](https://xenbits.xen.org/docs/unstable/hypercall/x86_64/include,public,arch-x86,hvm,start_info.h.html)
/// draws `struct hvm_start_info` and `struct hvm_modlist_entry` with these offsets.
#[test]
fn start_info_with_an_initramfs() {
    let machine = Machine::new(8);
    let entry = machine.load(&vmlinux(), INITRAMFS, "quiet").unwrap();
    assert_eq!(entry, Entry::Pvh(GuestAddress(PVH_ENTRY)));
    assert_eq!(machine.u32(START_INFO), 0x336e_c578, "magic");
    assert_eq!(machine.u32(START_INFO + 4), 1, "version");
    assert_eq!(machine.u32(START_INFO + 8), 0, "flags");
    assert_eq!(machine.u32(START_INFO + 12), 1, "nr_modules");
    assert_eq!(machine.text(machine.u64(START_INFO + 24)), "quiet", "cmdline_paddr");
    assert_eq!(machine.u64(START_INFO + 32), 0, "rsdp_paddr");
    assert_eq!(machine.u32(START_INFO + 52), 0, "reserved");
    let module = machine.u64(START_INFO + 16);
    assert_eq!(machine.u64(module), 0x7f_f000, "paddr");
    assert_eq!(machine.u64(module + 8), INITRAMFS.len() as u64, "size");
    assert_eq!(machine.u64(module + 16), 0, "cmdline_paddr");
    assert_eq!(machine.u64(module + 24), 0, "reserved");
    assert_eq!(machine.bytes(0x7f_f000, INITRAMFS.len()), INITRAMFS);
}

#[test]
fn an_empty_initramfs_is_no_module() {
    let machine = Machine::new(8);
    machine.load(&vmlinux(), b"", "").unwrap();
    assert_eq!(machine.u32(START_INFO + 12), 0, "nr_modules");
}

/// The same comment draws `struct hvm_memmap_table_entry`: address, size, type, reserved; 24 bytes.
/// 1 is memory, 2 is reserved (`XEN_HVM_MEMMAP_TYPE_*`).
#[test]
fn memory_map() {
    let machine = Machine::new(5 * 1024);
    machine.load(&vmlinux(), b"", "").unwrap();
    let (table, count) = (machine.u64(START_INFO + 40), u64::from(machine.u32(START_INFO + 48)));
    let entry = |address| [0, 8, 16].map(|offset| machine.u64(address + offset));
    let entries: Vec<_> = (0..count).map(|index| entry(table + index * 24)).collect();
    let low = [[0, 0xa_0000, 1], [0xf_0000, 0x1_0000, 2], [0x10_0000, 3 * GIB - MIB, 1]];
    assert_eq!(entries, [&low[..], &[[4 * GIB, 2 * GIB, 1]]].concat());
}

/// [ELF](https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html), "Program Header": the bytes of a segment
/// in the file, then zeroes.
#[test]
fn segments_are_at_their_physical_addresses() {
    let machine = Machine::new(8);
    machine.load(&vmlinux(), b"", "").unwrap();
    assert_eq!(machine.bytes(0x10_0000, TEXT.len()), TEXT);
    assert_eq!(machine.bytes(0x40_0000, DATA.len()), DATA);
    assert_eq!(machine.bytes(0x40_0000 + DATA.len() as u64, 64), [0; 64]);
}

/// Linux wrote the entry in four bytes before 6.12, and in eight since.
#[test]
fn an_entry_of_four_bytes() {
    let short = with(vmlinux(), XEN_NOTE + 4, &4u32.to_le_bytes());
    let notes = (short.len() - NOTE_OFFSET - 4) as u64;
    let short = with(short, PHDR_OFFSET + 2 * PHDR_BYTES + 32, &notes.to_le_bytes());
    let entry = Machine::new(8).load(&short, b"", "").unwrap();
    assert_eq!(entry, Entry::Pvh(GuestAddress(PVH_ENTRY)));
}

/// The note segments of `.note.gnu.property` and their like are aligned to 8 bytes.
#[test]
fn notes_aligned_to_eight_bytes() {
    let mut kernel = with(vmlinux(), PHDR_OFFSET + 2 * PHDR_BYTES + 48, &[8]);
    kernel.splice(XEN_NOTE..XEN_NOTE, [0; 4]);
    put(&mut kernel, PHDR_OFFSET + 2 * PHDR_BYTES + 32, &48u64.to_le_bytes());
    let entry = Machine::new(8).load(&kernel, b"", "").unwrap();
    assert_eq!(entry, Entry::Pvh(GuestAddress(PVH_ENTRY)));
}

#[test]
fn without_the_note_the_64_bit_entry_is_taken() {
    let entry = Machine::new(8).load(&vmlinux_without_note(), b"", "").unwrap();
    assert_eq!(entry, Entry::Linux64(GuestAddress(ELF_ENTRY)));
    let other_type = with(vmlinux(), XEN_NOTE + 8, &[17]);
    let other_owner = with(vmlinux(), XEN_NOTE + 12, b"Zen\0");
    for kernel in [other_type, other_owner] {
        let entry = Machine::new(8).load(&kernel, b"", "").unwrap();
        assert_eq!(entry, Entry::Linux64(GuestAddress(ELF_ENTRY)));
    }
}

/// [PVH](https://xenbits.xen.org/docs/unstable/misc/pvh.html): "cr0: bit 0 (PE) must be set. All the other writeable
/// bits are cleared. cr4: all bits are cleared. cs: must be a 32-bit read/execute code segment with a base of 0 and
/// a limit of 0xFFFFFFFF. ds, es, ss: must be a 32-bit read/write data segment with a base of 0 and a limit of
/// 0xFFFFFFFF. tr: must be a 32-bit TSS (active) with a base of 0 and a limit of 0x67. eflags: bit 17 (VM) must be
/// cleared. Bit 9 (IF) must be cleared. Bit 8 (TF) must be cleared."
#[test]
fn registers_for_pvh() {
    let (mut sregs, mut regs) = (kvm_sregs::default(), kvm_regs::default());
    registers(Entry::Pvh(GuestAddress(PVH_ENTRY)), &mut sregs, &mut regs);
    assert_eq!((regs.rip, regs.rbx, regs.rflags & (1 << 17 | 1 << 9 | 1 << 8)), (PVH_ENTRY, START_INFO, 0));
    // Bit 4 (ET) cannot be written.
    assert_eq!((sregs.cr0 & !(1 << 4), sregs.cr4, sregs.efer), (1, 0, 0));
    let code = (sregs.cs.base, sregs.cs.limit, sregs.cs.type_, sregs.cs.db, sregs.cs.l);
    assert_eq!(code, (0, 0xffff_ffff, 0xb, 1, 0));
    for data in [sregs.ds, sregs.es, sregs.ss] {
        assert_eq!((data.base, data.limit, data.type_, data.db), (0, 0xffff_ffff, 0x3, 1));
    }
    assert_eq!((sregs.tr.base, sregs.tr.limit, sregs.tr.type_, sregs.tr.s), (0, 0x67, 0xb, 0));
}

/// The table agrees with the registers: Intel SDM, volume 3, figure 3-8 "Segment Descriptor".
#[test]
fn gdt_has_a_32_bit_code_segment() {
    let machine = Machine::new(8);
    machine.load(&vmlinux(), b"", "").unwrap();
    let code = 0xffff | 0xb << 40 | 1 << 44 | 1 << 47 | 0xf << 48 | 1 << 54 | 1 << 55;
    assert_eq!(machine.u64(0x510), code);
}

/// Same inputs, same memory.
#[test]
fn memory_is_the_same_every_time() {
    for kernel in [vmlinux(), vmlinux_without_note()] {
        let [one, other] = [(); 2].map(|()| {
            let machine = Machine::new(8);
            machine.load(&kernel, INITRAMFS, "quiet").unwrap();
            machine.bytes(0, 8 << 20)
        });
        assert!(one == other);
    }
}
