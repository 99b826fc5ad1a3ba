//! Partition tables as sfdisk and sgdisk see them.
//!
//! Needs Debian's packages fdisk and gdisk.

use kiln_disk::table::{
    Alignment, DiskRequest, Geometry, Guid, Known, Layout, MEBIBYTE, PartitionRequest, PartitionSize,
    PartitionType, TableKind, Write, attribute, boot_code, plan,
};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn bytes(size: u64) -> PartitionRequest {
    PartitionRequest::new(PartitionType::LINUX, PartitionSize::Bytes(size))
}

fn known(known: Known, size: PartitionSize) -> PartitionRequest {
    PartitionRequest::new(PartitionType::Known(known), size)
}

struct Disk {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    fn empty(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self { _directory: directory, path }
    }

    fn of(layout: &Layout) -> Self {
        let disk = Self::empty(layout.size);
        let file = File::options().write(true).open(&disk.path).unwrap();
        for write in layout.writes() {
            file.write_all_at(&write.bytes, write.offset).unwrap();
        }
        disk
    }

    fn sector(&self, offset: u64) -> Vec<u8> {
        let mut sector = vec![0; 512];
        File::open(&self.path).unwrap().read_exact_at(&mut sector, offset).unwrap();
        sector
    }
}

/// Debian has them where only root's PATH leads.
fn command(program: &str, package: &str, arguments: &[&str], disk: &Path, input: &str) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("env")
        .arg(format!("PATH={path}:/usr/sbin:/sbin"))
        .args(["LC_ALL=C", program])
        .args(arguments)
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_ne!(
        output.status.code(),
        Some(127),
        "this test needs {program}: install Debian's package {package}"
    );
    output
}

fn sfdisk(arguments: &[&str], disk: &Disk, input: &str) -> String {
    told(&command("sfdisk", "fdisk", arguments, &disk.path, input))
}

fn sgdisk(arguments: &[&str], disk: &Disk) -> String {
    told(&command("sgdisk", "gdisk", arguments, &disk.path, ""))
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// What sfdisk makes of the same partitions, byte for byte: it has no other geometry than 255 heads of 63 sectors.
fn sfdisk_script(layout: &Layout) -> String {
    let mut script = format!("label: dos\nlabel-id: 0x{:08x}\nunit: sectors\n", layout.disk_signature);
    let mut line = |number: u32, start: u64, length: u64, kind: u8, active: bool| {
        let bootable = if active { ", bootable" } else { "" };
        let (start, size) = (start / 512, length / 512);
        script += &format!("disk{number} : start={start}, size={size}, type={kind:x}{bootable}\n");
    };
    let mut extended = layout.extended.clone();
    for partition in &layout.partitions {
        if let Some(range) = extended.take_if(|_| partition.number > 4) {
            line(4, range.start, range.end - range.start, 0x0f, false);
        }
        let kind = partition.kind.mbr().unwrap();
        line(partition.number, partition.start, partition.length, kind, partition.active);
    }
    script
}

fn mbr_request(partitions: Vec<PartitionRequest>) -> DiskRequest {
    DiskRequest { disk_signature: 0xdead_beef, partitions, ..DiskRequest::new(TableKind::Mbr) }
}

fn is_what_sfdisk_writes(request: &DiskRequest) {
    let layout = plan(request).unwrap();
    compare_with_sfdisk(&layout, &layout.writes());
}

fn compare_with_sfdisk(layout: &Layout, writes: &[Write]) {
    let (ours, theirs) = (Disk::of(layout), Disk::empty(layout.size));
    sfdisk(&["--no-reread", "--no-tell-kernel", "-q"], &theirs, &sfdisk_script(layout));
    for write in writes {
        let sector = write.offset / 512 * 512;
        assert_eq!(ours.sector(sector), theirs.sector(sector), "at byte {sector}");
    }
    assert!(sfdisk(&["--verify"], &ours, "").contains("No errors detected"));
}

#[test]
fn an_mbr_is_what_sfdisk_writes() {
    let active = PartitionRequest { active: true, ..bytes(300 * MEBIBYTE) };
    let swap = known(Known::Swap, PartitionSize::Bytes(64 * MEBIBYTE));
    is_what_sfdisk_writes(&mbr_request(vec![active.clone()]));
    is_what_sfdisk_writes(&mbr_request(vec![active.clone(), swap.clone(), bytes(10 << 30), bytes(1 << 40)]));
    // Larger than cylinders can tell, with the rest in a logical partition.
    let mut many = vec![active, swap, bytes(3 << 30), bytes(MEBIBYTE), bytes(9 << 30), bytes(512)];
    many.push(known(Known::Lvm, PartitionSize::Rest));
    is_what_sfdisk_writes(&DiskRequest { size: Some(20 << 30), ..mbr_request(many) });
    is_what_sfdisk_writes(&mbr_request(vec![bytes(MEBIBYTE); 59]));
}

#[test]
fn cylinders_are_what_sfdisk_counts() {
    let partitions = vec![bytes(100 * MEBIBYTE), bytes(1), bytes(1), bytes(MEBIBYTE), bytes(1)];
    let request = DiskRequest { alignment: Alignment::Cylinder, ..mbr_request(partitions) };
    let layout = plan(&request).unwrap();
    // It has other places for EBRs, one sector before their partitions.
    compare_with_sfdisk(&layout, &layout.writes()[..1]);
    let table = sfdisk(&["-J"], &Disk::of(&layout), "");
    for partition in &layout.partitions {
        assert!(table.contains(&format!("\"start\": {}", partition.start / 512)), "{table}");
    }
}

#[test]
fn another_geometry_is_in_the_addresses() {
    let geometry = Geometry::new(16, 63).unwrap();
    let request = DiskRequest {
        alignment: Alignment::Cylinder,
        geometry,
        ..mbr_request(vec![bytes(10 * MEBIBYTE), bytes(1)])
    };
    let disk = Disk::of(&plan(&request).unwrap());
    let sector = disk.sector(0);
    // Track 1 of cylinder 0 to the end of cylinder 20, and cylinder 21: 10 MiB and a track are 20.4 cylinders.
    assert_eq!(sector[446..454], [0, 1, 1, 0, 0x83, 15, 63, 20]);
    assert_eq!(sector[462..470], [0, 0, 1, 21, 0x83, 15, 63, 21]);
    assert!(sfdisk(&["--verify"], &disk, "").contains("No errors detected"));
}

fn gpt_request() -> DiskRequest {
    let named = |name: &str, partition| PartitionRequest { name: Some(name.to_owned()), ..partition };
    let root = known(Known::LinuxRootX8664, PartitionSize::Rest);
    let root = PartitionRequest {
        uuid: Some(Guid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888)),
        attributes: attribute::GROW_FILE_SYSTEM,
        active: true,
        ..named("größe 🦀", root)
    };
    DiskRequest {
        disk_guid: Guid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        size: Some(1 << 30),
        partitions: vec![
            known(Known::BiosBoot, PartitionSize::Bytes(MEBIBYTE)),
            named("esp", known(Known::Efi, PartitionSize::Bytes(64 * MEBIBYTE))),
            root,
        ],
        ..DiskRequest::new(TableKind::Gpt)
    }
}

#[test]
fn a_gpt_is_right_to_sgdisk_and_sfdisk() {
    let disk = Disk::of(&plan(&gpt_request()).unwrap());
    let verified = sgdisk(&["-v"], &disk);
    assert!(verified.contains("No problems found."), "{verified}");
    assert!(!verified.to_lowercase().contains("warning"), "{verified}");
    assert!(sfdisk(&["--verify"], &disk, "").contains("No errors detected"));
    let table = sfdisk(&["-J"], &disk, "");
    for expected in [
        r#""label": "gpt""#,
        r#""id": "01234567-89AB-CDEF-0123-456789ABCDEF""#,
        r#""firstlba": 34"#,
        r#""lastlba": 2097118"#,
        r#""start": 2048"#,
        r#""type": "21686148-6449-6E6F-744E-656564454649""#,
        r#""type": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B""#,
        r#""name": "esp""#,
        r#""start": 135168"#,
        r#""size": 1959936"#,
        r#""type": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709""#,
        r#""uuid": "11112222-3333-4444-5555-666677778888""#,
        r#""name": "größe 🦀""#,
        r#""attrs": "LegacyBIOSBootable GUID:59""#,
    ] {
        assert!(table.contains(expected), "{expected} is not in {table}");
    }
}

#[test]
fn gpts_of_all_sizes() {
    for count in [0, 1, 128] {
        let request = DiskRequest { partitions: vec![bytes(4096); count], ..gpt_request() };
        let disk = Disk::of(&plan(&DiskRequest { size: None, ..request }).unwrap());
        let verified = sgdisk(&["-v"], &disk);
        assert!(verified.contains("No problems found."), "{verified}");
    }
}

#[test]
fn the_backup_is_enough() {
    let layout = plan(&gpt_request()).unwrap();
    let disk = Disk::of(&layout);
    File::options().write(true).open(&disk.path).unwrap().write_all_at(&[0; 33 * 512], 512).unwrap();
    let restored = sfdisk(&["-J"], &disk, "");
    assert!(restored.contains("11112222-3333-4444-5555-666677778888"), "{restored}");
}

#[test]
fn boot_code_and_table_do_not_touch() {
    let layout = plan(&mbr_request(vec![bytes(MEBIBYTE)])).unwrap();
    let disk = Disk::of(&layout);
    let before = disk.sector(0);
    let write = boot_code(&[0xfa; 440]).unwrap();
    File::options().write(true).open(&disk.path).unwrap().write_all_at(&write.bytes, write.offset).unwrap();
    assert_eq!(disk.sector(0)[440..], before[440..]);
    assert!(sfdisk(&["--verify"], &disk, "").contains("No errors detected"));
}
