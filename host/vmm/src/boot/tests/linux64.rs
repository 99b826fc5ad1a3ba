//! The [Linux boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html), entered in 64-bit mode.

use super::kernels::*;
use super::*;
use crate::boot::registers;
use kvm_bindings::{kvm_regs, kvm_sregs};

const ZERO_PAGE: u64 = layout::ZERO_PAGE.0;
const INITRAMFS: &[u8] = b"an initramfs";

/// Entries of `e820_table` as `struct boot_e820_entry` has them: address, size, type; 20 bytes each.
/// Zero page: "2D0/A00 e820_table", "1E8/001 e820_entries".
fn e820(machine: &Machine) -> Vec<(u64, u64, u32)> {
    let entries = (0..u64::from(machine.u8(ZERO_PAGE + 0x1e8))).map(|index| ZERO_PAGE + 0x2d0 + index * 20);
    entries.map(|entry| (machine.u64(entry), machine.u64(entry + 8), machine.u32(entry + 16))).collect()
}

/// Bytes of the zero page that a test expects, with `machine`'s own memory map in them: that has a test of
/// its own.
fn zero_page_with_map_of(machine: &Machine) -> Vec<u8> {
    let mut page = vec![0; 0x1000];
    let entries = machine.u8(ZERO_PAGE + 0x1e8);
    page[0x1e8] = entries;
    put(&mut page, 0x2d0, &machine.bytes(ZERO_PAGE + 0x2d0, usize::from(entries) * 20));
    page
}

/// "Details of Header Fields" of the [boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html),
/// and the [zero page](https://www.kernel.org/doc/html/latest/arch/x86/zero-page.html): the kernel's own header,
/// what a boot loader must write, and zeroes.
#[test]
fn zero_page_of_a_bzimage() {
    let machine = Machine::new(64);
    let file = bzimage();
    machine.load(&file, INITRAMFS, "quiet").unwrap();
    let mut page = zero_page_with_map_of(&machine);
    put(&mut page, 0x1f1, &file[0x1f1..0x26c]);
    put(&mut page, 0x210, &[0xff]); // type_of_loader: undefined
    put(&mut page, 0x214, &0x100_0000u32.to_le_bytes()); // code32_start
    put(&mut page, 0x218, &0x3ff_f000u32.to_le_bytes()); // ramdisk_image
    put(&mut page, 0x21c, &12u32.to_le_bytes()); // ramdisk_size
    put(&mut page, 0x228, &0x2_0000u32.to_le_bytes()); // cmd_line_ptr
    assert_eq!(machine.bytes(ZERO_PAGE, 0x1000), page);
    assert_eq!(machine.text(0x2_0000), "quiet");
    assert_eq!(machine.bytes(0x3ff_f000, 12), INITRAMFS);
}

/// The same sections, for a kernel that brings no header: what Linux looks at is there.
#[test]
fn zero_page_of_a_vmlinux() {
    let machine = Machine::new(8);
    machine.load(&vmlinux_without_note(), INITRAMFS, "quiet").unwrap();
    let mut page = zero_page_with_map_of(&machine);
    put(&mut page, 0x1fe, &0xaa55u16.to_le_bytes()); // boot_flag
    put(&mut page, 0x202, b"HdrS"); // header
    put(&mut page, 0x206, &0x020cu16.to_le_bytes()); // version
    put(&mut page, 0x210, &[0xff, 0x01]); // type_of_loader, loadflags: LOADED_HIGH
    put(&mut page, 0x218, &0x7f_f000u32.to_le_bytes()); // ramdisk_image
    put(&mut page, 0x21c, &12u32.to_le_bytes()); // ramdisk_size
    put(&mut page, 0x228, &0x2_0000u32.to_le_bytes()); // cmd_line_ptr
    put(&mut page, 0x230, &0x20_0000u32.to_le_bytes()); // kernel_alignment
    put(&mut page, 0x238, &2047u32.to_le_bytes()); // cmdline_size
    assert_eq!(machine.bytes(ZERO_PAGE, 0x1000), page);
}

/// "64-bit Boot Protocol": "The end of setup header can be calculated as 0x0202 + byte value at offset 0x0201".
#[test]
fn what_is_behind_the_setup_header_is_not_taken_for_it() {
    let mut file = with(bzimage(), 0x201, &[0x62]);
    put(&mut file, 0x264, &[0xee; 8]);
    let machine = Machine::new(64);
    machine.load(&file, INITRAMFS, "").unwrap();
    assert_eq!(machine.u32(ZERO_PAGE + 0x260), BZIMAGE_INIT_BYTES as u32);
    assert_eq!(machine.u64(ZERO_PAGE + 0x264), 0);
}

/// "64-bit Boot Protocol": the entry is at 0x200 in the loaded code, which is behind the setup sectors
/// ("Loading The Rest of The Kernel").
#[test]
fn code_of_a_bzimage() {
    let machine = Machine::new(64);
    let entry = machine.load(&bzimage(), INITRAMFS, "").unwrap();
    assert_eq!(entry, Entry::Linux64(GuestAddress(0x100_0200)));
    assert_eq!(machine.bytes(0x100_0000, BZIMAGE_CODE_BYTES), bzimage()[BZIMAGE_CODE_OFFSET..]);
}

/// "setup_sects: For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
#[test]
fn no_setup_sectors_are_four() {
    let mut file = with(bzimage(), 0x1f1, &[0]);
    file.splice(BZIMAGE_CODE_OFFSET..BZIMAGE_CODE_OFFSET, [0xee; 2 * 512]);
    let machine = Machine::new(64);
    machine.load(&file, INITRAMFS, "").unwrap();
    assert_eq!(machine.bytes(0x100_0000, BZIMAGE_CODE_BYTES), bzimage()[BZIMAGE_CODE_OFFSET..]);
}

/// "initrd_addr_max: The maximum address that may be occupied by the initial ramdisk contents."
#[test]
fn initramfs_stays_below_the_kernels_limit() {
    let machine = Machine::new(64);
    let file = with(bzimage(), 0x22c, &0x1ff_ffffu32.to_le_bytes());
    machine.load(&file, &[0x55; 0x1001], "").unwrap();
    assert_eq!(machine.u32(ZERO_PAGE + 0x218), 0x1ff_e000);
    assert_eq!(machine.u32(ZERO_PAGE + 0x21c), 0x1001);
    assert_eq!(machine.bytes(0x1ff_e000, 0x1001), [0x55; 0x1001]);
}

#[test]
fn initramfs_may_begin_where_the_kernels_memory_ends() {
    let machine = Machine::new(6);
    let vmlinux = vmlinux_without_note();
    machine.load(&vmlinux, &vec![0x55; 1 << 20], "").unwrap();
    assert_eq!(machine.u32(ZERO_PAGE + 0x218), 0x50_0000);
}

#[test]
fn an_empty_initramfs_is_none() {
    let machine = Machine::new(8);
    machine.load(&vmlinux_without_note(), b"", "").unwrap();
    assert_eq!(machine.u64(ZERO_PAGE + 0x218), 0);
}

/// [ACPI 6.5](https://uefi.org/specs/ACPI/6.5/15_System_Address_Map_Interfaces.html), table 15.3: 1 is memory,
/// 2 reserved. The MP specification 1.4, section 4, wants the area of the MP table reported as not usable.
#[test]
fn e820_of_a_small_machine() {
    let machine = Machine::new(128);
    machine.load(&vmlinux_without_note(), b"", "").unwrap();
    let expected = [(0, 0xa_0000, 1), (0xf_0000, 0x1_0000, 2), (0x10_0000, 127 * MIB, 1)];
    assert_eq!(e820(&machine), expected);
}

/// The same for memory that goes on behind the devices.
#[test]
fn e820_of_a_large_machine() {
    let machine = Machine::new(5 * 1024);
    machine.load(&vmlinux_without_note(), INITRAMFS, "").unwrap();
    let low = [(0, 0xa_0000, 1), (0xf_0000, 0x1_0000, 2), (0x10_0000, 3 * GIB - MIB, 1)];
    assert_eq!(e820(&machine), [&low[..], &[(4 * GIB, 2 * GIB, 1)]].concat());
    assert_eq!(machine.u32(ZERO_PAGE + 0x218), 0xbfff_f000, "the initramfs is below the devices");
}

/// What the MMU makes of `address`: [Intel SDM](https://www.intel.com/sdm), volume 3, section 4.5.4, "Linear-Address
/// Translation with 4-Level Paging", tables 4-15 (PML4E), 4-17 (PDPTE), 4-18 (PDE of a 2-MByte page).
fn translate(machine: &Machine, cr3: u64, address: u64) -> Option<u64> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let present_and_writable = |entry: &u64| entry & 0b11 == 0b11;
    let entry = |table: u64, shift: u64| {
        let entry = machine.u64((table & ADDRESS) + (address >> shift & 0x1ff) * 8);
        Some(entry).filter(present_and_writable)
    };
    let pdpte = entry(entry(cr3, 39)?, 30)?;
    assert_eq!(pdpte & 1 << 7, 0, "a 1-GByte page");
    let pde = entry(pdpte, 21)?;
    assert_ne!(pde & 1 << 7, 0, "no 2-MByte page");
    assert_eq!(pde & 0x1f_e000, 0, "bits 20 to 13 are reserved");
    Some((pde & 0x000f_ffff_ffe0_0000) | address & 0x1f_ffff)
}

#[test]
fn page_tables_map_four_gibibytes_one_to_one() {
    let machine = Machine::new(8);
    machine.load(&vmlinux_without_note(), b"", "").unwrap();
    for address in (0..4 * GIB).step_by(2 << 20).flat_map(|page| [page, page + 0x1f_ffff]) {
        assert_eq!(translate(&machine, 0x9000, address), Some(address));
    }
    for address in [4 * GIB, 512 * GIB, 1 << 47] {
        assert_eq!(translate(&machine, 0x9000, address), None);
    }
}

/// [Intel SDM](https://www.intel.com/sdm), volume 3, figure 3-8 "Segment Descriptor" and figure 8-4 "Format of TSS
/// and LDT Descriptors in 64-bit Mode"; the selectors of "64-bit Boot Protocol": `__BOOT_CS` 0x10, `__BOOT_DS` 0x18.
#[test]
fn gdt_has_flat_segments_at_the_protocols_selectors() {
    let machine = Machine::new(8);
    machine.load(&vmlinux_without_note(), b"", "").unwrap();
    let gdt: Vec<u64> = (0..6).map(|index| machine.u64(0x500 + 8 * index)).collect();
    let code = 0xffff | 0xb << 40 | 1 << 44 | 1 << 47 | 0xf << 48 | 1 << 53 | 1 << 55;
    let data = 0xffff | 0x3 << 40 | 1 << 44 | 1 << 47 | 0xf << 48 | 1 << 54 | 1 << 55;
    let task = 0x67 | 0xb << 40 | 1 << 47;
    assert_eq!(gdt, [0, 0, code, data, task, 0]);
}

/// "64-bit Boot Protocol": "the CPU must be in 64-bit mode with paging enabled ... interrupt must be disabled;
/// %rsi must hold the base address of the struct boot_params". Bits: Intel SDM, volume 3, section 2.5 (CR0.PE 0,
/// CR0.PG 31, CR4.PAE 5), volume 4, table 2-2 (IA32_EFER.LME 8, LMA 10).
#[test]
fn registers_for_the_64_bit_entry() {
    let (mut sregs, mut regs) = (kvm_sregs::default(), kvm_regs::default());
    registers(Entry::Linux64(GuestAddress(0x100_0200)), &mut sregs, &mut regs);
    assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x100_0200, 0x7000, 0x2));
    assert_eq!(sregs.cr0 & 0x8000_0001, 0x8000_0001);
    assert_eq!((sregs.cr3, sregs.cr4, sregs.efer), (0x9000, 0x20, 0x500));
    assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x500, 6 * 8 - 1));
    let code = (sregs.cs.selector, sregs.cs.base, sregs.cs.limit, sregs.cs.type_, sregs.cs.l, sregs.cs.db);
    assert_eq!(code, (0x10, 0, 0xffff_ffff, 0xb, 1, 0));
    for data in [sregs.ds, sregs.es, sregs.ss] {
        assert_eq!((data.selector, data.base, data.limit, data.type_), (0x18, 0, 0xffff_ffff, 0x3));
    }
    let task =
        (sregs.tr.selector, sregs.tr.base, sregs.tr.limit, sregs.tr.type_, sregs.tr.s, sregs.tr.present);
    assert_eq!(task, (0x20, 0, 0x67, 0xb, 0, 1));
}
