//! The MP table: which processors there are, and how interrupts reach them
//! ([MultiProcessor Specification 1.4](https://pdos.csail.mit.edu/6.828/2018/readings/ia32/MPspec.pdf),
//! chapter 4).
//!
//! A floating pointer, for which a kernel searches memory, points to the configuration table: a header, then
//! entries in ascending order of their types. Both have checksums that make the sum of their bytes zero.

use super::Failure;
use crate::layout;

/// Of both parts: version 1.4.
const SPEC_REV: u8 = 4;
const FLOATING_POINTER_BYTES: usize = 16;
const HEADER_BYTES: usize = 44;

/// Types of entries.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Types of interrupts.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Polarity and trigger as usual on the source bus: active high and edge-triggered for ISA.
const CONFORMS: [u8; 2] = [0; 2];

/// Flags of a processor.
const CPU_ENABLED: u8 = 1;
const CPU_BOOTSTRAP: u8 = 2;
/// Family 6; kernels ask the processor itself.
const CPU_SIGNATURE: u32 = 0x600;
/// FPU, CMPXCHG8B and APIC.
const CPU_FEATURES: u32 = 0x301;

/// As KVM's local APICs say.
const LOCAL_APIC_VERSION: u8 = 0x14;
/// As KVM's I/O APIC says.
const IO_APIC_VERSION: u8 = 0x11;
const IO_APIC_ENABLED: u8 = 1;
const ALL_LOCAL_APICS: u8 = 0xff;
/// The one bus.
const ISA_BUS: u8 = 0;

/// The floating pointer and the table behind it, for [`layout::MP_TABLE`].
pub fn bytes(cpus: u8) -> Result<Vec<u8>, Failure> {
    if !(1..=layout::CPUS_MAX).contains(&cpus) {
        return Err(Failure::CpuCount { found: cpus });
    }
    let table = layout::MP_TABLE.0 as u32 + FLOATING_POINTER_BYTES as u32;
    Ok([floating_pointer(table).to_vec(), configuration_table(cpus)].concat())
}

/// Section 4.1. Feature bytes of zero: there is a table, and the PIC is connected ("virtual wire").
fn floating_pointer(table: u32) -> [u8; FLOATING_POINTER_BYTES] {
    let mut pointer = [0; FLOATING_POINTER_BYTES];
    pointer[0..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&table.to_le_bytes());
    pointer[8] = (FLOATING_POINTER_BYTES / 16) as u8;
    pointer[9] = SPEC_REV;
    pointer[10] = checksum(&pointer);
    pointer
}

fn configuration_table(cpus: u8) -> Vec<u8> {
    let entries = entries(cpus);
    let mut table = header(&entries);
    table.extend(entries.into_iter().flatten());
    table[7] = checksum(&table);
    table
}

/// Section 4.2, without the checksum.
fn header(entries: &[Vec<u8>]) -> Vec<u8> {
    let bytes = HEADER_BYTES + entries.iter().map(Vec::len).sum::<usize>();
    let mut header = vec![0; HEADER_BYTES];
    header[0..4].copy_from_slice(b"PCMP");
    header[4..6].copy_from_slice(&(bytes as u16).to_le_bytes());
    header[6] = SPEC_REV;
    header[8..16].copy_from_slice(b"KILN    ");
    header[16..28].copy_from_slice(b"MICROVM     ");
    header[34..36].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    header[36..40].copy_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    header
}

/// Section 4.3. The I/O APIC's ID is the first that no processor has.
fn entries(cpus: u8) -> Vec<Vec<u8>> {
    let io_apic_id = cpus;
    let mut entries: Vec<_> = (0..cpus).map(processor).collect();
    entries.push([&[BUS, ISA_BUS], b"ISA   ".as_slice()].concat());
    entries.push(io_apic(io_apic_id));
    entries.extend((0..layout::IRQ_COUNT as u8).map(|irq| io_interrupt(irq, io_apic_id)));
    entries.push(local_interrupt(EXT_INT, 0, 0));
    entries.push(local_interrupt(NMI, ALL_LOCAL_APICS, 1));
    entries
}

/// Section 4.3.1.
fn processor(id: u8) -> Vec<u8> {
    let flags = if id == 0 { CPU_ENABLED | CPU_BOOTSTRAP } else { CPU_ENABLED };
    let mut entry = vec![PROCESSOR, id, LOCAL_APIC_VERSION, flags];
    entry.extend(CPU_SIGNATURE.to_le_bytes());
    entry.extend(CPU_FEATURES.to_le_bytes());
    entry.extend([0; 8]);
    entry
}

/// Section 4.3.3.
fn io_apic(id: u8) -> Vec<u8> {
    [&[IO_APIC, id, IO_APIC_VERSION, IO_APIC_ENABLED], &layout::IO_APIC.to_le_bytes()[..]].concat()
}

/// Section 4.3.4: every line of the bus to the input of the same number.
fn io_interrupt(irq: u8, io_apic_id: u8) -> Vec<u8> {
    [&[IO_INTERRUPT, INT], &CONFORMS[..], &[ISA_BUS, irq, io_apic_id, irq]].concat()
}

/// Section 4.3.5.
fn local_interrupt(kind: u8, local_apic_id: u8, lint: u8) -> Vec<u8> {
    [&[LOCAL_INTERRUPT, kind], &CONFORMS[..], &[ISA_BUS, 0, local_apic_id, lint]].concat()
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}
