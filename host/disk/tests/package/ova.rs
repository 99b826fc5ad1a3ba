//! An OVA: order of members, digests, and a descriptor that is what DMTF's specification asks for.

use crate::programs::{qemu_img, tar, told, xmllint};
use kiln_disk::package::{Adapter, Firmware, Machine, NetworkCard, Ova, OvaDisk};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const CAPACITY: u64 = 64 << 20;

/// A streamOptimized VMDK as QEMU writes it.
fn vmdk(directory: &Path) -> Vec<u8> {
    File::create(directory.join("raw")).unwrap().set_len(CAPACITY).unwrap();
    qemu_img(&["convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "raw", "vmdk"], directory);
    fs::read(directory.join("vmdk")).unwrap()
}

fn unpacked(machine: &Machine) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let vmdk = vmdk(directory.path());
    let disk = OvaDisk { file: &&vmdk[..], digest: None, capacity: CAPACITY, populated: Some(0) };
    let ova = Ova { machine, file_name: "machine", disk, mtime: 1_700_000_000 };
    let path = directory.path().join("machine.ova");
    ova.write(&mut File::create(&path).unwrap()).unwrap();
    tar(&["-xf", "machine.ova"], directory.path());
    (directory, path)
}

#[test]
fn members_are_in_order_and_have_their_digests() {
    let (directory, _) = unpacked(&Machine::new("machine"));
    let listed = tar(&["-tf", "machine.ova"], directory.path());
    assert_eq!(listed, "machine.ovf\nmachine.mf\nmachine-disk1.vmdk\n");
    let manifest = fs::read_to_string(directory.path().join("machine.mf")).unwrap();
    // As coreutils take it.
    let sums: String = manifest
        .lines()
        .map(|line| line.strip_prefix("SHA256(").unwrap().split_once(")= ").unwrap())
        .map(|(name, digest)| format!("{digest}  {name}\n"))
        .collect();
    fs::write(directory.path().join("sums"), sums).unwrap();
    let checked = told("sha256sum", "coreutils", &["--strict", "-c", "sums"], directory.path());
    assert_eq!(checked, "machine.ovf: OK\nmachine-disk1.vmdk: OK\n");
    let info = qemu_img(&["info", "machine-disk1.vmdk"], directory.path());
    assert!(info.contains("virtual size: 64 MiB"), "{info}");
    assert!(info.contains("create type: streamOptimized"), "{info}");
}

/// Machines that between them have everything.
fn machines() -> Vec<Machine> {
    let adapters = [
        Adapter::LsiLogic,
        Adapter::BusLogic,
        Adapter::LsiSas,
        Adapter::ParavirtualScsi,
        Adapter::Ide,
        Adapter::Ahci,
    ];
    let cards = [None, Some(NetworkCard::E1000e), Some(NetworkCard::Vmxnet3), Some(NetworkCard::Pcnet32)];
    let firmwares = [Firmware::Bios, Firmware::Efi];
    let machine = |(index, adapter): (usize, Adapter)| Machine {
        description: "lines\nand <tags> & 🦀".repeat(index),
        firmware: firmwares[index % 2],
        network_card: cards[index % cards.len()],
        adapter,
        ..Machine::new("größe <&>\"'")
    };
    adapters.into_iter().enumerate().map(machine).collect()
}

#[test]
fn the_descriptor_is_what_the_specification_asks_for() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package/ovf.rng");
    for machine in machines() {
        let (directory, _) = unpacked(&machine);
        let arguments =
            ["--noout".as_ref(), "--relaxng".as_ref(), schema.as_os_str(), "machine.ovf".as_ref()];
        xmllint(&arguments, directory.path());
        references(&machine, directory.path());
    }
}

/// What no grammar tells: that identifiers are unique, and what refers to something finds it.
fn references(machine: &Machine, directory: &Path) {
    let found =
        |expression: &str| xmllint(&["--xpath", expression, "machine.ovf"], directory).trim().to_owned();
    let by = |name: &str| format!("*[local-name()='{name}']");
    let (item, instance, parent) = (by("Item"), by("InstanceID"), by("Parent"));
    let items: usize = found(&format!("count(//{item})")).parse().unwrap();
    assert_eq!(items, 4 + usize::from(machine.network_card.is_some()));
    let unique = format!("count(//{item}/{instance}[not(. = ../preceding-sibling::*/{instance})])");
    assert_eq!(found(&unique), items.to_string());
    assert_eq!(found(&format!("count(//{item}/{parent}[. = //{item}/{instance}])")), "1");
    let disk = "concat('ovf:/disk/', //*[local-name()='Disk']/@*[local-name()='diskId'])";
    assert_eq!(found(&format!("//{} = {disk}", by("HostResource"))), "true");
    let href = "//*[local-name()='File'][@*[local-name()='id'] = //*[local-name()='Disk']/@*[local-name()='fileRef']]";
    let name = found(&format!("string({href}/@*[local-name()='href'])"));
    let length = fs::metadata(directory.join(name)).unwrap().len();
    assert_eq!(found(&format!("string({href}/@*[local-name()='size'])")), length.to_string());
    if machine.network_card.is_some() {
        let network = "//*[local-name()='Network']/@*[local-name()='name']";
        assert_eq!(found(&format!("//{} = {network}", by("Connection"))), "true");
    }
    assert_eq!(found("string(//*[local-name()='Name'])"), machine.name);
    if !machine.description.is_empty() {
        assert_eq!(found("string(//*[local-name()='Annotation'])"), machine.description);
    }
}

#[test]
fn the_same_machine_is_the_same_bytes() {
    let read = || fs::read(unpacked(&Machine::new("machine")).1).unwrap();
    let (first, second) = (read(), read());
    // QEMU's VMDK has a random identifier.
    assert_eq!(first.len(), second.len());
    let directory = tempfile::tempdir().unwrap();
    let vmdk = vmdk(directory.path());
    let machine = Machine::new("machine");
    let write = || {
        let disk = OvaDisk { file: &&vmdk[..], digest: None, capacity: CAPACITY, populated: None };
        let mut bytes = Vec::new();
        Ova { machine: &machine, file_name: "machine", disk, mtime: 0 }.write(&mut bytes).unwrap();
        bytes
    };
    assert!(write() == write());
}
