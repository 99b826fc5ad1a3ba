//! The MP table, read as Linux reads it (`arch/x86/kernel/mpparse.c`), by the
//! [MultiProcessor Specification 1.4](https://pdos.csail.mit.edu/6.828/2018/readings/ia32/MPspec.pdf).

use super::kernels::vmlinux;
use super::*;

/// What Linux takes from the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    local_apic: u32,
    /// Local APIC ID, version, flags.
    processors: Vec<(u8, u8, u8)>,
    /// ID, name.
    buses: Vec<(u8, String)>,
    /// ID, version, flags, address.
    io_apics: Vec<(u8, u8, u8, u32)>,
    /// Type, flags, bus, line, I/O APIC, input.
    io_interrupts: Vec<(u8, u16, u8, u8, u8, u8)>,
    /// Type, flags, bus, line, local APIC, input.
    local_interrupts: Vec<(u8, u16, u8, u8, u8, u8)>,
}

/// Section 4: the first KiB (Linux's own idea), the last KiB of 640 KiB base memory, then the BIOS ROM area, on
/// 16-byte boundaries. Section 4.1 has the structure: length in paragraphs at 8, version at 9.
fn floating_pointer(machine: &Machine) -> u64 {
    let areas = [(0, 0x400), (639 * 0x400, 0x400), (0xf_0000, 0x1_0000)];
    let places = areas.into_iter().flat_map(|(base, bytes)| (base..base + bytes).step_by(16));
    let is_pointer = |place: &u64| {
        let bytes = machine.bytes(*place, 16);
        bytes.starts_with(b"_MP_") && bytes[8] == 1 && sum(&bytes) == 0 && bytes[9] == 4
    };
    places.into_iter().find(is_pointer).expect("no floating pointer")
}

/// Section 4.2: `PCMP`, length at 4, version at 6, entry count at 34, local APIC address at 36; 44 bytes. Section 4.3:
/// the entries, 20 bytes for processors, 8 for the others, ascending by type.
fn read(machine: &Machine) -> Found {
    let table = u64::from(machine.u32(floating_pointer(machine) + 4));
    let length = machine.u16(table + 4);
    let bytes = machine.bytes(table, length.into());
    assert_eq!((&bytes[..4], sum(&bytes), bytes[6]), (&b"PCMP"[..], 0, 4));
    assert!(table + u64::from(length) <= 0x10_0000, "the table leaves the reserved area");
    let mut found = Found { local_apic: machine.u32(table + 36), ..Found::default() };
    let (mut rest, mut types) = (&bytes[44..], Vec::new());
    while !rest.is_empty() {
        types.push(rest[0]);
        rest = rest.split_off(take(&mut found, rest)..).unwrap();
    }
    assert_eq!(types.len(), usize::from(machine.u16(table + 34)), "entry count");
    assert!(types.is_sorted());
    found
}

/// Takes the first entry and returns how long it is.
fn take(found: &mut Found, entry: &[u8]) -> usize {
    let flags = u16::from_le_bytes([entry[2], entry[3]]);
    let interrupt = (entry[1], flags, entry[4], entry[5], entry[6], entry[7]);
    match entry[0] {
        0 => found.processors.push((entry[1], entry[2], entry[3])),
        1 => found.buses.push((entry[1], String::from_utf8(entry[2..8].to_vec()).unwrap())),
        2 => {
            let address = u32::from_le_bytes(entry[4..8].try_into().unwrap());
            found.io_apics.push((entry[1], entry[2], entry[3], address));
        }
        3 => found.io_interrupts.push(interrupt),
        4 => found.local_interrupts.push(interrupt),
        other => panic!("entry of type {other}"),
    }
    if entry[0] == 0 { 20 } else { 8 }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn machine_of(cpus: u8) -> Result<Machine, Failure> {
    let machine = Machine::new(8);
    let (mut kernel, mut initramfs) = (file_of(&vmlinux()), file_of(b""));
    let payload = Payload { kernel: &mut kernel, initramfs: &mut initramfs, command_line: "", cpus };
    load(&machine.memory, payload).map(|_| machine)
}

/// Tables 4-4 to 4-11 of the specification: enabled is bit 0 and bootstrap bit 1 of a processor's flags; interrupt
/// types are 0 INT, 1 NMI, 3 ExtINT; local APIC 0xff is all of them.
#[test]
fn linux_finds_processors_and_interrupts() {
    for cpus in [1, 2, 17, 254] {
        let found = read(&machine_of(cpus).unwrap());
        let expected = Found {
            local_apic: 0xfee0_0000,
            processors: (0..cpus).map(|id| (id, 0x14, if id == 0 { 3 } else { 1 })).collect(),
            buses: vec![(0, "ISA   ".to_owned())],
            io_apics: vec![(cpus, 0x11, 1, 0xfec0_0000)],
            io_interrupts: (0..24).map(|line| (0, 0, 0, line, cpus, line)).collect(),
            local_interrupts: vec![(3, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0xff, 1)],
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn more_processors_than_ids_are_refused() {
    for cpus in [0, 255] {
        let failure = machine_of(cpus).err().unwrap().to_string();
        assert_eq!(failure, format!("a machine has 1 to 254 processors, not {cpus}"));
    }
}
