//! Every error of a plan, its places, its bytes.

use super::*;
use crate::Error;
use proptest::prelude::*;

fn bytes(size: u64) -> PartitionRequest {
    PartitionRequest::new(PartitionType::LINUX, PartitionSize::Bytes(size))
}

fn rest() -> PartitionRequest {
    PartitionRequest::new(PartitionType::LINUX, PartitionSize::Rest)
}

fn named(name: &str, partition: PartitionRequest) -> PartitionRequest {
    PartitionRequest { name: Some(name.to_owned()), ..partition }
}

fn at(start: u64, partition: PartitionRequest) -> PartitionRequest {
    PartitionRequest { start: Some(start), ..partition }
}

fn disk(table: TableKind, size: Option<u64>, partitions: Vec<PartitionRequest>) -> DiskRequest {
    DiskRequest { size, partitions, disk_signature: 0x1234_5678, ..DiskRequest::new(table) }
}

fn error(request: &DiskRequest) -> String {
    let error: Error = plan(request).unwrap_err();
    error.to_string()
}

/// Starts and lengths.
fn places(request: &DiskRequest) -> Vec<(u32, u64, u64)> {
    let layout = plan(request).unwrap();
    layout.partitions.iter().map(|partition| (partition.number, partition.start, partition.length)).collect()
}

use TableKind::{Gpt, Mbr};
const MIB: u64 = MEBIBYTE;

#[test]
fn sizes_that_do_not_fit() {
    let small = disk(Mbr, Some(64 * MIB), vec![named("root", bytes(64 * MIB))]);
    assert_eq!(
        error(&small),
        "the disk of 67108864 bytes (64 MiB) is too small for its partitions and its table: 1048576 bytes (1 MiB) are \
         missing; make it at least 68157440 bytes (65 MiB)"
    );
    let backup = disk(Gpt, Some(65 * MIB), vec![bytes(64 * MIB)]);
    assert_eq!(
        error(&backup),
        "the disk of 68157440 bytes (65 MiB) is too small for its partitions and its table: 16896 bytes \
         are missing; make it at least 68174336 bytes (about 65 MiB)"
    );
    let full = disk(Gpt, Some(64 * MIB), vec![bytes(62 * MIB), named("data", rest())]);
    assert_eq!(
        error(&full),
        "the disk of 67108864 bytes (64 MiB) leaves 1031680 bytes to partition 2 (data), which asks for \
         the rest: that takes at least 1048576 bytes (1 MiB); make the disk larger, or other partitions smaller"
    );
    assert_eq!(
        error(&disk(Gpt, None, vec![rest()])),
        "partition 1 asks for the rest of a disk of no given size: give the disk a size, or the partition"
    );
    assert_eq!(
        error(&disk(Gpt, Some(MIB), vec![rest(), bytes(MIB), named("b", rest())])),
        "partition 1 and partition 3 (b) both ask for the rest of the disk: only one can have it"
    );
    assert_eq!(error(&disk(Mbr, None, vec![bytes(0)])), "partition 1 has a size of zero: give it one");
    for partition in [bytes(u64::MAX), at(u64::MAX, bytes(1)), at(1 << 50, bytes(1))] {
        let expected = "partition 1 is to start or end behind 1 PiB: no disk is so large";
        assert_eq!(error(&disk(Gpt, None, vec![partition])), expected);
    }
    assert_eq!(
        error(&disk(Gpt, Some(MIB + 1), vec![])),
        "a disk of 1048577 bytes (about 1 MiB): it must be of whole sectors of 512 bytes, up to 1 PiB"
    );
}

#[test]
fn places_that_cannot_be() {
    assert_eq!(
        error(&disk(Mbr, None, vec![named("boot", at(MIB, bytes(2 * MIB))), at(2 * MIB, bytes(MIB))])),
        "partition 2, from 2097152 bytes (2 MiB), overlaps partition 1 (boot), which ends at 3145728 bytes (3 MiB): \
         move or shrink one by 1048576 bytes (1 MiB), or leave the starts out to have them chosen"
    );
    assert_eq!(
        error(&disk(Mbr, None, vec![at(MIB + 512, bytes(MIB))])),
        "partition 1 starts at byte 1049088, which is no multiple of 1048576 bytes (1 MiB): 2097152 is the next one that is"
    );
    let mut unaligned = disk(Gpt, None, vec![at(16_896, bytes(MIB))]);
    unaligned.alignment = Alignment::Bytes(512);
    assert_eq!(
        error(&unaligned),
        "partition 1 starts at 16896 bytes, where the partition table lies: the first byte it may start \
         at is 17408; leave its start out to have it chosen"
    );
    assert_eq!(
        error(&disk(Mbr, None, vec![at(0, bytes(MIB))])),
        "partition 1 starts at 0 bytes, where the partition table lies: the first byte it may start at is \
         1048576; leave its start out to have it chosen"
    );
    let three = [MIB, 2 * MIB, 3 * MIB].map(|start| at(start, bytes(MIB)));
    let with = |more: [PartitionRequest; 2]| disk(Mbr, None, three.iter().cloned().chain(more).collect());
    assert_eq!(
        error(&with([at(8 * MIB, bytes(MIB)), at(6 * MIB, bytes(MIB))])),
        "partition 5 lies before partition 4, but both are logical partitions: ask for them in the order of their starts"
    );
    assert!(error(&with([at(0, bytes(MIB)), bytes(MIB)])).starts_with("partition 4 starts at 0 bytes"));
    // Its EBR would be in partition 3.
    assert!(error(&with([at(4 * MIB, bytes(MIB)), bytes(MIB)])).contains("overlaps partition 3"));
    let mut around = with([at(6 * MIB, bytes(MIB)), at(10 * MIB, bytes(MIB))]);
    around.partitions[2].start = Some(8 * MIB);
    assert_eq!(
        error(&around),
        "partition 3 lies within the extended partition from 5242880 bytes (5 MiB) to 11534336 bytes (11 MiB): move it \
         before or behind"
    );
}

#[test]
fn what_tables_have_no_room_for() {
    assert_eq!(
        error(&disk(Mbr, None, vec![bytes(MIB); 60])),
        "60 partitions, more than the 59 that an MBR has here: ask for table gpt"
    );
    assert_eq!(
        error(&disk(Gpt, None, vec![bytes(MIB); 129])),
        "129 partitions, more than the 128 that a GPT has"
    );
    assert_eq!(
        error(&disk(TableKind::None, None, vec![bytes(MIB); 2])),
        "2 partitions on a disk without a table: it has room for one; ask for table gpt or mbr"
    );
    assert_eq!(
        error(&disk(TableKind::None, None, vec![at(MIB, bytes(MIB))])),
        "partition 1 starts at byte 1048576 of a disk without a table: it can start at 0 only"
    );
    assert_eq!(
        error(&disk(Mbr, None, vec![bytes(2 << 40)])),
        "partition 1 ends at 2199024304128 bytes (2097153 MiB), but an MBR reaches to 2 TiB only: ask for table gpt"
    );
    plan(&disk(Mbr, None, vec![bytes((2 << 40) - 2 * MIB)])).unwrap();
    plan(&disk(Gpt, None, vec![bytes(2 << 40); 3])).unwrap();
}

#[test]
fn names_types_and_flags_that_tables_do_not_have() {
    let long = named(&"🦀".repeat(19), bytes(MIB));
    assert!(
        error(&disk(Gpt, None, vec![long]))
            .ends_with("has 38 UTF-16 units, more than the 36 of a GPT: shorten it")
    );
    plan(&disk(Gpt, None, vec![named(&"🦀".repeat(18), bytes(MIB))])).unwrap();
    let zero = named("a\0", bytes(MIB));
    assert_eq!(error(&disk(Gpt, None, vec![zero])), "the name of partition 1 (a\0) has a zero character");
    let typed = |kind| PartitionRequest::new(kind, PartitionSize::Bytes(MIB));
    assert_eq!(
        error(&disk(Mbr, None, vec![typed(PartitionType::Known(Known::BiosBoot))])),
        "partition 1 has type bios-boot, which table mbr has none for: GRUB needs no partition of its own there, others \
         are named by a byte such as 0x83; or ask for table gpt"
    );
    assert!(error(&disk(Mbr, None, vec![typed(PartitionType::Mbr(0x05))])).contains("has type 0x05, which"));
    assert_eq!(
        error(&disk(Gpt, None, vec![typed(PartitionType::Mbr(0x83))])),
        "partition 1 has type 0x83, which table gpt has none for: name it by a word or by its GUID; or ask for table mbr"
    );
    let flagged = PartitionRequest { attributes: attribute::READ_ONLY, ..bytes(MIB) };
    let expected = "partition 1 has attributes, which an MBR cannot hold: ask for table gpt";
    assert_eq!(error(&disk(Mbr, None, vec![flagged])), expected);
    let with_uuid = PartitionRequest { uuid: Some(Guid([1; 16])), ..bytes(MIB) };
    let expected = "partition 1 has a UUID, which an MBR cannot hold: ask for table gpt";
    assert_eq!(error(&disk(Mbr, None, vec![with_uuid.clone()])), expected);
    let expected = "partition 1 and partition 2 have the same UUID";
    assert_eq!(error(&disk(Gpt, None, vec![with_uuid.clone(), with_uuid])), expected);
    let active = PartitionRequest { active: true, ..bytes(MIB) };
    let expected = "partition 1 and partition 2 are both active: boot code boots from one only";
    assert_eq!(error(&disk(Mbr, None, vec![active.clone(), active])), expected);
}

#[test]
fn alignments_that_cannot_be() {
    for unit in [0, 1000, 2 << 30] {
        let request = DiskRequest { alignment: Alignment::Bytes(unit), ..disk(Gpt, None, vec![]) };
        assert!(error(&request).ends_with("it must be of whole sectors of 512 bytes, up to 1 GiB"), "{unit}");
    }
    let request = DiskRequest { alignment: Alignment::Cylinder, ..disk(Gpt, None, vec![]) };
    let expected = "an alignment to cylinders is for MBR: ask for table mbr, or for an alignment in bytes";
    assert_eq!(error(&request), expected);
}

#[test]
fn boot_code_that_fits() {
    assert_eq!(boot_code(&[1; 440]).unwrap(), Write { offset: 0, bytes: vec![1; 440] });
    let expected = "boot code of 441 bytes, more than the 440 before the partition table";
    assert_eq!(boot_code(&[1; 441]).unwrap_err().to_string(), expected);
}

#[test]
fn guids_and_attributes_in_words() {
    let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    let guid: Guid = text.parse().unwrap();
    assert_eq!(guid.to_string(), text);
    assert_eq!(guid.to_disk()[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
    for wrong in ["", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "c12a7328-f81f-11d2-ba4b_00a0c93ec93b", "{}"] {
        assert!(wrong.parse::<Guid>().unwrap_err().to_string().contains("is no GUID"), "{wrong}");
    }
    assert_eq!(attribute::parse("grow-fs").unwrap(), 1 << 59);
    assert_eq!(attribute::parse("63").unwrap(), 1 << 63);
    assert!(
        attribute::parse("64").unwrap_err().to_string().starts_with("\"64\" is no attribute of a partition")
    );
}

#[test]
fn places_one_after_the_other() {
    let request = disk(Gpt, None, vec![bytes(MIB + 1), bytes(100), at(9 * MIB, bytes(MIB)), bytes(MIB)]);
    let expected = [(1, MIB, MIB + 512), (2, 3 * MIB, 512), (3, 9 * MIB, MIB), (4, 10 * MIB, MIB)];
    assert_eq!(places(&request), expected);
    assert_eq!(plan(&request).unwrap().size, 12 * MIB);
    assert_eq!(plan(&disk(Mbr, None, vec![bytes(MIB)])).unwrap().size, 2 * MIB);
}

#[test]
fn the_rest_is_what_others_leave() {
    let behind = disk(Gpt, Some(100 * MIB), vec![bytes(MIB), rest(), bytes(8 * MIB)]);
    assert_eq!(places(&behind), [(1, MIB, MIB), (2, 2 * MIB, 89 * MIB), (3, 91 * MIB, 8 * MIB)]);
    let between = disk(Mbr, None, vec![rest(), at(10 * MIB, bytes(MIB))]);
    assert_eq!(places(&between), [(1, MIB, 9 * MIB), (2, 10 * MIB, MIB)]);
    let logical = disk(Mbr, Some(100 * MIB), vec![bytes(MIB), bytes(MIB), bytes(MIB), rest(), bytes(MIB)]);
    assert_eq!(places(&logical)[3..], [(5, 5 * MIB, 93 * MIB), (6, 99 * MIB, MIB)]);
    assert_eq!(plan(&logical).unwrap().extended, Some(4 * MIB..100 * MIB));
    let whole = disk(TableKind::None, Some(MIB + 512), vec![rest()]);
    assert_eq!(places(&whole), [(0, 0, MIB + 512)]);
    assert!(plan(&whole).unwrap().writes().is_empty());
    assert!(
        error(&disk(TableKind::None, Some(0), vec![rest()]))
            .starts_with("the disk of 0 bytes leaves 0 bytes")
    );
    assert_eq!(plan(&disk(TableKind::None, None, vec![bytes(MIB + 1)])).unwrap().size, MIB + 512);
}

#[test]
fn cylinders_as_tools_of_old() {
    let cylinder = 16 * 63 * 512;
    let request = DiskRequest {
        alignment: Alignment::Cylinder,
        geometry: Geometry::new(16, 63).unwrap(),
        ..disk(Mbr, Some(100 * cylinder), vec![bytes(MIB), bytes(cylinder), bytes(1), rest(), bytes(MIB)])
    };
    let track = 63 * 512;
    let expected = [
        (1, track, 3 * cylinder - track),
        (2, 3 * cylinder, cylinder),
        (3, 4 * cylinder, cylinder),
        (5, 5 * cylinder + track, 92 * cylinder - track),
        (6, 97 * cylinder + track, 3 * cylinder - track),
    ];
    assert_eq!(places(&request), expected);
}

#[test]
fn what_linux_calls_partitions() {
    let mbr = plan(&disk(Mbr, None, vec![bytes(MIB); 5])).unwrap();
    assert_eq!(mbr.partition_uuid(&mbr.partitions[4]).unwrap(), "12345678-06");
    let gpt = plan(&disk(Gpt, None, vec![bytes(MIB); 2])).unwrap();
    // Another value here means that every disk changes.
    assert_eq!(gpt.partition_uuid(&gpt.partitions[0]).unwrap(), "ba41002d-d50b-87a3-8dce-b9ce19607710");
    assert_ne!(gpt.partitions[0].uuid, gpt.partitions[1].uuid);
}

#[test]
fn the_bytes_of_an_mbr() {
    let active = PartitionRequest { active: true, ..bytes(MIB) };
    let writes = plan(&disk(Mbr, None, vec![active])).unwrap().writes();
    let mut expected = vec![0x78, 0x56, 0x34, 0x12, 0, 0];
    expected.extend([0x80, 0x20, 0x21, 0, 0x83, 0x41, 0x01, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    expected.extend([0; 48]);
    expected.extend([0x55, 0xaa]);
    assert_eq!(writes, [Write { offset: 440, bytes: expected }]);
}

#[test]
fn the_bytes_of_a_gpt() {
    let layout = plan(&disk(Gpt, None, vec![named("é", bytes(MIB))])).unwrap();
    let writes = layout.writes();
    let places: Vec<_> = writes.iter().map(|write| (write.offset, write.bytes.len())).collect();
    assert_eq!(places, [(440, 72), (512, 33 * 512), (3 * MIB - 33 * 512, 33 * 512)]);
    assert_eq!(&writes[1].bytes[..8], b"EFI PART");
    assert_eq!(writes[1].bytes[512 + 56..512 + 60], [0xe9, 0, 0, 0]);
    assert_eq!(writes[1].bytes[512..], writes[2].bytes[..32 * 512]);
    assert_eq!(layout.writes(), writes);
}

fn any_request() -> impl Strategy<Value = DiskRequest> {
    let partition = (1..40 * MIB, any::<bool>()).prop_map(|(size, _)| bytes(size));
    let table = prop_oneof![Just(Mbr), Just(Gpt)];
    let unit = prop_oneof![Just(512), Just(4096), Just(MIB), Just(4 * MIB)];
    (table, unit, prop::collection::vec(partition, 1..12), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(table, unit, mut partitions, which, with_rest)| {
            if with_rest {
                let which = which.index(partitions.len());
                partitions[which].size = PartitionSize::Rest;
            }
            let size = with_rest.then_some(1 << 30);
            DiskRequest { alignment: Alignment::Bytes(unit), ..disk(table, size, partitions) }
        })
}

proptest! {
    #[test]
    fn partitions_are_apart_aligned_and_within(request in any_request()) {
        let layout = plan(&request).unwrap();
        let Alignment::Bytes(unit) = request.alignment else { unreachable!() };
        let mut taken: Vec<_> = layout.writes().iter().map(|write| write.offset..write.offset + write.bytes.len() as u64).collect();
        for (asked, partition) in request.partitions.iter().zip(&layout.partitions) {
            prop_assert_eq!(partition.start % unit, 0);
            if let PartitionSize::Bytes(size) = asked.size {
                prop_assert_eq!(partition.length, size.next_multiple_of(SECTOR_BYTES));
            }
            taken.push(partition.start..partition.start + partition.length);
        }
        taken.sort_by_key(|range| range.start);
        for pair in taken.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start, "{:?}", pair);
        }
        prop_assert!(taken.last().unwrap().end <= layout.size);
    }

    #[test]
    fn nothing_asked_for_makes_it_panic(
        table in prop_oneof![Just(Mbr), Just(Gpt), Just(TableKind::None)],
        size in any::<Option<u64>>(),
        asked in prop::collection::vec((any::<Option<u64>>(), any::<Option<u64>>()), 0..8),
        cylinders in any::<bool>(),
    ) {
        let partitions = asked.into_iter().map(|(start, size)| PartitionRequest {
            start,
            ..size.map_or_else(rest, bytes)
        });
        let mut request = disk(table, size, partitions.collect());
        if cylinders {
            request.alignment = Alignment::Cylinder;
        }
        if let Ok(layout) = plan(&request) {
            layout.writes();
        }
    }
}
