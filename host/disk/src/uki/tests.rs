//! A small stub, one field at a time wrong.

use super::*;
use proptest::prelude::*;

const HEADER: usize = 0x80;
const OPTIONAL: usize = HEADER + PE_HEADER_BYTES;
const TABLE: usize = OPTIONAL + 240;

/// One section of code at 0x1000, from 0x400 in the file; room for as many headers as there are between.
fn stub() -> Vec<u8> {
    let mut bytes = vec![0; 0x600];
    bytes[..2].copy_from_slice(DOS_MAGIC);
    put_u32(&mut bytes, E_LFANEW, HEADER as u32);
    bytes[HEADER..HEADER + 4].copy_from_slice(PE_MAGIC);
    put_u16(&mut bytes, HEADER + 4, 0x8664);
    put_u16(&mut bytes, HEADER + file_header::NUMBER_OF_SECTIONS, 1);
    put_u32(&mut bytes, HEADER + file_header::TIME_DATE_STAMP, 1_700_000_000);
    put_u16(&mut bytes, HEADER + file_header::SIZE_OF_OPTIONAL_HEADER, 240);
    put_u16(&mut bytes, OPTIONAL, PE32_PLUS);
    put_u32(&mut bytes, OPTIONAL + optional_header::SIZE_OF_CODE, 0x200);
    put_u32(&mut bytes, OPTIONAL + optional_header::SECTION_ALIGNMENT, 0x1000);
    put_u32(&mut bytes, OPTIONAL + optional_header::FILE_ALIGNMENT, 0x200);
    put_u32(&mut bytes, OPTIONAL + optional_header::SIZE_OF_IMAGE, 0x2000);
    put_u32(&mut bytes, OPTIONAL + optional_header::SIZE_OF_HEADERS, 0x400);
    put_u16(&mut bytes, OPTIONAL + optional_header::SUBSYSTEM, EFI_APPLICATION);
    put_u32(&mut bytes, OPTIONAL + optional_header::NUMBER_OF_RVA_AND_SIZES, 16);
    put_u32(&mut bytes, OPTIONAL + optional_header::CERTIFICATE_TABLE, 0x600);
    put_u32(&mut bytes, OPTIONAL + optional_header::CERTIFICATE_TABLE + 4, 8);
    bytes[TABLE..TABLE + 8].copy_from_slice(b".text\0\0\0");
    put_u32(&mut bytes, TABLE + section_header::VIRTUAL_SIZE, 0x123);
    put_u32(&mut bytes, TABLE + section_header::VIRTUAL_ADDRESS, 0x1000);
    put_u32(&mut bytes, TABLE + section_header::SIZE_OF_RAW_DATA, 0x200);
    put_u32(&mut bytes, TABLE + section_header::POINTER_TO_RAW_DATA, 0x400);
    bytes[0x400..].fill(0xcc);
    bytes.extend(b"signature");
    bytes
}

const SECTIONS: [Section<'static>; 2] =
    [Section { name: ".cmdline", contents: b"quiet" }, Section { name: ".linux", contents: &[0xaa; 0x201] }];

/// Name, size, address, bytes in the file, offset, characteristics.
fn section(image: &[u8], index: usize) -> ([u8; 8], [u32; 5]) {
    let at = TABLE + index * SECTION_HEADER_BYTES;
    (image[at..at + 8].try_into().unwrap(), [8, 12, 16, 20, 36].map(|field| le_u32(image, at + field)))
}

#[test]
fn sections_are_behind_the_others() {
    let image = build(&stub(), &SECTIONS).unwrap();
    assert_eq!(image.len(), 0x600 + 0x200 + 0x400);
    assert_eq!(section(&image, 0).1, [0x123, 0x1000, 0x200, 0x400, 0]);
    assert_eq!(section(&image, 1), (*b".cmdline", [5, 0x2000, 0x200, 0x600, 0x4000_0040]));
    assert_eq!(section(&image, 2), (*b".linux\0\0", [0x201, 0x3000, 0x400, 0x800, 0x6000_0020]));
    assert_eq!(&image[0x600..0x606], b"quiet\0");
    assert_eq!(image[0x800..0xa01], [0xaa; 0x201]);
    assert_eq!(u16_at(&image, HEADER + file_header::NUMBER_OF_SECTIONS).unwrap(), 3);
    for (offset, expected) in [
        (optional_header::SIZE_OF_CODE, 0x600),
        (optional_header::SIZE_OF_INITIALIZED_DATA, 0x200),
        (optional_header::SIZE_OF_IMAGE, 0x4000),
        (optional_header::CERTIFICATE_TABLE, 0),
        (optional_header::CERTIFICATE_TABLE + 4, 0),
    ] {
        assert_eq!(le_u32(&image, OPTIONAL + offset), expected, "{offset}");
    }
    assert_eq!(le_u32(&image, HEADER + file_header::TIME_DATE_STAMP), 0);
    assert_eq!(build(&stub(), &SECTIONS).unwrap(), image);
}

#[test]
fn stubs_that_are_none() {
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut stub = stub();
        change(&mut stub);
        build(&stub, &SECTIONS).unwrap_err().to_string()
    };
    let is_no = "the stub is no UEFI program:";
    assert_eq!(error(&|stub| stub[0] = 0), format!("{is_no} no DOS header at byte 0"));
    assert_eq!(error(&|stub| stub.truncate(20)), format!("{is_no} its end at byte 60"));
    assert_eq!(
        error(&|stub| put_u32(stub, E_LFANEW, u32::MAX)),
        format!("{is_no} no PE header at byte 4294967295")
    );
    assert_eq!(
        error(&|stub| put_u16(stub, OPTIONAL, 0x10b)),
        format!("{is_no} no optional header of 64 bits at byte 152")
    );
    assert_eq!(
        error(&|stub| put_u16(stub, OPTIONAL + 68, 3)),
        format!("{is_no} another subsystem at byte 220")
    );
    for value in [0, 8, 0x201, 1 << 31] {
        let expected = format!("{is_no} an alignment that cannot be at byte 184");
        assert_eq!(error(&|stub| put_u32(stub, OPTIONAL + 32, value)), expected);
    }
    let behind_end = format!("{is_no} a section behind its end at byte 392");
    assert_eq!(
        error(&|stub| put_u32(stub, TABLE + section_header::POINTER_TO_RAW_DATA, u32::MAX)),
        behind_end
    );
    let too_high = format!("{is_no} a section behind 4 GiB at byte 392");
    assert_eq!(error(&|stub| put_u32(stub, TABLE + section_header::VIRTUAL_SIZE, u32::MAX)), too_high);
    let too_large = "section .cmdline makes the image larger than 4 GiB";
    assert_eq!(error(&|stub| put_u32(stub, TABLE + section_header::VIRTUAL_SIZE, 0xffff_e000)), too_large);
    let short = format!("{is_no} an optional header that is too short at byte 148");
    assert_eq!(error(&|stub| put_u16(stub, HEADER + file_header::SIZE_OF_OPTIONAL_HEADER, 239)), short);
    assert_eq!(error(&|stub| put_u32(stub, OPTIONAL + 108, u32::MAX)), short);
    let outside = format!("{is_no} a table of sections outside of its headers at byte 392");
    assert_eq!(error(&|stub| put_u32(stub, OPTIONAL + optional_header::SIZE_OF_HEADERS, 0x100)), outside);
    assert!(error(&|stub| put_u16(stub, HEADER + 6, u16::MAX)).starts_with(is_no));
}

#[test]
fn sections_that_cannot_be_added() {
    let error = |sections: &[Section<'_>]| build(&stub(), sections).unwrap_err().to_string();
    let named = |name| Section { name, contents: b"x" };
    for name in ["", ".", "linux", ".toolong1", ".ä", ". x"] {
        let expected =
            format!("{name:?} is no name of a section: it has a dot and up to 7 more ASCII characters");
        assert_eq!(error(&[named(name)]), expected);
    }
    let twice = "section .text is there twice, or in the stub already";
    assert_eq!(error(&[named(".text")]), twice);
    assert!(error(&[named(".a"), named(".a")]).starts_with("section .a is there twice"));
    assert_eq!(error(&[Section { name: ".a", contents: b"" }]), "section .a is empty: leave it out");
    let names: Vec<String> = (0..15).map(|number| format!(".s{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| named(name)).collect();
    // 0x400 less the headers before the table, less one section: 592 bytes.
    let expected = "the stub has room for 14 more sections, not for 15: use another stub, or leave some out";
    assert_eq!(error(&many), expected);
    build(&stub(), &many[..14]).unwrap();
}

proptest! {
    #[test]
    fn no_stub_makes_it_panic(changes in prop::collection::vec((0..0x300usize, any::<u8>()), 1..20), length in 0..0x700usize) {
        let mut stub = stub();
        for (at, byte) in changes {
            stub[at] = byte;
        }
        stub.truncate(length.max(0x300));
        let _ = build(&stub, &SECTIONS);
    }

    #[test]
    fn no_field_makes_it_panic(
        changes in prop::collection::vec((0..0x300usize / 4, prop_oneof![
            Just(0), Just(1), Just(u32::MAX), Just(0x200), Just(0x600), Just(0xffff_f000), any::<u32>()
        ]), 1..4),
    ) {
        let mut stub = stub();
        for (at, value) in changes {
            put_u32(&mut stub, at * 4, value);
        }
        let _ = build(&stub, &SECTIONS);
    }
}
