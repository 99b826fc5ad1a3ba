//! OVF descriptors: what a package holds, and the machine it is for.
//!
//! DSP0243 1.1.0: <https://www.dmtf.org/sites/default/files/standards/documents/DSP0243_1.1.0.pdf>. Elements of
//! `rasd` and `vssd` are in alphabetical order, as its schema has them. Version 1.1 is what both VMware and VirtualBox read.

use super::machine::{Adapter, Firmware, MEBIBYTE, Machine, NetworkCard};
use super::xml::Xml;

const ENVELOPE: &[(&str, &str)] = &[
    ("xmlns", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:rasd", "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"),
    ("xmlns:vmw", "http://www.vmware.com/schema/ovf"),
    ("xmlns:vssd", "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"),
    ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
    ("xml:lang", "en-US"),
];
/// What a streamOptimized VMDK is called, by its specification.
const STREAM_OPTIMIZED: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// CIM_OperatingSystem.OsType of "Linux 64-Bit".
const LINUX_64_BIT: &str = "101";

const FILE_ID: &str = "file1";
const DISK_ID: &str = "vmdisk1";
const NETWORK: &str = "VM Network";

/// CIM_ResourceAllocationSettingData.ResourceType.
mod resource_type {
    pub const PROCESSOR: &str = "3";
    pub const MEMORY: &str = "4";
    pub const IDE_CONTROLLER: &str = "5";
    pub const SCSI_ADAPTER: &str = "6";
    pub const ETHERNET_ADAPTER: &str = "10";
    pub const DISK_DRIVE: &str = "17";
    /// "Other storage device", which VMware and VirtualBox take for SATA.
    pub const OTHER_STORAGE: &str = "20";
}

/// The instance that the disk's parent is, and the others' in their order.
mod instance {
    pub const SYSTEM: &str = "0";
    pub const PROCESSOR: &str = "1";
    pub const MEMORY: &str = "2";
    pub const ADAPTER: &str = "3";
    pub const DISK: &str = "4";
    pub const ETHERNET: &str = "5";
}

/// The file of the disk.
pub(super) struct DiskFile<'a> {
    /// Its name in the package.
    pub href: &'a str,
    /// Its bytes.
    pub length: u64,
    /// Bytes of the disk.
    pub capacity: u64,
    /// Bytes of it that hold something, if known.
    pub populated: Option<u64>,
}

/// A descriptor in UTF-8.
pub(super) fn descriptor(machine: &Machine, disk: &DiskFile<'_>) -> String {
    let mut xml = Xml::new();
    xml.element("Envelope", ENVELOPE, |xml| {
        references(xml, disk);
        disk_section(xml, disk);
        if machine.network_card.is_some() {
            network_section(xml);
        }
        xml.element("VirtualSystem", &[("ovf:id", &identifier(&machine.name))], |xml| {
            virtual_system(xml, machine);
        });
    });
    xml.finish()
}

/// What may be an `xs:string` for programs too: the name with all but letters and digits as underscores.
fn identifier(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

fn references(xml: &mut Xml, disk: &DiskFile<'_>) {
    xml.element("References", &[], |xml| {
        let size = disk.length.to_string();
        xml.empty("File", &[("ovf:href", disk.href), ("ovf:id", FILE_ID), ("ovf:size", &size)]);
    });
}

fn disk_section(xml: &mut Xml, disk: &DiskFile<'_>) {
    let capacity = disk.capacity.to_string();
    let populated = disk.populated.map(|bytes| bytes.to_string());
    let mut attributes = vec![
        ("ovf:capacity", &*capacity),
        ("ovf:capacityAllocationUnits", "byte"),
        ("ovf:diskId", DISK_ID),
        ("ovf:fileRef", FILE_ID),
        ("ovf:format", STREAM_OPTIMIZED),
    ];
    attributes.extend(populated.iter().map(|bytes| ("ovf:populatedSize", &**bytes)));
    xml.element("DiskSection", &[], |xml| {
        xml.leaf("Info", &[], "Virtual disks of the package");
        xml.empty("Disk", &attributes);
    });
}

fn network_section(xml: &mut Xml) {
    xml.element("NetworkSection", &[], |xml| {
        xml.leaf("Info", &[], "Logical networks of the package");
        xml.element("Network", &[("ovf:name", NETWORK)], |xml| {
            xml.leaf("Description", &[], "The network of the machine");
        });
    });
}

fn virtual_system(xml: &mut Xml, machine: &Machine) {
    xml.leaf("Info", &[], "A virtual machine");
    xml.leaf("Name", &[], &machine.name);
    xml.element(
        "OperatingSystemSection",
        &[("ovf:id", LINUX_64_BIT), ("vmw:osType", "otherLinux64Guest")],
        |xml| {
            xml.leaf("Info", &[], "The operating system");
            xml.leaf("Description", &[], "Linux 64-Bit");
        },
    );
    if !machine.description.is_empty() {
        xml.element("AnnotationSection", &[], |xml| {
            xml.leaf("Info", &[], "What the machine is");
            xml.leaf("Annotation", &[], &machine.description);
        });
    }
    xml.element("VirtualHardwareSection", &[], |xml| hardware(xml, machine));
}

fn hardware(xml: &mut Xml, machine: &Machine) {
    xml.leaf("Info", &[], "Virtual hardware");
    xml.element("System", &[], |xml| {
        xml.leaf("vssd:ElementName", &[], "Virtual Hardware Family");
        xml.leaf("vssd:InstanceID", &[], instance::SYSTEM);
        xml.leaf("vssd:VirtualSystemIdentifier", &[], &identifier(&machine.name));
        xml.leaf("vssd:VirtualSystemType", &[], &format!("vmx-{:02}", machine.hardware_version));
    });
    processors_and_memory(xml, machine);
    storage(xml, machine.adapter);
    if let Some(card) = machine.network_card {
        ethernet(xml, card);
    }
    if machine.firmware == Firmware::Efi {
        let firmware = [("ovf:required", "false"), ("vmw:key", "firmware"), ("vmw:value", "efi")];
        xml.empty("vmw:Config", &firmware);
    }
}

/// A resource: elements of `rasd`, which must come in alphabetical order.
fn item(xml: &mut Xml, elements: &[(&str, &str)]) {
    xml.element("Item", &[], |xml| {
        for (name, text) in elements {
            xml.leaf(&format!("rasd:{name}"), &[], text);
        }
    });
}

fn processors_and_memory(xml: &mut Xml, machine: &Machine) {
    let processors = [
        ("AllocationUnits", "hertz * 10^6"),
        ("Description", "Number of virtual processors"),
        ("ElementName", &format!("{} virtual CPU(s)", machine.processors)),
        ("InstanceID", instance::PROCESSOR),
        ("ResourceType", resource_type::PROCESSOR),
        ("VirtualQuantity", &machine.processors.to_string()),
    ];
    item(xml, &processors);
    let mebibytes = machine.memory / MEBIBYTE;
    let memory = [
        ("AllocationUnits", "byte * 2^20"),
        ("Description", "Memory size"),
        ("ElementName", &format!("{mebibytes}MB of memory")),
        ("InstanceID", instance::MEMORY),
        ("ResourceType", resource_type::MEMORY),
        ("VirtualQuantity", &mebibytes.to_string()),
    ];
    item(xml, &memory);
}

fn storage(xml: &mut Xml, adapter: Adapter) {
    let (description, subtype, kind) = match adapter {
        Adapter::LsiLogic => ("SCSI Controller", "lsilogic", resource_type::SCSI_ADAPTER),
        Adapter::BusLogic => ("SCSI Controller", "buslogic", resource_type::SCSI_ADAPTER),
        Adapter::LsiSas => ("SCSI Controller", "lsilogicsas", resource_type::SCSI_ADAPTER),
        Adapter::ParavirtualScsi => ("SCSI Controller", "VirtualSCSI", resource_type::SCSI_ADAPTER),
        Adapter::Ide => ("IDE Controller", "PIIX4", resource_type::IDE_CONTROLLER),
        // VMware knows no other name, VirtualBox both this and AHCI.
        Adapter::Ahci => ("SATA Controller", "vmware.sata.ahci", resource_type::OTHER_STORAGE),
    };
    let controller = [
        ("Address", "0"),
        ("Description", description),
        ("ElementName", &format!("{description} 0")),
        ("InstanceID", instance::ADAPTER),
        ("ResourceSubType", subtype),
        ("ResourceType", kind),
    ];
    item(xml, &controller);
    let disk = [
        ("AddressOnParent", "0"),
        ("ElementName", "Hard Disk 1"),
        ("HostResource", &format!("ovf:/disk/{DISK_ID}")),
        ("InstanceID", instance::DISK),
        ("Parent", instance::ADAPTER),
        ("ResourceType", resource_type::DISK_DRIVE),
    ];
    item(xml, &disk);
}

fn ethernet(xml: &mut Xml, card: NetworkCard) {
    let subtype = match card {
        NetworkCard::E1000 => "E1000",
        NetworkCard::E1000e => "E1000e",
        NetworkCard::Vmxnet3 => "VmxNet3",
        NetworkCard::Pcnet32 => "PCNet32",
    };
    let ethernet = [
        ("AddressOnParent", "7"),
        ("AutomaticAllocation", "true"),
        ("Connection", NETWORK),
        ("Description", "Ethernet adapter"),
        ("ElementName", "Ethernet 1"),
        ("InstanceID", instance::ETHERNET),
        ("ResourceSubType", subtype),
        ("ResourceType", resource_type::ETHERNET_ADAPTER),
    ];
    item(xml, &ethernet);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other bytes here are other bytes of every OVA.
    #[test]
    fn the_bytes_of_a_descriptor() {
        let machine = Machine {
            description: "<made> by kiln".to_owned(),
            firmware: Firmware::Efi,
            processors: 2,
            ..Machine::new("Debian & more")
        };
        let disk = DiskFile {
            href: "debian-disk1.vmdk",
            length: 65_536,
            capacity: 1 << 30,
            populated: Some(1 << 20),
        };
        assert_eq!(descriptor(&machine, &disk), include_str!("../../tests/package/debian.ovf"));
    }
}
