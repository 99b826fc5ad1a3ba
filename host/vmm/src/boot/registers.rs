//! The first processor's registers when it enters the kernel.

use super::{Entry, gdt};
use crate::layout;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};

/// `CR0.PE`: protected mode.
const CR0_PE: u64 = 1;
/// `CR0.ET`, which is always set.
const CR0_ET: u64 = 1 << 4;
/// `CR0.PG`: paging.
const CR0_PG: u64 = 1 << 31;
/// `CR4.PAE`: page-table entries of 64 bits.
const CR4_PAE: u64 = 1 << 5;
/// `EFER.LME` and `EFER.LMA`: 64-bit mode, enabled and active.
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// Bit 1 of the flags, which is always set. Interrupts are off.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Changes the registers that `entry` is particular about; `sregs` and `regs` are as KVM gives them for a new
/// processor.
pub fn registers(entry: Entry, sregs: &mut kvm_sregs, regs: &mut kvm_regs) {
    set_segments(entry, sregs);
    match entry {
        Entry::Pvh(address) => {
            (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0_PE | CR0_ET, 0, 0, 0);
            regs.rip = address.0;
            regs.rbx = layout::PVH_START_INFO.0;
        }
        Entry::Linux64(address) => {
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = layout::PAGE_TABLES.0;
            (sregs.cr4, sregs.efer) = (CR4_PAE, EFER_LONG_MODE);
            regs.rip = address.0;
            regs.rsi = layout::ZERO_PAGE.0;
        }
    }
    regs.rflags = RFLAGS_RESERVED;
}

fn set_segments(entry: Entry, sregs: &mut kvm_sregs) {
    let data = gdt::segment(entry, gdt::DATA_SELECTOR);
    sregs.cs = gdt::segment(entry, gdt::CODE_SELECTOR);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = gdt::segment(entry, gdt::TASK_SELECTOR);
    sregs.gdt = kvm_dtable { base: layout::GDT.0, limit: gdt::LIMIT, ..Default::default() };
    sregs.idt = kvm_dtable::default();
}
