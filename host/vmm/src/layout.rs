//! Guest physical addresses: everything that has a fixed place, in ascending order.
//!
//! Below the first mebibyte are the tables that tell the kernel about the machine, placed as the
//! [Linux boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html) allows: all of it is
//! read before the kernel takes the memory for itself.

use vm_memory::GuestAddress;

/// The global descriptor table that the first processor starts with.
pub const GDT: GuestAddress = GuestAddress(0x500);

/// `struct hvm_start_info` of the PVH protocol.
pub const PVH_START_INFO: GuestAddress = GuestAddress(0x6000);

/// Its list of modules: the initramfs.
pub const PVH_MODULES: GuestAddress = GuestAddress(0x6040);

/// Its memory map.
pub const PVH_MEMORY_MAP: GuestAddress = GuestAddress(0x6080);

/// `struct boot_params` of the Linux boot protocol ("zero page").
pub const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);

/// Page tables that map the first gibibytes one to one: a PML4, a PDPT and page directories behind it.
pub const PAGE_TABLES: GuestAddress = GuestAddress(0x9000);

/// The kernel's command line.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);

/// Bytes of the command line, the final zero included: `COMMAND_LINE_SIZE` of Linux on x86.
pub const COMMAND_LINE_BYTES_MAX: usize = 2048;

/// Where base memory ends: all of it below is the kernel's, and nothing is mapped from here to
/// [`BIOS_AREA`].
pub const BASE_MEMORY_END: u64 = 0xa_0000;

/// Where firmware would be. A kernel searches it for tables and never takes it as memory.
pub const BIOS_AREA: std::ops::Range<u64> = 0xf_0000..0x10_0000;

/// The MP floating pointer, and the MP configuration table right behind it: at the start of the "BIOS ROM
/// address space" (MP specification 1.4, section 4). The other places that a kernel searches, the ends of
/// base memory, hold one kibibyte: too few for the table of as many processors as a machine may have.
pub const MP_TABLE: GuestAddress = GuestAddress(BIOS_AREA.start);

/// Where kernels are loaded, and where memory goes on after the hole for firmware.
pub const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// The hole below 4 GiB where devices are; memory goes on behind it.
pub const DEVICE_HOLE: std::ops::Range<u64> = 0xc000_0000..0x1_0000_0000;

/// The first virtio-mmio device.
pub const VIRTIO_MMIO: GuestAddress = GuestAddress(0xd000_0000);

/// From one virtio-mmio device to the next.
pub const VIRTIO_MMIO_STRIDE: u64 = 0x1000;

/// Interrupt line of the first virtio-mmio device; each has one to itself.
pub const VIRTIO_IRQ_FIRST: u32 = 5;

/// The I/O APIC has this many inputs.
pub const IRQ_COUNT: u32 = 24;

/// Most virtio-mmio devices in a machine: one for each input of the I/O APIC from the first one's on.
pub const VIRTIO_DEVICES_MAX: usize = (IRQ_COUNT - VIRTIO_IRQ_FIRST) as usize;

/// Most processors in a machine. Local APIC IDs are 8 bits wide, one of them is the I/O APIC's, and 255
/// addresses all.
pub const CPUS_MAX: u8 = 254;

/// Three pages that KVM needs on Intel processors without "unrestricted guest" for its own use.
pub const KVM_TSS: GuestAddress = GuestAddress(0xfffb_d000);

/// One page that KVM needs there to run real mode.
pub const KVM_IDENTITY_MAP: GuestAddress = GuestAddress(0xfffb_c000);

/// Physical address of the I/O APIC, its power-on default.
pub const IO_APIC: u32 = 0xfec0_0000;

/// Physical address of every processor's local APIC, its power-on default.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// The first serial port's registers.
pub const SERIAL_PORT: u16 = 0x3f8;
/// How many registers it has.
pub const SERIAL_PORT_COUNT: u16 = 8;
/// Its interrupt line.
pub const SERIAL_IRQ: u32 = 4;

/// Data register of the keyboard controller.
pub const I8042_DATA_PORT: u16 = 0x60;
/// Its command register, by which the machine is restarted.
pub const I8042_COMMAND_PORT: u16 = 0x64;

/// Most memory of a machine: addresses of the processor models have 39 bits, and the device hole takes its
/// part.
pub const MEMORY_MIB_MAX: u32 = 511 * 1024;

/// The ranges of guest memory of `bytes` bytes: start and length. Below the device hole, and behind it.
pub fn memory_ranges(bytes: u64) -> Vec<(GuestAddress, u64)> {
    let low = bytes.min(DEVICE_HOLE.start);
    let high = bytes - low;
    let mut ranges = vec![(GuestAddress(0), low)];
    if high > 0 {
        ranges.push((GuestAddress(DEVICE_HOLE.end), high));
    }
    ranges
}
